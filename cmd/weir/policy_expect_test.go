package main

import (
	"encoding/json"
	"encoding/xml"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// policyTest runs 'weir policy test' on the shop with expectations from the standard input.
func policyTest(expectations string, more ...string) result {
	return weir(nil, expectations, append([]string{"policy", "test", "-f", "testdata/shop", "--expect", "-"}, more...)...)
}

func TestExpectationsThatCannotBeRead(t *testing.T) {
	const good = "from: shop/frontend, to: shop/backend, port: 1, expect: denied"
	for text, want := range map[string]string{
		"":                         "no expectations",
		"expectations: []":         "no expectations",
		"expectations:":            "no expectations",
		"just text":                "a list of expectations is needed",
		"expect: []":               `unknown field "expect"; allowed: expectations`,
		"- {from: a/b, from: a/c}": `key "from" already set`,
		"- from: *":                "begins with * needs quotes",
		"- [x]":                    "entry 1: fields are needed: name, from",
		"- {" + good + "}\n- {" + good + ", x: 1}":        `entry 2: unknown field "x"; allowed: name, from, to, port, protocol, expect, rule`,
		"- {" + good + "}\n---\n- {" + good + ", x: 1}":   `entry 2: unknown field "x"`,
		"- {" + good + ", name: [a]}":                     "entry 1: name: [a] is not text",
		"- {" + good + ", name: x, rule: 7}":              "entry 1 (x): rule: 7 is not text",
		"- {" + good + ", protocol: HTTP}":                `entry 1: protocol "HTTP" is not allowed; allowed: TCP, UDP, SCTP, ICMP`,
		"- {" + good + ", protocol: icmp}":                "entry 1: port: ICMP has no port",
		"- {from: a/b, to: a/c, port: 1}":                 "entry 1: expect is missing",
		"- {from: a/b, to: a/c, expect: denied}":          "entry 1: port is missing",
		"- {from: a/b, to: a/c, expect: Denied, port: 1}": `expect: "Denied" is not allowed; allowed: allowed, denied`,
		"- {from: a/b, port: 1, expect: denied}":          "entry 1: to is missing",
		"- {from: a/b, to: '', port: 1, expect: denied}":  "entry 1: to is empty",
	} {
		r := policyTest(text)
		require.Equal(t, exitUsage, r.code, "%s\n%s", text, r.out)
		require.Contains(t, r.err, "-: ", text)
		require.Contains(t, r.err, want, text)
		require.Empty(t, r.out)
	}
	for _, port := range []string{"0", "-1", "65536", "80.5", "'80'", "true", "[80]", "http"} {
		r := policyTest("- {from: a/b, to: a/c, expect: denied, port: " + port + "}")
		require.Equal(t, exitUsage, r.code, port)
		require.Regexp(t, `entry 1: port: \S+ is not allowed; allowed: 1 to 65535\n`, r.err)
		require.Equal(t, 1, strings.Count(r.err, "entry 1"), "one complaint: %s", r.err)
	}
}

// An entry that speaks of nothing fails the run also when everything else is met.
func TestAnErrorAloneFails(t *testing.T) {
	r := policyTest("- {from: shop/nobody, to: shop/backend, port: 1, expect: denied}\n- {from: shop/frontend, to: shop/backend, port: 1, expect: denied}")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.out, "1 passed, 0 failed, 1 in error\n")
	require.Empty(t, r.err)
}

// Of many pairs people see some, and programs all.
func TestManyMissesAreCut(t *testing.T) {
	dir := t.TempDir()
	manifests := ""
	for _, n := range "abcd" {
		manifests += "---\napiVersion: v1\nkind: Pod\nmetadata: {name: " + string(n) + ", namespace: shop}\n"
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pods.yaml"), []byte(manifests), 0o644))
	const all = `- {from: "*/*", to: "*/*", port: 80, expect: denied}`
	line := []string{"policy", "test", "-f", dir, "--expect", "-"}
	r := weir(nil, all, line...)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.out, "MISS   1. */* -> */* 80/TCP denied (12 of 12 pairs)\n")
	require.Equal(t, mostPairs, strings.Count(r.out, "+ allowed"))
	require.Contains(t, r.out, "… and 2 more pairs\n0 passed, 1 failed\n")
	var report testReport
	require.NoError(t, json.Unmarshal([]byte(weir(nil, all, append(line, "-o", "json")...).out), &report))
	require.Len(t, report.Expectations[0].Misses, 12)
}

