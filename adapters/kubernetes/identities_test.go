package kubernetes

import (
	"fmt"

	"github.com/weirnet/weir/core/labels"
)

// app is the label set of an app.
func app(i int) labels.Set {
	return labels.NewSet(labels.Label{Source: labels.SourceK8s, Key: "app", Value: fmt.Sprintf("a%d", i)},
		labels.Label{Source: labels.SourceK8s, Key: labels.KeyNamespace, Value: "shop"})
}
