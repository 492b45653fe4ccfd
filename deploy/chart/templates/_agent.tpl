{{/* What the init containers share: (list $ $capabilities $resources). */}}
{{- define "weir.initContainer" -}}
{{- $root := index . 0 -}}
image: {{ include "weir.agentImage" $root }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
{{- with index . 2 }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsUser: 0
  {{- include "weir.securityContext" (list $root (index . 1)) | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
{{- end -}}

{{/* Where the agent finds the node's directories. */}}
{{- define "weir.agentMounts" -}}
{{- $v := .Values -}}
- name: bpf-maps
  mountPath: {{ $v.bpf.root }}
  mountPropagation: HostToContainer
- name: cilium-run
  mountPath: {{ $v.daemon.runPath }}
- name: cilium-cgroup
  mountPath: {{ $v.cgroup.hostRoot }}
  mountPropagation: HostToContainer
- name: host-proc-sys-net
  mountPath: /host/proc/sys/net
{{- if include "weir.on" $v.cni.install }}
- name: cni-path
  mountPath: /host/opt/cni/bin
- name: etc-cni-netd
  mountPath: {{ $v.cni.hostConfDirMountPath }}
{{- end }}
- name: cilium-config-path
  mountPath: /tmp/cilium/config-map
  readOnly: true
{{- if $v.cni.configMap }}
- name: cni-configuration
  mountPath: {{ $v.cni.confFileMountPath }}
  readOnly: true
{{- end }}
{{- range $v.extraHostPathMounts }}
- name: {{ .name }}
  mountPath: {{ .mountPath }}
  {{- if hasKey . "readOnly" }}
  readOnly: {{ include "weir.bool" .readOnly }}
  {{- end }}
  {{- with .mountPropagation }}
  mountPropagation: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* The agent's health check: (list $ $require), where $require says whether the API server counts; "" leaves it to the agent. */}}
{{- define "weir.probe" -}}
{{- $v := (index . 0).Values -}}
{{- $require := index . 1 -}}
host: {{ ternary "127.0.0.1" "::1" (eq (include "weir.bool" $v.ipv4.enabled) "true") | quote }}
path: /healthz
port: {{ include "weir.number" $v.healthPort }}
scheme: HTTP
httpHeaders:
  - name: brief
    value: "true"
  {{- if ne (toString $require) "" }}
  - name: require-k8s-connectivity
    value: {{ include "weir.bool" $require | quote }}
  {{- end }}
{{- end -}}

{{/* Which node and namespace this is, and where the API server. */}}
{{- define "weir.agentEnv" -}}
- name: K8S_NODE_NAME
  valueFrom:
    fieldRef:
      apiVersion: v1
      fieldPath: spec.nodeName
- name: CILIUM_K8S_NAMESPACE
  valueFrom:
    fieldRef:
      apiVersion: v1
      fieldPath: metadata.namespace
{{- with include "weir.apiServerEnv" . | trim }}
{{ . }}
{{- end }}
{{- end -}}

{{/* Where the node keeps the CiliumNodeConfigs that select it, so that an agent starts while the API server is away. */}}
{{- define "weir.nodeConfigFlag" -}}
--node-config={{ .Values.daemon.runPath }}/node-config.json
{{- end -}}
