{{/* The keys of cilium-config, under Cilium's names. Features without effect have their keys too, when they are on. */}}
{{- define "weir.config" -}}
{{- $v := .Values -}}
{{- $vxlan := ne (toString $v.tunnelProtocol) "geneve" -}}
debug: {{ include "weir.bool" $v.debug.enabled }}
{{- with $v.debug.verbose }}
debug-verbose: {{ . | quote }}
{{- end }}
cluster-name: {{ $v.cluster.name | quote }}
cluster-id: {{ include "weir.number" $v.cluster.id | quote }}
{{- with (get $v.daemon "configSources") }}
config-sources: {{ . | quote }}
{{- end }}
{{- $allow := get $v.daemon "allowedConfigOverrides" }}
{{- $deny := get $v.daemon "blockedConfigOverrides" }}
{{- if or $allow $deny }}
config-sources-overrides: {{ dict "allowConfigKeys" (include "weir.split" $allow | fromJsonArray) "denyConfigKeys" (include "weir.split" $deny | fromJsonArray) | toJson | quote }}
{{- end }}
# addresses and routes
enable-ipv4: {{ include "weir.bool" $v.ipv4.enabled }}
enable-ipv6: {{ include "weir.bool" $v.ipv6.enabled }}
ipam: {{ $v.ipam.mode | quote }}
{{- if eq (toString $v.ipam.mode) "cluster-pool" }}
{{- if include "weir.on" $v.ipv4.enabled }}
cluster-pool-ipv4-cidr: {{ include "weir.words" $v.ipam.operator.clusterPoolIPv4PodCIDRList | quote }}
cluster-pool-ipv4-mask-size: {{ include "weir.number" $v.ipam.operator.clusterPoolIPv4MaskSize | quote }}
{{- end }}
{{- if include "weir.on" $v.ipv6.enabled }}
cluster-pool-ipv6-cidr: {{ include "weir.words" $v.ipam.operator.clusterPoolIPv6PodCIDRList | quote }}
cluster-pool-ipv6-mask-size: {{ include "weir.number" $v.ipam.operator.clusterPoolIPv6MaskSize | quote }}
{{- end }}
{{- end }}
routing-mode: {{ $v.routingMode | default "tunnel" | quote }}
tunnel-protocol: {{ $v.tunnelProtocol | default "vxlan" | quote }}
tunnel-port: {{ include "weir.number" ($v.tunnelPort | default (ternary 8472 6081 $vxlan)) | quote }}
mtu: {{ include "weir.number" ($v.MTU | default 0) | quote }}
auto-direct-node-routes: {{ include "weir.bool" $v.autoDirectNodeRoutes }}
{{- with $v.ipv4NativeRoutingCIDR }}
ipv4-native-routing-cidr: {{ . | quote }}
{{- end }}
{{- with $v.ipv6NativeRoutingCIDR }}
ipv6-native-routing-cidr: {{ . | quote }}
{{- end }}
enable-ipv4-masquerade: {{ include "weir.bool" (and (include "weir.on" $v.ipv4.enabled) (include "weir.on" $v.enableIPv4Masquerade)) }}
enable-ipv6-masquerade: {{ include "weir.bool" (and (include "weir.on" $v.ipv6.enabled) (include "weir.on" $v.enableIPv6Masquerade)) }}
enable-bpf-masquerade: {{ include "weir.bool" $v.bpf.masquerade }}
enable-endpoint-routes: {{ include "weir.bool" $v.endpointRoutes.enabled }}
{{- with $v.devices }}
devices: {{ include "weir.words" . | quote }}
{{- end }}
enable-endpoint-health-checking: {{ include "weir.bool" $v.endpointHealthChecking.enabled }}
enable-health-checking: {{ include "weir.bool" $v.healthChecking }}
# services
kube-proxy-replacement: {{ include "weir.bool" $v.kubeProxyReplacement }}
{{- with $v.kubeProxyReplacementHealthzBindAddr }}
kube-proxy-replacement-healthz-bind-address: {{ . | quote }}
{{- end }}
bpf-lb-sock: {{ include "weir.bool" $v.socketLB.enabled }}
{{- if eq (include "weir.at" (list $v "socketLB" "hostNamespaceOnly")) "true" }}
bpf-lb-sock-hostns-only: "true"
{{- end }}
bpf-lb-algorithm: {{ $v.loadBalancer.algorithm | default "random" | quote }}
bpf-lb-mode: {{ $v.loadBalancer.mode | default "snat" | quote }}
bpf-lb-acceleration: {{ $v.loadBalancer.acceleration | default "disabled" | quote }}
{{- with (get $v.maglev "tableSize") }}
bpf-lb-maglev-table-size: {{ include "weir.number" . | quote }}
{{- end }}
{{- with (get $v.maglev "hashSeed") }}
bpf-lb-maglev-hash-seed: {{ . | quote }}
{{- end }}
{{- with $v.nodePort.range }}
node-port-range: {{ . | quote }}
{{- end }}
{{- if eq (include "weir.at" (list $v "nodePort" "enabled")) "true" }}
enable-node-port: "true"
{{- end }}
{{- if eq (include "weir.at" (list $v "nodePort" "enableHealthCheck")) "false" }}
enable-health-check-nodeport: "false"
{{- end }}
{{- if eq (include "weir.at" (list $v "loadBalancer" "serviceTopology")) "true" }}
enable-service-topology: "true"
{{- end }}
{{- if eq (include "weir.at" (list $v "hostPort" "enabled")) "true" }}
enable-host-port: "true"
{{- end }}
# policy
enable-policy: {{ $v.policyEnforcementMode | default "default" | lower | quote }}
policy-audit-mode: {{ include "weir.bool" $v.policyAuditMode }}
enable-l7-proxy: {{ include "weir.bool" $v.l7Proxy }}
identity-allocation-mode: {{ $v.identityAllocationMode | default "crd" | quote }}
enable-cilium-endpoint-slice: {{ include "weir.bool" $v.ciliumEndpointSlice.enabled }}
{{- with (get $v "labels") }}
labels: {{ include "weir.words" . | quote }}
{{- end }}
{{- with (get $v "policyCIDRMatchMode") }}
policy-cidr-match-mode: {{ include "weir.words" . | quote }}
{{- end }}
# the kernel
bpf-root: {{ $v.bpf.root | quote }}
cgroup-root: {{ $v.cgroup.hostRoot | quote }}
procfs: /host/proc
state-dir: {{ $v.daemon.runPath | quote }}
bpf-lb-map-max: {{ include "weir.number" $v.bpf.lbMapMax | quote }}
bpf-policy-map-max: {{ include "weir.number" $v.bpf.policyMapMax | quote }}
{{- with $v.bpf.ctTcpMax }}
bpf-ct-global-tcp-max: {{ include "weir.number" . | quote }}
{{- end }}
{{- with $v.bpf.ctAnyMax }}
bpf-ct-global-any-max: {{ include "weir.number" . | quote }}
{{- end }}
{{- with $v.bpf.natMax }}
bpf-nat-global-max: {{ include "weir.number" . | quote }}
{{- end }}
{{- with $v.bpf.neighMax }}
bpf-neigh-global-max: {{ include "weir.number" . | quote }}
{{- end }}
{{- with $v.bpf.mapDynamicSizeRatio }}
bpf-map-dynamic-size-ratio: {{ . | toString | quote }}
{{- end }}
preallocate-bpf-maps: {{ include "weir.bool" $v.bpf.preallocateMaps }}
monitor-aggregation: {{ $v.bpf.monitorAggregation | quote }}
monitor-aggregation-interval: {{ $v.bpf.monitorInterval | quote }}
monitor-aggregation-flags: {{ $v.bpf.monitorFlags | quote }}
enable-tcx: {{ include "weir.bool" $v.bpf.enableTCX }}
{{- if include "weir.on" $v.bpf.lbExternalClusterIP }}
bpf-lb-external-clusterip: "true"
{{- end }}
clean-cilium-state: {{ include "weir.bool" $v.cleanState }}
clean-cilium-bpf-state: {{ include "weir.bool" (or (include "weir.on" $v.cleanBpfState) (include "weir.on" $v.cleanState)) }}
# CNI
cni-exclusive: {{ include "weir.bool" $v.cni.exclusive }}
cni-uninstall: {{ include "weir.bool" $v.cni.uninstall }}
cni-log-file: {{ $v.cni.logFile | quote }}
cni-chaining-mode: {{ $v.cni.chainingMode | default (ternary "generic-veth" "none" (not (empty $v.cni.chainingTarget))) | quote }}
{{- with $v.cni.chainingTarget }}
cni-chaining-target: {{ . | quote }}
{{- end }}
custom-cni-conf: {{ include "weir.bool" $v.cni.customConf }}
{{- if $v.cni.configMap }}
read-cni-conf: {{ printf "%s/%s" $v.cni.confFileMountPath $v.cni.configMapKey | quote }}
{{- end }}
{{- if and (include "weir.on" $v.cni.install) (not (include "weir.on" $v.cni.customConf)) }}
write-cni-conf-when-ready: {{ printf "%s/05-cilium.conflist" $v.cni.hostConfDirMountPath | quote }}
{{- end }}
# agent and operator
agent-health-port: {{ include "weir.number" $v.healthPort | quote }}
agent-not-ready-taint-key: {{ $v.agentNotReadyTaintKey | quote }}
annotate-k8s-node: {{ include "weir.bool" $v.annotateK8sNode }}
k8s-require-ipv4-pod-cidr: {{ include "weir.bool" $v.k8s.requireIPv4PodCIDR }}
k8s-require-ipv6-pod-cidr: {{ include "weir.bool" $v.k8s.requireIPv6PodCIDR }}
{{- with $v.k8sClientRateLimit.qps }}
k8s-client-qps: {{ . | toString | quote }}
{{- end }}
{{- with $v.k8sClientRateLimit.burst }}
k8s-client-burst: {{ include "weir.number" . | quote }}
{{- end }}
{{- with $v.k8sClientRateLimit.operator.qps }}
operator-k8s-client-qps: {{ . | toString | quote }}
{{- end }}
{{- with $v.k8sClientRateLimit.operator.burst }}
operator-k8s-client-burst: {{ include "weir.number" . | quote }}
{{- end }}
identity-gc-interval: {{ $v.operator.identityGCInterval | quote }}
identity-heartbeat-timeout: {{ $v.operator.identityHeartbeatTimeout | quote }}
cilium-endpoint-gc-interval: {{ $v.operator.endpointGCInterval | quote }}
nodes-gc-interval: {{ $v.operator.nodeGCInterval | quote }}
skip-crd-creation: {{ include "weir.bool" $v.operator.skipCRDCreation }}
remove-cilium-node-taints: {{ include "weir.bool" $v.operator.removeNodeTaints }}
set-cilium-node-taints: {{ include "weir.bool" (ternary $v.operator.removeNodeTaints $v.operator.setNodeTaints (kindIs "invalid" $v.operator.setNodeTaints)) }}
set-cilium-is-up-condition: {{ include "weir.bool" $v.operator.setNodeNetworkStatus }}
unmanaged-pod-watcher-interval: {{ ternary (printf "%ss" (include "weir.number" $v.operator.unmanagedPodWatcher.intervalSeconds)) "0s" (eq (include "weir.bool" $v.operator.unmanagedPodWatcher.restart) "true") | quote }}
{{- with $v.operator.unmanagedPodWatcher.selector }}
pod-restart-selector: {{ . | quote }}
{{- end }}
# observability
enable-hubble: {{ include "weir.bool" $v.hubble.enabled }}
{{- if include "weir.on" $v.hubble.enabled }}
hubble-event-buffer-capacity: {{ include "weir.number" $v.hubble.eventBufferCapacity | quote }}
hubble-listen-address: {{ $v.hubble.listenAddress | quote }}
hubble-disable-tls: {{ include "weir.bool" (not (include "weir.on" $v.hubble.tls.enabled)) }}
{{- with $v.hubble.metrics.enabled }}
hubble-metrics: {{ include "weir.words" . | quote }}
hubble-metrics-server: {{ printf ":%s" (include "weir.number" $v.hubble.metrics.port) | quote }}
{{- end }}
{{- end }}
{{- if include "weir.on" $v.prometheus.enabled }}
prometheus-serve-addr: {{ printf ":%s" (include "weir.number" $v.prometheus.port) | quote }}
{{- end }}
{{- if include "weir.on" $v.operator.prometheus.enabled }}
enable-metrics: "true"
operator-prometheus-serve-addr: {{ printf ":%s" (include "weir.number" $v.operator.prometheus.port) | quote }}
{{- else }}
enable-metrics: "false"
{{- end }}
{{- include "weir.featureConfig" . }}
{{- end -}}

