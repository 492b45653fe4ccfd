package labels_test

import (
	"fmt"

	"github.com/weirnet/weir/core/labels"
)

func ExampleSelector() {
	pod, _ := labels.ParseSet("k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop")
	sel, _ := labels.NewSelector(
		labels.Requirement{Key: "app", Operator: labels.In, Values: []string{"web", "api"}},
		labels.Requirement{Source: labels.SourceK8s, Key: "zone", Operator: labels.DoesNotExist},
	)
	fmt.Println(sel, sel.Matches(pod))

	_, err := labels.NewSelector(labels.Requirement{Key: "app", Operator: "Equals", Values: []string{"web"}})
	fmt.Println(err)
	// Output:
	// !k8s:zone,any:app in (api,web) true
	// key "app": unknown operator "Equals"; allowed: In, NotIn, Exists, DoesNotExist
}