func TestJUnitReport(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report.xml")
	for _, c := range []struct {
		dir, expect             string
		tests, failures, errors int
	}{
		{"testdata/shop", "testdata/expect/met.yaml", 4, 0, 0},
		{"testdata/shop", "testdata/expect/missed.yaml", 8, 4, 3},
		{"testdata/broken", "testdata/expect/broken.yaml", 2, 0, 1},
	} {
		r := weir(nil, "", "policy", "test", "-f", c.dir, "--expect", c.expect, "--junit", path)
		require.Equal(t, c.failures+c.errors > 0, r.code == exitFailed, r.err)
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		var got junitReport
		require.NoError(t, xml.Unmarshal(data, &got))
		counts := junitCounts{c.tests, c.failures, c.errors}
		require.Equal(t, counts, got.junitCounts)
		require.Len(t, got.Suites, 1)
		require.Equal(t, counts, got.Suites[0].junitCounts)
		require.Len(t, got.Suites[0].Cases, c.tests)
		var failures, errors int
		for _, k := range got.Suites[0].Cases {
			require.NotEmpty(t, k.Name)
			if k.Failure != nil {
				failures++
				require.Contains(t, k.Failure.Text, "\n- ")
				require.Contains(t, k.Failure.Text, "ingress ")
			}
			if k.Error != nil {
				errors++
			}
		}
		require.Equal(t, counts, junitCounts{c.tests, failures, errors})
	}
	r := policyTest(`- {name: "a\u0001<b>]]>", from: shop/frontend, to: shop/backend, port: 1, expect: allowed, rule: "x\u0002]]>"}`, "--junit", path)
	require.Equal(t, exitFailed, r.code)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	var got junitReport
	require.NoError(t, xml.Unmarshal(data, &got), "characters that XML does not have are replaced")
	require.Equal(t, "a\uFFFD<b>]]>", got.Suites[0].Cases[0].Name)
	require.Contains(t, got.Suites[0].Cases[0].Failure.Text, "- allowed by x\uFFFD]]>")

	r = policyTest(`- {from: shop/frontend, to: shop/backend, port: 1, expect: denied}`, "--junit", t.TempDir())
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, "JUnit report: open")
}

// The example of docs/policy-testing.md, on the demo's manifests, prints what the page says.
func TestExampleOfTheDocumentation(t *testing.T) {
	page, err := os.ReadFile("../../docs/policy-testing.md")
	require.NoError(t, err)
	block := func(language string) string {
		found := regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllSubmatch(page, -1)
		require.Len(t, found, 1, "one block of %s", language)
		return string(found[0][1])
	}
	example := block("yaml")
	require.Equal(t, 10, strings.Count(example, "\n"), "ten lines")
	r := weir(nil, example, "policy", "test", "-f", "../../deploy/demo", "--expect", "-")
	require.Zero(t, r.code, r.out+r.err)
	require.Equal(t, block("text"), r.out)
	var report testReport
	require.NoError(t, json.Unmarshal([]byte(weir(nil, example, "policy", "test", "-f", "../../deploy/demo", "--expect", "-", "-o", "json").out), &report))
	require.Equal(t, 12, report.Expectations[2].Pairs, "the page says twelve")
	// The other block is the same with one answer turned round.
	wrong := strings.Replace(example, "port: 5432, expect: denied", "port: 5432, expect: allowed", 1)
	require.NotEqual(t, example, wrong)
	r = weir(nil, wrong, "policy", "test", "-f", "../../deploy/demo", "--expect", "-")
	require.Equal(t, exitFailed, r.code)
	shown := strings.Split(strings.TrimSpace(block("diff")), "\n")
	for _, l := range shown {
		require.Contains(t, r.out, l+"\n")
	}
}