{{/* Keys of the features that have no effect yet. */}}
{{- define "weir.featureConfig" -}}
{{- $v := .Values -}}
{{- if include "weir.on" $v.encryption.enabled }}
{{- if eq (toString $v.encryption.type) "wireguard" }}
enable-wireguard: "true"
wireguard-persistent-keepalive: {{ $v.encryption.wireguard.persistentKeepalive | quote }}
{{- else if eq (toString $v.encryption.type) "ztunnel" }}
enable-ztunnel: "true"
{{- else }}
enable-ipsec: "true"
{{- end }}
encrypt-node: {{ include "weir.bool" $v.encryption.nodeEncryption }}
{{- end }}
{{- if include "weir.on" $v.bandwidthManager.enabled }}
enable-bandwidth-manager: "true"
enable-bbr: {{ include "weir.bool" $v.bandwidthManager.bbr }}
enable-bbr-hostns-only: {{ include "weir.bool" $v.bandwidthManager.bbrHostNamespaceOnly }}
{{- end }}
{{- if include "weir.on" $v.ingressController.enabled }}
enable-ingress-controller: "true"
ingress-default-lb-mode: {{ $v.ingressController.loadbalancerMode | quote }}
{{- end }}
{{- if include "weir.on" $v.gatewayAPI.enabled }}
enable-gateway-api: "true"
{{- end }}
{{- if or (include "weir.on" $v.envoyConfig.enabled) (include "weir.on" $v.ingressController.enabled) (include "weir.on" $v.gatewayAPI.enabled) }}
enable-envoy-config: "true"
{{- end }}
{{- if include "weir.on" $v.bgpControlPlane.enabled }}
enable-bgp-control-plane: "true"
{{- end }}
{{- if include "weir.on" $v.l2announcements.enabled }}
enable-l2-announcements: "true"
{{- end }}
{{- if include "weir.on" $v.egressGateway.enabled }}
enable-egress-gateway: "true"
{{- end }}
{{- if include "weir.on" $v.hostFirewall.enabled }}
enable-host-firewall: "true"
{{- end }}
{{- if or (include "weir.on" $v.localRedirectPolicies.enabled) (eq (include "weir.at" (list $v "localRedirectPolicy")) "true") }}
enable-local-redirect-policy: "true"
{{- end }}
{{- if include "weir.on" $v.sctp.enabled }}
enable-sctp: "true"
{{- end }}
{{- if include "weir.on" $v.nodeIPAM.enabled }}
enable-node-ipam: "true"
{{- end }}
{{- if include "weir.on" $v.authentication.mutual.spire.enabled }}
mesh-auth-enabled: "true"
mesh-auth-mutual-enabled: "true"
{{- end }}
{{- if include "weir.on" $v.enableIPv4BIGTCP }}
enable-ipv4-big-tcp: "true"
{{- end }}
{{- if include "weir.on" $v.enableIPv6BIGTCP }}
enable-ipv6-big-tcp: "true"
{{- end }}
{{- end -}}

{{/* A list, or a text, as words separated by blanks. */}}
{{- define "weir.words" -}}
{{- if kindIs "slice" . -}}{{- join " " . -}}{{- else -}}{{- . -}}{{- end -}}
{{- end -}}

{{/* Words separated by commas, as a JSON list. */}}
{{- define "weir.split" -}}
{{- $words := list -}}
{{- range splitList "," (. | default "") -}}{{- with trim . -}}{{- $words = append $words . -}}{{- end -}}{{- end -}}
{{- toJson $words -}}
{{- end -}}
