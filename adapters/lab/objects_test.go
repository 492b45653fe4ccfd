package lab

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/ports"
)

func TestParse(t *testing.T) {
	objects, findings := parse([]ports.LabManifest{
		{File: "a.yaml", Content: []byte(`# a comment alone
---
kind: Pod
metadata: {name: a}
--- # the next
kind: Namespace
metadata: {name: ns, namespace: ignored}
---
kind: Broken
  indent: [
---
{kind: PodList, items: [{kind: Pod, metadata: {name: b, namespace: x}}, 7]}
`)},
		{File: "b.json", Content: []byte(`{"kind":"Pod","metadata":{"name":"a","namespace":"default"}}`)},
		{File: "c.yaml", Content: []byte("kind: Pod\nmetadata: {name: ../../etc/passwd}\n---\nmetadata: {name: x}\n---\nkind: Pod\nmetadata: {name: p, namespace: a/b}\n---\nkind: Pod\nmetadata: {name: n}")},
	})
	var got []string
	for _, o := range objects {
		got = append(got, o.file+" "+o.title()+" "+o.storePath())
	}
	require.Equal(t, []string{
		"b.json Pod default/a pod/default_a.yaml",
		"a.yaml Namespace ns namespace/ns.yaml",
		"a.yaml Pod x/b pod/x_b.yaml",
	}, got)
	var texts []string
	for _, f := range findings {
		texts = append(texts, f.String())
	}
	require.Len(t, texts, 7, texts)
	require.Contains(t, texts[0], "a.yaml: document from line 9: yaml: line ")
	require.Equal(t, "a.yaml: PodList: items[1]: must be an object", texts[1])
	require.Equal(t, "b.json: Pod default/a: is also in a.yaml: the later one counts", texts[2])
	require.Contains(t, texts[3], "metadata.name")
	require.Equal(t, "c.yaml: kind: is missing", texts[4])
	require.Contains(t, texts[5], "metadata.namespace")
	require.Equal(t, "c.yaml: Pod: metadata.name: false is not a text: put it in quotes", texts[6])
	require.True(t, HasErrors(findings))
	require.False(t, HasErrors([]cluster.Finding{{Warning: true}}))
}

func TestReadManifests(t *testing.T) {
	_, err := ReadManifests([]string{t.TempDir() + "/none"})
	require.ErrorContains(t, err, "none")
}

func TestMountLine(t *testing.T) {
	m, ok := parseMount(`31 23 0:28 / /sys/fs/a\040b rw,relatime shared:9 master:1 - cgroup2 none rw`)
	require.True(t, ok)
	require.Equal(t, mount{root: "/", point: "/sys/fs/a b", fstype: "cgroup2"}, m)
	_, ok = parseMount("31 23 0:28")
	require.False(t, ok)
}

func TestNames(t *testing.T) {
	for _, bad := range []string{"a-b", "A", "a/b", strings.Repeat("a", 13), "ä"} {
		_, err := New(Options{Name: bad})
		require.ErrorContains(t, err, "lower-case", bad)
	}
	_, err := New(Options{Name: "a1"})
	require.NoError(t, err)
}

func TestChecksum(t *testing.T) {
	// An echo request with its checksum in place sums up to zero.
	m := []byte{8, 0, 0, 0, 0x12, 0x34, 0, 1, 'w', 'e', 'i'}
	s := checksum(m)
	m[2], m[3] = byte(s>>8), byte(s)
	require.Zero(t, checksum(m))
	require.Equal(t, ^uint16(0), checksum(nil))
}

func TestServiceFamilies(t *testing.T) {
	for text, want := range map[string]int{
		`{kind: Service, metadata: {name: s}, spec: {}}`:                                 2,
		`{kind: Service, metadata: {name: s}, spec: {ipFamilyPolicy: SingleStack}}`:      1,
		`{kind: Service, metadata: {name: s}, spec: {ipFamilies: [IPv6]}}`:               1,
		`{kind: Service, metadata: {name: s}, spec: {clusterIP: None}}`:                  0,
		`{kind: Service, metadata: {name: s}, spec: {type: ExternalName}}`:               0,
		`{kind: Service, metadata: {name: s}, spec: {clusterIP: 10.96.3.4}}`:             1,
		`{kind: Service, metadata: {name: s}, spec: {clusterIPs: [1.2.3.4, "fd00::1"]}}`: 2,
	} {
		l, err := New(Options{Root: t.TempDir()})
		require.NoError(t, err)
		o := parseAll(t, text)[0]
		require.Empty(t, l.assignClusterIPs(o))
		var m serviceManifest
		require.NoError(t, o.decode(&m))
		require.Len(t, m.addresses(), want, text)
	}
}

func TestLabelsOf(t *testing.T) {
	l, err := New(Options{Root: t.TempDir()})
	require.NoError(t, err)
	for _, o := range parseAll(t, `
{kind: Namespace, metadata: {name: shop, labels: {stage: live}}}
---
{kind: Pod, metadata: {name: p, namespace: shop, labels: {app: web}}, spec: {serviceAccountName: robot}}`) {
		_, err := l.write(o)
		require.NoError(t, err)
	}
	require.Equal(t, cluster.PodLabels(
		cluster.Pod{Name: cluster.Name{Namespace: "shop", Name: "p"}, Labels: map[string]string{"app": "web"}, ServiceAccount: "robot"},
		cluster.Namespace{Name: "shop", Labels: map[string]string{"stage": "live"}},
	).Strings(), l.labelsOf(cluster.Name{Namespace: "shop", Name: "p"}))
	require.Nil(t, l.labelsOf(cluster.Name{Namespace: "shop", Name: "q"}))
}
