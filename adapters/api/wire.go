package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/weirnet/weir/core/flow"
	"github.com/weirnet/weir/ports"
)

// codes maps the errors that callers branch on to their names on the wire and the status of the
// response.
var codes = []struct {
	code   string
	status int
	err    error
}{
	{"not-found", http.StatusNotFound, ports.ErrNotFound},
	{"full", http.StatusInsufficientStorage, ports.ErrFull},
	{"unsupported", http.StatusNotImplemented, ports.ErrUnsupported},
	{"conflict", http.StatusConflict, ports.ErrConflict},
	{"closed", http.StatusServiceUnavailable, ports.ErrClosed},
	{"canceled", http.StatusRequestTimeout, context.Canceled},
	{"deadline-exceeded", http.StatusGatewayTimeout, context.DeadlineExceeded},
	{codeInvalid, http.StatusBadRequest, nil},
	{codeInternal, http.StatusInternalServerError, nil},
}

const (
	codeInvalid  = "invalid"  // the request cannot be read
	codeInternal = "internal" // any error without a code of its own
)

// Error is an error that the agent answered with. It unwraps to the sentinel that its code names,
// if there is one.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

// Unwrap returns the sentinel of ports or context that the code stands for, or nil.
func (e *Error) Unwrap() error {
	for _, c := range codes {
		if c.code == e.Code {
			return c.err
		}
	}
	return nil
}

// toError names an error for the wire.
func toError(err error) *Error {
	var known *Error
	if errors.As(err, &known) {
		return &Error{Code: known.Code, Message: err.Error()}
	}
	for _, c := range codes {
		if c.err != nil && errors.Is(err, c.err) {
			return &Error{Code: c.code, Message: err.Error()}
		}
	}
	return &Error{Code: codeInternal, Message: err.Error()}
}

func (e *Error) status() int {
	for _, c := range codes {
		if c.code == e.Code {
			return c.status
		}
	}
	return http.StatusInternalServerError
}

// errorBody is the body of every response that is not a success.
type errorBody struct {
	Error *Error `json:"error"`
}

// line is one line of the observe stream; exactly one field is set.
type line struct {
	Flow *flow.Flow `json:"flow,omitempty"`
	Lost *flow.Lost `json:"lost,omitempty"`
	End  *end       `json:"end,omitempty"`
}

// end closes an observe stream.
type end struct {
	Error *Error `json:"error,omitempty"`
}

type flushed struct {
	Rows int `json:"rows"`
}

type attachmentKey struct {
	ContainerID string `json:"containerID"`
	Interface   string `json:"interface"`
}

type activateRequest struct {
	attachmentKey
	Link ports.PodLinkState `json:"link"`
}

type lookupAnswer struct {
	Reservation ports.Reservation `json:"reservation"`
	InForce     bool              `json:"inForce"`
}
