package matrix_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/matrix"
	"github.com/weirnet/weir/core/policy"
)

// guarded is a shop whose db is open to web on 80 to 81, a stranger in another namespace, and a pod
// on the host network.
func guarded() *matrix.World {
	return matrix.New([]cluster.Event{
		pod("shop/web-1", "n1", app("web"), addrs("10.0.0.1")), pod("shop/web-2", "n1", app("web"), addrs("10.0.0.2")),
		pod("shop/db", "n1", addrs("10.0.0.3")),
		pod("visitors/web-3", "n1", app("stranger")), pod("ops/far", "n2", host),
		allowIngress("db-2", "nothing", policy.Rule{AnyPeer: true, AnyPort: true}),
		allowIngress("db", "db", policy.Rule{Peers: fromApp("web"), Ports: []policy.Port{{Proto: datapath.ProtoTCP, First: 80, Last: 81}}}),
	})
}

func expect(from, to string, port uint16, allowed bool) matrix.Expectation {
	return matrix.Expectation{From: from, To: to, Port: port, Proto: datapath.ProtoTCP, Allowed: allowed}
}

func missed(t *testing.T, res matrix.Result) []string {
	t.Helper()
	var out []string
	for _, m := range res.Misses {
		out = append(out, m.Row.From+" > "+m.Row.To)
	}
	return out
}

func TestPatternsOfEnds(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     []string // pairs that are judged
	}{
		{"shop/web-1", "shop/db", []string{"shop/web-1 > shop/db"}},
		{"shop/*", "shop/db", []string{"shop/web-1 > shop/db", "shop/web-2 > shop/db"}},
		{"*/web-*", "shop/db", []string{"shop/web-1 > shop/db", "shop/web-2 > shop/db", "visitors/web-3 > shop/db"}},
		{"*/*", "shop/db", []string{"ops/far > shop/db", "shop/web-1 > shop/db", "shop/web-2 > shop/db", "visitors/web-3 > shop/db"}},
		{"*s/*", "shop/db", []string{"ops/far > shop/db", "visitors/web-3 > shop/db"}},
		{"s*p/w*b*2", "shop/db", []string{"shop/web-2 > shop/db"}},
		{"shop/app=web", "shop/db", []string{"shop/web-1 > shop/db", "shop/web-2 > shop/db"}},
		{"*/app!=web", "shop/web-1", []string{"ops/far > shop/web-1", "shop/db > shop/web-1", "visitors/web-3 > shop/web-1"}},
		{"*/app!=web,app!=far", "shop/web-1", []string{"shop/db > shop/web-1", "visitors/web-3 > shop/web-1"}},
		{"*/none!=x,app=db", "shop/web-1", []string{"shop/db > shop/web-1"}},
		{"203.0.113.7", "shop/w*", []string{"203.0.113.7 > shop/web-1", "203.0.113.7 > shop/web-2"}},
		{"10.0.0.1", "2001:db8::1", []string{"shop/web-1 > 2001:db8::1"}},
		{"::ffff:10.0.0.1", "shop/db", []string{"shop/web-1 > shop/db"}},
		{"ops/*", "*/far", nil},
		{"198.51.100.1", "203.0.113.7", nil},
		{"shop/db", "shop/db", nil},
		{"10.0.0.3", "shop/db", nil},
	} {
		// A rule that never decides makes every pair a miss, whatever its verdict.
		e := expect(c.from, c.to, 80, true)
		e.Rule = "nothing"
		res, err := guarded().Expect(e)
		if c.want == nil {
			var f *matrix.FieldError
			require.ErrorAs(t, err, &f, c.from)
			require.Contains(t, f.Error(), "to: no policy judges "+c.from+" to "+c.to)
			continue
		}
		require.NoError(t, err, c.from)
		require.Equal(t, c.want, missed(t, res), "%s > %s", c.from, c.to)
		require.Equal(t, len(c.want), res.Pairs)
	}
}

