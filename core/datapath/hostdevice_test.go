package datapath_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/weirnet/weir/core/datapath"
)

func TestHostDeviceName(t *testing.T) {
	n := datapath.HostDeviceName("0123", "eth0")
	assert.Len(t, n, 15)
	assert.True(t, datapath.IsHostDeviceName(n))
	assert.Equal(t, n, datapath.HostDeviceName("0123", "eth0"))
	assert.NotEqual(t, n, datapath.HostDeviceName("0123", "eth1"))
	assert.NotEqual(t, datapath.HostDeviceName("ab", "c"), datapath.HostDeviceName("a", "bc"))
	for _, s := range []string{"", "lxc", "lxc0123456789a", "lxc0123456789abcd", "lxcbr0", "veth0123456789ab", "lxc0123456789AB", "lxc0123456789xy"} {
		assert.False(t, datapath.IsHostDeviceName(s), s)
	}
}
