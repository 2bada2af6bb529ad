{{/* Name of the release's objects; the parts have the suffixes -agent and -gateway. */}}
{{- define "modeltrace.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels that never change: selectors and claim templates cannot be updated. Argument: [root, component]. */}}
{{- define "modeltrace.selectorLabels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ default $root.Chart.Name $root.Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Labels of an object. Argument: [root, component]. */}}
{{- define "modeltrace.labels" -}}
{{- $root := index . 0 -}}
{{ include "modeltrace.selectorLabels" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/part-of: modeltrace
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "modeltrace.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- $tag := default $root.Chart.AppVersion $image.tag -}}
image: {{ printf "%s%s%s" $image.repository (ternary "@" ":" (hasPrefix "sha256:" $tag)) $tag | quote }}
imagePullPolicy: {{ $image.pullPolicy }}
{{- end -}}

{{/*
The security context of a pod, as the level `restricted` of the pod security standards requires it. There is no fixed
user: the images have one, and OpenShift assigns its own. `fsGroup` makes claims writable; OpenShift assigns it, too.
*/}}
{{- define "modeltrace.podSecurityContext" -}}
runAsNonRoot: true
seccompProfile: {type: RuntimeDefault}
{{- if and .Values.fsGroup (not (.Capabilities.APIVersions.Has "security.openshift.io/v1")) }}
fsGroup: {{ .Values.fsGroup }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
{{- end -}}

{{- define "modeltrace.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* The fields of a pod that every component has. Argument: [root, values of the component]. */}}
{{- define "modeltrace.podFields" -}}
{{- $root := index . 0 -}}
{{- $part := index . 1 -}}
# A Service named modeltrace would set MODELTRACE_PORT in every pod of the namespace.
enableServiceLinks: false
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* Replicas on different zones and nodes, where that is possible. Argument: [root, component, label of a rollout]. */}}
{{- define "modeltrace.topologySpread" -}}
{{- $labels := include "modeltrace.selectorLabels" . -}}
{{- $rollout := index . 2 -}}
{{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
- maxSkew: 1
  topologyKey: {{ . }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- $labels | nindent 6 }}
  matchLabelKeys: [{{ $rollout }}]
{{- end }}
{{- end -}}

{{/* Environment variables of a map. Whole numbers are floats in YAML files, and large ones would get an exponent. */}}
{{- define "modeltrace.env" -}}
{{- range $name, $value := . }}
{{- if and (kindIs "float64" $value) (eq (floor $value) $value) }}
{{- $value = int64 $value }}
{{- end }}
- {name: {{ $name }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- end -}}

{{/* A variable from a Secret, if one is named. Argument: [variable, {existingSecret, key}]. */}}
{{- define "modeltrace.secretEnv" -}}
{{- $secret := index . 1 -}}
{{- if $secret.existingSecret }}
- name: {{ index . 0 }}
  valueFrom: {secretKeyRef: {name: {{ $secret.existingSecret }}, key: {{ $secret.key }}}}
{{- end }}
{{- end -}}

{{/* 80 % of a memory limit such as 512Mi or 1Gi, in MiB: the Go runtime collects garbage before the limit is reached. */}}
{{- define "modeltrace.gomemlimit" -}}
{{- $mebibytes := ternary (mul 1024 (trimSuffix "Gi" .)) (trimSuffix "Mi" . | int64) (hasSuffix "Gi" .) -}}
{{ div (mul $mebibytes 8) 10 }}MiB
{{- end -}}

{{- define "modeltrace.serviceScheme" -}}
{{- ternary "https" "http" (ne .Values.service.tls.existingSecret "") -}}
{{- end -}}

{{/* Address of the service in the cluster. */}}
{{- define "modeltrace.serviceUrl" -}}
{{- $host := printf "%s.%s.svc" (include "modeltrace.fullname" .) .Release.Namespace -}}
{{ include "modeltrace.serviceScheme" . }}://{{ $host }}:{{ .Values.service.port }}
{{- end -}}

{{/* Where the service sends telemetry. */}}
{{- define "modeltrace.otlpEndpoint" -}}
{{- $name := include "modeltrace.fullname" . -}}
{{- if .Values.service.otlp.endpoint -}}
{{- .Values.service.otlp.endpoint -}}
{{- else -}}
{{- $part := ternary "agent" "gateway" .Values.agent.enabled -}}
http://{{ $name }}-{{ $part }}.{{ .Release.Namespace }}.svc:{{ ternary 4317 4318 (eq .Values.service.otlp.protocol "grpc") }}
{{- end -}}
{{- end -}}