func TestEveryPairHasToMeetTheExpectation(t *testing.T) {
	for _, c := range []struct {
		e    matrix.Expectation
		want []string
	}{
		{expect("shop/*", "shop/db", 81, true), nil},
		{expect("*/web-*", "shop/db", 81, true), []string{"visitors/web-3 > shop/db"}},
		{expect("*/web-*", "shop/db", 81, false), []string{"shop/web-1 > shop/db", "shop/web-2 > shop/db"}},
		{expect("*/web-*", "shop/db", 82, false), nil},
		{expect("203.0.113.7", "shop/db", 80, false), nil},
		{expect("203.0.113.7", "shop/*", 80, false), []string{"203.0.113.7 > shop/web-1", "203.0.113.7 > shop/web-2"}},
		{matrix.Expectation{From: "shop/web-1", To: "shop/db", Proto: datapath.ProtoICMP}, nil},
		{matrix.Expectation{From: "shop/web-1", To: "shop/db", Proto: datapath.ProtoUDP, Port: 80, Allowed: true}, []string{"shop/web-1 > shop/db"}},
	} {
		res, err := guarded().Expect(c.e)
		require.NoError(t, err)
		require.Equal(t, c.want, missed(t, res), "%+v", c.e)
		for _, m := range res.Misses {
			require.False(t, m.WrongRule)
		}
	}
}

func TestTheRuleHasToDecide(t *testing.T) {
	for _, c := range []struct {
		from, to string
		port     uint16
		allowed  bool
		rule     string
		met      bool
	}{
		{"shop/web-1", "shop/db", 80, true, "NetworkPolicy shop/db ingress[0]", true},
		{"shop/web-1", "shop/db", 80, true, "NetworkPolicy shop/db", true},
		{"shop/web-1", "shop/db", 80, true, "NetworkPolicy", true},
		{"shop/web-1", "shop/db", 80, true, "NetworkPolicy shop/d", false}, // whole words
		{"shop/web-1", "shop/db", 80, true, "NetworkPolicy shop/db-2", false},
		{"shop/web-1", "shop/db", 80, true, "NetworkPolicy shop/db ingress[1]", false},
		{"shop/web-1", "shop/db", 80, true, "no policy", false}, // the other side has none, and no say
		{"shop/db", "shop/web-1", 80, true, "no policy", true},
		{"shop/web-1", "shop/db", 82, false, "NetworkPolicy shop/db", true},
		{"shop/web-1", "shop/db", 82, false, "default deny", true},
		{"shop/web-1", "shop/db", 82, false, "default deny (NetworkPolicy shop/db)", true},
		{"shop/web-1", "shop/db", 82, false, "NetworkPolicy shop/db ingress[0]", false},
		{"shop/web-1", "shop/db", 82, false, "no policy", false},
	} {
		e := expect(c.from, c.to, c.port, c.allowed)
		e.Rule = c.rule
		res, err := guarded().Expect(e)
		require.NoError(t, err)
		require.Equal(t, c.met, len(res.Misses) == 0, "%+v", c)
		if !c.met {
			require.True(t, res.Misses[0].WrongRule)
		}
	}
}

// The side that lets a denied connection pass has not decided.
func TestOnlyTheSideThatDeniesDecides(t *testing.T) {
	w := guarded()
	ref := policy.Ref{Kind: "NetworkPolicy", Namespace: "shop", Name: "out"}
	w.Apply(cluster.PolicyUpsert{Policy: policy.Policy{Ref: ref, Specs: []policy.Spec{{Subject: selector("app", "web"), IsolateEgress: true,
		Rules: []policy.Rule{{Ref: policy.RuleRef{Policy: ref, Direction: datapath.Egress, Path: "egress[0]"}, AnyPeer: true, AnyPort: true}}}}}})
	for _, c := range []struct {
		rule    string
		port    uint16
		allowed bool
		met     bool
	}{
		{"NetworkPolicy shop/out", 82, false, false}, {"NetworkPolicy shop/db", 82, false, true},
		{"NetworkPolicy shop/out", 80, true, true}, {"NetworkPolicy shop/db", 80, true, true},
	} {
		e := expect("shop/web-1", "shop/db", c.port, c.allowed)
		e.Rule = c.rule
		res, err := w.Expect(e)
		require.NoError(t, err)
		require.Equal(t, c.met, len(res.Misses) == 0, "%+v", c)
	}
}

