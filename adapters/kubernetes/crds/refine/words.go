package main

var (
	object    = []string{"apiVersion", "kind", "metadata"}
	condition = []string{"type", "status", "lastTransitionTime", "observedGeneration"}
)

// words describe fields whose types come from libraries: of every object that has all the fields named.
var words = []struct {
	fields       []string
	field, words string
}{
	{object, "apiVersion", "The group and version that the object is written in."},
	{object, "kind", "The object's kind."},
	{condition, "type", "What the condition is about."},
	{condition, "status", "True, False or Unknown."},
	{condition, "lastTransitionTime", "When status last changed."},
	{condition, "observedGeneration", "The metadata.generation of the object that the condition was found for."},
	{condition, "reason", "Why, in one word."},
	{condition, "message", "Why, in sentences."},
}
