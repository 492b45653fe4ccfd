package authority_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/test/authority"
)

func TestCertificates(t *testing.T) {
	a, err := authority.New("test-ca", time.Hour)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(a.Cert))
	leaf := func(cert, key []byte, err error) *x509.Certificate {
		t.Helper()
		require.NoError(t, err)
		pair, err := tls.X509KeyPair(cert, key)
		require.NoError(t, err)
		return pair.Leaf
	}
	server := leaf(a.Server("server", []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}))
	for _, name := range []string{"localhost", "127.0.0.1"} {
		_, err = server.Verify(x509.VerifyOptions{Roots: roots, DNSName: name})
		assert.NoError(t, err, name)
	}
	_, err = server.Verify(x509.VerifyOptions{Roots: roots, DNSName: "elsewhere"})
	assert.Error(t, err)
	client := leaf(a.Client("jane", "readers", "writers"))
	_, err = client.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	assert.NoError(t, err)
	_, err = client.Verify(x509.VerifyOptions{Roots: roots})
	assert.Error(t, err, "it is no server's")
	assert.Equal(t, "jane", client.Subject.CommonName)
	assert.Equal(t, []string{"readers", "writers"}, client.Subject.Organization)
	_, err = client.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, CurrentTime: time.Now().Add(2 * time.Hour)})
	assert.Error(t, err, "its time is over")
	_, err = tls.X509KeyPair(a.Cert, a.Key)
	assert.NoError(t, err)
}

func TestFilesOfAnAPIServer(t *testing.T) {
	a, err := authority.New("test-ca", time.Hour)
	require.NoError(t, err)
	files, err := a.APIServer([]string{"localhost"}, nil)
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, authority.Write(dir, files))
	for _, name := range []string{"ca.crt", "server.crt", "server.key", "sa.key"} {
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o600), info.Mode().Perm(), name)
	}
	assert.ErrorContains(t, authority.Write(filepath.Join(dir, "none"), files), "write ")
}