func TestWhatIsNotThereIsNamed(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{"shop/app-*", "shop/db", "from: no pod matches shop/app-*; there are shop/db, shop/web-1, shop/web-2"},
		{"shop/db", "shop/db2", "to: no pod matches shop/db2; there are shop/db, shop/web-1, shop/web-2"},
		{"shop/web-1*1", "shop/db", "from: no pod matches shop/web-1*1; there are shop/db, shop/web-1, shop/web-2"},
		{"nope/*", "shop/db", "from: no pod matches nope/*; the namespaces with pods are ops, shop, visitors"},
		{"shop/db", "visitors/app=db", "to: no pod matches visitors/app=db; there are visitors/web-3 (app=stranger)"},
	} {
		_, err := guarded().Expect(expect(c.from, c.to, 80, true))
		require.EqualError(t, err, c.want)
	}
	_, err := guarded().Expect(expect("nope/*", "nope/*", 80, true))
	require.ErrorContains(t, err, "from: no pod")
	require.ErrorContains(t, err, "to: no pod", "both fields are named")
	_, err = (&matrix.World{}).Expect(expect("shop/a", "shop/b", 80, true))
	require.ErrorContains(t, err, "the manifests have no pods")

	var events []cluster.Event
	for _, n := range "abcdefghijklm" {
		events = append(events, pod("shop/"+string(n), "n1"))
	}
	_, err = matrix.New(events).Expect(expect("shop/a", "shop/z", 80, true))
	require.ErrorContains(t, err, "shop/j and 3 more")
}

func TestCheckNamesTheField(t *testing.T) {
	good := expect("shop/a", "shop/b", 80, true)
	require.NoError(t, good.Check())
	for want, change := range map[string]func(*matrix.Expectation){
		`from: "" is not allowed`:                 func(e *matrix.Expectation) { e.From = "" },
		`from: "web" is not allowed; allowed: na`: func(e *matrix.Expectation) { e.From = "web" },
		`from: "shop/" is not allowed`:            func(e *matrix.Expectation) { e.From = "shop/" },
		`from: "a/b/c" is not allowed`:            func(e *matrix.Expectation) { e.From = "a/b/c" },
		`from: "Shop/a" is not allowed`:           func(e *matrix.Expectation) { e.From = "Shop/a" },
		`to: "shop/[ab]" is not allowed`:          func(e *matrix.Expectation) { e.To = "shop/[ab]" },
		`to: "10.0.0.0/8" is a prefix`:            func(e *matrix.Expectation) { e.To = "10.0.0.0/8" },
		`"=x" is not allowed; allowed: key=value`: func(e *matrix.Expectation) { e.To = "shop/=x" },
		`"" is not allowed; allowed: key=value`:   func(e *matrix.Expectation) { e.To = "shop/a=b," },
		`"a=*" is not allowed; allowed: key=v`:    func(e *matrix.Expectation) { e.To = "shop/a=*" },
		`"c" is not allowed; allowed: key=value`:  func(e *matrix.Expectation) { e.To = "shop/a=b,c" },
		"port: 0 is not allowed":                  func(e *matrix.Expectation) { e.Port = 0 },
		"port: ICMP has no port":                  func(e *matrix.Expectation) { e.Proto = datapath.ProtoICMP },
		"protocol: 47 is not allowed":             func(e *matrix.Expectation) { e.Proto = 47 },
		`rule: " x" begins or ends`:               func(e *matrix.Expectation) { e.Rule = " x" },
	} {
		e := good
		change(&e)
		err := e.Check()
		require.ErrorContains(t, err, want)
		var f *matrix.FieldError
		require.True(t, errors.As(err, &f), want)
		_, again := guarded().Expect(e)
		require.EqualError(t, again, err.Error())
	}
	e := good
	e.To = "shop/app.kubernetes.io/name=web"
	require.NoError(t, e.Check(), "keys of labels may hold a slash")
}

func TestHintsNameTheNearestRule(t *testing.T) {
	for _, c := range []struct {
		from string
		port uint16
		want []string
	}{
		{"shop/web-1", 82, []string{"NetworkPolicy shop/db ingress[0] admits shop/web-1, but only on 80-81/TCP"}},
		{"visitors/web-3", 80, []string{"NetworkPolicy shop/db ingress[0] allows 80/TCP, but not from visitors/web-3"}},
		{"203.0.113.7", 81, []string{"NetworkPolicy shop/db ingress[0] allows 81/TCP, but not from 203.0.113.7"}},
		{"visitors/web-3", 82, nil},
	} {
		res, err := guarded().Expect(expect(c.from, "shop/db", c.port, true))
		require.NoError(t, err)
		require.Len(t, res.Misses, 1)
		var got []string
		for _, h := range res.Misses[0].Hints {
			require.Equal(t, datapath.Ingress, h.Direction)
			got = append(got, h.String())
		}
		require.Equal(t, c.want, got)
	}
	echo := matrix.Expectation{From: "shop/web-1", To: "shop/db", Proto: datapath.ProtoICMP, Allowed: true}
	res, err := guarded().Expect(echo)
	require.NoError(t, err)
	require.Equal(t, "NetworkPolicy shop/db ingress[0] admits shop/web-1, but only on 80-81/TCP", res.Misses[0].Hints[0].String())
}

