{{/*
Every template begins with "weir.fill". It puts the chart's own defaults wherever a value is missing, so that
"helm upgrade --reuse-values", which brings the values of an older chart and not the defaults of this one, finds what it needs. It also refuses what cannot work.
defaults.yaml is values.yaml without comments; a test compares them.
*/}}
{{- define "weir.fill" -}}
{{- include "weir.merge" (list .Values (.Files.Get "defaults.yaml" | fromYaml)) -}}
{{- include "weir.validate" . -}}
{{- end -}}

{{/* Puts what is missing in the first map from the second. A null counts as missing. */}}
{{- define "weir.merge" -}}
{{- $have := index . 0 -}}
{{- range $key, $default := index . 1 -}}
{{- $value := get $have $key -}}
{{- if or (not (hasKey $have $key)) (kindIs "invalid" $value) -}}
{{- $_ := set $have $key $default -}}
{{- else if and (kindIs "map" $default) (kindIs "map" $value) -}}
{{- include "weir.merge" (list $value $default) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* "true" if a value, given as a boolean or as text, is true; else nothing. */}}
{{- define "weir.on" -}}
{{- if eq (toString .) "true" -}}true{{- end -}}
{{- end -}}

{{/* The value as "true" or "false". */}}
{{- define "weir.bool" -}}
{{- if eq (toString .) "true" -}}true{{- else -}}false{{- end -}}
{{- end -}}

{{/* A value at a path, or nothing: (list .Values "hubble" "relay" "enabled"). */}}
{{- define "weir.at" -}}
{{- $at := index . 0 -}}
{{- range rest . -}}
{{- if kindIs "map" $at -}}{{- $at = get $at . -}}{{- else -}}{{- $at = "" -}}{{- end -}}
{{- end -}}
{{- if not (kindIs "invalid" $at) -}}{{- $at -}}{{- end -}}
{{- end -}}

{{/* A number as text: YAML and --set give floats for large ones, which would be written as 1e+06. */}}
{{- define "weir.number" -}}
{{- if kindIs "float64" . -}}{{- . | int64 -}}{{- else -}}{{- . -}}{{- end -}}
{{- end -}}

{{- define "weir.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace -}}
{{- end -}}

{{/* Labels of every object; the second argument is a dict of more of them. */}}
{{- define "weir.labels" -}}
{{- $root := index . 0 -}}
{{- $chart := printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" -}}
{{- include "weir.podLabels" (list $root (merge (dict "app.kubernetes.io/managed-by" $root.Release.Service "helm.sh/chart" $chart) (index . 1))) -}}
{{- end -}}

{{/* The same without what changes with every version of the chart, so that pods need not restart for it. */}}
{{- define "weir.podLabels" -}}
{{- $all := dict "app.kubernetes.io/part-of" "cilium" -}}
{{- range $labels := list ((index . 0).Values.commonLabels | default dict) (index . 1) -}}
{{- range $k, $v := $labels -}}{{- $_ := set $all $k (toString $v) -}}{{- end -}}
{{- end -}}
{{- toYaml $all -}}
{{- end -}}

{{/* Reference of an image: (list $image $fallbackRepository $fallbackTag). */}}
{{- define "weir.image" -}}
{{- $image := index . 0 -}}
{{- if $image.override -}}
{{- $image.override -}}
{{- else -}}
{{- $image.repository | default (index . 1) -}}{{- $image.suffix | default "" -}}:{{- $image.tag | default (index . 2) -}}
{{- $digest := $image.digest | default $image.genericDigest -}}
{{- if and (include "weir.on" $image.useDigest) $digest -}}@{{- $digest -}}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "weir.agentImage" -}}
{{- include "weir.image" (list .Values.image "docker.io/weirnet/weir" .Chart.AppVersion) | quote -}}
{{- end -}}

{{- define "weir.operatorImage" -}}
{{- $image := .Values.operator.image -}}
{{- if or $image.override $image.repository -}}
{{- include "weir.image" (list $image "" (.Values.image.tag | default .Chart.AppVersion)) | quote -}}
{{- else -}}
{{- include "weir.image" (list (merge (dict "tag" ($image.tag | default .Values.image.tag)) .Values.image) "docker.io/weirnet/weir" .Chart.AppVersion) | quote -}}
{{- end -}}
{{- end -}}

{{/* Address and port of the API server, as environment variables that every client of it reads. */}}
{{- define "weir.apiServerEnv" -}}
{{- $host := toString .Values.k8sServiceHost -}}
{{- $ref := .Values.k8sServiceHostRef -}}
{{- if eq $host "auto" }}
- name: KUBERNETES_SERVICE_HOST
  value: {{ include "weir.lookupServer" . | urlParse | dig "hostname" "" | trimAll "[]" | quote }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ (include "weir.lookupServer" . | urlParse).host | regexFind "[0-9]+$" | default "443" | quote }}
{{- else if $ref.name }}
- name: KUBERNETES_SERVICE_HOST
  valueFrom:
    configMapKeyRef:
      name: {{ $ref.name | quote }}
      key: {{ $ref.key | quote }}
{{- else if $host }}
- name: KUBERNETES_SERVICE_HOST
  value: {{ $host | quote }}
{{- end }}
{{- if and (ne $host "auto") .Values.k8sServicePort }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ include "weir.number" .Values.k8sServicePort | quote }}
{{- end }}
{{- end -}}

{{/* URL of the API server in the ConfigMap cluster-info. Without a cluster ("helm template") there is none, which is an error. */}}
{{- define "weir.lookupServer" -}}
{{- $name := .Values.k8sServiceLookupConfigMapName | default "cluster-info" -}}
{{- $namespace := .Values.k8sServiceLookupNamespace | default "kube-public" -}}
{{- $info := lookup "v1" "ConfigMap" $namespace $name -}}
{{- if not $info -}}
{{- fail (printf "k8sServiceHost=auto: there is no ConfigMap %s in namespace %s (or no cluster to look in); give the API server's address and port as k8sServiceHost and k8sServicePort" $name $namespace) -}}
{{- end -}}
{{- $kubeconfig := get $info.data "kubeconfig" | default "" | fromYaml -}}
{{- (first $kubeconfig.clusters).cluster.server -}}
{{- end -}}

{{/* Security context of an agent container: (list $ $capabilities). */}}
{{- define "weir.securityContext" -}}
{{- $s := (index . 0).Values.securityContext -}}
{{- if include "weir.on" $s.privileged -}}
privileged: true
{{- else -}}
{{- with $s.seLinuxOptions -}}
seLinuxOptions:
  {{- toYaml . | nindent 2 }}
{{ end -}}
capabilities:
  add:
    {{- toYaml (index . 1) | nindent 4 }}
  drop:
    - ALL
{{- end -}}
{{- end -}}
