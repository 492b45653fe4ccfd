package crds

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"

	"github.com/weirnet/weir/core/manifest"
)

// kind is what clients see of a kind: what they type, and what a table shows.
type kind struct {
	name, scope, plural, short string
	served                     string // versions, the stored first; an older one in parentheses is deprecated
	status                     bool   // status is a subresource
	columns                    string // besides Name; those for -o wide in parentheses
}

var kinds = []kind{
	{"CiliumNetworkPolicy", "Namespaced", "ciliumnetworkpolicies", "cnp ciliumnp", "v2", true, "Age Valid"},
	{"CiliumClusterwideNetworkPolicy", "Cluster", "ciliumclusterwidenetworkpolicies", "ccnp", "v2", true, "Valid"},
	{"CiliumCIDRGroup", "Cluster", "ciliumcidrgroups", "ccg", "v2 (v2alpha1)", false, "Age"},
	{"CiliumIdentity", "Cluster", "ciliumidentities", "ciliumid", "v2", false, "Namespace Age"},
	{"CiliumEndpoint", "Namespaced", "ciliumendpoints", "cep ciliumep", "v2", false, "Security_Identity (Ingress_Enforcement) (Egress_Enforcement) Endpoint_State IPv4 IPv6"},
	{"CiliumEndpointSlice", "Cluster", "ciliumendpointslices", "ces", "v2alpha1", false, "Age"},
	{"CiliumNode", "Cluster", "ciliumnodes", "cn ciliumn", "v2", true, "CiliumInternalIP InternalIP Age"},
	{"CiliumNodeConfig", "Namespaced", "ciliumnodeconfigs", "", "v2 (v2alpha1)", false, "Age"},
	{"CiliumLoadBalancerIPPool", "Cluster", "ciliumloadbalancerippools", "ippool ippools lbippool lbippools", "v2 (v2alpha1)", true, "Disabled Conflicting IPs_Available Age"},
	{"CiliumL2AnnouncementPolicy", "Cluster", "ciliuml2announcementpolicies", "l2announcement", "v2alpha1", true, "Age"},
	{"CiliumPodIPPool", "Cluster", "ciliumpodippools", "cpip", "v2 (v2alpha1)", false, "Age"},
	{"CiliumBGPClusterConfig", "Cluster", "ciliumbgpclusterconfigs", "cbgpcluster", "v2 (v2alpha1)", true, "Age"},
	{"CiliumBGPPeerConfig", "Cluster", "ciliumbgppeerconfigs", "cbgppeer", "v2 (v2alpha1)", true, "Age"},
	{"CiliumBGPAdvertisement", "Cluster", "ciliumbgpadvertisements", "cbgpadvert", "v2 (v2alpha1)", false, "Age"},
	{"CiliumBGPNodeConfig", "Cluster", "ciliumbgpnodeconfigs", "cbgpnode", "v2 (v2alpha1)", true, "Age"},
	{"CiliumBGPNodeConfigOverride", "Cluster", "ciliumbgpnodeconfigoverrides", "cbgpnodeoverride", "v2 (v2alpha1)", false, "Age"},
	{"CiliumBGPPeeringPolicy", "Cluster", "ciliumbgppeeringpolicies", "bgpp", "v2alpha1", false, "Age"},
	{"CiliumBGPPeeringStatus", "Cluster", "ciliumbgppeeringstatuses", "", "v2alpha1", false, "Node LocalASN PeerASN PeerAddress State Uptime Received Advertised LastError"},
	{"CiliumEnvoyConfig", "Namespaced", "ciliumenvoyconfigs", "cec", "v2", false, "Age"},
	{"CiliumClusterwideEnvoyConfig", "Cluster", "ciliumclusterwideenvoyconfigs", "ccec", "v2", false, "Age"},
	{"CiliumLocalRedirectPolicy", "Namespaced", "ciliumlocalredirectpolicies", "clrp", "v2", false, "Age"},
	{"CiliumEgressGatewayPolicy", "Cluster", "ciliumegressgatewaypolicies", "cegp", "v2", false, "Age"},
	{"CiliumGatewayClassConfig", "Namespaced", "ciliumgatewayclassconfigs", "cgcc", "v2alpha1", true, "Accepted Age (Description)"},
	{"CiliumHTTPRetryPolicy", "Namespaced", "ciliumhttpretrypolicies", "chrp", "v2alpha1", true, "Attempts Accepted Age"},
}

