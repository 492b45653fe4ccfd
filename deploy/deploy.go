// Package deploy holds what is installed on a cluster: the Helm chart.
package deploy

import (
	"embed"
	"io/fs"
)

//go:embed all:chart
var files embed.FS

// Chart is the directory of the Helm chart: Chart.yaml, values.yaml and so on at its root.
func Chart() fs.FS {
	chart, err := fs.Sub(files, "chart")
	if err != nil {
		panic(err) // the directory is embedded above
	}
	return chart
}
