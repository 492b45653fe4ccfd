package main

import (
	"fmt"
	"io"
	"sort"
	"strings"
)

// logo stands left of the summary, a line for each row.
var logo = []string{
	"    /¯¯\\      ",
	" /¯¯\\__/¯¯\\   ",
	" \\__/¯¯\\__/   ",
	" /¯¯\\__/¯¯\\   ",
	" \\__/¯¯\\__/   ",
	"    \\__/      ",
}

// write prints the state as people read it, in Cilium's layout.
func (s *summary) write(w io.Writer) error {
	var b strings.Builder
	rows := []struct{ name, value string }{
		{}, {"Cilium:", s.verdict("cilium")}, {"Operator:", s.verdict("cilium-operator")},
		{"Envoy DaemonSet:", s.verdict("cilium-envoy")}, {"Hubble Relay:", s.verdict("hubble-relay")}, {"ClusterMesh:", s.verdict("clustermesh-apiserver")},
	}
	// The first row of the drawing stands alone, and names stand two rows below their picture's top.
	fmt.Fprintln(&b, strings.TrimRight(logo[0], " "))
	for i, r := range rows[1:] {
		fmt.Fprintln(&b, strings.TrimRight(fmt.Sprintf("%s %-19s %s", logo[i+1], r.name, r.value), " "))
	}
	fmt.Fprintln(&b)
	for _, c := range s.components {
		if state, ok := s.States[c.Name]; ok {
			line := fmt.Sprintf("%-22s %-24s Desired: %d, Ready: %d/%d, Available: %d/%d", state.Type, c.Name, state.Desired,
				state.Ready, state.Desired, state.Available, state.Desired)
			if state.Unavailable > 0 {
				line += fmt.Sprintf(", Unavailable: %d/%d", state.Unavailable, state.Desired)
			}
			fmt.Fprintln(&b, line)
		}
	}
	s.writeContainers(&b)
	fmt.Fprintf(&b, "%-22s %d/%d managed by Cilium\n", "Cluster Pods:", s.Pods.Managed, s.Pods.All)
	for _, f := range s.Features {
		fmt.Fprintf(&b, "%-22s %s\n", f.Name+":", f.Value)
	}
	fmt.Fprintf(&b, "%-22s %s\n", "Helm chart version:", s.Chart)
	title := "Image versions"
	for _, c := range s.components {
		for _, image := range sortedKeys(s.Images[c.Name]) {
			fmt.Fprintf(&b, "%-22s %-18s %s: %d\n", title, c.Name, image, s.Images[c.Name][image])
			title = ""
		}
	}
	s.writeComplaints(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

// verdict is one word about a component.
func (s *summary) verdict(component string) string {
	if _, known := s.States[component]; !known && s.Errors[component] == nil {
		return "disabled"
	}
	errors, warnings := s.count(component)
	var parts []string
	if errors > 0 {
		parts = append(parts, fmt.Sprintf("%d errors", errors))
	}
	if warnings > 0 {
		parts = append(parts, fmt.Sprintf("%d warnings", warnings))
	}
	if len(parts) == 0 {
		return "OK"
	}
	return strings.Join(parts, ", ")
}

func (s *summary) writeContainers(b *strings.Builder) {
	title := "Containers:"
	for _, c := range s.components {
		if !c.Found {
			continue
		}
		var phases []string
		for _, p := range sortedKeys(s.Phases[c.Name]) {
			phases = append(phases, fmt.Sprintf("%s: %d", p, s.Phases[c.Name][p]))
		}
		fmt.Fprintln(b, strings.TrimRight(fmt.Sprintf("%-22s %-24s %s", title, c.Name, strings.Join(phases, ", ")), " "))
		title = ""
	}
}

func (s *summary) writeComplaints(b *strings.Builder) {
	for _, kind := range []struct {
		title string
		list  func(*complaints) []string
	}{
		{"Errors:", func(c *complaints) []string { return c.Errors }},
		{"Warnings:", func(c *complaints) []string { return c.Warnings }},
	} {
		title := kind.title
		for _, component := range sortedKeys(s.Errors) {
			for _, pod := range sortedKeys(s.Errors[component]) {
				for _, text := range kind.list(s.Errors[component][pod]) {
					name := pod
					if name == "" {
						name = component
					}
					fmt.Fprintf(b, "%-22s %-24s %-24s %s\n", title, component, name, text)
					title = ""
				}
			}
		}
		if title == kind.title && kind.title == "Warnings:" {
			for _, text := range s.Collect {
				fmt.Fprintf(b, "%-22s %-24s %-24s %s\n", title, "status", "", text)
				title = ""
			}
		}
	}
	title := "Configuration:"
	for _, text := range s.Config {
		fmt.Fprintf(b, "%-22s %-24s %-24s %s\n", title, "cilium-config", "", text)
		title = ""
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
