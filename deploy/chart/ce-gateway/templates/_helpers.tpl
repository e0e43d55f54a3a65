{{/* The name of everything. */}}
{{- define "ce-gateway.name" -}}
{{- .Values.nameOverride | default .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "ce-gateway.selector" -}}
app.kubernetes.io/name: ce-gateway
app.kubernetes.io/instance: {{ include "ce-gateway.name" . }}
{{- end -}}

{{- define "ce-gateway.labels" -}}
{{ include "ce-gateway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "ce-gateway.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "ce-gateway.statePath" -}}/var/lib/ce-gateway{{- end -}}

{{/* The gateway's configuration: what was given, or the default, with what the chart sets. */}}
{{- define "ce-gateway.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- if not $config -}}
  {{- $config = .Files.Get "files/default.yaml" | fromYaml -}}
  {{- $sink := dict "protocol" "log" -}}
  {{- if .Values.sinkBinding.enabled -}}
    {{- $sink = dict "protocol" "http" "url" "${K_SINK}" -}}
  {{- end -}}
  {{- $_ := set $config "sinks" (dict "out" $sink) -}}
  {{- $_ := set $config "routes" (list (dict "to" (list "out"))) -}}
{{- end -}}
{{- $admin := $config.admin | default dict -}}
{{- $_ := set $config "admin" (set $admin "listen" (printf "0.0.0.0:%v" .Values.admin.port)) -}}
{{- $state := $config.state | default dict -}}
{{- $_ := set $config "state" (set $state "path" (include "ce-gateway.statePath" .)) -}}
{{- if eq .Values.kind "Deployment" -}}
  {{- /* What a pod without a volume has on its disk is lost with it: senders are told instead. */ -}}
  {{- $delivery := $config.delivery | default dict -}}
  {{- range $_, $key := list "spool" "dead_letters" -}}
    {{- range prepend ($config.routes | default list) dict -}}
      {{- $of := .delivery | default $delivery -}}
      {{- if has (get $of $key) (list "auto" "local") -}}
        {{- fail (printf "delivery.%s: %s needs a volume: set kind to StatefulSet" $key (get $of $key)) -}}
      {{- end -}}
    {{- end -}}
    {{- $_ := set $delivery $key "off" -}}
  {{- end -}}
  {{- range prepend ($config.routes | default list) dict -}}
    {{- if eq (.delivery | default $delivery).ack "stored" -}}
      {{- fail "delivery.ack: stored needs a volume: set kind to StatefulSet" -}}
    {{- end -}}
  {{- end -}}
  {{- $_ := set $config "delivery" $delivery -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* The listeners of the configuration: [{name, port, protocol, appProtocol}]. */}}
{{- define "ce-gateway.ports" -}}
{{- $config := include "ce-gateway.config" . | fromYaml -}}
{{- $listeners := list -}}
{{- range $name, $source := $config.sources -}}
  {{- $tls := not (empty $source.tls) -}}
  {{- $found := dict -}}
  {{- if eq $source.protocol "coap" -}}
    {{- $_ := set $found "coap" (list "UDP" (dig "listen" "0.0.0.0:5683" $source)) -}}
    {{- $_ := set $found "coaps" (list "UDP" $source.listen_dtls) -}}
    {{- $_ := set $found "coap-tcp" (list "TCP" $source.listen_tcp) -}}
    {{- $_ := set $found "coaps-tcp" (list "TCP" $source.listen_tls) -}}
    {{- $_ := set $found "coap-ws" (list "TCP" $source.listen_ws) -}}
    {{- $_ := set $found "coaps-ws" (list "TCP" $source.listen_wss) -}}
  {{- else if eq $source.protocol "http" -}}
    {{- $_ := set $found (ternary "https" "http" $tls) (list "TCP" (dig "listen" "0.0.0.0:8080" $source)) -}}
  {{- else if eq $source.protocol "mqtt-endpoint" -}}
    {{- $_ := set $found (ternary "mqtts" "mqtt" $tls) (list "TCP" (dig "listen" "127.0.0.1:1883" $source)) -}}
  {{- end -}}
  {{- range $kind, $at := $found -}}
    {{- if index $at 1 -}}
      {{- $listeners = append $listeners (dict "kind" $kind "protocol" (index $at 0) "listen" (index $at 1) "key" (printf "sources.%s" $name)) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- range $name, $sink := $config.sinks -}}
  {{- $callback := ($sink.webhook | default dict).callback | default dict -}}
  {{- with $callback.listen -}}
    {{- $listeners = append $listeners (dict "kind" "webhook" "protocol" "TCP" "listen" . "key" (printf "sinks.%s.webhook.callback" $name)) -}}
  {{- end -}}
{{- end -}}
{{- $ports := list -}}
{{- range $listeners -}}
  {{- if regexMatch "^(127[.]|localhost|\\[::1\\])" .listen -}}
    {{- fail (printf "%s: nobody reaches %s from outside of the pod; let it listen on 0.0.0.0" .key .listen) -}}
  {{- end -}}
  {{- $port := regexFind "[0-9]+$" .listen -}}
  {{- if not $port -}}
    {{- fail (printf "%s: %s has no port" .key .listen) -}}
  {{- end -}}
  {{- $one := dict "name" (printf "%s-%s" .kind $port) "port" (int $port) "protocol" .protocol -}}
  {{- if eq .protocol "TCP" -}}
    {{- /* Meshes would sniff otherwise. */ -}}
    {{- $known := dict "http" "http" "https" "https" "coap-ws" "kubernetes.io/ws" "coaps-ws" "kubernetes.io/wss" "coaps-tcp" "tls" "mqtts" "tls" -}}
    {{- $_ := set $one "appProtocol" (get $known .kind | default "tcp") -}}
  {{- end -}}
  {{- $ports = append $ports $one -}}
{{- end -}}
{{- toJson (dict "ports" $ports) -}}
{{- end -}}

{{/* Refuse what loses messages: sessions of pods that never come back, and what several pods would take
from each other, or would each take whole. */}}
{{- define "ce-gateway.checkSources" -}}
{{- range $name, $source := .Values.config.sources -}}
  {{- $named := contains "${POD_NAME}" ($source.client_id | default "") -}}
  {{- if and (eq $source.protocol "mqtt") (eq $.Values.kind "Deployment") $named (not $source.clean) -}}
    {{- fail (printf "sources.%s.client_id: no pod comes back under its name, and its session keeps messages; set kind to StatefulSet" $name) -}}
  {{- end -}}
{{- end -}}
{{- if or (gt (int .Values.replicas) 1) .Values.autoscaling.enabled .Values.keda.enabled -}}
  {{- range $name, $source := .Values.config.sources -}}
    {{- $wrong := "" -}}
    {{- if eq $source.protocol "mqtt" -}}
      {{- $topics := list -}}
      {{- range $source.subscribe }}{{ $topics = append $topics .topic }}{{ end -}}
      {{- if and $source.client_id (not (contains "${" $source.client_id)) -}}
        {{- $wrong = "client_id: each pod needs its own, such as ${POD_NAME}" -}}
      {{- else if and (not $source.share) (not (hasPrefix "$share/" (first $topics))) -}}
        {{- $wrong = "share: without it each pod takes every message" -}}
      {{- end -}}
    {{- else if and (eq $source.protocol "nats") $source.stream (not $source.shared) -}}
      {{- $wrong = "shared: without it a pod that starts takes what others have under way" -}}
    {{- else if and (eq $source.protocol "nats") (not $source.stream) (not $source.queue) -}}
      {{- $wrong = "queue: without it each pod takes every message" -}}
    {{- else if and (eq $source.protocol "coap") $source.oscore -}}
      {{- $wrong = "oscore: its contexts belong to one pod" -}}
    {{- end -}}
    {{- if $wrong -}}
      {{- fail (printf "sources.%s.%s; or set replicas to 1" $name $wrong) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{/* A duration of the configuration in whole seconds. */}}
{{- define "ce-gateway.seconds" -}}
{{- if kindIs "string" . -}}
  {{- $form := "^PT(?:([0-9]+)M)?(?:([0-9]+)(?:[.][0-9]+)?S)?$" -}}
  {{- if not (regexMatch $form .) -}}
    {{- fail (printf "drain.grace: %s: write it as PT1M30S, or set terminationGracePeriodSeconds" .) -}}
  {{- end -}}
  {{- add (mul 60 (regexReplaceAll $form . "${1}" | int)) (regexReplaceAll $form . "${2}" | int) (ternary 1 0 (contains "." .)) -}}
{{- else -}}
  {{- ceil . | int -}}
{{- end -}}
{{- end -}}

{{- define "ce-gateway.grace" -}}
{{- if .Values.terminationGracePeriodSeconds -}}
{{- .Values.terminationGracePeriodSeconds -}}
{{- else -}}
{{- $drain := include "ce-gateway.seconds" ((.Values.config.drain | default dict).grace | default "PT20S") | int -}}
{{- add .Values.preStopSeconds $drain 15 -}}
{{- end -}}
{{- end -}}
