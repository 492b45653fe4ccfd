package cluster

import (
	"testing"
	"time"

	"github.com/weirnet/weir/core/identity"
	"github.com/weirnet/weir/core/manifest"
	"github.com/weirnet/weir/ports"
	"github.com/weirnet/weir/ports/porttest"
)

func TestSourceContract(t *testing.T) {
	porttest.Source(t, func(t *testing.T) porttest.SourceHarness {
		c := New()
		files := map[string][]manifest.Key{}
		return porttest.SourceHarness{
			Source: c.Node("n1"),
			Apply: func(name, yaml string) {
				c.Apply([]byte(yaml))
				files[name] = keysOf(yaml)
			},
			Remove: func(name string) { c.Delete(files[name]...) },
		}
	})
}

func keysOf(text string) []manifest.Key {
	var out []manifest.Key
	for _, part := range manifest.SplitYAML([]byte(text)) {
		items, err := readDocument(part)
		if err != nil {
			panic(err)
		}
		for _, item := range items {
			o, _ := manifest.Decode("", item)
			out = append(out, o.Key)
		}
	}
	return out
}

func TestPublisherContract(t *testing.T) {
	porttest.Publisher(t, func(t *testing.T) porttest.PublisherHarness {
		c := New()
		return porttest.PublisherHarness{Publisher: c.Node("n1"), Source: c.Node("n2")}
	})
}

func TestIdentitiesContract(t *testing.T) {
	porttest.Identities(t, func(t *testing.T) porttest.IdentitiesHarness {
		c := New()
		return porttest.IdentitiesHarness{
			A: c.Node("n1"), B: c.Node("n2"), Publisher: c.Node("n1"), Source: c.Node("n2"), Advance: c.Advance,
			Exhaust: func(free int) {
				c.book.Highest = identity.MaxCluster
				c.book.Quarantine = map[identity.ID]time.Time{}
				for id := identity.MinCluster; id <= identity.MaxCluster-identity.ID(free); id++ {
					c.book.Quarantine[id] = c.now.Add(1000 * time.Hour)
				}
			},
		}
	})
}

func TestAttachmentsContract(t *testing.T) {
	porttest.Attachments(t, func(t *testing.T) func() ports.Attachments {
		a := New().Node("n1").NewAttachments()
		return func() ports.Attachments { return a }
	})
}
