package cni_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever stands in the environment and on the standard input: the process ends with 0, and what it prints is
// a result, or with 1 and an error of the specification's form. What failed attaches nothing.
func FuzzRun(f *testing.F) {
	for _, verb := range []string{"ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION", "UPDATE", "add", ""} {
		f.Add(verb, "c1", "/run/netns/c1", "eth0", "/opt/cni/bin", podEnv("c1")["CNI_ARGS"], conf)
	}
	f.Add("ADD", "a/b", "/run/netns/c1", "eth0", "/opt/cni/bin", "K8S_POD_NAMESPACE=a;K8S_POD_NAME=b", conf)
	f.Add("ADD", "c1", "/run/netns/c1", "eth0:1", "/opt/cni/bin", "K8S_POD_NAMESPACE=a;K8S_POD_NAME=b", conf)
	f.Add("ADD", "c1", "", "", "", "", "")
	f.Add("VERSION", "", "", "", "", "", `{"cniVersion":"0.2.0"}`)
	f.Add("DEL", "c1", "", "eth0", "/opt/cni/bin", "IP", `{"cniVersion":"9.0.0","name":"cilium","type":"weir-cni"}`)
	f.Add("GC", "", "", "", "/opt/cni/bin", "", `{"cniVersion":"1.1.0","name":"a b","type":"weir-cni","cni.dev/valid-attachments":[]}`)
	f.Fuzz(func(t *testing.T, verb, container, netns, ifname, path, args, stdin string) {
		var c struct {
			LogFile       string `json:"logFile"`
			LogFileCilium string `json:"log-file"`
		}
		e := env{"CNI_CONTAINERID": container, "CNI_NETNS": netns, "CNI_IFNAME": ifname, "CNI_PATH": path, "CNI_ARGS": args}
		for _, v := range e {
			if strings.Contains(v+verb, "\x00") {
				return // no environment can hold it
			}
		}
		if err := json.Unmarshal([]byte(stdin), &c); err == nil && c.LogFile+c.LogFileCilium != "" {
			return // it would write to a file of the input's choice
		}
		r := newRig(t)
		status, out := r.run(verb, e, stdin)
		require.True(t, status == 0 || status == 1, status)
		attached := r.agent.Attached()
		if status == 1 {
			var got cniError
			require.NoError(t, json.Unmarshal([]byte(out), &got), out)
			require.NotZero(t, got.Code)
			require.NotEmpty(t, got.Msg)
			r.clean()
			return
		}
		if verb != "ADD" {
			require.True(t, out == "" || verb == "VERSION", "%s: %s", verb, out)
			require.Empty(t, attached)
			return
		}
		require.True(t, json.Valid([]byte(out)), out)
		require.Len(t, attached, 1)
		require.True(t, slices.ContainsFunc([]string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"}, func(v string) bool {
			return strings.Contains(out, `"cniVersion": "`+v+`"`)
		}), out)
	})
}
