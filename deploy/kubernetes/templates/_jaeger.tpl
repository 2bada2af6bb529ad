{{/* Variables of Jaeger and of the programs that manage its indices, from the Secret of OpenSearch. */}}
{{- define "modeltrace.jaegerSecretEnv" -}}
{{- $o := .root.Values.jaeger.openSearch -}}
{{- include "modeltrace.secretEnv" (list (printf "%s_USERNAME" .prefix) (dict "existingSecret" $o.existingSecret "key" $o.usernameKey)) }}
{{- include "modeltrace.secretEnv" (list (printf "%s_PASSWORD" .prefix) (dict "existingSecret" $o.existingSecret "key" $o.passwordKey)) }}
{{- end -}}

{{/*
The container of a Jaeger. Argument: a dictionary with root, part (its values), config (its file), env, ports (by name).
*/}}
{{- define "modeltrace.jaegerContainer" -}}
{{- $j := .root.Values.jaeger -}}
name: jaeger
{{ include "modeltrace.image" (list .root $j.image) }}
args:
  - --config=/etc/jaeger/storage.yaml
  - --config=/etc/jaeger/{{ .config }}
env:
  {{- $own := dict
    "JAEGER_HOST" "0.0.0.0"
    "OTEL_TRACES_SAMPLER" "always_off"
    "OPENSEARCH_URLS" (toJson $j.openSearch.urls)
    "OPENSEARCH_INDEX_PREFIX" $j.openSearch.indexPrefix
    "OPENSEARCH_MAX_AGE" (printf "%dh" (mul 24 (int $j.indices.days)))
    "GOMEMLIMIT" (include "modeltrace.gomemlimit" .part.resources.limits.memory) }}
  {{- include "modeltrace.env" (merge (dict) .part.env .env $own) | trim | nindent 2 }}
  {{- include "modeltrace.jaegerSecretEnv" (dict "root" .root "prefix" "OPENSEARCH") | trim | nindent 2 }}
ports:
  {{- range $name, $port := .ports }}
  - {name: {{ $name }}, containerPort: {{ $port }}}
  {{- end }}
  - {name: metrics, containerPort: 8889}
  - {name: health, containerPort: 13134}
startupProbe: {httpGet: {path: /status, port: health}, periodSeconds: 2, failureThreshold: 60}
readinessProbe: {httpGet: {path: /status, port: health}, periodSeconds: 5, timeoutSeconds: 5}
livenessProbe: {httpGet: {path: /status, port: health}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6}
lifecycle: {preStop: {sleep: {seconds: 5}}}  # the Service stops sending first
resources: {{- toYaml .part.resources | nindent 2 }}
securityContext: {{- include "modeltrace.securityContext" .root | nindent 2 }}
volumeMounts:
  - {name: config, mountPath: /etc/jaeger, readOnly: true}
{{- end -}}

{{/* A container that manages the indices. Argument: a dictionary with root, name, image, args. */}}
{{- define "modeltrace.jaegerTool" -}}
name: {{ .name }}
{{ include "modeltrace.image" (list .root .image) }}
args: {{- toYaml .args | nindent 2 }}
{{- if .root.Values.jaeger.openSearch.existingSecret }}
env: {{- include "modeltrace.jaegerSecretEnv" (dict "root" .root "prefix" "ES") | trim | nindent 2 }}
{{- end }}
resources: {{- toYaml .root.Values.jaeger.indices.resources | nindent 2 }}
securityContext: {{- include "modeltrace.securityContext" .root | nindent 2 }}
{{- end -}}

{{/* Arguments that all programs for indices have. */}}
{{- define "modeltrace.jaegerToolArguments" -}}
{{- $o := .Values.jaeger.openSearch -}}
{{- toJson (list (printf "--index-prefix=%s" $o.indexPrefix) (first $o.urls)) -}}
{{- end -}}

{{/* The files of Jaeger's ConfigMap. */}}
{{- define "modeltrace.jaegerConfigData" -}}
{{- $root := . -}}
{{- range $key, $file := dict "storage.yaml" "opensearch/storage.yaml" "collector.yaml" "opensearch/collector.yaml" "query.yaml" "opensearch/query.yaml" "sampling.json" "sampling.json" }}
{{ $key }}: |
  {{- $root.Files.Get (printf "files/jaeger/%s" $file) | nindent 2 }}
{{- end }}
{{- end -}}
