package filestore

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/labels"
	"github.com/weirnet/weir/core/manifest"
)

// A file of the cluster directory, whatever it holds: every finding names the file, what could not be read keeps
// what was in force, and the same object written as YAML means what it means as JSON.
func FuzzReadContent(f *testing.F) {
	for _, s := range []string{
		"", "\n# nothing\n", "a: [", "--- \nkind: Pod\n", "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {a: \"b\"}}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: no}\n",
		"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: shop}\nspec:\n  podSelector: {}\n  podSelector: {matchLabels: {a: b}}\n",
		"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: shop}\nspec:\n  podSelector: {}\n  ingress:\n  - ports: [{port: 0x50, endPort: 0o140}]\n",
		"a: &a [*a]", "a: &a {b: 1}\nc: {<<: *a}\n", "kind: List\nitems:\n- {kind: Pod, apiVersion: v1, metadata: {name: 1}}\n- null\n", "{\"kind\":\"Pod\"}{}", "? {a: b}\n: c\n", "!!binary aGk=: 1", ".inf: .nan\n",
	} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, asJSON bool) {
		dir, rel := t.TempDir(), "x.yaml"
		if asJSON {
			rel = "x.json"
		}
		path := filepath.Join(dir, rel)
		require.NoError(t, os.WriteFile(path, data, 0o600))
		c, err := readContent(dir, rel)
		require.NoError(t, err)
		broken := false
		for _, x := range c.findings {
			require.Equal(t, path, x.File)
			require.NotEmpty(t, x.Message)
			broken = broken || !x.Warning
		}
		require.Equal(t, broken, c.unknown, "%v", c.findings)
		for _, d := range c.defs {
			require.True(t, json.Valid(d.doc))
			require.True(t, d.obj.Known())
			refused := false
			for _, x := range d.findings {
				refused = refused || !x.Warning
			}
			require.Equal(t, refused, !d.obj.Valid())

			text, err := yaml.JSONToYAML(d.doc)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, "again.yaml"), text, 0o600))
			again, err := readContent(dir, "again.yaml")
			require.NoError(t, err)
			require.Len(t, again.defs, 1, "%s", text)
			require.Equal(t, d.obj.Key, again.defs[0].obj.Key)
			require.Equal(t, d.obj.Valid(), again.defs[0].obj.Valid(), "%s\n%s\n%v", d.doc, text, again.defs[0].findings)
		}
		ix := newIndex(dir, nil)
		ix.update(map[string]*content{rel: c})
		ix.findings()
		ix.update(map[string]*content{rel: nil})
		require.Empty(t, ix.owners, "a file that is gone owns nothing")
	})
}

// A file of the run directory, whatever a crash or a hand left in it: it is an attachment of that name, and is
// saved and loaded as the same, or it is refused by name, and the others are loaded all the same.
func FuzzAttachments(f *testing.F) {
	f.Add([]byte(`{"containerID":"c1","interface":"eth0","pod":{"Namespace":"shop","Name":"web"},"id":3,"mac":"02:00:00:00:00:01","ips":["10.0.0.1","fd00::1"]}`))
	f.Add([]byte(`{"containerID":"c1","interface":"eth0","ips":["10.0.0.1%eth0"],"ifindex":-1}`))
	f.Add([]byte(`{"containerID":"other","interface":"eth0"}`))
	f.Add([]byte(`{"containerID":"c1","interface":"eth0","nodeMAC":"02:00"}`))
	f.Add([]byte("\x00\x00\x00\x00"))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := OpenAttachments(t.TempDir())
		require.NoError(t, err)
		path := a.path("c1", "eth0")
		require.NoError(t, os.WriteFile(a.path("c2", "eth0"), []byte(`{"containerID":"c2","interface":"eth0"}`), 0o600))
		require.NoError(t, os.WriteFile(path, data, 0o600))
		got, err := a.Load()
		if err != nil {
			require.ErrorContains(t, err, path)
			require.Len(t, got, 1)
			require.Equal(t, "c2", got[0].ContainerID)
			return
		}
		require.Len(t, got, 2)
		for _, at := range got {
			require.NoError(t, a.Save(at))
		}
		again, err := a.Load()
		require.NoError(t, err)
		require.Equal(t, got, again)
	})
}

