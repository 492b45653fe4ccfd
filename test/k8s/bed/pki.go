package bed

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
	"strings"
	"time"
)

// clients are who has a token, and the kubeconfig that holds it. Nodes are added to them.
var clients = []struct{ file, user, group string }{
	{"admin", "bed-admin", "system:masters"},
	{"kube-controller-manager", "system:kube-controller-manager", ""},
	{"kube-scheduler", "system:kube-scheduler", ""},
}

// writeCredentials makes the certificates, tokens and kubeconfigs of a cluster in its folder pki.
func (b *Bed) writeCredentials() error {
	key, keyPEM, err := newKey()
	if err != nil {
		return err
	}
	ca := certificate("bed-ca")
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		return fmt.Errorf("certificate authority: %w", err)
	}
	serverKey, serverKeyPEM, err := newKey()
	if err != nil {
		return err
	}
	server := certificate("kube-apiserver")
	server.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	server.DNSNames = []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
	for _, a := range []string{"127.0.0.1", APIServer, bridge6, "10.96.0.1", "fd00:10:96::1"} {
		server.IPAddresses = append(server.IPAddresses, net.ParseIP(a))
	}
	serverDER, err := x509.CreateCertificate(rand.Reader, server, ca, serverKey.Public(), key)
	if err != nil {
		return fmt.Errorf("certificate of the API server: %w", err)
	}
	_, accounts, err := newKey()
	if err != nil {
		return err
	}
	files := map[string][]byte{
		"ca.crt": encode("CERTIFICATE", caDER), "ca.key": keyPEM,
		"server.crt": encode("CERTIFICATE", serverDER), "server.key": serverKeyPEM,
		"sa.key": accounts,
	}
	all := clients
	for i := 1; i <= 9; i++ {
		all = append(all, struct{ file, user, group string }{NodeName(i), "system:node:" + NodeName(i), "system:nodes"})
	}
	var tokens strings.Builder
	for _, c := range all {
		token := rand.Text()
		fmt.Fprintf(&tokens, "%s,%s,%s,%q\n", token, c.user, c.user, c.group)
		files[c.file+".kubeconfig"] = b.kubeconfig(token)
	}
	files["tokens.csv"] = []byte(tokens.String())
	for name, data := range files {
		if err := os.WriteFile(b.pki(name), data, 0o600); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}

func (b *Bed) pki(name string) string { return filepath.Join(b.dir, "pki", name) }

func (b *Bed) kubeconfig(token string) []byte {
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: bed, cluster: {server: "https://%s:%d", certificate-authority: %q}}]
users: [{name: bed, user: {token: %q}}]
contexts: [{name: bed, context: {cluster: bed, user: bed}}]
current-context: bed
`, APIServer, APIPort, b.pki("ca.crt"), token)
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

func certificate(name string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)) // rand.Reader never fails
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(365 * 24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