// ask sends a GET and reads the answer.
func ask(t *testing.T, config *rest.Config, path, accept string, into any) {
	t.Helper()
	client, err := rest.HTTPClientFor(config)
	require.NoError(t, err)
	req, err := http.NewRequest(http.MethodGet, config.Host+path, nil)
	require.NoError(t, err)
	req.Header.Set("Accept", accept)
	answer, err := client.Do(req)
	for ; err == nil && answer.StatusCode == http.StatusTooManyRequests; answer, err = client.Do(req) { // a new kind's cache fills
		answer.Body.Close()
		time.Sleep(100 * time.Millisecond)
	}
	require.NoError(t, err)
	defer answer.Body.Close()
	require.Equal(t, http.StatusOK, answer.StatusCode, path)
	require.NoError(t, json.NewDecoder(answer.Body).Decode(into))
}

func TestKinds(t *testing.T) {
	_, c, _ := installed(t)
	var names []string
	for _, k := range kinds {
		names = append(names, k.plural+".cilium.io")
		for i, v := range strings.Fields(k.served) {
			v := strings.Trim(v, "()")
			t.Run(k.name+" "+v, func(t *testing.T) {
				var list metav1.APIResourceList
				ask(t, c.Config, "/apis/cilium.io/"+v, "application/json", &list)
				at := slices.IndexFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == k.plural })
				require.GreaterOrEqual(t, at, 0, "served")
				r := list.APIResources[at]
				assert.Equal(t, k.name, r.Kind)
				assert.Equal(t, strings.ToLower(k.name), r.SingularName)
				assert.Equal(t, k.scope == "Namespaced", r.Namespaced)
				assert.ElementsMatch(t, strings.Fields(k.short), r.ShortNames)
				assert.Contains(t, r.Categories, "cilium")
				status := slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == k.plural+"/status" })
				assert.Equal(t, k.status, status, "status is a subresource")
				if i == 0 {
					assert.Equal(t, v, storageVersion(k.name))
				}

				var table metav1.Table
				ask(t, c.Config, "/apis/cilium.io/"+v+"/"+k.plural, "application/json;as=Table;v=v1;g=meta.k8s.io", &table)
				var columns []string
				for _, c := range table.ColumnDefinitions[1:] {
					column := strings.ReplaceAll(c.Name, " ", "_")
					if c.Priority > 0 {
						column = "(" + column + ")"
					}
					columns = append(columns, column)
				}
				assert.Equal(t, k.columns, strings.Join(columns, " "))
			})
		}
	}
	assert.ElementsMatch(t, names, Names())
	assert.True(t, slices.IsSorted(Names()))
}

// TestTables shows what kubectl get prints of objects.
func TestTables(t *testing.T) {
	ctx, c, client := installed(t)
	cells := func(path string) []string {
		var table metav1.Table
		ask(t, c.Config, path, "application/json;as=Table;v=v1;g=meta.k8s.io", &table)
		require.Len(t, table.Rows, 1)
		var out []string
		for _, cell := range table.Rows[0].Cells {
			out = append(out, fmt.Sprint(cell))
		}
		return out
	}
	create := func(file, kind, name string) {
		for _, u := range documents(t, "testdata/"+file) {
			if u.GetKind() == kind && u.GetName() == name {
				got, err := of(t, client, u).Create(ctx, u, strict)
				require.NoError(t, err)
				t.Cleanup(func() {
					assert.NoError(t, of(t, client, u).Delete(context.Background(), name, metav1.DeleteOptions{}))
				})
				if kind == "CiliumNetworkPolicy" || kind == "CiliumLoadBalancerIPPool" {
					when := "2026-01-02T03:04:05Z"
					require.NoError(t, unstructured.SetNestedSlice(got.Object, []any{
						map[string]any{"type": "Valid", "status": "True", "reason": "a", "message": "b", "lastTransitionTime": when},
						map[string]any{"type": "cilium.io/PoolConflict", "status": "False", "reason": "a", "message": "", "lastTransitionTime": when},
						map[string]any{"type": "cilium.io/IPsAvailable", "status": "Unknown", "reason": "a", "message": "254", "lastTransitionTime": when},
					}, "status", "conditions"))
					_, err := of(t, client, u).UpdateStatus(ctx, got, metav1.UpdateOptions{FieldValidation: metav1.FieldValidationStrict})
					require.NoError(t, err)
				}
				return
			}
		}
		require.FailNow(t, "no such document", name)
	}
	create("guide.yaml", "CiliumNetworkPolicy", "default-deny")
	create("guide.yaml", "CiliumLoadBalancerIPPool", "lan-pool")
	create("others.yaml", "CiliumEndpoint", "backend-1")
	create("others.yaml", "CiliumNode", "node-a")
	create("others.yaml", "CiliumIdentity", "12345")
	create("bgp.yaml", "CiliumBGPPeeringStatus", "node-a.192.168.1.1")

	policy := cells("/apis/cilium.io/v2/ciliumnetworkpolicies")
	assert.Equal(t, []string{"default-deny", "True"}, []string{policy[0], policy[2]})
	assert.Equal(t, []string{"lan-pool", "false", "False", "254"}, cells("/apis/cilium.io/v2/ciliumloadbalancerippools")[:4])
	assert.Equal(t, []string{"backend-1", "12345", "enforcing", "disabled", "ready", "10.0.0.7", "fd00::7"}, cells("/apis/cilium.io/v2/ciliumendpoints"))
	assert.Equal(t, []string{"node-a", "10.0.0.1", "192.0.2.2"}, cells("/apis/cilium.io/v2/ciliumnodes")[:3])
	assert.Equal(t, []string{"12345", "production"}, cells("/apis/cilium.io/v2/ciliumidentities")[:2])
	session := cells("/apis/cilium.io/v2alpha1/ciliumbgppeeringstatuses")
	assert.Equal(t, []string{"node-a.192.168.1.1", "node-a", "65001", "65000", "192.168.1.1", "established"}, session[:6])
	assert.Equal(t, []string{"3", "1"}, session[7:9])
}

