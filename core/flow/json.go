package flow

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// ErrNotRecorded is returned for lines that are valid but hold nothing this package keeps: a flow
// above L4, or news of a node.
var ErrNotRecorded = errors.New("neither an L3/L4 flow nor news of loss")

// response is Hubble's GetFlowsResponse in its JSON form: names as in the proto files, enums by
// name, 64-bit integers as strings, zero values left out.
type response struct {
	Flow     *flowJSON `json:"flow,omitempty"`
	Lost     *lostJSON `json:"lost_events,omitempty"`
	NodeName string    `json:"node_name,omitempty"`
	Time     string    `json:"time,omitempty"`
}

type lostJSON struct {
	Source string `json:"source,omitempty"`
	Count  uint64 `json:"num_events_lost,string,omitempty"`
	First  string `json:"first,omitempty"`
	Last   string `json:"last,omitempty"`
}

// MarshalJSON writes the entry as one line of Hubble's JSON output.
func (e Entry) MarshalJSON() ([]byte, error) {
	switch {
	case e.Flow != nil:
		j := flowToJSON(e.Flow)
		return json.Marshal(response{Flow: &j, NodeName: j.NodeName, Time: j.Time})
	case e.Lost != nil:
		l := e.Lost
		return json.Marshal(response{Time: timestamp(l.Last), Lost: &lostJSON{
			Source: l.Source, Count: l.Count, First: timestamp(l.First), Last: timestamp(l.Last)}})
	}
	return nil, errors.New("flow entry holds neither a flow nor news of loss")
}

// UnmarshalJSON reads what MarshalJSON or Hubble wrote. What this package has no place for (L2, L7,
// names of workloads) is left out; ErrNotRecorded if nothing would be left. Cookies, lengths and
// the kernel's timestamp are not part of the form.
func (e *Entry) UnmarshalJSON(data []byte) error {
	var r response
	if err := json.Unmarshal(data, &r); err != nil {
		return fmt.Errorf("flow entry: %w", err)
	}
	switch {
	case r.Flow != nil:
		if r.Flow.NodeName == "" {
			r.Flow.NodeName = r.NodeName
		}
		if r.Flow.Time == "" {
			r.Flow.Time = r.Time
		}
		f, err := flowFromJSON(r.Flow)
		if err != nil {
			return err
		}
		*e = Entry{Flow: f}
		return nil
	case r.Lost != nil:
		first, err := parseTime("lost_events.first", r.Lost.First)
		if err != nil {
			return err
		}
		last, err := parseTime("lost_events.last", r.Lost.Last)
		if err != nil {
			return err
		}
		*e = Entry{Lost: &Lost{Source: r.Lost.Source, Count: r.Lost.Count, First: first, Last: last}}
		return nil
	}
	return ErrNotRecorded
}

// timestamp writes a time as protobuf's JSON does: UTC, with 0, 3, 6 or 9 digits of the second's
// fraction. The zero time is empty.
func timestamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	layout := "2006-01-02T15:04:05"
	switch ns := t.Nanosecond(); {
	case ns%1_000_000_000 == 0:
	case ns%1_000_000 == 0:
		layout += ".000"
	case ns%1_000 == 0:
		layout += ".000000"
	default:
		layout += ".000000000"
	}
	return t.UTC().Format(layout + "Z")
}

func parseTime(field, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, &ValueError{Field: field, Value: s, Allowed: []string{"a time such as 2006-01-02T15:04:05.999Z"}}
	}
	return t.UTC(), nil
}
