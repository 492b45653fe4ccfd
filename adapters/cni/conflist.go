package cni

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// ConflistName is the file that Install writes; it sorts before what other networks install.
const ConflistName = "05-cilium.conflist"

// DefaultType is the file name of the plugin's program.
const DefaultType = "weir-cni"

// Conflist is a network configuration for container runtimes. Zero fields are left out or have their
// default.
type Conflist struct {
	Type         string // file name of the plugin in the runtime's directory of plugins; DefaultType
	AgentSocket  string // path
	LogFile      string // path
	AgentTimeout time.Duration
	PortMap      bool // the portmap plugin is called after ours, for hostPort
}

type conflistPlugin struct {
	Type         string          `json:"type"`
	Capabilities map[string]bool `json:"capabilities,omitempty"`
	AgentSocket  string          `json:"agentSocket,omitempty"`
	LogFile      string          `json:"logFile,omitempty"`
	AgentTimeout float64         `json:"agentTimeout,omitempty"`
}

// Marshal gives the configuration as text. Runtimes that know cniVersions take the newest version that
// both sides speak, older ones take cniVersion.
func (c Conflist) Marshal() ([]byte, error) {
	if c.Type == "" {
		c.Type = DefaultType
	}
	if filepath.Base(c.Type) != c.Type {
		return nil, fmt.Errorf("conflist: type %q: must be a file name", c.Type)
	}
	if c.AgentTimeout < 0 || c.AgentTimeout > maxAgentTimeout*time.Second {
		return nil, fmt.Errorf("conflist: agent timeout %s: must be at most %d s", c.AgentTimeout, maxAgentTimeout)
	}
	for _, path := range []string{c.AgentSocket, c.LogFile} {
		if path != "" && !filepath.IsAbs(path) {
			return nil, fmt.Errorf("conflist: path %q: must be absolute, as runtimes call the plugin from anywhere", path)
		}
	}
	plugins := []conflistPlugin{{
		Type:         c.Type,
		Capabilities: map[string]bool{"ips": true},
		AgentSocket:  c.AgentSocket,
		LogFile:      c.LogFile,
		AgentTimeout: c.AgentTimeout.Seconds(),
	}}
	if c.PortMap {
		plugins = append(plugins, conflistPlugin{Type: "portmap", Capabilities: map[string]bool{"portMappings": true}})
	}
	b, err := json.MarshalIndent(struct {
		CNIVersion  string           `json:"cniVersion"`
		CNIVersions []string         `json:"cniVersions"`
		Name        string           `json:"name"`
		Plugins     []conflistPlugin `json:"plugins"`
	}{
		CNIVersion:  "1.0.0",
		CNIVersions: Versions.SupportedVersions(),
		Name:        "cilium",
		Plugins:     plugins,
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("conflist: %w", err)
	}
	return append(b, '\n'), nil
}

// Install writes the configuration into a directory, made if absent, and returns the file's path.
// Runtimes watch the directory: they see the old file or the complete new one. A file that is right
// already is left alone.
func (c Conflist) Install(dir string) (string, error) {
	text, err := c.Marshal()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, ConflistName), putConflist(dir, text)
}

// writeFile makes or replaces a file in one step.
func writeFile(path string, from io.Reader, mode os.FileMode) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	// The name must not end as configurations do, or a runtime would read it half written.
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = io.Copy(f, from)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}
