package runtime

import (
	"context"
	"fmt"

	"github.com/weirnet/weir/core/engine"
	"github.com/weirnet/weir/ports"
)

// answer hands the answer to a wish for an identity to the loop.
func (a *Agent) answer(got engine.Allocated) {
	select {
	case a.inbox <- func() { a.apply(got) }:
	case <-a.done:
	}
}

// ask runs a question in the loop and waits for the answer. When it returns early, with the context's
// error or ErrClosed, the question is not run any more or its answer is lost.
func ask[T any](ctx context.Context, a *Agent, question func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	var none T
	answered := make(chan answer, 1)
	select {
	case a.inbox <- func() {
		if ctx.Err() == nil {
			v, err := question()
			answered <- answer{v, err}
		}
	}:
	case <-a.done:
		return none, fmt.Errorf("agent: %w", ports.ErrClosed)
	case <-ctx.Done():
		return none, ctx.Err()
	}
	select {
	case r := <-answered:
		return r.value, r.err
	case <-a.done:
		return none, fmt.Errorf("agent: %w", ports.ErrClosed)
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// tell is ask for what has no answer but its error.
func tell(ctx context.Context, a *Agent, f func() error) error {
	_, err := ask(ctx, a, func() (struct{}, error) { return struct{}{}, f() })
	return err
}
