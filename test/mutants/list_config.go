package main

// inConfig are tests of what a configuration comes to; inNodeConfigs of who is selected by a CiliumNodeConfig.
var (
	inConfig      = tests("./core/config", "./cmd/weir-agent")
	inNodeConfigs = suite{kube: true, steps: []step{{"./adapters/kubernetes/nodeconfig"}}}
	inCNI         = tests("./adapters/cni")
)

// configMutants change which of several values counts, and what is told of those that do not.
var configMutants = []mutant{
	{
		name: "config/first-overlay-counts", file: "core/config/overlay.go", by: inConfig,
		old: "r.Values[k], r.From[k] = v, o.Name",
		new: "if r.From[k] == \"\" {\n\t\t\t\tr.Values[k], r.From[k] = v, o.Name\n\t\t\t}",
		why: "of two CiliumNodeConfigs the first by name counts",
	},
	{
		name: "config/configmap-over-node", file: "core/config/overlay.go", by: inConfig,
		old: "maps.Copy(r.Values, base)\n",
		new: "defer maps.Copy(r.Values, base)\n",
		why: "the ConfigMap counts more than a node's own CiliumNodeConfig",
	},
	{
		name: "config/configmap-over-flag", file: "cmd/weir-agent/options.go", by: tests("./cmd/weir-agent"),
		old: "values[name] = f.Value.String()",
		new: "if values[name] == \"\" {\n\t\t\t\tvalues[name] = f.Value.String()\n\t\t\t}",
		why: "the ConfigMap counts more than the agent's command line",
	},
	{
		name: "config/empty-over-default", file: "cmd/weir-agent/options.go", by: tests("./cmd/weir-agent"),
		old: "if v != \"\" {\n\t\t\tvalues[k] = v",
		new: "if v != \" \" {\n\t\t\tvalues[k] = v",
		why: "an empty value hides the default of a cluster of files",
	},
	{
		name: "config/default-over-configmap", file: "cmd/weir-agent/options.go", by: tests("./cmd/weir-agent"),
		old: "if o.clusterDir != \"\" {\n\t\tmaps.Copy(values, fileDefaults)",
		new: "if o.clusterDir != \"\" {\n\t\tdefer maps.Copy(values, fileDefaults)",
		why: "defaults of a cluster of files count more than what was given",
	},
	{
		name: "config/unknown-key-unsaid", file: "core/config/config.go", by: inConfig,
		old: "out = append(out, Finding{name, Warning, fmt.Sprintf(\"%s: unknown key",
		new: "out = append(out, Finding{name, Note, fmt.Sprintf(\"%s: unknown key",
		why: "a misspelt key has no effect, and nobody is told",
	},
	{
		name: "config/missing-feature-unsaid", file: "core/config/config.go", by: inConfig,
		old: "if k.Missing {",
		new: "if !k.Missing {",
		why: "encryption is asked for, does not exist, and nobody is told",
	},
	{
		name: "config/fixed-value-taken", file: "core/config/config.go", by: inConfig,
		old: "if len(k.Allowed) > 0 && !slices.Contains(k.Allowed, canonical(k.Kind, v)) {",
		new: "if len(k.Allowed) > 1 && !slices.Contains(k.Allowed, canonical(k.Kind, v)) {",
		why: "a value that turns around what policies mean is taken, and not obeyed",
	},
	{
		name: "config/another-spelling-refused", file: "core/config/config.go", by: inConfig,
		old: "!slices.Contains(k.Allowed, canonical(k.Kind, v)) {",
		new: "!slices.Contains(k.Allowed, v) {",
		why: "an agent does not start with a True where true is meant",
	},
	{
		name: "config/restart-unsaid", file: "core/config/config.go", by: inConfig,
		old: "Restart: applies && k.Restart,",
		new: "Restart: applies && !k.Restart,",
		why: "a change that needs a restart is told as done",
	},
	{
		name: "config/limits-overridden", file: "core/config/overlay.go", by: inConfig,
		old: "case slices.Contains(configMapOnly, key):",
		new: "case slices.Contains(configMapOnly, key) && !known:",
		why: "who may write a CiliumNodeConfig lifts the limits on what it may say",
	},
	{
		name: "config/denied-and-allowed", file: "core/config/overlay.go", by: inConfig,
		old: "case len(o.Allow) == 0 && slices.Contains(o.Deny, key):",
		new: "case slices.Contains(o.Deny, key):",
		why: "a key that is allowed by name is refused",
	},
	{
		name: "config/denied-is-taken", file: "core/config/overlay.go", by: inConfig,
		old: "case len(o.Allow) == 0 && slices.Contains(o.Deny, key):",
		new: "case len(o.Allow) > 0 && slices.Contains(o.Deny, key):",
		why: "keys that a CiliumNodeConfig must not have count",
	},
	{
		name: "config/sources-ignored", file: "core/config/overlay.go", by: inConfig,
		old: "return \"\", len(sources) == 0",
		new: "return \"\", true",
		why: "CiliumNodeConfigs count where config-sources leaves them out",
	},
	{
		name: "config/refused-overlay-breaks-all", file: "core/config/overlay.go", by: inConfig,
		old: "taken, left, more = next, slices.Delete(left, i, i+1), true\n\t\t\t\ti--",
		new: "taken, left, more = next, slices.Delete(left, i, i+1), false\n\t\t\t\ti--",
		why: "a CiliumNodeConfig that needs another one is left out if it comes first",
	},
	{
		name: "config/selects-every-node", file: "adapters/kubernetes/nodeconfig/nodeconfig.go", by: inNodeConfigs,
		old: "if in == nil {\n\t\treturn false, nil",
		new: "if in == nil {\n\t\treturn true, nil",
		why: "a CiliumNodeConfig without a selector changes every node",
	},
	{
		name: "config/names-backwards", file: "adapters/kubernetes/nodeconfig/nodeconfig.go", by: inNodeConfigs,
		old: "slices.SortFunc(k.Overlays, func(a, b config.Overlay) int { return strings.Compare(a.Name, b.Name) })",
		new: "slices.SortFunc(k.Overlays, func(a, b config.Overlay) int { return strings.Compare(b.Name, a.Name) })",
		why: "of two CiliumNodeConfigs that select a node the first by name counts",
	},
}

