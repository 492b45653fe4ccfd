package ebpf

import (
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// BenchmarkConnect measures what connecting a socket costs in the socket programs, by the kernel's statistics
// of real calls (sock_addr programs have no test runs): ns/call is the kernel's own figure and includes what
// its two readings of the clock cost; ns/op is the whole system call.
func BenchmarkConnect(b *testing.B) {
	bal := newBalancer(b)
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, stats.Close()) })
	for _, x := range lbFamilies {
		for _, c := range []struct {
			name string
			to   netip.AddrPort
		}{
			{"no service", netip.AddrPortFrom(x.backends[0], backendPort)}, {"service", x.frontend()},
		} {
			prog := bal.d.progs["connect"+x.network]
			b.Run("connect"+x.network+"/"+c.name, func(b *testing.B) {
				bal.enter(b)
				domain, to := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Addr: [4]byte(c.to.Addr().AsSlice()[:4]), Port: int(c.to.Port())})
				if c.to.Addr().Is6() {
					domain, to = unix.AF_INET6, &unix.SockaddrInet6{Addr: c.to.Addr().As16(), Port: int(c.to.Port())}
				}
				fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
				require.NoError(b, err)
				defer unix.Close(fd)
				before, err := prog.Stats()
				require.NoError(b, err)
				for b.Loop() {
					require.NoError(b, unix.Connect(fd, to))
				}
				after, err := prog.Stats()
				require.NoError(b, err)
				calls := after.RunCount - before.RunCount
				require.NotZero(b, calls, "the program ran")
				b.ReportMetric(float64(after.Runtime-before.Runtime)/float64(calls)/float64(time.Nanosecond), "ns/call")
			})
		}
	}
}
