// Package demo holds the manifests of the small shop that `weir demo` shows: a frontend, three
// backends and a database in the namespace production, a stranger in the namespace visitors, two
// dual-stack Services, and, apart from them, the policies.
package demo

import "embed"

// Files holds shop/*.yaml and policies/*.yaml.
//
//go:embed shop/*.yaml policies/*.yaml
var Files embed.FS
