package datapath_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/datapath"
)

func TestMACText(t *testing.T) {
	var back datapath.MAC
	data, err := json.Marshal(datapath.OverlayMAC)
	require.NoError(t, err)
	require.Equal(t, `"02:77:65:69:72:01"`, string(data))
	require.NoError(t, json.Unmarshal(data, &back))
	require.Equal(t, datapath.OverlayMAC, back)
	for _, bad := range []string{"", "02:77:65:69:72", "02:77:65:69:72:01:02", "02:77:65:69:72:0g", "2:77:65:69:72:01"} {
		require.ErrorContains(t, back.UnmarshalText([]byte(bad)), "02:00:00:00:00:01", "%q", bad)
	}
	require.Equal(t, datapath.OverlayMAC, back, "a bad text changes nothing")
}

func TestDirectionText(t *testing.T) {
	data, err := json.Marshal([]datapath.Direction{datapath.Ingress, datapath.Egress})
	require.NoError(t, err)
	require.Equal(t, `["ingress","egress"]`, string(data))
	var back []datapath.Direction
	require.NoError(t, json.Unmarshal(data, &back))
	require.Equal(t, []datapath.Direction{datapath.Ingress, datapath.Egress}, back)
	require.ErrorContains(t, json.Unmarshal([]byte(`["both"]`), &back), "ingress, egress")
}