// TestEverythingIsExplained reads what kubectl explain reads: each kind and each field has words.
func TestEverythingIsExplained(t *testing.T) {
	_, c, _ := installed(t)
	for _, v := range []string{"v2", "v2alpha1"} {
		var api struct {
			Components struct {
				Schemas map[string]*apiextensions.JSONSchemaProps
			}
		}
		ask(t, c.Config, "/openapi/v3/apis/cilium.io/"+v, "application/json", &api)
		for _, k := range kinds {
			if !slices.Contains(strings.Fields(strings.NewReplacer("(", "", ")", "").Replace(k.served)), v) {
				continue
			}
			s := api.Components.Schemas["io.cilium."+v+"."+k.name]
			if assert.NotNil(t, s, "%s of %s", k.name, v) {
				assert.NotEmpty(t, s.Description, "%s of %s", k.name, v)
				explained(t, *s, k.name)
			}
		}
	}
}

func explained(t *testing.T, s apiextensions.JSONSchemaProps, path string) {
	for _, name := range sortedNames(s.Properties) {
		p, at := s.Properties[name], path+"."+name
		if name == "metadata" {
			continue // which the API server describes by reference
		}
		assert.NotEmpty(t, p.Description, at)
		explained(t, p, at)
	}
	if s.Items != nil && s.Items.Schema != nil {
		explained(t, *s.Items.Schema, path)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		explained(t, *s.AdditionalProperties.Schema, path)
	}
}

func sortedNames(m map[string]apiextensions.JSONSchemaProps) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// TestVersionsHaveOneSchema holds since nothing converts between the versions of a kind: what one of them
// takes must not be lost in another.
func TestVersionsHaveOneSchema(t *testing.T) {
	for _, d := range Definitions() {
		first := d.Spec.Versions[0]
		for _, v := range d.Spec.Versions[1:] {
			a, b := first.Schema.OpenAPIV3Schema.DeepCopy(), v.Schema.OpenAPIV3Schema.DeepCopy()
			a.Description, b.Description = "", ""
			assert.Equal(t, a, b, "%s: %s and %s", d.Name, first.Name, v.Name)
			assert.Equal(t, first.Subresources, v.Subresources, d.Name)
			assert.Equal(t, first.AdditionalPrinterColumns, v.AdditionalPrinterColumns, d.Name)
		}
		for _, v := range d.Spec.Versions {
			assert.True(t, v.Served, "%s %s", d.Name, v.Name)
			assert.Equal(t, !v.Storage, v.Deprecated, "%s %s", d.Name, v.Name)
		}
	}
}

// TestPublishedObjects creates what agents write of their nodes, endpoints and identities.
func TestPublishedObjects(t *testing.T) {
	ctx, _, client := installed(t)
	for _, doc := range published(t) {
		u := new(unstructured.Unstructured)
		require.NoError(t, json.Unmarshal(doc, &u.Object))
		got, err := of(t, client, u).Create(ctx, u, strict)
		require.NoError(t, err, "%s", doc)
		contains(t, u.Object, got.Object)
		o, findings := manifest.Decode("", doc)
		assert.True(t, o.Valid(), "%v", findings)
		require.NoError(t, of(t, client, u).Delete(ctx, u.GetName(), metav1.DeleteOptions{}))
	}
}
