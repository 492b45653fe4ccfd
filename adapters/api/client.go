package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"

	"github.com/weirnet/weir/core/cluster"
	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/core/policy"
	"github.com/weirnet/weir/ports"
)

// ErrUnreachable is wrapped by every error that means that no agent answered: the socket is absent
// or nobody listens on it, or the connection broke.
var ErrUnreachable = errors.New("agent not reachable")

// Client talks to the agent behind a socket. It implements ports.Inspector and ports.Endpoints and
// may be used by several goroutines. Nothing is opened before the first question.
type Client struct {
	socket string
	http   http.Client
}

var (
	_ ports.Inspector = (*Client)(nil)
	_ ports.Endpoints = (*Client)(nil)
)

// NewClient makes a client for the socket at the path.
func NewClient(socketPath string) *Client {
	c := &Client{socket: socketPath}
	c.http.Transport = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socketPath)
		},
		// Short-lived processes ask a few questions; an idle connection would outlive its use.
		DisableKeepAlives: true,
	}
	return c
}

// Close releases what the client holds. Questions that are under way go on.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// do sends a request and returns the response if it is a success.
func (c *Client) do(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("%s: encode the request: %w", path, err)
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	var e errorBody
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil || e.Error == nil || e.Error.Message == "" {
		return nil, fmt.Errorf("%s: the agent answered %s", path, resp.Status)
	}
	return nil, e.Error
}

// unreachable tells the caller's own giving up from an agent that does not answer.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return fmt.Errorf("%w at %s: %w", ErrUnreachable, c.socket, err)
}

func call[A any](ctx context.Context, c *Client, method, path string, body any) (A, error) {
	var a A
	resp, err := c.do(ctx, method, path, body)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		var zero A
		return zero, fmt.Errorf("%s: cannot read the agent's answer: %w", path, err)
	}
	return a, nil
}

// Status implements ports.Inspector.
func (c *Client) Status(ctx context.Context) (ports.Status, error) {
	return call[ports.Status](ctx, c, "GET", "/v1/status", nil)
}

// Endpoints implements ports.Inspector.
func (c *Client) Endpoints(ctx context.Context) ([]ports.EndpointInfo, error) {
	return call[[]ports.EndpointInfo](ctx, c, "GET", "/v1/endpoints", nil)
}

// Identities implements ports.Inspector.
func (c *Client) Identities(ctx context.Context) ([]ports.IdentityInfo, error) {
	return call[[]ports.IdentityInfo](ctx, c, "GET", "/v1/identities", nil)
}

// Services implements ports.Inspector.
func (c *Client) Services(ctx context.Context) ([]ports.ServiceInfo, error) {
	return call[[]ports.ServiceInfo](ctx, c, "GET", "/v1/services", nil)
}

// Nodes implements ports.Inspector.
func (c *Client) Nodes(ctx context.Context) ([]cluster.Node, error) {
	return call[[]cluster.Node](ctx, c, "GET", "/v1/nodes", nil)
}

// Policies implements ports.Inspector.
func (c *Client) Policies(ctx context.Context) (ports.PolicyInfo, error) {
	return call[ports.PolicyInfo](ctx, c, "GET", "/v1/policies", nil)
}

// Rule implements ports.Inspector.
func (c *Client) Rule(ctx context.Context, cookie datapath.Cookie) (policy.Verdict, error) {
	return call[policy.Verdict](ctx, c, "GET", "/v1/rules/"+strconv.FormatUint(uint64(cookie), 10), nil)
}

// Tables implements ports.Inspector.
func (c *Client) Tables(ctx context.Context) (ports.TablesDump, error) {
	return call[ports.TablesDump](ctx, c, "GET", "/v1/tables", nil)
}

// Flows implements ports.Inspector.
func (c *Client) Flows(ctx context.Context) ([]datapath.Flow, error) {
	return call[[]datapath.Flow](ctx, c, "GET", "/v1/flows", nil)
}

// Translations implements ports.Inspector.
func (c *Client) Translations(ctx context.Context) ([]datapath.Translation, error) {
	return call[[]datapath.Translation](ctx, c, "GET", "/v1/translations", nil)
}

// FlushFlows implements ports.Inspector.
func (c *Client) FlushFlows(ctx context.Context) (int, error) {
	f, err := call[flushed](ctx, c, "DELETE", "/v1/flows", nil)
	return f.Rows, err
}

// Observe implements ports.Inspector. An agent that goes away before the stream's end is an
// ErrUnreachable.
func (c *Client) Observe(ctx context.Context, q flow.Query, deliver func(flow.Entry) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := c.do(ctx, "POST", "/v1/observe", q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	for {
		var l line
		if err := dec.Decode(&l); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return c.unreachable(ctx, err)
		}
		if l.End != nil {
			switch {
			case l.End.Error == nil:
				return nil
			case l.End.Error.Message == "":
				return fmt.Errorf("/v1/observe: the agent ended the stream with an error without a message (code %q)", l.End.Error.Code)
			}
			return l.End.Error
		}
		if (l.Flow == nil) == (l.Lost == nil) {
			return errors.New("/v1/observe: cannot read the agent's answer: want lines with either a flow or news of loss")
		}
		if err := deliver(flow.Entry{Flow: l.Flow, Lost: l.Lost}); err != nil {
			return err
		}
	}
}

// Reserve implements ports.Endpoints.
func (c *Client) Reserve(ctx context.Context, r ports.ReserveRequest) (ports.Reservation, error) {
	return call[ports.Reservation](ctx, c, "POST", "/v1/attachments/reserve", r)
}

// Activate implements ports.Endpoints.
func (c *Client) Activate(ctx context.Context, containerID, ifname string, link ports.PodLinkState) error {
	_, err := call[struct{}](ctx, c, "POST", "/v1/attachments/activate",
		activateRequest{attachmentKey{containerID, ifname}, link})
	return err
}

// Release implements ports.Endpoints.
func (c *Client) Release(ctx context.Context, containerID, ifname string) error {
	_, err := call[struct{}](ctx, c, "POST", "/v1/attachments/release", attachmentKey{containerID, ifname})
	return err
}

// Lookup implements ports.Endpoints.
func (c *Client) Lookup(ctx context.Context, containerID, ifname string) (ports.Reservation, bool, error) {
	a, err := call[lookupAnswer](ctx, c, "POST", "/v1/attachments/lookup", attachmentKey{containerID, ifname})
	return a.Reservation, a.InForce, err
}

// Retain implements ports.Endpoints.
func (c *Client) Retain(ctx context.Context, valid []ports.ContainerInterface) ([]string, error) {
	if valid == nil {
		valid = []ports.ContainerInterface{}
	}
	return call[[]string](ctx, c, "POST", "/v1/attachments/retain", valid)
}

// Ready implements ports.Endpoints.
func (c *Client) Ready(ctx context.Context) error {
	_, err := call[struct{}](ctx, c, "GET", "/v1/ready", nil)
	return err
}