// Of several rules the one that lacks least is named, whatever their order.
func TestHintsRank(t *testing.T) {
	web := fromApp("web")
	udp := policy.Rule{Peers: web, Ports: []policy.Port{{Proto: datapath.ProtoUDP, First: 53, Last: 53}}}
	ping := policy.Rule{Peers: web, ICMP: []policy.ICMP{{Type: 8}}}
	other := policy.Rule{Peers: fromApp("other"), Ports: []policy.Port{{Proto: datapath.ProtoTCP, Name: "web"}}}
	tcp := policy.Rule{Peers: web, Ports: []policy.Port{{Proto: datapath.ProtoTCP, First: 443, Last: 443}}}
	any := policy.Rule{Peers: web, Ports: []policy.Port{{AnyProto: true, Name: "none"}}}
	world := func(rules ...policy.Rule) *matrix.World {
		w := matrix.New([]cluster.Event{pod("shop/web", "n1"), pod("shop/db", "n1")})
		for i, r := range rules {
			w.Apply(allowIngress(string(rune('a'+i)), "db", r))
		}
		return w
	}
	for _, c := range []struct {
		rules []policy.Rule
		want  string
	}{
		{[]policy.Rule{udp, ping}, "NetworkPolicy shop/a ingress[0] admits shop/web, but only on 53/UDP"},
		{[]policy.Rule{ping, udp, other}, "NetworkPolicy shop/c ingress[0] allows 80/TCP, but not from shop/web"},
		{[]policy.Rule{udp, other, tcp}, "NetworkPolicy shop/c ingress[0] admits shop/web, but only on 443/TCP"},
		{[]policy.Rule{other, any}, "NetworkPolicy shop/b ingress[0] admits shop/web, but only on none/ANY"},
		{[]policy.Rule{{Peers: web}}, "NetworkPolicy shop/a ingress[0] admits shop/web, but on no port at all"},
		{[]policy.Rule{{Peers: web, Unenforced: []string{"toPorts[0].rules"}}},
			"NetworkPolicy shop/a ingress[0] admits shop/web, but on no port at all, and grants nothing by its toPorts[0].rules, which weir does not enforce yet"},
		{[]policy.Rule{{AnyPort: true, Unenforced: []string{"fromNodes"}}, {Peers: web, Unenforced: []string{"toPorts[1].rules"}}},
			"NetworkPolicy shop/b ingress[0] admits shop/web, but on no port at all, and grants nothing by its toPorts[1].rules, which weir does not enforce yet"},
		{[]policy.Rule{{AnyPort: true, Unenforced: []string{"fromNodes"}}},
			"NetworkPolicy shop/a ingress[0] allows 80/TCP, but not from shop/web, and grants nothing by its fromNodes, which weir does not enforce yet"},
	} {
		res, err := world(c.rules...).Expect(expect("shop/web", "shop/db", 80, true))
		require.NoError(t, err)
		require.Equal(t, c.want, res.Misses[0].Hints[0].String())
	}
}

// A hint must be no promise that the rule breaks: a deny rule that decides leaves no hint.
func TestDenyRulesLeaveNoHint(t *testing.T) {
	w := guarded()
	deny := allowIngress("closed", "db", policy.Rule{AnyPeer: true, AnyPort: true, Deny: true})
	w.Apply(deny)
	res, err := w.Expect(expect("shop/web-1", "shop/db", 82, true))
	require.NoError(t, err)
	require.Len(t, res.Misses, 1)
	require.Empty(t, res.Misses[0].Hints)
	require.Equal(t, []string{"NetworkPolicy shop/closed ingress[0]"}, res.Misses[0].Row.Deciders())
}

func TestDenyRulesAreNoHint(t *testing.T) {
	w := matrix.New([]cluster.Event{pod("shop/web", "n1"), pod("shop/db", "n1"),
		allowIngress("closed", "db", policy.Rule{AnyPeer: true, Deny: true, Ports: []policy.Port{{Proto: datapath.ProtoTCP, First: 443, Last: 443}}})})
	res, err := w.Expect(expect("shop/web", "shop/db", 80, true))
	require.NoError(t, err)
	require.Len(t, res.Misses, 1)
	require.Empty(t, res.Misses[0].Hints)
}
