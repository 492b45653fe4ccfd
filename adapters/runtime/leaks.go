package runtime

import (
	"slices"
	"time"

	"github.com/weirnet/weir/ports"
)

const (
	// leakInterval is how often leaked endpoints are looked for.
	leakInterval = 30 * time.Second
	// reservationGrace is how long a reservation may be without link: longer than any plugin call lasts.
	reservationGrace = 15 * time.Minute
)

// collectLeaks releases the endpoints that CNI forgot: those whose link has been gone for a while, and those
// whose pod the cluster has not known for the grace period. A link that is still there goes first, as with
// DEL. While the cluster's lists are incomplete nobody is released: what is unknown then may well exist.
func (a *agent) collectLeaks(now time.Time) {
	if !a.engine.Live() {
		return
	}
	links, err := a.deps.Network.PodLinks()
	if err != nil {
		a.deps.Log.Warn("look for leaked endpoints", "err", err)
		return
	}
	byID := func(x, y *ports.Attachment) int { return int(x.ID) - int(y.ID) }
	all := make([]*ports.Attachment, 0, len(a.attached))
	for key := range a.leaks {
		if _, ok := a.attached[key]; !ok {
			delete(a.leaks, key)
		}
	}
	for _, att := range a.attached {
		all = append(all, att)
	}
	slices.SortFunc(all, byID)
	for _, att := range all {
		key, why, grace := keyOf(*att), "", a.cfg.LeakGrace
		hasLink := slices.Contains(links, att.HostDevice)
		switch {
		case att.Ifindex == 0 && !hasLink:
			why, grace = "it was reserved and never made", reservationGrace
		case !hasLink:
			why = "its link is gone"
		case !a.engine.HasPod(att.Pod):
			why = "its pod is not in the cluster"
		default:
			delete(a.leaks, key)
			continue
		}
		since, ok := a.leaks[key]
		if !ok {
			a.leaks[key] = now
			continue
		}
		if now.Sub(since) < grace {
			continue
		}
		a.deps.Log.Info("release leaked endpoint", "pod", att.Pod, "container", att.ContainerID, "device", att.HostDevice, "why", why)
		// An address must not be given out again while a link carries it.
		if hasLink {
			if err := a.deps.Network.DeletePodLink(att.HostDevice); err != nil {
				a.deps.Log.Warn("remove link of leaked endpoint", "pod", att.Pod, "err", err)
				continue
			}
		}
		if err := a.release(key); err != nil {
			a.deps.Log.Warn("release leaked endpoint", "pod", att.Pod, "err", err)
			continue
		}
		delete(a.leaks, key)
	}
}
