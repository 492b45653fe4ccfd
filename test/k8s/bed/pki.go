package bed

import (
	"crypto/rand"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/weirnet/weir/test/authority"
)

// clients are who has a token, and the kubeconfig that holds it. Nodes are added to them.
var clients = []struct{ file, user, group string }{
	{"admin", "bed-admin", "system:masters"},
	{"kube-controller-manager", "system:kube-controller-manager", ""},
	{"kube-scheduler", "system:kube-scheduler", ""},
}

// writeCredentials makes the certificates, tokens and kubeconfigs of a cluster in its folder pki.
func (b *Bed) writeCredentials() error {
	a, err := authority.New("bed-ca", 365*24*time.Hour)
	if err != nil {
		return err
	}
	var addresses []net.IP
	for _, a := range []string{"127.0.0.1", APIServer, bridge6, "10.96.0.1", "fd00:10:96::1"} {
		addresses = append(addresses, net.ParseIP(a))
	}
	files, err := a.APIServer([]string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}, addresses)
	if err != nil {
		return err
	}
	files["ca.key"] = a.Key
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
	return authority.Write(b.pki(""), files)
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
