package operator

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var leases = schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}

func (r *rig) healthz(op *Operator) (int, string) {
	r.t.Helper()
	resp, err := http.Get("http://" + op.Addr() + "/healthz")
	require.NoError(r.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(r.t, err)
	return resp.StatusCode, string(body)
}

func (r *rig) leads(op *Operator) func() string {
	return func() string {
		_, leading := op.election.state()
		return want(leading, true)
	}
}

// One of two replicas leads, both are well, and the other takes over: at once from one that ends, after the
// lease from one that dies.
func TestTwoReplicas(t *testing.T) {
	r := newRig(t)
	a := r.named("a")
	r.eventually(r.leads(a))
	b := r.named("b")
	for _, op := range []*Operator{a, b} {
		r.eventually(func() string {
			code, body := r.healthz(op)
			return want(code, 200) + want(body, "ok\n")
		})
	}
	r.never(500*time.Millisecond, func() string {
		_, leading := b.election.state()
		return want(leading, false)
	})
	begin := time.Now()
	r.stop(a)
	r.eventually(r.leads(b))
	require.Less(t, time.Since(begin), 2*time.Second, "faster than the lease: it was given back")
	r.stop(b)

	p := r.process()
	r.eventually(p.leads)
	c := r.named("c")
	p.kill()
	begin = time.Now()
	r.eventually(r.leads(c))
	require.Greater(t, time.Since(begin), 2*time.Second)
	require.Less(t, time.Since(begin), 8*time.Second)
	r.node("n1")
	r.eventually(func() string { return want(len(r.podCIDRs("n1")), 1) })
}

// A process that is asked to end gives the lease back, and ends well.
func TestTerminatedProcessGivesTheLeaseBack(t *testing.T) {
	r := newRig(t)
	p := r.process()
	r.eventually(p.leads)
	holder := func() string {
		s, _, _ := unstructured.NestedString(r.get(leases, "kube-system", leaseName).Object, "spec", "holderIdentity")
		return s
	}
	require.NotEmpty(t, holder())
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, p.cmd.Wait())
	require.Empty(t, holder())
}

// A leader that was stopped for longer than its lease wakes up as one that isn't.
func TestLeaderThatSlept(t *testing.T) {
	r := newRig(t)
	p := r.process()
	r.eventually(p.leads)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGSTOP))
	c := r.named("c")
	r.eventually(r.leads(c))
	for i := range 10 {
		r.node(fmt.Sprintf("n%d", i))
	}
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGCONT))
	r.eventually(func() string { return want(strings.Contains(p.log.String(), "not leading any more"), true) })
	seen := map[string]bool{}
	for i := range 10 {
		name := fmt.Sprintf("n%d", i)
		r.eventually(func() string { return want(len(r.podCIDRs(name)), 1) })
		seen[r.podCIDRs(name)[0]] = true
	}
	require.Len(t, seen, 10)
	require.NotContains(t, p.log.String(), "gave pod CIDRs")
	require.NotContains(t, p.log.String(), "made the CiliumNode")
}

// Who lost the lead, or may have, writes nothing.
func TestWritesNeedTheLease(t *testing.T) {
	r := newRig(t)
	op := r.named("a")
	r.eventually(r.leads(op))
	c, err := newClients(op.rest, op.election.mayWrite)
	require.NoError(t, err)
	_, err = c.core.Nodes().List(r.ctx, metav1.ListOptions{})
	require.NoError(t, err)
	err = c.dynamic.Resource(ciliumNodes).Delete(r.ctx, "nobody", metav1.DeleteOptions{})
	require.False(t, errors.Is(err, errNotLeading), "%v", err)
	r.stop(op)
	err = c.dynamic.Resource(ciliumNodes).Delete(r.ctx, "nobody", metav1.DeleteOptions{})
	require.ErrorIs(t, err, errNotLeading)
	_, err = c.core.Nodes().List(r.ctx, metav1.ListOptions{})
	require.NoError(t, err, "reading hurts nobody")
}

// While the API server is away the leader stops and stays well; afterwards somebody leads again.
func TestAPIServerOutage(t *testing.T) {
	r := newRig(t)
	op := r.named("a")
	r.node("n1")
	r.eventually(func() string { return want(len(r.podCIDRs("n1")), 1) })
	r.cluster.StopAPIServer(t)
	r.eventually(func() string {
		_, leading := op.election.state()
		return want(leading, false)
	})
	code, body := r.healthz(op)
	require.Equal(t, 200, code, body)
	r.cluster.StartAPIServer(t)
	r.node("n2")
	r.eventually(func() string { return want(len(r.podCIDRs("n2")), 1) })
	require.Equal(t, []string{"10.20.0.0/24"}, r.podCIDRs("n1"))
	require.Equal(t, []string{"10.20.1.0/24"}, r.podCIDRs("n2"))
}

func TestHealthSaysWhy(t *testing.T) {
	e := &election{}
	h := newHealth("127.0.0.1:0", e)
	now := time.Now()
	require.ErrorContains(t, h.check(now), "no leader is known")
	e.leader = "other"
	require.NoError(t, h.check(now))
	e.leader, e.leading = "me", true
	h.working("reading the cluster")
	require.NoError(t, h.check(now))
	require.ErrorContains(t, h.check(now.Add(startGrace+time.Minute)), "without having begun the work: reading the cluster")
	h.idle()
	require.NoError(t, h.check(now.Add(time.Hour)))
	require.NoError(t, h.start())
	h2 := newHealth(h.addr(), e)
	require.ErrorContains(t, h2.start(), "operator-api-serve-addr")
	h.stop()
}
