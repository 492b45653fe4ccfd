package runtime

import "time"

// housekeep collects expired flows and unused identities.
func (a *agent) housekeep() {
	now := a.deps.Clock.Now()
	if now.Sub(a.gcFlows) >= 30*time.Second {
		a.gcFlows = now
		a.forgetLinks()
		if a.collecting.CompareAndSwap(false, true) {
			a.aside(a.collectFlows)
		}
	}
	if now.Sub(a.lastGC) >= time.Minute {
		a.lastGC = now
		a.wishes.collect(a.cfg.IdentityGrace)
	}
	a.keepMasquerade(now)
	if a.cfg.LeakGrace > 0 && now.Sub(a.gcLeaks) >= leakInterval {
		a.gcLeaks = now
		a.collectLeaks(now)
	}
	if lost, err := a.dp.Lost(); err == nil {
		a.record.noteLost(lost, a.lost.Load(), now)
	}
}

func (a *agent) collectFlows() {
	defer a.collecting.Store(false)
	if n, err := a.dp.CollectFlows(); err != nil {
		a.deps.Log.Warn("collect expired flows", "err", err)
	} else if n > 0 {
		a.deps.Log.Debug("collected expired flows", "count", n)
	}
}
