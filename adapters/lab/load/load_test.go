package load

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/weirnet/weir/adapters/internal/netns"
	"github.com/weirnet/weir/adapters/internal/netns/netnstest"
)

// The test binary is server and client, too: in the namespace that the environment names.
func TestMain(m *testing.M) {
	space := os.Getenv("LOAD_NETNS")
	if space == "" {
		os.Exit(m.Run())
	}
	if err := inside(space); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// inside puts this process into the namespace by running itself again from a thread that is there.
func inside(space string) error {
	if os.Getenv("LOAD_INSIDE") != "" {
		return Run(os.Stdin, os.Stdout)
	}
	runtime.LockOSThread()
	f, err := netns.Open(netns.Path(space))
	if err != nil {
		return err
	}
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return unix.Exec(self, os.Args, append(os.Environ(), "LOAD_INSIDE=1"))
}

type end struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	stderr bytes.Buffer
}

func start(t *testing.T, space string, j Job) *end {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	e := &end{cmd: exec.Command(self)}
	e.cmd.Env = append(os.Environ(), "LOAD_NETNS="+space, "GODEBUG=asyncpreemptoff=1", "GOMAXPROCS=4")
	e.cmd.Stderr = &e.stderr
	out, err := e.cmd.StdoutPipe()
	require.NoError(t, err)
	e.out = bufio.NewReader(out)
	e.in, err = e.cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, e.cmd.Start())
	t.Cleanup(func() { _ = e.cmd.Process.Kill(); _ = e.cmd.Wait() })
	line, err := json.Marshal(j)
	require.NoError(t, err)
	_, err = e.in.Write(append(line, '\n'))
	require.NoError(t, err)
	return e
}

func (e *end) ready(t *testing.T) {
	t.Helper()
	word, err := e.out.ReadString('\n')
	require.NoError(t, err, e.stderr.String())
	require.Equal(t, ReadyLine, word)
}

func (e *end) finish(t *testing.T, v any) {
	t.Helper()
	all, err := io.ReadAll(e.out)
	require.NoError(t, err)
	require.NoError(t, e.cmd.Wait(), e.stderr.String())
	require.NoError(t, json.Unmarshal(all, v), string(all))
}

func TestKinds(t *testing.T) {
	netnstest.Require(t)
	space := netnstest.New(t)
	for i, kind := range Kinds {
		for f, addr := range []string{"127.0.0.1", "::1"} {
			for _, flows := range []int{1, 40} {
				if flows > 1 && kind != TCPRR {
					continue
				}
				t.Run(fmt.Sprintf("%s %d flows to %s", kind, flows, addr), func(t *testing.T) {
					at := netip.AddrPortFrom(netip.MustParseAddr(addr), uint16(7000+10*i+f))
					bound := 20 * time.Second
					server := start(t, space, Job{Role: Server, Kind: kind, Addr: at, CPU: -1, Flows: flows, Bound: bound})
					server.ready(t)
					client := start(t, space, Job{
						Role: Client, Kind: kind, Addr: at, CPU: -1, Flows: flows, Bound: bound,
						Warmup: 20 * time.Millisecond, Duration: 150 * time.Millisecond, Watch: []int{server.cmd.Process.Pid, 1 << 30},
					})
					var r Report
					client.finish(t, &r)
					require.NoError(t, server.in.Close())
					var s ServerReport
					server.finish(t, &s)

					span := time.Duration(r.End - r.Begin)
					require.GreaterOrEqual(t, span, 150*time.Millisecond)
					require.Positive(t, r.Count)
					require.Positive(t, r.OwnCPU)
					require.Positive(t, r.CPU[server.cmd.Process.Pid])
					require.Zero(t, r.CPU[1<<30], "no such process")
					require.Positive(t, r.Machine.CPUs)
					switch kind {
					case TCPStream:
						require.Positive(t, r.Bytes)
					case UDPPPS:
						received := s.Received(r.Begin, r.End)
						require.Positive(t, received)
						require.LessOrEqual(t, received, r.Count+r.Count/10+1000)
					default:
						require.Equal(t, r.Count, r.Latency.Count)
						// Each connection has one request under way: no more than this can have been answered.
						require.LessOrEqual(t, r.Latency.Mean*time.Duration(r.Count), time.Duration(flows)*(span+time.Millisecond))
					}
					if kind == TCPCRR || kind == TCPConnect {
						require.Equal(t, r.Count, r.Connect.Count)
						require.LessOrEqual(t, r.Connect.P50, r.Latency.P50)
					}
				})
			}
		}
	}
}

