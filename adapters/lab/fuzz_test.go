package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/manifest"
	"github.com/weirnet/weir/ports"
)

// Whatever a manifest holds: findings name the file, no object is stored outside its folder or in another one's
// place, and what is stored reads as the same object.
func FuzzManifests(f *testing.F) {
	for _, s := range []string{
		"", "---\n--- # x\nkind: Pod\nmetadata: {name: web}\n", "kind: PodList\nitems: [{kind: Pod, metadata: {name: a}}, 1]\n",
		"kind: ../../etc\nmetadata: {name: passwd}\n", "kind: Pod\nmetadata: {name: .., namespace: a/b}\n", "kind: Pod\nmetadata: {name: yes}\n",
		"kind: Namespace\nmetadata: {name: shop, namespace: other}\n", "kind: Pod\nmetadata: {name: b_c, namespace: a}\n---\nkind: Pod\nmetadata: {name: c, namespace: a_b}\n",
		"kind: Pod\nmetadata: []\n", "a: &a [*a]\n", "\t", "{\"kind\":\"Pod\",\"metadata\":{\"name\":\"x\"}}", "kind: List\nitems: [{kind: List, items: [{}]}]\n", "1: 2\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		objects, findings := parse([]ports.LabManifest{{File: "dir/x.yaml", Content: data}})
		for _, x := range findings {
			require.Equal(t, "dir/x.yaml", x.File)
			require.NotEmpty(t, x.Message)
		}
		places := map[string]bool{}
		for _, o := range objects {
			place := o.storePath()
			require.False(t, places[place], "%s twice", place)
			places[place] = true
			require.True(t, filepath.IsLocal(place), place)
			require.Equal(t, 2, len(strings.Split(place, string(filepath.Separator))), place)
			require.True(t, isManifest(place))
			require.False(t, strings.HasPrefix(filepath.Base(place), "."), place)
			require.NotEmpty(t, o.json())

			text, err := yaml.Marshal(o.tree)
			require.NoError(t, err)
			again, findings := parseFile(ports.LabManifest{File: "y", Content: text})
			require.Empty(t, findings, "%s", text)
			require.Len(t, again, 1, "%s", text)
			require.Equal(t, o.title(), again[0].title())
			require.Equal(t, place, again[0].storePath())
			require.JSONEq(t, string(o.json()), string(again[0].json()))
		}
	})
}

// Whatever nodes and pods the manifests want: each node that is made has a name, an address and a pod prefix,
// shares none of them with another one, and its object says so; what cannot be had is a finding.
func FuzzPlan(f *testing.F) {
	for _, s := range []string{
		"", "apiVersion: v1\nkind: Node\nmetadata: {name: a}\nspec: {podCIDRs: [10.244.1.0/24]}\nstatus: {addresses: [{type: InternalIP, address: 172.30.0.12}]}\n",
		"apiVersion: v1\nkind: Node\nmetadata: {name: a}\nspec: {podCIDRs: [10.244.2.0/24, 'fd00:10:244:2::/64']}\n---\napiVersion: v1\nkind: Node\nmetadata: {name: b}\nspec: {podCIDR: 10.244.0.0/16}\n",
		"apiVersion: v1\nkind: Node\nmetadata: {name: a}\nspec: {podCIDRs: [0.0.0.0/0, '::/0']}\n",
		"apiVersion: v1\nkind: Node\nmetadata: {name: a}\nstatus: {addresses: [{type: InternalIP, address: '::ffff:172.30.0.1'}, {type: InternalIP, address: 'fe80::1%eth0'}]}\n",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {nodeName: z, containers: []}\nstatus: {podIP: 10.244.1.5, podIPs: [{ip: 10.244.1.5}, {ip: 'fd00::5'}]}\n",
	} {
		for n := range uint8(3) {
			f.Add([]byte(s), n)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, n uint8) {
		objects, _ := parse([]ports.LabManifest{{File: "x.yaml", Content: data}})
		l := &Lab{o: Options{Validate: func(file string, object []byte) []cluster.Finding {
			_, findings := manifest.Decode(file, object)
			return findings
		}}}
		good, _ := l.validate(objects)
		want := int(n)%4 + 1
		nodes, described, findings := planNodes(want, ofKind(good, "Node"), ofKind(good, "Pod"))
		for _, x := range findings {
			require.NotEmpty(t, x.Message)
			require.NotEmpty(t, x.Object)
		}
		require.NotEmpty(t, nodes)
		require.Len(t, described, len(nodes))
		require.True(t, len(nodes) >= want || len(findings) > 0, "%d nodes for %d", len(nodes), want)
		for i, node := range nodes {
			require.True(t, safeName(node.Name))
			require.NotEmpty(t, node.Addresses)
			require.NotEmpty(t, node.PodCIDRs)
			for _, a := range node.Addresses {
				require.True(t, a.IsValid() && a == a.Unmap() && a.Zone() == "", "%s", a)
				require.NotContains(t, outside, a)
			}
			for _, other := range nodes[:i] {
				require.NotEqual(t, other.Name, node.Name)
				require.Empty(t, clash(node, other))
			}
			o, bad := manifest.Decode("f", described[i].json())
			require.True(t, o.Valid(), "%s: %v", described[i].json(), bad)
			require.Equal(t, manifest.Key{Kind: "Node", Name: node.Name}, o.Key)
		}
	})
}

// What a lab left on disk, whatever a crash or a hand made of it: a record is refused by the name of its file,
// or says the same once it was saved and loaded, and every name in it stays in the lab's folder.
func FuzzRecords(f *testing.F) {
	for _, s := range []string{
		"", "null", "{}", `{"version":1,"nodes":[null]}`, `{"version":1,"nodes":[{"name":"../n1"}]}`, `{"version":2}`,
		`{"version":1,"name":"lab","cgroup":"/sys/fs/cgroup/weir-lab","nodes":[{"name":"n1","addresses":["172.30.0.11"],"podCIDRs":["10.244.1.0/24"],"agent":{"pid":7,"start":9}}]}`,
		`{"name":{"Namespace":"shop","Name":"web"},"node":"n1","ports":[80],"ips":["10.244.1.5","fd00::5"],"server":{"pid":-1}}`,
		`{"name":{"Namespace":"shop","Name":"other"}}`, `{"name":{"Namespace":"shop/..","Name":"web"},"ips":["x"]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := New(Options{Name: "lab", Root: t.TempDir(), Self: "/bin/true"})
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(l.podsDir(), 0o755))
		require.NoError(t, os.WriteFile(l.statePath(), data, 0o600))
		if st, err := readState(l.statePath()); err != nil {
			require.ErrorContains(t, err, l.statePath())
			require.Nil(t, st)
		} else {
			l.st = st
			for _, n := range st.Nodes {
				require.NotNil(t, l.node(n.Name))
				require.Equal(t, filepath.Join(l.dir, "nodes"), filepath.Dir(l.nodeDir(n.Name)))
			}
			require.NoError(t, l.saveState())
			again, err := readState(l.statePath())
			require.NoError(t, err)
			require.Equal(t, st, again)
		}

		path := filepath.Join(l.podsDir(), "shop_web.json")
		require.NoError(t, os.WriteFile(path, data, 0o600))
		pods, err := l.pods()
		if err != nil {
			require.ErrorContains(t, err, path)
			require.Empty(t, pods)
			return
		}
		require.Len(t, pods, 1)
		require.Equal(t, path, l.podFile(pods[0].Name))
		require.NoError(t, l.savePod(pods[0]))
		again, err := l.pods()
		require.NoError(t, err)
		require.Equal(t, pods, again)
	})
}
