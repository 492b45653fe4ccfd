package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/weirnet/weir/core/datapath"
	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/ports"
)

// maxRequest bounds the body of a request, in bytes.
const maxRequest = 8 << 20

// Server answers requests with an Inspector and an Endpoints. Either may be nil: its requests are
// answered with ports.ErrUnsupported.
type Server struct {
	http http.Server
	stop context.CancelFunc
}

// NewServer makes a server; Serve starts it.
func NewServer(inspector ports.Inspector, endpoints ports.Endpoints) *Server {
	ctx, stop := context.WithCancel(context.Background())
	s := &Server{stop: stop}
	s.http = http.Server{
		Handler: handler(inspector, endpoints),
		// Streams end when the server does.
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: 10 * time.Second,
	}
	return s
}

// Serve answers until Shutdown or Close, and returns nil then. It closes the listener.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("api server: %w", err)
	}
	return nil
}

// Shutdown ends the streams, lets the other requests finish and closes the socket.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("api server: shut down: %w", err), s.http.Close())
	}
	return nil
}

func handler(in ports.Inspector, eps ports.Endpoints) http.Handler {
	mux := http.NewServeMux()
	if in != nil {
		inspectorRoutes(mux, in)
	}
	if eps != nil {
		endpointRoutes(mux, eps)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, fmt.Errorf("%s %s: %w by this agent", r.Method, r.URL.Path, ports.ErrUnsupported))
	})
	return mux
}

func inspectorRoutes(mux *http.ServeMux, in ports.Inspector) {
	mux.HandleFunc("GET /v1/status", answer(in.Status))
	mux.HandleFunc("GET /v1/endpoints", answer(in.Endpoints))
	mux.HandleFunc("GET /v1/identities", answer(in.Identities))
	mux.HandleFunc("GET /v1/services", answer(in.Services))
	mux.HandleFunc("GET /v1/nodes", answer(in.Nodes))
	mux.HandleFunc("GET /v1/policies", answer(in.Policies))
	mux.HandleFunc("GET /v1/tables", answer(in.Tables))
	mux.HandleFunc("GET /v1/flows", answer(in.Flows))
	mux.HandleFunc("GET /v1/translations", answer(in.Translations))
	mux.HandleFunc("DELETE /v1/flows", answer(func(ctx context.Context) (flushed, error) {
		n, err := in.FlushFlows(ctx)
		return flushed{n}, err
	}))
	mux.HandleFunc("GET /v1/rules/{cookie}", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseUint(r.PathValue("cookie"), 10, 32)
		if err != nil {
			writeError(w, &Error{codeInvalid, fmt.Sprintf("cookie %q is not a 32-bit number", r.PathValue("cookie"))})
			return
		}
		v, err := in.Rule(r.Context(), datapath.Cookie(n))
		respond(w, v, err)
	})
	mux.HandleFunc("POST /v1/observe", func(w http.ResponseWriter, r *http.Request) { observe(w, r, in) })
}

func endpointRoutes(mux *http.ServeMux, eps ports.Endpoints) {
	mux.HandleFunc("GET /v1/ready", func(w http.ResponseWriter, r *http.Request) {
		respond(w, struct{}{}, eps.Ready(r.Context()))
	})
	mux.HandleFunc("POST /v1/attachments/reserve", ask(eps.Reserve))
	mux.HandleFunc("POST /v1/attachments/activate", ask(func(ctx context.Context, q activateRequest) (struct{}, error) {
		return struct{}{}, eps.Activate(ctx, q.ContainerID, q.Interface, q.Link)
	}))
	mux.HandleFunc("POST /v1/attachments/release", ask(func(ctx context.Context, q attachmentKey) (struct{}, error) {
		return struct{}{}, eps.Release(ctx, q.ContainerID, q.Interface)
	}))
	mux.HandleFunc("POST /v1/attachments/lookup", ask(func(ctx context.Context, q attachmentKey) (lookupAnswer, error) {
		res, inForce, err := eps.Lookup(ctx, q.ContainerID, q.Interface)
		return lookupAnswer{res, inForce}, err
	}))
	mux.HandleFunc("POST /v1/attachments/retain", ask(eps.Retain))
}

// answer serves a question without a body.
func answer[A any](f func(context.Context) (A, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		a, err := f(r.Context())
		respond(w, a, err)
	}
}

// ask serves a question with a body.
func ask[Q, A any](f func(context.Context, Q) (A, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var q Q
		if err := readBody(w, r, &q); err != nil {
			writeError(w, err)
			return
		}
		a, err := f(r.Context(), q)
		respond(w, a, err)
	}
}

func readBody(w http.ResponseWriter, r *http.Request, into any) error {
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(into); err != nil {
		return &Error{codeInvalid, fmt.Sprintf("%s: cannot read the request: %v", r.URL.Path, err)}
	}
	return nil
}

func respond(w http.ResponseWriter, a any, err error) {
	if err != nil {
		writeError(w, err)
		return
	}
	body, err := json.Marshal(a)
	if err != nil {
		writeError(w, fmt.Errorf("encode the answer: %w", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(body)
}

func writeError(w http.ResponseWriter, err error) {
	e := toError(err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.status())
	json.NewEncoder(w).Encode(errorBody{e})
}

// observe streams flows. Writing blocks when the client does not read: the Inspector then falls
// behind and reports what it had to skip.
func observe(w http.ResponseWriter, r *http.Request, in ports.Inspector) {
	var q flow.Query
	if err := readBody(w, r, &q); err != nil {
		writeError(w, err)
		return
	}
	if _, err := flow.CompileQuery(q); err != nil {
		writeError(w, &Error{codeInvalid, err.Error()})
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	control := http.NewResponseController(w)
	enc := json.NewEncoder(w)
	send := func(l line) error {
		if err := enc.Encode(l); err != nil {
			return err
		}
		return control.Flush()
	}
	// The client learns at once that the query was accepted, even if nothing flows for long.
	if err := control.Flush(); err != nil {
		return
	}
	err := in.Observe(r.Context(), q, func(e flow.Entry) error { return send(line{Flow: e.Flow, Lost: e.Lost}) })
	last := &end{}
	if err != nil {
		last.Error = toError(err)
	}
	if err := send(line{End: last}); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		return // the client is gone; there is nobody to tell
	}
}
