package playground

import (
	"bufio"
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// logSelectors find the pods whose logs are read.
var logSelectors = []string{agentSelector, "io.cilium/app=operator"}

// longestLine bounds a line of a log, in bytes.
const longestLine = 1 << 20

// Logs implements ports.Playground.
func (p *Playground) Logs(ctx context.Context, deliver func(pod, line string)) error {
	for _, selector := range logSelectors {
		list, err := p.client.CoreV1().Pods(p.o.AgentNamespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return fmt.Errorf("look for pods %s in namespace %s: %w", selector, p.o.AgentNamespace, err)
		}
		for _, pod := range list.Items {
			for _, s := range pod.Status.ContainerStatuses {
				for _, previous := range []bool{true, false} {
					if previous && s.RestartCount == 0 || !previous && s.State.Running == nil && s.State.Terminated == nil {
						continue
					}
					if err := p.log(ctx, pod.Name, s.Name, previous, func(line string) { deliver(pod.Name, line) }); err != nil && !previous {
						return fmt.Errorf("log of %s/%s: %w", pod.Name, s.Name, err) // an ended container's may have been removed
					}
				}
			}
		}
	}
	return nil
}

func (p *Playground) log(ctx context.Context, pod, container string, previous bool, deliver func(string)) error {
	r, err := p.client.CoreV1().Pods(p.o.AgentNamespace).GetLogs(pod, &corev1.PodLogOptions{Container: container, Previous: previous}).Stream(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 1<<16), longestLine)
	for lines.Scan() {
		deliver(lines.Text())
	}
	return lines.Err()
}
