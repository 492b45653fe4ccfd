package kernel

import (
	"fmt"
	"net/netip"

	"github.com/weirnet/weir/core/datapath"
)

// watch holds writes against the promises of the contract: what is named must exist before it is named
// and until it is named no more, and a policy in force is not changed under the endpoints that use it.
type watch struct {
	k          *Kernel
	violations []string

	epochs     map[datapath.EndpointID]datapath.Epoch // highest ever written
	inForce    map[datapath.PolicyID]int              // endpoints that use the policy
	policyRows map[datapath.PolicyID]int
	members    map[classOf]int // identities of the class
	serviceIDs map[uint32]map[datapath.ServiceKey]bool
	slotsOf    map[uint32]int // slots that name the backend
}

type classOf struct {
	generation uint8
	class      datapath.Class
}

func newWatch(k *Kernel) watch {
	return watch{
		k: k, epochs: make(map[datapath.EndpointID]datapath.Epoch), inForce: make(map[datapath.PolicyID]int),
		policyRows: make(map[datapath.PolicyID]int), members: make(map[classOf]int),
		serviceIDs: make(map[uint32]map[datapath.ServiceKey]bool), slotsOf: make(map[uint32]int),
	}
}

// Violations lists the writes that broke a promise of the contract, in order. They were carried out.
//
//   - A slot names a backend that does not exist, or a service counts a slot that does not; a backend
//     goes or changes while a slot names it; a slot goes while a service counts it.
//   - A word of ep_policy names a policy without any row, or brings another policy with an epoch that
//     is not higher than every epoch that the endpoint id ever had.
//   - A row of a policy in force is added, changed or deleted although its class is 0 or has members.
//   - A row of endpoints is neither a pod (id, ifindex) nor the node (neither), or a backend id or slot
//     number is 0.
func (k *Kernel) Violations() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]string(nil), k.watch.violations...)
}

func (w *watch) say(format string, args ...any) {
	w.violations = append(w.violations, fmt.Sprintf(format, args...))
}

func (w *watch) endpoint(a netip.Addr, _, ep datapath.Endpoint, _, has bool) {
	switch {
	case !has:
	case ep.Host && (ep.ID != 0 || ep.Ifindex != 0):
		w.say("endpoints: put %v: the node's address has endpoint id %d and ifindex %d, want 0", a, ep.ID, ep.Ifindex)
	case !ep.Host && (ep.ID == 0 || ep.Ifindex == 0):
		w.say("endpoints: put %v: a pod has endpoint id %d and ifindex %d, want both above 0", a, ep.ID, ep.Ifindex)
	}
}

func (w *watch) endpointPolicy(id datapath.EndpointID, old, word datapath.EndpointPolicy, had, has bool) {
	if has && id == 0 {
		w.say("ep_policy: put 0: no endpoint has id 0")
	}
	if had && old.Policy != 0 {
		w.inForce[old.Policy]--
	}
	if !has {
		return
	}
	if word.Policy != 0 {
		w.inForce[word.Policy]++
		if w.policyRows[word.Policy] == 0 {
			w.say("ep_policy: put %d: policy %d has no row", id, word.Policy)
		}
	}
	highest, known := w.epochs[id]
	if word.Policy != old.Policy && known && word.Epoch <= highest {
		w.say("ep_policy: put %d: policy %d comes with epoch %d, the endpoint id already had %d", id, word.Policy, word.Epoch, highest)
	}
	w.epochs[id] = max(highest, word.Epoch)
}

func (w *watch) class(key datapath.ClassKey, old, class datapath.Class, had, has bool) {
	if had {
		w.members[classOf{key.Generation, old}]--
	}
	if has {
		w.members[classOf{key.Generation, class}]++
	}
}

func (w *watch) policyRow(key datapath.PolicyKey, old, row datapath.PolicyRow, had, has bool) {
	what := "put"
	switch {
	case had && has:
		if old == row {
			return
		}
		what = "change"
	case has:
		w.policyRows[key.Policy]++
	default:
		w.policyRows[key.Policy]--
		what = "delete"
	}
	used := key.Class == 0 || w.members[classOf{key.Policy.Generation(), key.Class}] > 0
	if w.inForce[key.Policy] > 0 && used {
		w.say("policy: %s %v: the policy is in force and the class in use", what, key)
	}
}

func (w *watch) service(key datapath.ServiceKey, old, s datapath.Service, had, has bool) {
	if had {
		delete(w.serviceIDs[old.ID], key)
	}
	if !has {
		return
	}
	if w.serviceIDs[s.ID] == nil {
		w.serviceIDs[s.ID] = make(map[datapath.ServiceKey]bool)
	}
	w.serviceIDs[s.ID][key] = true
	for slot := uint32(1); slot <= s.Count; slot++ {
		backend, ok := w.k.slots.rows[datapath.SlotKey{Service: s.ID, Slot: slot}]
		if !ok {
			w.say("services: put %v: slot %d of service %d does not exist", key, slot, s.ID)
			return
		}
		if _, ok := w.k.backends.rows[backend]; !ok {
			w.say("services: put %v: slot %d of service %d names backend %d, which does not exist", key, slot, s.ID, backend)
			return
		}
	}
}

func (w *watch) slot(key datapath.SlotKey, old, backend uint32, had, has bool) {
	if had {
		w.slotsOf[old]--
	}
	if has {
		w.slotsOf[backend]++
		if key.Slot == 0 {
			w.say("slots: put %v: slots count from 1", key)
		}
		if _, ok := w.k.backends.rows[backend]; !ok {
			w.say("slots: put %v: backend %d does not exist", key, backend)
		}
		return
	}
	for service := range w.serviceIDs[key.Service] {
		if w.k.services.rows[service].Count >= key.Slot {
			w.say("slots: delete %v: service %v counts it", key, service)
		}
	}
}

func (w *watch) backend(id uint32, old, b datapath.Backend, had, has bool) {
	switch {
	case has && id == 0:
		w.say("backends: put 0: backend ids count from 1")
	case had && has && old != b && w.slotsOf[id] > 0:
		w.say("backends: change %d: a slot names it", id)
	case !has && w.slotsOf[id] > 0:
		w.say("backends: delete %d: a slot names it", id)
	}
}
