package kubernetes

import "github.com/weirnet/weir/core/manifest"

// keptOverRestart says whether the last good versions of a kind are kept over a restart: those of policies are,
// because a mistake in one must not open what its predecessor closed.
func keptOverRestart(kind string) bool {
	switch kind {
	case manifest.KindNetworkPolicy, manifest.KindCiliumNetworkPolicy, manifest.KindCiliumClusterwideNetworkPolicy:
		return true
	}
	return false
}