// An end whose input closes, whose time is over, or whose peer is missing does not stay.
func TestEnds(t *testing.T) {
	netnstest.Require(t)
	space := netnstest.New(t)
	at := netip.MustParseAddrPort("127.0.0.1:7000")

	server := start(t, space, Job{Role: Server, Kind: TCPRR, Addr: at, CPU: -1, Bound: time.Minute})
	server.ready(t)
	client := start(t, space, Job{Role: Client, Kind: TCPRR, Addr: at, CPU: -1, Bound: time.Minute, Duration: time.Minute})
	time.Sleep(50 * time.Millisecond)
	require.NoError(t, client.in.Close())
	require.Error(t, client.cmd.Wait())
	require.NoError(t, server.in.Close())
	require.NoError(t, server.cmd.Wait())

	silent := start(t, space, Job{Role: Server, Kind: UDPRR, Addr: at, CPU: -1, Bound: 100 * time.Millisecond})
	silent.ready(t)
	require.Error(t, silent.cmd.Wait())
	require.Contains(t, silent.stderr.String(), "not finished after 100ms")

	alone := start(t, space, Job{Role: Client, Kind: TCPCRR, Addr: at, CPU: -1, Bound: time.Minute, Duration: time.Second})
	require.Error(t, alone.cmd.Wait())
	require.Contains(t, alone.stderr.String(), "connection refused")

	absent := start(t, space, Job{Role: Client, Kind: UDPRR, Addr: at, CPU: 4095, Bound: time.Minute, Duration: time.Second})
	require.Error(t, absent.cmd.Wait())
	require.Contains(t, absent.stderr.String(), "bind to processor 4095")
}

func TestJobsAreChecked(t *testing.T) {
	good := Job{Role: Client, Kind: TCPRR, Addr: netip.MustParseAddrPort("[::1]:7"), Bound: time.Second, Duration: time.Second}
	require.NoError(t, good.check())
	for want, spoil := range map[string]func(*Job){
		"role":     func(j *Job) { j.Role = "both" },
		"kind":     func(j *Job) { j.Kind = "carrier pigeon" },
		"addr":     func(j *Job) { j.Addr = netip.AddrPort{} },
		"flows":    func(j *Job) { j.Flows = MaxFlows + 1 },
		"only":     func(j *Job) { j.Kind, j.Flows = UDPRR, 2 },
		"bound":    func(j *Job) { j.Bound = 0 },
		"duration": func(j *Job) { j.Duration = 0 },
	} {
		j := good
		spoil(&j)
		require.ErrorContains(t, j.check(), want)
	}
}

func TestReceived(t *testing.T) {
	ms := int64(time.Millisecond)
	r := ServerReport{Epoch: 10 * ms, Slots: []uint32{1, 10, 100, 1000}}
	require.EqualValues(t, 1111, r.Received(0, 100*ms))
	require.EqualValues(t, 110, r.Received(11*ms, 13*ms))
	require.EqualValues(t, 100, r.Received(11*ms+1, 13*ms), "a slot that is not wholly inside is left out")
	require.Zero(t, r.Received(20*ms, 30*ms))
}

func TestProcessTime(t *testing.T) {
	before := ProcessTime(os.Getpid())
	for end := time.Now().Add(20 * time.Millisecond); time.Now().Before(end); {
	}
	after := ProcessTime(os.Getpid())
	require.Positive(t, before)
	require.Greater(t, after, before)
}
