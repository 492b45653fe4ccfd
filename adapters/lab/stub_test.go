package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/jsimonetti/rtnetlink/v2/driver"
	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/core/policy"
	"github.com/weirnet/weir/ports"
)

// The lab's tests run without weir's own agent and plugin: the test binary plays both, by the name it
// is called by. The stub plugin joins pods by plain routing, so that everything can reach everything.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "weir-agent":
		exitOn(stubAgent(os.Args[1:]))
	case "weir-cni":
		exitOn(stubCNI())
	}
	if status, ok := Helper(os.Args[1:]); ok {
		os.Exit(status)
	}
	os.Exit(m.Run())
}

func exitOn(err error) {
	if err != nil {
		json.NewEncoder(os.Stdout).Encode(map[string]any{"code": 100, "msg": err.Error()})
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// needRoot skips, or fails where REQUIRE names root.
func needRoot(t *testing.T) {
	t.Helper()
	err := Check()
	if err == nil {
		return
	}
	if slices.Contains(strings.Split(os.Getenv("REQUIRE"), ","), "root") {
		t.Fatal(err)
	}
	t.Skip(err)
}

// stubAgent routes the pods of its node and those of the others, and listens.
func stubAgent(args []string) error {
	flags := map[string]string{}
	for i := 0; i+1 < len(args); i += 2 {
		flags[args[i]] = args[i+1]
	}
	run := flags["--run-dir"]
	if strings.Contains(flags["--node-name"], "broken") {
		return errors.New("this node is broken")
	}
	for _, f := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		if err := os.WriteFile("/proc/sys/"+f, []byte("1"), 0); err != nil {
			return err
		}
	}
	if err := stubRoutes(flags["--node-name"]); err != nil {
		return err
	}
	os.Remove(filepath.Join(run, "weir.sock"))
	l, err := net.Listen("unix", filepath.Join(run, "weir.sock"))
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
	return l.Close()
}

// stubRoutes sends the other node's pods to that node; the tests have at most two.
func stubRoutes(node string) error {
	c, err := rtnetlink.Dial(nil)
	if err != nil {
		return err
	}
	defer c.Close()
	here := &netConn{Conn: c, name: node}
	link, err := here.index(nodeLink)
	if err != nil {
		return err
	}
	for i := 1; i <= 2; i++ {
		if node == fmt.Sprintf("node%d", i) {
			continue
		}
		for f, p := range nodePodCIDRs(i) {
			if err := here.addRoute(link, p, nodeAddresses(i)[f]); err != nil {
				return err
			}
		}
	}
	return nil
}

// stubCNI makes a pod's link; it notes attachments as files of the agent's run directory.
func stubCNI() error {
	conf, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	var c cniConfig
	if err := json.Unmarshal(conf, &c); err != nil {
		return err
	}
	args := map[string]string{}
	for kv := range strings.SplitSeq(os.Getenv("CNI_ARGS"), ";") {
		k, v, _ := strings.Cut(kv, "=")
		args[k] = v
	}
	name := cluster.Name{Namespace: args["K8S_POD_NAMESPACE"], Name: args["K8S_POD_NAME"]}
	note := filepath.Join(filepath.Dir(c.AgentSocket), "endpoint-"+podKey(name))
	host := "lxc" + os.Getenv("CNI_CONTAINERID")[:8]
	switch os.Getenv("CNI_COMMAND") {
	case "ADD":
		if strings.Contains(name.Name, "refused") {
			return errors.New("no room for this pod")
		}
		if strings.Contains(name.Name, "crash") {
			// The whole tool dies in the middle of an attachment.
			syscall.Kill(os.Getppid(), syscall.SIGKILL)
			time.Sleep(time.Hour)
		}
		ips, err := stubLink(host, c)
		if err != nil {
			return err
		}
		if err := os.WriteFile(note, []byte(strings.Join(c.RuntimeConfig.IPs, " ")), 0o644); err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(map[string]any{"cniVersion": "1.1.0", "ips": ips})
	case "DEL":
		os.Remove(note)
	}
	return nil
}

// stubLink makes a veth pair with wanted or counted addresses, all by host routes.
func stubLink(host string, c cniConfig) ([]map[string]string, error) {
	node, err := rtnetlink.Dial(nil)
	if err != nil {
		return nil, err
	}
	pod, err := os.Open(os.Getenv("CNI_NETNS"))
	if err != nil {
		return nil, err
	}
	err = node.Link.New(&rtnetlink.LinkMessage{Attributes: &rtnetlink.LinkAttributes{Name: host,
		Info: &rtnetlink.LinkInfo{Kind: "veth", Data: &driver.Veth{PeerInfo: &rtnetlink.LinkMessage{
			Attributes: &rtnetlink.LinkAttributes{Name: "eth0", NetNS: rtnetlink.NetNSForFD(uint32(pod.Fd()))}}}}}})
	if err != nil {
		return nil, err
	}
	here := &netConn{Conn: node, name: "node"}
	there, err := dialNetns(filepath.Base(os.Getenv("CNI_NETNS")))
	if err != nil {
		return nil, err
	}
	out, err := here.index(host)
	if err != nil {
		return nil, err
	}
	in, err := there.index("eth0")
	if err != nil {
		return nil, err
	}
	gateways := []netip.Prefix{netip.MustParsePrefix("169.254.1.1/32"), netip.MustParsePrefix("fd00::ffff/128")}
	var answer []map[string]string
	errs := []error{here.up(out), there.up(in)}
	for i, want := range c.RuntimeConfig.IPs {
		p := netip.MustParsePrefix(want)
		g := gateways[i]
		errs = append(errs, there.addAddress(in, p), here.addRoute(out, p, netip.Addr{}),
			here.addAddress(out, g), there.addRoute(in, g, netip.Addr{}),
			there.addRoute(in, netip.PrefixFrom(map[bool]netip.Addr{true: netip.IPv4Unspecified(), false: netip.IPv6Unspecified()}[g.Addr().Is4()], 0), g.Addr()))
		answer = append(answer, map[string]string{"address": want})
	}
	return answer, errors.Join(errs...)
}

// stubClient speaks to a stubAgent: whoever accepts is ready; endpoints are the plugin's notes.
type stubClient struct{ socket string }

func (c stubClient) Ready(context.Context) error {
	conn, err := net.Dial("unix", c.socket)
	if err == nil {
		conn.Close()
	}
	return err
}

func (c stubClient) Status(ctx context.Context) (ports.Status, error) {
	return ports.Status{}, c.Ready(ctx)
}

func (c stubClient) Endpoints(context.Context) ([]ports.EndpointInfo, error) {
	files, err := filepath.Glob(filepath.Join(filepath.Dir(c.socket), "endpoint-*"))
	var out []ports.EndpointInfo
	for _, f := range files {
		ns, name, _ := strings.Cut(strings.TrimPrefix(filepath.Base(f), "endpoint-"), "_")
		out = append(out, ports.EndpointInfo{
			Attachment: ports.Attachment{Pod: cluster.Name{Namespace: ns, Name: name}}, Identity: 300, State: "ready",
			Labels: c.labels(ns, name),
		})
	}
	return out, err
}

// labels reads the pod as an agent would.
func (c stubClient) labels(ns, name string) []string {
	dir := filepath.Join(filepath.Dir(c.socket), "../../..")
	return (&Lab{dir: filepath.Clean(dir)}).labelsOf(cluster.Name{Namespace: ns, Name: name})
}

// storedObjects lists what the cluster directory holds of a kind, as an agent would see it.
func (c stubClient) storedObjects(kind string) []cluster.Name {
	dir := filepath.Join(filepath.Dir(c.socket), "../../../cluster", kind)
	files, _ := filepath.Glob(filepath.Join(dir, "*.yaml"))
	var out []cluster.Name
	for _, f := range files {
		ns, name, _ := strings.Cut(strings.TrimSuffix(filepath.Base(f), ".yaml"), "_")
		out = append(out, cluster.Name{Namespace: ns, Name: name})
	}
	return out
}

func (c stubClient) Services(context.Context) ([]ports.ServiceInfo, error) {
	var out []ports.ServiceInfo
	for _, n := range c.storedObjects("service") {
		out = append(out, ports.ServiceInfo{Name: n.String()})
	}
	return out, nil
}

func (c stubClient) Policies(context.Context) (ports.PolicyInfo, error) {
	var out ports.PolicyInfo
	for _, n := range c.storedObjects("networkpolicy") {
		out.Policies = append(out.Policies, policy.Policy{Ref: policy.Ref{Kind: "NetworkPolicy", Namespace: n.Namespace, Name: n.Name}})
	}
	return out, nil
}

// Tables holds the pods of all nodes.
func (c stubClient) Tables(context.Context) (ports.TablesDump, error) {
	var out ports.TablesDump
	files, err := filepath.Glob(filepath.Join(filepath.Dir(c.socket), "../../*/run/endpoint-*"))
	for _, f := range files {
		b, _ := os.ReadFile(f)
		for ip := range strings.FieldsSeq(string(b)) {
			out.IPCache = append(out.IPCache, ports.Row[netip.Prefix, datapath.IPCache]{
				Key: netip.MustParsePrefix(ip), Value: datapath.IPCache{Identity: 300},
			})
		}
	}
	return out, err
}

func (c stubClient) Observe(_ context.Context, _ flow.Query, deliver func(flow.Entry) error) error {
	return deliver(flow.Entry{Flow: &flow.Flow{
		Time: time.Now(), Event: datapath.Event{
			Type: datapath.EventNew, Proto: 6,
			Src: netip.MustParseAddrPort("10.244.1.5:999"), Dst: netip.MustParseAddrPort("10.244.1.6:80"),
		},
		Ingress: &policy.Verdict{Allowed: true, Note: "said by the stub"},
	}})
}

// newLab returns a lab over stubs that is taken down, and leaves nothing, at the end of the test.
func newLab(t *testing.T, name string) *Lab {
	t.Helper()
	needRoot(t)
	l := stubLab(t, name, t.TempDir())
	t.Cleanup(func() {
		require.NoError(t, l.Down(context.Background()))
		requireNoTrace(t, l)
	})
	return l
}

func stubLab(t *testing.T, name, root string) *Lab {
	t.Helper()
	l, err := New(Options{
		Name: name, Root: root, Self: testBinary(t),
		AgentPath: stubBinary(t, root, "weir-agent"), CNIPath: stubBinary(t, root, "weir-cni"),
		Dial:          func(s string) Agent { return stubClient{s} },
		ReadyTimeout:  10 * time.Second,
		SettleTimeout: 5 * time.Second,
		Log:           t.Logf,
	})
	require.NoError(t, err)
	return l
}

func testBinary(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	return self
}

func stubBinary(t *testing.T, dir, name string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if _, err := os.Lstat(path); err == nil {
		return path
	}
	require.NoError(t, os.Symlink(testBinary(t), path))
	return path
}

func requireNoTrace(t *testing.T, l *Lab) {
	t.Helper()
	left, err := l.Traces()
	require.NoError(t, err)
	require.Empty(t, left)
	// Processes of the lab have its name, or its paths, among their arguments.
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	for _, p := range procs {
		b, _ := os.ReadFile(p)
		require.NotContains(t, string(b), "weir-"+l.Name()+"-", p)
		require.NotContains(t, string(b), l.dir+"/", p)
	}
}
