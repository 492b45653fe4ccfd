// Package helm renders, installs, upgrades and removes a Helm chart, with Helm as a library. Releases
// are kept where the helm program keeps them, so either can go on with what the other began.
package helm
