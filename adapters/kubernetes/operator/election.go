package operator

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
)

// leaseName is the Lease that the leader holds.
const leaseName = "cilium-operator-resource-lock"

// election is one replica's part in choosing a leader, again and again.
type election struct {
	config   Config
	identity string
	log      *slog.Logger
	lease    coordinationclient.CoordinationV1Interface

	mu      sync.Mutex
	elector *leaderelection.LeaderElector // of this term
	leader  string                        // as last seen; empty: nobody yet
	leading bool
	trouble error // with the lease, when it was looked at last
}

// lock notes what goes wrong with the lease, for /healthz.
type lock struct {
	resourcelock.Interface
	e *election
}

func (l lock) note(err error) {
	l.e.mu.Lock()
	defer l.e.mu.Unlock()
	if l.e.trouble = err; apierrors.IsNotFound(err) {
		l.e.trouble = nil // the first one makes it
	}
}

// Get reads the lease.
func (l lock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := l.Interface.Get(ctx)
	l.note(err)
	return record, raw, err
}

// Create makes the lease.
func (l lock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	err := l.Interface.Create(ctx, record)
	l.note(err)
	return err
}

func newElection(c Config, config *rest.Config, identity string, log *slog.Logger) (*election, error) {
	config = rest.CopyConfig(config)
	// The lease has a client of its own, so that no amount of other work delays it.
	config.QPS, config.Burst = 20, 20
	config.Timeout = max(c.RenewDeadline/2, time.Second)
	lease, err := coordinationclient.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make clients: %w", err)
	}
	return &election{config: c, identity: identity, log: log, lease: lease}, nil
}

// run takes part until the context ends, and calls lead for as long as this replica leads. lead returns
// soon after its context has ended. When the context ends the lease is given back, after lead has
// returned: so the next leader neither waits nor meets this one.
func (e *election) run(ctx context.Context, lead func(context.Context)) error {
	for ctx.Err() == nil {
		if err := e.term(ctx, lead); err != nil {
			return err
		}
	}
	return nil
}

func (e *election) term(ctx context.Context, lead func(context.Context)) error {
	// The lease outlives the work: it is given back when the work has ended.
	electorCtx, giveBack := context.WithCancel(klog.NewContext(context.WithoutCancel(ctx), logr.FromSlogHandler(e.log.Handler())))
	defer giveBack()
	started := make(chan struct{})
	done := make(chan struct{})
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock{&resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: e.config.Namespace, Name: leaseName},
			Client:     e.lease,
			LockConfig: resourcelock.ResourceLockConfig{Identity: e.identity},
		}, e},
		LeaseDuration:   e.config.LeaseDuration,
		RenewDeadline:   e.config.RenewDeadline,
		RetryPeriod:     e.config.RetryPeriod,
		ReleaseOnCancel: true,
		Name:            leaseName,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(held context.Context) {
				close(started)
				defer close(done)
				if held.Err() != nil || ctx.Err() != nil {
					return // the end came between the lease and this line
				}
				work, stop := context.WithCancel(held)
				defer stop()
				defer context.AfterFunc(ctx, stop)()
				e.setLeading(true)
				e.log.Info("leading", "lease", e.config.Namespace+"/"+leaseName, "as", e.identity)
				lead(work)
				e.setLeading(false)
				e.log.Info("not leading any more")
			},
			OnStoppedLeading: func() {},
			OnNewLeader: func(who string) {
				e.mu.Lock()
				e.leader = who
				e.mu.Unlock()
				if who != e.identity {
					e.log.Info("standing by", "leader", who)
				}
			},
		},
	})
	if err != nil {
		return fmt.Errorf("leader election: %w", err)
	}
	e.mu.Lock()
	e.elector = elector
	e.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		elector.Run(electorCtx)
	}()
	select {
	case <-ctx.Done():
	case <-ended:
	}
	select {
	case <-started:
		select { // a leader that has lost the lease is told through its context
		case <-done:
		case <-ended:
			<-done
		}
	default:
	}
	giveBack()
	<-ended
	select {
	case <-started: // it may have begun while we gave back
		<-done
	default:
	}
	return nil
}

func (e *election) setLeading(b bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.leading = b
}

// mayWrite returns an error unless this replica holds the lease and has renewed it in time.
func (e *election) mayWrite() error {
	e.mu.Lock()
	elector := e.elector
	e.mu.Unlock()
	if elector == nil || !elector.IsLeader() {
		return errNotLeading
	}
	// What a request takes on its way has to fit into the time that the lease still lasts.
	if err := elector.Check(e.config.RenewDeadline - e.config.LeaseDuration); err != nil {
		return fmt.Errorf("%w: the lease was not renewed in time", errNotLeading)
	}
	return nil
}

// state tells who leads, as far as this replica knows, and whether it is itself at work.
func (e *election) state() (leader string, leading bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.leader, e.leading
}

// why says what keeps this replica from knowing who leads.
func (e *election) why() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.trouble != nil {
		return e.trouble.Error()
	}
	return "the lease was not read yet"
}
