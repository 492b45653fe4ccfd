package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const eventResource = "events"

// maxNote is how many bytes the server lets an Event's note have.
const maxNote = 1024

// writeEvent makes the Event of a count, or counts on, and returns its name. An Event that the server has
// dropped meanwhile is made anew.
func (s *Store) writeEvent(ctx context.Context, c count) (string, error) {
	if c.name != "" {
		err := s.countOn(ctx, c)
		if err == nil || !apierrors.IsNotFound(err) {
			return c.name, err
		}
	}
	uid := s.podUID(c.pod)
	if uid == "" {
		return "", fmt.Errorf("pod %s is not known", c.pod)
	}
	e := eventsv1.Event{
		TypeMeta: metav1.TypeMeta{APIVersion: groupEvents.String(), Kind: "Event"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: c.pod.Namespace, Name: eventName(c),
		},
		EventTime: metav1.NewMicroTime(c.first), ReportingController: s.opts.Manager, ReportingInstance: s.instance(),
		Action: "Deny", Reason: c.reason, Type: corev1.EventTypeWarning, Note: clip(c.note, maxNote),
		Regarding: corev1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: c.pod.Namespace, Name: c.pod.Name, UID: types.UID(uid),
		},
	}
	if c.reason == ReasonEndpointNotReady {
		e.Action = "Program"
	}
	if c.seen > 1 {
		e.Series = &eventsv1.EventSeries{Count: int32(c.seen), LastObservedTime: metav1.NewMicroTime(c.last)}
	}
	body, err := json.Marshal(&e)
	if err != nil {
		return "", err
	}
	_, err = raw(ctx, s.api.plain[groupEvents].Post().Namespace(c.pod.Namespace).Resource(eventResource).
		SetHeader("Content-Type", "application/json").Body(body))
	if err != nil && !namespaceEnds(err) {
		return "", err
	}
	return e.Name, nil
}

// countOn brings an Event's count up to date, which is all that may change of an Event.
func (s *Store) countOn(ctx context.Context, c count) error {
	body, err := json.Marshal(map[string]any{
		"series": eventsv1.EventSeries{Count: int32(c.seen), LastObservedTime: metav1.NewMicroTime(c.last)},
	})
	if err != nil {
		return err
	}
	at := place{groupEvents, eventResource, c.pod.Namespace, c.name}
	_, err = raw(ctx, at.request(s, "PATCH").SetHeader("Content-Type", string(types.MergePatchType)).Body(body))
	return err
}

// eventName is the pod's name, cut if need be, and the time: as other programs name theirs.
func eventName(c count) string {
	const longest = 253 - len(".") - 16
	name := strings.TrimRight(clip(c.pod.Name, longest), "-.…")
	return fmt.Sprintf("%s.%x", name, time.Now().UnixNano())
}

// instance names this agent among the cluster's, in at most 128 bytes as the server wants it.
func (s *Store) instance() string {
	if s.opts.Node == "" {
		return s.opts.Manager
	}
	return clip(s.opts.Node, 128)
}

// clip bounds a text to a number of bytes.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most-len("…")], "") + "…"
}
