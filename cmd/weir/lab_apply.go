package main

import (
	"github.com/spf13/cobra"
)

func newLabApplyCommand(f *labFlags) *cobra.Command {
	var files []string
	c := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Make manifests part of a lab",
		Long: `weir lab apply validates each object, stores the good ones where the agents see them, makes and
remakes pods, and returns once every agent has taken the change in.

An object with an error is reported with file, object and field; the others take effect, and its last
good version stays in force. The exit status is 1 then.`,
		Example: "  weir lab apply -f policy.yaml\n  weir lab apply -f ./manifests",
		Args:    args(cobra.NoArgs),
	}
	c.Flags().StringArrayVarP(&files, "filename", "f", nil, "file or directory of manifests, - for the standard input; may repeat")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if len(files) == 0 {
			return usagef("-f is needed: a file or directory of manifests")
		}
		manifests, err := readLabManifests(f.g, files)
		if err != nil {
			return err
		}
		l, err := f.lab()
		if err != nil {
			return err
		}
		return f.done(l.Apply(c.Context(), manifests))
	}
	return c
}

func newLabDeleteCommand(f *labFlags) *cobra.Command {
	var files []string
	c := &cobra.Command{
		Use:   "delete -f FILE | KIND NAME",
		Short: "Remove objects from a lab",
		Long: `weir lab delete removes the objects that the files name, or one object by kind and name (namespace/name
where the kind has namespaces). A pod's server and namespace go with it. What is absent is fine.`,
		Example: `  weir lab delete -f policy.yaml
  weir lab delete NetworkPolicy production/backend-ingress
  weir lab delete pod production/db`,
		Args: args(cobra.MaximumNArgs(2)),
	}
	c.Flags().StringArrayVarP(&files, "filename", "f", nil, "file or directory of manifests, - for the standard input; may repeat")
	c.RunE = func(c *cobra.Command, a []string) error {
		if (len(files) == 0) != (len(a) == 2) || (len(files) > 0 && len(a) > 0) {
			return usagef("either -f FILE or KIND and NAME are needed")
		}
		manifests, err := readLabManifests(f.g, files)
		if err != nil {
			return err
		}
		l, err := f.lab()
		if err != nil {
			return err
		}
		if len(a) == 2 {
			return l.DeleteObject(c.Context(), a[0], a[1])
		}
		return f.done(l.Delete(c.Context(), manifests))
	}
	return c
}
