// Package v2 holds the Go types of the cilium.io/v2 kinds, from which their CustomResourceDefinitions
// are generated: what stands here in comments is what "kubectl explain" says.
//
// The types describe what the API server accepts. What weir makes of an object is decided by
// core/manifest, whose findings are the reference for the validations.
//
// The lists of a policy are written even if they are empty: an empty list of peers means no one, one
// that is not there everyone.
//
// +kubebuilder:object:generate=true
// +groupName=cilium.io
package v2