// cniMutants change what pods and their runtimes may rely on.
var cniMutants = []mutant{
	{
		name: "cni/up-before-policy", file: "adapters/cni/add.go", by: inCNI,
		old: "if err := c.agent.Activate(ctx, req.ContainerID, req.Interface, st); err != nil {\n\t\treturn st, c.classify(ctx, err)\n\t}\n\treturn st, c.Network.ActivatePodLink(link)",
		new: "if err := c.Network.ActivatePodLink(link); err != nil {\n\t\treturn st, err\n\t}\n\tif err := c.agent.Activate(ctx, req.ContainerID, req.Interface, st); err != nil {\n\t\treturn st, c.classify(ctx, err)\n\t}\n\treturn st, nil",
		why: "a pod sends and receives before its policy is in force",
	},
	{
		name: "cni/repetition-cuts-off", file: "adapters/cni/add.go", by: inCNI,
		old: "if err != nil && !before {",
		new: "if err != nil {",
		why: "an ADD that is repeated and fails takes a working pod's link away",
	},
	{
		name: "cni/address-of-a-live-link", file: "adapters/cni/add.go", by: inCNI,
		old: "if err := c.Network.DeletePodLink(hostDevice); err != nil {\n\t\treturn fmt.Errorf(\"undo: %w\", err)\n\t}",
		new: "_ = c.Network.DeletePodLink(hostDevice)",
		why: "after a failed ADD an address is given out that a link still has",
	},
	{
		name: "cni/delegated-address-lost", file: "adapters/cni/add.go", by: inCNI,
		old: "if asked {\n\t\t\t\terr = errors.Join",
		new: "if asked && before {\n\t\t\t\terr = errors.Join",
		why: "addresses that another plugin gave leak with every ADD that fails",
	},
	{
		name: "cni/delegated-twice", file: "adapters/cni/add.go", by: inCNI,
		old: "asked := c.delegates() && err != nil",
		new: "asked := c.delegates() && (err != nil || before)",
		why: "a repeated ADD asks for a second address",
	},
	{
		name: "cni/agent-not-waited-for", file: "adapters/cni/add.go", by: inCNI,
		old: "case <-time.After(pollAgent):\n\t\t\tcontinue",
		new: "case <-time.After(pollAgent):",
		why: "pods fail to start while the agent is being upgraded",
	},
	{
		name: "cni/del-needs-a-ready-agent", file: "adapters/cni/verbs.go", by: inCNI,
		old: "if err != nil && (p.absent(err) || c.agent.Ready(ctx) != nil) {",
		new: "if err != nil && p.absent(err) {",
		why: "no pod can be removed while the agent starts",
	},
	{
		name: "cni/del-gives-up", file: "adapters/cni/verbs.go", by: inCNI,
		old: "if err != nil && (p.absent(err) || c.agent.Ready(ctx) != nil) {",
		new: "if err != nil {",
		why: "an address that the agent could not release leaks, and the runtime is told that all went well",
	},
	{
		name: "cni/del-of-a-link-that-stays", file: "adapters/cni/verbs.go", by: inCNI,
		old: "DeletePodLink(datapath.HostDeviceName(args.ContainerID, args.IfName)); err != nil {\n\t\t\treturn err\n\t\t}",
		new: "DeletePodLink(datapath.HostDeviceName(args.ContainerID, args.IfName)); err != nil {\n\t\t\tc.log.Warn(\"the link stays\", \"error\", err)\n\t\t}",
		why: "an address is given out again that a link still has",
	},
	{
		name: "cni/check-without-policy", file: "adapters/cni/verbs.go", by: inCNI,
		old: "if !inForce {",
		new: "if !inForce && len(res.Addresses) == 0 {",
		why: "CHECK finds nothing wrong with a pod whose policy is not in force",
	},
	{
		name: "cni/check-counts-addresses", file: "adapters/cni/verbs.go", by: inCNI,
		old: "if !slices.Equal(had, have) {",
		new: "if len(had) != len(have) {",
		why: "CHECK finds nothing wrong with a pod that has another's address",
	},
	{
		name: "cni/gc-of-no-list", file: "adapters/cni/verbs.go", by: inCNI,
		old: "if !c.conf.hasValidAttachments {",
		new: "if !c.conf.hasValidAttachments && len(args.StdinData) == 0 {",
		why: "a runtime that names no attachments has every pod cut off",
	},
	{
		name: "cni/gc-of-others", file: "adapters/cni/verbs.go", by: inCNI,
		old: "if keep[name] || !datapath.IsHostDeviceName(name) {",
		new: "if keep[name] {",
		why: "GC deletes links that are not weir's",
	},
	{
		name: "cni/gc-frees-first", file: "adapters/cni/verbs.go", by: inCNI,
		old: "if err := errors.Join(errs...); err != nil {\n\t\t\treturn err\n\t\t}\n\t\treleased",
		new: "released",
		why: "GC frees addresses whose links it could not delete",
	},
}
