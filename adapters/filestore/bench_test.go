package filestore

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// servicesDir writes n services of 10 endpoints each, as an API server describes them, two files a service.
func servicesDir(b *testing.B, n int) string {
	dir := b.TempDir()
	for i := range n {
		name, ns := fmt.Sprintf("service-%05d", i), fmt.Sprintf("team-%02d", i%50)
		svc := fmt.Sprintf(`{"apiVersion":"v1","kind":"Service","metadata":{"labels":{"app":%q},"name":%q,"namespace":%q},`+
			`"spec":{"clusterIP":"10.96.%d.%d","ports":[{"name":"http","port":80,"protocol":"TCP","targetPort":8080}],`+
			`"selector":{"app":%q},"sessionAffinity":"None","type":"ClusterIP"}}`, name, name, ns, i>>8, i&255, name)
		slice := fmt.Sprintf(`{"addressType":"IPv4","apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":`+
			`{"labels":{"kubernetes.io/service-name":%q},"name":"%s-abcde","namespace":%q},"ports":[{"name":"http","port":8080,"protocol":"TCP"}],"endpoints":[`, name, name, ns)
		for j := range 10 {
			k := i*10 + j
			slice += fmt.Sprintf(`{"addresses":["10.%d.%d.%d"],"conditions":{"ready":true,"serving":true,"terminating":false},"nodeName":"node%d",`+
				`"targetRef":{"kind":"Pod","name":"%s-%d","namespace":%q},"zone":"zone-a"},`, 128+k>>16, k>>8&255, k&255, j, name, j, ns)
		}
		slice = slice[:len(slice)-1] + "]}"
		require.NoError(b, os.WriteFile(filepath.Join(dir, name+".json"), []byte(svc), 0o644))
		require.NoError(b, os.WriteFile(filepath.Join(dir, name+"-slice.json"), []byte(slice), 0o644))
	}
	return dir
}

// The whole way from files to events.
func BenchmarkReadDir1000Services(b *testing.B) {
	dir := servicesDir(b, 1000)
	b.ReportAllocs()
	for b.Loop() {
		events, findings, err := ReadDir(dir)
		if err != nil || len(findings) > 0 || len(events) < 2000 {
			b.Fatal(len(events), findings, err)
		}
	}
}
