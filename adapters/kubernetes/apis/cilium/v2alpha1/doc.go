// Package v2alpha1 holds the Go types of the cilium.io/v2alpha1 kinds, from which their CustomResourceDefinitions
// are generated: what stands here in comments is what "kubectl explain" says.
//
// The types describe what the API server accepts. What weir makes of an object is decided by
// core/manifest, whose findings are the reference for the validations.
//
// +kubebuilder:object:generate=true
// +groupName=cilium.io
package v2alpha1
