package main

import (
	"fmt"
	"net/netip"
	"os"
	"time"
)

// patience bounds every wait.
const patience = 5 * time.Minute

// parts of a measurement, in the order in which they run.
var parts = [...]string{"idle", "cold", "full", "many"}

type measurement struct {
	options
	*bed
	files  writer
	report *report
}

func (m *measurement) say(format string, args ...any) {
	if m.verbose {
		fmt.Fprintf(os.Stderr, format+"\n", args...)
	}
}

// all runs the parts that were asked for.
func (m *measurement) all() error {
	if err := m.files.put(node()); err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		run  func() error
	}{{parts[0], m.idle}, {parts[1], m.cold}, {parts[2], m.full}, {parts[3], m.large}} {
		if !m.only.MatchString(part.name) {
			continue
		}
		m.say("%s", part.name)
		if err := part.run(); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// idle starts agents on a node without pods in a cluster without services.
func (m *measurement) idle() error {
	var ready []time.Duration
	for range m.starts {
		if err := m.reset(); err != nil {
			return err
		}
		if err := m.startAgent(); err != nil {
			return err
		}
		d, err := m.awaitReady(patience)
		if err != nil {
			return err
		}
		m.say("ready after %s, %s of CPU", d, m.cpu())
		ready = append(ready, d)
	}
	m.report.times("agent start to ready", time.Second, ready...)
	return m.remember("idle", 40)
}

// remember reads the agent's memory once it has come to rest.
func (m *measurement) remember(what string, target float64) error {
	time.Sleep(m.settle)
	mem, err := m.memory()
	if err != nil {
		return err
	}
	m.say("%s: %+v, %s of CPU", what, mem, m.cpu())
	m.report.memory(what, target, mem)
	return nil
}

// coldStarts measures starts with services on a node that knows none.
func (m *measurement) coldStarts(n int, target time.Duration) error {
	var programmed []time.Duration
	for range m.starts {
		if err := m.reset(); err != nil {
			return err
		}
		if err := m.startAgent(); err != nil {
			return err
		}
		d, err := m.awaitServices(n, m.endpoints, patience)
		if err != nil {
			return err
		}
		ready, err := m.awaitReady(patience)
		if err != nil {
			return err
		}
		m.say("%d services programmed after %s, ready after %s, %s of CPU", n, d, ready, m.cpu())
		programmed = append(programmed, d)
	}
	m.report.times(fmt.Sprintf("%d services × %d endpoints programmed", n, m.endpoints), target, programmed...)
	return nil
}

// cold starts agents in a cluster with services.
func (m *measurement) cold() error {
	if err := m.files.services(m.services, m.endpoints); err != nil {
		return err
	}
	if err := m.coldStarts(m.services, time.Second); err != nil {
		return err
	}
	if err := m.remember(fmt.Sprintf("%d services", m.services), 0); err != nil {
		return err
	}
	var again []time.Duration
	for range m.starts {
		m.stopAgent()
		if err := m.startAgent(); err != nil {
			return err
		}
		d, err := m.awaitReady(patience)
		if err != nil {
			return err
		}
		m.say("restart: ready after %s, %s of CPU", d, m.cpu())
		again = append(again, d)
	}
	m.report.times(fmt.Sprintf("agent restart to ready, %d services in the kernel", m.services), 0, again...)
	return nil
}

// large starts agents in a large cluster. It comes last: its objects stay.
func (m *measurement) large() error {
	if m.many == 0 {
		return nil
	}
	m.stopAgent()
	for _, kind := range []string{"CiliumNetworkPolicy", "NetworkPolicy", "Pod"} {
		if err := m.files.remove(kind); err != nil {
			return err
		}
	}
	for _, kind := range []string{"Service", "EndpointSlice"} {
		if err := m.files.remove(kind); err != nil {
			return err
		}
	}
	if err := m.files.services(m.many, m.endpoints); err != nil {
		return err
	}
	if err := m.coldStarts(m.many, 4*time.Second); err != nil {
		return err
	}
	return m.remember(fmt.Sprintf("%d services", m.many), 250)
}

// full measures changes on a node with services, policies and pods.
func (m *measurement) full() error {
	if err := m.reset(); err != nil {
		return err
	}
	if err := m.files.services(m.services, m.endpoints); err != nil {
		return err
	}
	for i := range m.policies {
		if err := m.files.put(policy(i)); err != nil {
			return err
		}
	}
	if err := m.startAgent(); err != nil {
		return err
	}
	if _, err := m.awaitReady(patience); err != nil {
		return err
	}
	if err := m.addPods(); err != nil {
		return err
	}
	if err := m.remember(fmt.Sprintf("%d services, %d policies, %d pods", m.services, m.policies, m.pods), 80); err != nil {
		return err
	}
	return m.changes()
}

// addPods attaches the local pods. The first of them find empty tables, so the last ones count.
func (m *measurement) addPods() error {
	for i := range m.pods {
		if err := m.files.put(pod("apps", fmt.Sprintf("pod-%03d", i), fmt.Sprintf("app-%d", i%100))); err != nil {
			return err
		}
	}
	time.Sleep(time.Second) // the pods are known, as a kubelet would know them
	var took []time.Duration
	for i := range m.pods {
		_, d, err := m.add("apps", fmt.Sprintf("pod-%03d", i))
		if err != nil {
			return err
		}
		took = append(took, d)
	}
	m.report.times("CNI ADD, policy in force", 50*time.Millisecond, took[max(0, len(took)-m.rounds):]...)
	return nil
}

// changes measures how soon a changed service and a changed policy are in effect.
func (m *measurement) changes() error {
	pods := map[string]*attached{}
	for _, name := range []string{"server-a", "server-b", "client"} {
		if err := m.files.put(pod("probe", name, name)); err != nil {
			return err
		}
		p, _, err := m.add("probe", name)
		if err != nil {
			return err
		}
		pods[name] = p
	}
	a, b, client := pods["server-a"], pods["server-b"], pods["client"]
	for p, answer := range map[*attached]byte{a: 'a', b: 'b'} {
		if err := p.serve(8080, answer); err != nil {
			return err
		}
	}
	if err := m.endpointChanges(a, b, client); err != nil {
		return err
	}
	return m.policyChanges(a, client)
}

func (m *measurement) endpointChanges(a, b, client *attached) error {
	address := addr4("10.111.0.1", 0)
	if err := m.files.put(endpointSlice("probe", "probed", a.ip)); err != nil {
		return err
	}
	if err := m.files.put(service("probe", "probed", address)); err != nil {
		return err
	}
	to := netip.AddrPortFrom(address, 80)
	if _, _, err := swap(client.ns, to, 'a', func() error { return nil }); err != nil {
		return err
	}
	var first, last []time.Duration
	for i := range m.rounds {
		next, answer := b, byte('b')
		if i%2 == 1 {
			next, answer = a, 'a'
		}
		f, l, err := swap(client.ns, to, answer, func() error { return m.files.put(endpointSlice("probe", "probed", next.ip)) })
		if err != nil {
			return err
		}
		m.say("endpoint change: first %s, last %s", f, l)
		first, last = append(first, f), append(last, l)
		time.Sleep(20 * time.Millisecond)
	}
	m.report.times("endpoint change to the first connection there", 5*time.Millisecond, first...)
	m.report.times("endpoint change to the last one to the old", 5*time.Millisecond, last...)
	return nil
}

func (m *measurement) policyChanges(server, client *attached) error {
	if err := m.files.put(gate("client")); err != nil {
		return err
	}
	time.Sleep(time.Second) // a new directory is looked through first
	var denied, allowed []time.Duration
	err := within(client.ns, func() error {
		e, err := newEcho(netip.AddrPortFrom(server.ip, 8080))
		if err != nil {
			return err
		}
		if _, err := e.switched(true, func() error { return nil }); err != nil {
			return err
		}
		for range m.rounds {
			d, err := e.switched(false, func() error { return m.files.put(gate("nobody")) })
			if err != nil {
				return err
			}
			time.Sleep(20 * time.Millisecond)
			a, err := e.switched(true, func() error { return m.files.put(gate("client")) })
			if err != nil {
				return err
			}
			m.say("policy change: denied after %s, allowed after %s", d, a)
			denied, allowed = append(denied, d), append(allowed, a)
			time.Sleep(20 * time.Millisecond)
		}
		return nil
	})
	if err != nil {
		return err
	}
	m.report.times("policy change to denied, established flow", 5*time.Millisecond, denied...)
	m.report.times("policy change to allowed", 5*time.Millisecond, allowed...)
	return nil
}
