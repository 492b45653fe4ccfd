// Package authority is a certificate authority for the clusters of tests. It is the one package below test that
// adapters/internal may use, and needs the standard library only.
package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Authority signs certificates. Any number of goroutines may use it.
type Authority struct {
	// Cert and Key are its own, in PEM.
	Cert, Key []byte

	cert     *x509.Certificate
	key      *ecdsa.PrivateKey
	lifetime time.Duration
}

// New makes an authority of this name. Its certificate and those that it signs are valid from an hour ago, for machines
// whose clocks differ, until lifetime from now.
func New(name string, lifetime time.Duration) (*Authority, error) {
	a := &Authority{lifetime: lifetime}
	var err error
	if a.key, a.Key, err = newKey(); err != nil {
		return nil, err
	}
	c := a.template(name)
	c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, c, c, a.key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("certificate of the authority %s: %w", name, err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("certificate of the authority %s: %w", name, err)
	}
	a.Cert = encode("CERTIFICATE", der)
	return a, nil
}

// Server gives a certificate and a key, in PEM, for a server with these names and addresses.
func (a *Authority) Server(name string, names []string, addresses []net.IP) (cert, key []byte, err error) {
	c := a.template(name)
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	c.DNSNames, c.IPAddresses = names, addresses
	return a.issue(c)
}

// Client gives a certificate and a key, in PEM, for a user with these groups.
func (a *Authority) Client(user string, groups ...string) (cert, key []byte, err error) {
	c := a.template(user)
	c.Subject.Organization = groups
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return a.issue(c)
}

// APIServer makes what an API server reads, by the names of the files: ca.crt; server.crt and server.key, for these names
// and addresses; and sa.key, which signs the tokens of service accounts.
func (a *Authority) APIServer(names []string, addresses []net.IP) (map[string][]byte, error) {
	cert, key, err := a.Server("kube-apiserver", names, addresses)
	if err != nil {
		return nil, err
	}
	_, accounts, err := newKey()
	if err != nil {
		return nil, err
	}
	return map[string][]byte{"ca.crt": a.Cert, "server.crt": cert, "server.key": key, "sa.key": accounts}, nil
}

// Write writes files into a folder; their owner alone may read them.
func Write(dir string, files map[string][]byte) error {
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}

func (a *Authority) issue(c *x509.Certificate) (cert, key []byte, err error) {
	private, key, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, private.Public(), a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate of %s: %w", c.Subject.CommonName, err)
	}
	return encode("CERTIFICATE", der), key, nil
}

func (a *Authority) template(name string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)) // rand.Reader never fails
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(a.lifetime),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
}

// newKey makes a private key and its PEM form.
func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	return key, encode("EC PRIVATE KEY", der), nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
