{{/* How everything of a release is named: short enough for what Kubernetes appends. */}}
{{- define "tidemark.name" -}}
{{- $name := .Release.Name -}}
{{- if not (contains "tidemark" $name) }}{{ $name = printf "%s-tidemark" $name }}{{ end -}}
{{- $name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* What selects the pods of a component, or of the release where none is given: dict root, component. */}}
{{- define "tidemark.selector" -}}
app.kubernetes.io/name: tidemark
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{- define "tidemark.labels" -}}
{{ include "tidemark.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{/* Name and labels of an object: dict root, component. */}}
{{- define "tidemark.metadata" -}}
name: {{ include "tidemark.name" .root }}{{ with .component }}-{{ . }}{{ end }}
namespace: {{ .root.Release.Namespace }}
labels: {{- include "tidemark.labels" . | nindent 2 }}
{{- end }}

{{/*
A pod and its labels: dict
  root, component
  secret       the Secret that is in /etc/tidemark/secret
  env          settings of this component, which win over those of the values
  containers   list of dict name, args; of a server also port, path (a page that needs no database) and ready (one that does)
  claim        the volume of the change log, where it is mounted and is not the StatefulSet's own; hasLog where it is mounted
  near         the component whose node it must run on
  restart      its restartPolicy
*/}}
{{- define "tidemark.pod" -}}
{{- $values := .root.Values -}}
{{- $env := merge (dict) (default dict .env) $values.settings -}}
{{- $seconds := int (dig "SHUTDOWN_TIMEOUT_SECONDS" 30 $values.settings) -}}
metadata:
  labels: {{- include "tidemark.labels" . | nindent 4 }}
spec:
  restartPolicy: {{ default "Always" .restart }}
  automountServiceAccountToken: false
  # Else a Service that is named "db" or "metrics" would set DB_PORT or METRICS_PORT.
  enableServiceLinks: false
  # A batch in hand is finished before a pod ends.
  terminationGracePeriodSeconds: {{ add $seconds 15 }}
  {{- with $values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 1000
    runAsGroup: 1000
    fsGroup: 1000
    # Else every start would open the files of the change log to a group.
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  {{- with .near }}
  affinity:
    podAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        - topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels: {{- include "tidemark.selector" (dict "root" $.root "component" .) | nindent 14 }}
  {{- end }}
  containers:
    {{- range .containers }}
    - name: {{ .name }}
      image: "{{ $values.image.repository }}:{{ default $.root.Chart.AppVersion $values.image.tag }}"
      imagePullPolicy: {{ $values.image.pullPolicy }}
      args: {{- toYaml .args | nindent 8 }}
      env:
        {{- range $name := keys $env | sortAlpha }}
        {{- $value := get $env $name }}
        - {name: {{ $name }}, value: {{ ternary $value (int64 $value) (kindIs "string" $value) | quote }}}
        {{- end }}
      {{- if .port }}
      ports:
        - {name: http, containerPort: {{ .port }}}
      livenessProbe:
        httpGet: {port: http, path: {{ .path }}}
        periodSeconds: 30
        timeoutSeconds: 5
      readinessProbe:
        httpGet: {port: http, path: {{ default .path .ready }}}
        periodSeconds: 15
        timeoutSeconds: 5
      {{- else if not $.restart }}
      livenessProbe:
        exec: {command: [node, deploy/docker/healthcheck.mjs]}
        initialDelaySeconds: 20
        periodSeconds: 60
        timeoutSeconds: 10
      {{- end }}
      resources: {{- toYaml $values.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        - {name: secret, mountPath: /etc/tidemark/secret, readOnly: true}
        {{- if eq $.component "migrate" }}
        - {name: dimensions, mountPath: /etc/tidemark/dimensions, readOnly: true}
        {{- end }}
        {{- if or $.hasLog $.claim }}
        - {name: change-log, mountPath: /var/lib/tidemark}
        {{- end }}
    {{- end }}
  volumes:
    - name: tmp
      emptyDir: {sizeLimit: 64Mi}
    - name: secret
      # 0440, which not every parser of YAML reads alike.
      secret: {secretName: {{ .secret }}, defaultMode: 288}
    {{- if eq .component "migrate" }}
    - name: dimensions
      configMap: {name: {{ $values.dimensionsConfigMap }}}
    {{- end }}
    {{- with .claim }}
    - name: change-log
      persistentVolumeClaim: {claimName: {{ . }}}
    {{- end }}
{{- end }}

{{/* Where passwords are, of all that reads and writes both databases. */}}
{{- define "tidemark.passwords" -}}
DB_PASSWORD_FILE: /etc/tidemark/secret/DB_PASSWORD
WAREHOUSE_DB_PASSWORD_FILE: /etc/tidemark/secret/WAREHOUSE_DB_PASSWORD
{{- end }}

{{/* Egress: names, the databases, and what the values add. */}}
{{- define "tidemark.egress" -}}
- ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
- ports:
    {{- range list .Values.settings.DB_PORT .Values.settings.WAREHOUSE_DB_PORT | uniq }}
    - {protocol: TCP, port: {{ int . }}}
    {{- end }}
  {{- with .Values.networkPolicy.databases }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- with .Values.networkPolicy.egress }}
{{ toYaml . }}
{{- end }}
{{- end }}
