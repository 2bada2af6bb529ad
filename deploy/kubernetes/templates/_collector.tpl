{{/* The files below otel/ that a Collector merges, in their order. */}}
{{- define "modeltrace.agentConfigs" -}}
{{- $configs := list "collector.yaml" (ternary "tiers/agent-kafka.yaml" "tiers/agent.yaml" .Values.kafka.enabled) -}}
{{- if .Values.agent.kubernetesAttributes -}}
{{- $configs = append $configs "kubernetes.yaml" -}}
{{- end -}}
{{- toJson $configs -}}
{{- end -}}

{{- define "modeltrace.gatewayConfigs" -}}
{{- $configs := list "collector.yaml" "tiers/gateway.yaml" -}}
{{- if .Values.kafka.enabled -}}
{{- $configs = append $configs "tiers/gateway-kafka.yaml" -}}
{{- end -}}
{{- if .Values.kafka.autoscaling.enabled -}}
{{- $configs = append $configs "tiers/gateway-kafka-elastic.yaml" -}}
{{- end -}}
{{- toJson (concat $configs .Values.gateway.configs) -}}
{{- end -}}

{{/* The data of a Collector's ConfigMap. Argument: [root, files, extra configuration]. */}}
{{- define "modeltrace.configData" -}}
{{- $root := index . 0 -}}
{{- range index . 1 }}
{{ . | replace "/" "." }}: |
  {{- $root.Files.Get (printf "files/otel/%s" .) | nindent 2 }}
{{- end }}
{{- with index . 2 }}
extra.yaml: |
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The pod's volume with these files, at their paths. Argument: [name of the ConfigMap, files, extra configuration]. */}}
{{- define "modeltrace.configVolume" -}}
name: config
configMap:
  name: {{ index . 0 }}
  items:
    {{- range index . 1 }}
    - {key: {{ . | replace "/" "." }}, path: {{ . }}}
    {{- end }}
    {{- if index . 2 }}
    - {key: extra.yaml, path: extra.yaml}
    {{- end }}
{{- end -}}

{{/*
The container of a Collector. Argument: a dictionary with root, part (its values), configs, env (of its tier), secretEnv.
The variables of `part.env` come last, so they replace the others.
*/}}
{{- define "modeltrace.collectorContainer" -}}
{{- $part := .part -}}
name: otelcol
{{ include "modeltrace.image" (list .root .root.Values.collector.image) }}
args:
  {{- range .configs }}
  - --config=/etc/otelcol/{{ . }}
  {{- end }}
  {{- if $part.extraConfig }}
  - --config=/etc/otelcol/extra.yaml
  {{- end }}
env:
  - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
  - {name: KUBE_NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
  {{- $own := dict
    "OTELCOL_HOST" "0.0.0.0"
    "OTELCOL_DATA" "/var/lib/otelcol"
    "OTELCOL_QUEUE_ITEMS" (int64 $part.queue.items)
    "GOMEMLIMIT" (include "modeltrace.gomemlimit" $part.resources.limits.memory) }}
  {{- include "modeltrace.env" (merge (dict) $part.env .env $own) | trim | nindent 2 }}
  {{- with .secretEnv }}{{ trim . | nindent 2 }}{{ end }}
{{- with $part.envFrom }}
envFrom: {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  - {name: otlp-grpc, containerPort: 4317}
  - {name: otlp-http, containerPort: 4318}
  - {name: metrics, containerPort: 8888}
  - {name: health, containerPort: 13133}
startupProbe: {httpGet: {path: /, port: health}, periodSeconds: 2, failureThreshold: 60}
readinessProbe: {httpGet: {path: /, port: health}, periodSeconds: 5, timeoutSeconds: 5}
livenessProbe: {httpGet: {path: /, port: health}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6}
lifecycle: {preStop: {sleep: {seconds: 5}}}  # the Service stops sending first
resources: {{- toYaml $part.resources | nindent 2 }}
securityContext: {{- include "modeltrace.securityContext" .root | nindent 2 }}
volumeMounts:
  - {name: config, mountPath: /etc/otelcol, readOnly: true}
  - {name: queue, mountPath: /var/lib/otelcol}
{{- end -}}
