{{/* What cannot work is refused here, with the value's name and what is allowed. */}}
{{- define "weir.validate" -}}
{{- $v := .Values -}}
{{- $kpr := toString $v.kubeProxyReplacement -}}
{{- if not (has $kpr (list "true" "false" "")) -}}
{{- $hint := "" -}}
{{- if has $kpr (list "strict" "partial" "probe") -}}
{{- $hint = printf " (%q is an old word: write true for what strict meant, false for partial and probe)" $kpr -}}
{{- else if eq $kpr "disabled" -}}
{{- $hint = " (disabled is an old word for false)" -}}
{{- end -}}
{{- fail (printf "kubeProxyReplacement: %q is not known%s; allowed: true, false" $kpr $hint) -}}
{{- end -}}
{{- with (get $v "tunnel") -}}
{{- fail (printf "tunnel: the value is gone; write %s instead" (ternary "routingMode=native" (printf "routingMode=tunnel and tunnelProtocol=%s" .) (eq . "disabled"))) -}}
{{- end -}}
{{- if not (or (include "weir.on" $v.ipv4.enabled) (include "weir.on" $v.ipv6.enabled)) -}}
{{- fail "ipv4.enabled and ipv6.enabled: both are false; at least one address family has to be on" -}}
{{- end -}}
{{- if and (eq (toString $v.k8sServiceHost) "auto") $v.k8sServiceHostRef.name -}}
{{- fail "k8sServiceHost and k8sServiceHostRef exclude each other; set one of them" -}}
{{- end -}}
{{- if and $v.k8sServiceHostRef.name (not $v.k8sServiceHostRef.key) -}}
{{- fail "k8sServiceHostRef.key: missing; it names the key of the ConfigMap that holds the API server's address" -}}
{{- end -}}
{{- if hasPrefix "quay.io/cilium/" (toString $v.image.repository) -}}
{{- fail (printf "image.repository: %q holds Cilium's programs, which this chart cannot run; leave it out for weir's image" $v.image.repository) -}}
{{- end -}}
{{- if and (include "weir.on" $v.hubble.ui.enabled) (not (include "weir.on" $v.hubble.relay.enabled)) (ne (include "weir.at" (list $v "hubble" "ui" "standalone" "enabled")) "true") -}}
{{- fail "hubble.ui.enabled=true needs hubble.relay.enabled=true" -}}
{{- end -}}
{{- if and (include "weir.on" $v.hubble.relay.enabled) (not (include "weir.on" $v.hubble.enabled)) -}}
{{- fail "hubble.relay.enabled=true needs hubble.enabled=true" -}}
{{- end -}}
{{- if and (eq (toString $v.cluster.name) "default") (ne (include "weir.number" $v.cluster.id) "0") -}}
{{- fail "cluster.name: \"default\" is not allowed with cluster.id other than 0; give the cluster a name of its own" -}}
{{- end -}}
{{- if and (eq (toString $v.routingMode) "native") (include "weir.on" $v.enableIPv4Masquerade) (include "weir.on" $v.ipv4.enabled) (not $v.ipv4NativeRoutingCIDR) (ne (toString $v.ipam.mode) "cluster-pool") (ne (toString $v.ipam.mode) "kubernetes") -}}
{{- fail (printf "ipv4NativeRoutingCIDR: needed with routingMode=native, enableIPv4Masquerade=true and ipam.mode=%s: nothing else says which destinations keep the pods' addresses" $v.ipam.mode) -}}
{{- end -}}
{{- end -}}

{{/* The values that are set and have no effect yet, one a line. */}}
{{- define "weir.noEffect" -}}
{{- $v := .Values -}}
{{- $features := list
  (list "encryption.enabled" "traffic between nodes is NOT encrypted")
  (list "hubble.relay.enabled" "no relay is deployed; 'hubble observe' asks the agents one by one")
  (list "hubble.ui.enabled" "no user interface is deployed")
  (list "hubble.export.static.enabled" "no flows are written to files")
  (list "hubble.export.dynamic.enabled" "no flows are written to files")
  (list "bandwidthManager.enabled" "pods are not limited")
  (list "bandwidthManager.bbr" "pods keep the node's congestion control")
  (list "ingressController.enabled" "no Ingress is served")
  (list "gatewayAPI.enabled" "no Gateway is served")
  (list "bgpControlPlane.enabled" "nothing is announced")
  (list "l2announcements.enabled" "nothing is announced")
  (list "egressGateway.enabled" "pods leave by their own node")
  (list "hostFirewall.enabled" "policies for nodes are not enforced")
  (list "policyAuditMode" "policies are enforced, not only reported")
  (list "localRedirectPolicies.enabled" "no traffic is redirected")
  (list "localRedirectPolicy" "no traffic is redirected")
  (list "envoyConfig.enabled" "no listener is configured")
  (list "envoy.enabled" "no proxy is deployed")
  (list "sctp.enabled" "Services do not serve SCTP")
  (list "nodeIPAM.enabled" "load balancers get no node addresses")
  (list "clustermesh.useAPIServer" "clusters are not connected")
  (list "clustermesh.config.enabled" "clusters are not connected")
  (list "authentication.mutual.spire.enabled" "rules that require authentication grant nothing")
  (list "operator.prometheus.tls.enabled" "the operator's metrics are served without TLS")
  (list "prometheus.enabled" "agents serve no metrics")
  (list "bpf.masquerade" "masquerading is done by nftables")
  (list "bpf.lbExternalClusterIP" "ClusterIPs are not served to the outside")
  (list "endpointRoutes.enabled" "routes stay as they are")
  (list "ipMasqAgent.enabled" "every destination outside of the cluster is masqueraded")
  (list "nat46x64Gateway.enabled" "address families are not translated")
  (list "vtep.enabled" "no foreign tunnel endpoints are known")
  (list "pmtuDiscovery.enabled" "nothing is sent")
  (list "enableIPv4BIGTCP" "packets keep their usual size")
  (list "enableIPv6BIGTCP" "packets keep their usual size")
  (list "preflight.enabled" "no preflight is deployed; run 'weir-agent preflight' on a node")
  (list "nodeinit.enabled" "nodes are not changed before the agent starts")
  (list "etcd.enabled" "state is kept in Kubernetes")
  (list "eni.enabled" "addresses come from ipam.mode")
  (list "azure.enabled" "addresses come from ipam.mode")
  (list "dashboards.enabled" "no dashboards are deployed")
  (list "resourceQuotas.enabled" "no quotas are made")
-}}
{{- range $f := $features -}}
{{- $at := concat (list $v) (splitList "." (first $f)) -}}
{{- if eq (include "weir.at" $at) "true" }}
{{ first $f }}: {{ last $f }}
{{- end -}}
{{- end -}}
{{- if $v.hubble.metrics.enabled }}
hubble.metrics.enabled: agents serve no metrics
{{- end -}}
{{- if not (has (toString $v.loadBalancer.mode) (list "snat" "")) }}
loadBalancer.mode: only snat exists
{{- end -}}
{{- if not (has (toString $v.loadBalancer.acceleration) (list "disabled" "")) }}
loadBalancer.acceleration: XDP is not used
{{- end -}}
{{- if eq (include "weir.at" (list $v "encryption" "wireguard" "userspaceFallback")) "true" }}
encryption.wireguard.userspaceFallback: WireGuard outside of the kernel does not exist
{{- end -}}
{{- end -}}