// The log of versions, whatever a crash left behind a good record: the record counts, nothing damaged does, and
// the log goes on.
func FuzzLastGood(f *testing.F) {
	doc := `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"other"}}`
	k, other := manifest.Key{Kind: "Namespace", Name: "shop"}, manifest.Key{Kind: "Namespace", Name: "other"}
	good := recordLine(other, goodRecord{file: "b c.yaml", sum: checksumOf([]byte(doc)), size: int64(len(doc))}) + doc + "\n"
	for _, s := range []string{"", good, good[:len(good)-1], good[:30], good + good, recordLine(k, goodRecord{file: "a.yaml", size: -1}),
		recordLine(other, goodRecord{file: "x", size: 3}) + "abc\n" + good, "-2 00 a b c \"\"\n", "9999999999 0\n"} {
		f.Add([]byte(s))
	}
	shop := []byte(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop"}}`)
	f.Fuzz(func(t *testing.T, tail []byte) {
		dir := t.TempDir()
		g, err := openLastGood(dir)
		require.NoError(t, err)
		g.remember(k, "a.yaml", shop, checksumOf(shop))
		g.flush()
		require.Empty(t, g.trouble())
		g.close()
		path := filepath.Join(dir, goodLog)
		log, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, append(log, tail...), 0o600))

		g, err = openLastGood(dir)
		require.NoError(t, err)
		_, kept := g.records[k]
		for one := range g.records {
			if o, ok := g.recall(one); ok {
				require.Equal(t, one, o.Key)
			}
		}
		g.remember(other, "b.yaml", []byte(doc), checksumOf([]byte(doc)))
		g.forget(k)
		g.flush()
		require.NoError(t, g.compact())
		g.remember(k, "c.yaml", shop, checksumOf(shop))
		g.flush()
		g.close()

		g, err = openLastGood(dir)
		require.NoError(t, err)
		defer g.close()
		o, ok := g.recall(other)
		require.True(t, ok)
		require.Equal(t, other, o.Key)
		o, ok = g.recall(k)
		require.True(t, ok)
		require.Equal(t, k, o.Key)
		require.Equal(t, "c.yaml", g.records[k].file)
		if kept && len(tail) == 0 {
			require.Contains(t, g.definedBefore("c.yaml"), k)
		}
	})
}

// Whatever the book of identities says, no number is given out that exists or rests, and what was collected
// rests.
func FuzzIdentityBook(f *testing.F) {
	f.Add([]byte(`{}`), uint16(300))
	f.Add([]byte(`{"highest":65535,"unused":{"300":"2024-05-01T12:00:00Z"},"quarantine":{"256":"2034-05-01T12:00:00Z"}}`), uint16(257))
	f.Add([]byte(`{"highest":4294967295,"quarantine":{"0":"2034-05-01T12:00:00Z"}}`), uint16(65535))
	f.Add([]byte(`{"highest":-1}`), uint16(1))
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, data []byte, taken uint16) {
		var b manifest.IdentityBook
		if json.Unmarshal(data, &b) != nil {
			return
		}
		exists := manifest.Identities{identity.ID(taken): labels.Set{}}
		resting := map[identity.ID]bool{}
		for id, until := range b.Quarantine {
			resting[id] = now.Before(until)
		}
		id, ok := b.Next(exists, now)
		if !ok {
			return
		}
		require.True(t, id.IsCluster(), "%d", id)
		require.NotEqual(t, identity.ID(taken), id)
		require.False(t, resting[id], "%d rests", id)
		exists[id] = labels.Set{}
		due, _ := b.Collect(exists, nil, now.Add(time.Hour), time.Hour)
		for _, gone := range due {
			require.True(t, now.Add(time.Hour).Before(b.Quarantine[gone]))
		}
	})
}
