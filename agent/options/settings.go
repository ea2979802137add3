package options

import (
	"strconv"
	"time"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Setting is one member of Options for its users: a flag, an environment
// variable and a line of the .env file, which win in this order.
type Setting struct {
	Group, Flag, Env, Usage string
	Bool                    bool
	Get                     func() string
	Set                     func(string) error
}

// Groups are the headings of Settings, in the order to show them.
func Groups() []string {
	return []string{"This agent", "Instance", "Listeners", "MQTT", "Observer", "Cluster", "Files", "Backup", "Recovery", "Keys", "Retention", "Logging"}
}

// Settings binds every member of o. It is the one list from which flags, help,
// environment lookup and documentation are made.
func Settings(o *Options) []Setting {
	text := func(group, flag, env, usage string, p *string) Setting {
		return Setting{Group: group, Flag: flag, Env: env, Usage: usage, Get: func() string { return *p }, Set: func(s string) error { *p = s; return nil }}
	}
	duration := func(group, flag, env, usage string, p *time.Duration) Setting {
		return Setting{Group: group, Flag: flag, Env: env, Usage: usage, Get: func() string { return p.String() }, Set: func(s string) (err error) {
			if s == "0" {
				s = "0s"
			}
			d, err := time.ParseDuration(s)
			if err == nil && d < 0 {
				err = strconv.ErrRange
			}
			if err == nil {
				*p = d
			}
			return err
		}}
	}
	return []Setting{
		text("This agent", "data-dir", "CONFIG_DATA_DIR", "directory of this agent's files", &o.DataDir),
		text("This agent", "service", "CONFIG_SERVICE_NAME", "service beside this agent, served at /v1/config; an observer takes several, comma separated", &o.ServiceName),
		text("This agent", "role", "CONFIG_ROLE", "member of the cluster, or observer: follows a broker and needs no cluster port", &o.Role),
		text("This agent", "node-id", "CONFIG_NODE_ID", "name of this member (default: made on first run and kept)", &o.NodeID),
		text("This agent", "env-allow", "CONFIG_ENV_ALLOW", "variables of the agent's environment that a schema may name although they look like the agent's or the host's, comma separated; SERVICE:NAME for one service only", &o.EnvAllow),
		text("This agent", "schema-dir", "CONFIG_SCHEMA_DIR", "directory of <service>.json schemas to load at start", &o.SchemaDir),
		text("Instance", "instance", "CONFIG_INSTANCE", "name of this instance of its service (default: the node id)", &o.Instance),
		{
			Group: "Instance", Flag: "labels", Env: "CONFIG_LABELS", Usage: "labels of this instance, such as zone=a,tier=canary",
			Get: func() string { return joinLabels(o.Labels) },
			Set: func(s string) (err error) {
				o.Labels, err = conf.ParseLabels(s)
				return err
			},
		},
		text("Instance", "health-url", "CONFIG_HEALTH_URL", "http or https URL that is asked every 5 s whether the service beside this agent is well: 2xx within 2 s", &o.HealthURL),
		text("Instance", "health-cmd", "CONFIG_HEALTH_CMD", "command that is run for the same, without a shell: exit code 0 within 2 s", &o.HealthCmd),
		{
			Group: "Instance", Flag: "ack-open", Env: "CONFIG_ACK_OPEN", Bool: true,
			Usage: "accept acknowledgements from every process of this host, without the local token (0 or 1)",
			Get:   func() string { return strconv.FormatBool(o.AckOpen) },
			Set: func(s string) (err error) {
				o.AckOpen, err = strconv.ParseBool(s)
				return err
			},
		},
		text("Listeners", "local-addr", "CONFIG_LOCAL_ADDR", "local HTTP for the service beside this agent; loopback; localhost is 127.0.0.1 and ::1", &o.LocalAddr),
		text("Listeners", "local-socket", "CONFIG_LOCAL_SOCKET", "unix socket of the same API (default: DATA-DIR/local.sock; none = off)", &o.LocalSocket),
		text("Listeners", "local-front", "CONFIG_LOCAL_FRONT", "on: plain reads of documents are answered without net/http, with the same bytes in half the processor time; off", &o.LocalFront),
		text("Listeners", "manager-host", "CONFIG_MANAGER_HOST", "address of the admin REST API; localhost is 127.0.0.1 and ::1", &o.ManagerHost),
		text("Listeners", "manager-port", "CONFIG_MANAGER_PORT", "port of the admin REST API", &o.ManagerPort),
		text("Listeners", "manager-tls-cert", "CONFIG_MANAGER_TLS_CERT", "PEM file with the certificate of the admin port and the web page, which then speak HTTPS only; read again when it changes", &o.ManagerCert),
		text("Listeners", "manager-tls-key", "CONFIG_MANAGER_TLS_KEY", "PEM file with its key", &o.ManagerKey),
		text("Listeners", "ui-addr", "CONFIG_UI_ADDR", "where the web page is, besides the admin port (default: 127.0.0.1:8080 on a server and in dev; off on a sidecar); an observer has none; none = off", &o.UIAddr),
		text("Listeners", "metrics-addr", "CONFIG_METRICS_ADDR", "address at which other hosts may read /metrics, such as 0.0.0.0:9270; it answers nothing else, and has no token (default: off)", &o.MetricsAddr),
		text("Listeners", "cluster-addr", "CONFIG_CLUSTER_ADDR", "address of the cluster port, which is mTLS only", &o.ClusterAddr),
		text("MQTT", "mqtt-addr", "CONFIG_MQTT_ADDR", "address of the embedded MQTT broker; none = off", &o.MQTTAddr),
		text("MQTT", "mqtt-local-addr", "CONFIG_MQTT_LOCAL_ADDR", "a second address of the embedded MQTT broker, for services on this machine when the first one is for others; none = off", &o.MQTTLocalAddr),
		text("MQTT", "mqtt-user", "CONFIG_MQTT_USER", "user that clients of the embedded broker must name", &o.MQTTUser),
		text("MQTT", "mqtt-password", "CONFIG_MQTT_PASSWORD", "and their password; better in the .env file than as a flag", &o.MQTTPassword),
		text("MQTT", "mqtt-tls-cert", "CONFIG_MQTT_TLS_CERT", "PEM file with the certificate of the embedded broker, which then speaks TLS only; read again when it changes", &o.MQTTCert),
		text("MQTT", "mqtt-tls-key", "CONFIG_MQTT_TLS_KEY", "PEM file with its key", &o.MQTTKey),
		text("MQTT", "mqtt-url", "MQTT_URL", "outside broker that the leader keeps up to date: mqtt://user:password@host:1883 or mqtts://", &o.MQTTURL),
		duration("MQTT", "mqtt-reissue", "CONFIG_MQTT_REISSUE", "the leader reissues each signature that is this old, so that the age of a message shows how fresh it is; 0 = never", &o.MQTTReissue),
		text("MQTT", "mqtt-ca", "MQTT_CA_FILE", "file with the CA certificates that vouch for a mqtts:// broker (default: those of the system)", &o.MQTTCA),
		text("Observer", "mqtt", "CONFIG_OBSERVE_URL", "broker to follow, the embedded one of an agent or an outside one (default: MQTT_URL)", &o.Observe),
		text("Observer", "trust", "CONFIG_TRUST", "public key of the cluster: PEM, base64, or a file with keys; several comma separated, while keys are rotated (default: CONFIG_SIGNATURE_PUBLIC_KEY)", &o.Trust),
		text("Observer", "member", "CONFIG_MEMBER_URL", "admin API of a member, or several comma separated, to ask when the broker has nothing; with the token in CONFIG_API_TOKEN", &o.MemberURL),
		text("Observer", "accept-epoch", "CONFIG_ACCEPT_EPOCH", "epoch to accept without a proof, after a restore that left none", &o.AcceptEpoch),
		text("Cluster", "join", "CONFIG_JOIN", "cluster port of a member to join at, when the data directory is empty", &o.Join),
		text("Cluster", "token", "CONFIG_JOIN_TOKEN", "the join token; holdfast token create prints one", &o.JoinToken),
		text("Cluster", "token-file", "CONFIG_JOIN_TOKEN_FILE", "a file that holds the join token", &o.JoinTokenFile),
		text("Cluster", "advertise-addr", "CONFIG_ADVERTISE_ADDR", "address of this agent's cluster port for the other members (default: the host's own address)", &o.AdvertiseAddr),
		text("Cluster", "server-token-path", "CONFIG_SERVER_TOKEN_PATH", "where the agent that starts a cluster keeps a reusable join token for servers (default: DATA-DIR/join-token; none = off)", &o.ServerTokenPath),
		text("Cluster", "sidecar-token-path", "CONFIG_SIDECAR_TOKEN_PATH", "the same for sidecars (default: DATA-DIR/join-token-sidecar; none = off); with {service} as its directory: one for each service whose directory exists", &o.SidecarTokenPath),
		{
			Group: "Cluster", Flag: "voters", Env: "CONFIG_VOTERS", Usage: "most voters of the cluster; an odd number",
			Get: func() string { return strconv.Itoa(o.Voters) },
			Set: func(s string) error {
				n, err := strconv.Atoi(s)
				if err == nil && (n < 1 || n > 9) {
					err = strconv.ErrRange
				}
				if err == nil {
					o.Voters = n
				}
				return err
			},
		},
		duration("Cluster", "dead-after", "CONFIG_DEAD_AFTER", "remove a member that has been unreachable for this long; 0 = never", &o.DeadAfter),
		text("Files", "render", "CONFIG_RENDER", "a render.yaml, by which the agent writes configuration into files; nobody else may be able to write it", &o.Render),
		text("Files", "env-file", "CONFIG_ENV_FILE", "the .env file with keys and settings (default: DATA-DIR/.env)", &o.EnvFile),
		text("Files", "db-path", "CONFIG_DB_PATH", "SQLite database (default: DATA-DIR/config.db)", &o.DBPath),
		text("Files", "lkg-cache-path", "CONFIG_LKG_CACHE_PATH", "last-known-good file (default: DATA-DIR/config.lkg.json)", &o.LKGPath),
		text("Files", "epoch-path", "CONFIG_EPOCH_PATH", "epoch file (default: DATA-DIR/health+epoch.json)", &o.EpochPath),
		text("Files", "raft-log", "CONFIG_RAFT_LOG", "where the entries of the Raft log are: wal (segment files) or boltdb (raft.db); an existing log is moved at start (default: where it is; wal for a new member)", &o.RaftLog),
		text("Backup", "backup-endpoint", "LITESTREAM_S3_ENDPOINT", "where the leader copies the database to: https://..., http://... or file:///dir (default: nowhere)", &o.Backup.Endpoint),
		text("Backup", "backup-bucket", "LITESTREAM_S3_BUCKET", "the bucket, which has to exist", &o.Backup.Bucket),
		text("Backup", "backup-path", "LITESTREAM_S3_PATH", "path in the bucket or below the directory; of this cluster alone", &o.Backup.Path),
		text("Backup", "backup-access-key", "LITESTREAM_ACCESS_KEY_ID", "key id for the S3 service (default: that of the machine)", &o.Backup.AccessKey),
		text("Backup", "backup-secret-key", "LITESTREAM_SECRET_ACCESS_KEY", "and its secret; better in the .env file than as a flag", &o.Backup.SecretKey),
		{
			Group: "Backup", Flag: "backup-retention-hours", Env: "LITESTREAM_RETENTION_HOURS", Usage: "how long restore points are kept, in hours",
			Get: func() string { return strconv.Itoa(o.BackupHours) },
			Set: func(s string) error {
				n, err := strconv.Atoi(s)
				if err == nil && (n < 1 || n > 24*3660) {
					err = strconv.ErrRange
				}
				if err == nil {
					o.BackupHours = n
				}
				return err
			},
		},
		duration("Backup", "backup-drill", "CONFIG_BACKUP_DRILL", "time between restore drills of the leader; 0 = only when it begins a backup", &o.BackupDrill),
		{
			Group: "Recovery", Flag: "allow-auto-rebuild", Env: "ALLOW_AUTO_REBUILD", Bool: true,
			Usage: "rebuild a lost database with a new epoch from the last-known-good file (0 or 1)",
			Get:   func() string { return strconv.FormatBool(o.AllowAutoRebuild) },
			Set: func(s string) (err error) {
				o.AllowAutoRebuild, err = strconv.ParseBool(s)
				return err
			},
		},
		duration("Recovery", "verify-every", "CONFIG_VERIFY_EVERY", "how often the whole database is checked while the agent runs; 0 = only at start", &o.VerifyEvery),
		duration("Recovery", "digest-every", "CONFIG_DIGEST_EVERY", "how often the members compare their states through the log; 0 = never", &o.DigestEvery),
		{
			Group: "Recovery", Flag: "min-free-mb", Env: "CONFIG_MIN_FREE_MB",
			Usage: "with less free space on its disk, in MiB, an agent does not lead and takes no changes; 0 = does not look",
			Get:   func() string { return strconv.Itoa(o.MinFreeMB) },
			Set: func(s string) error {
				n, err := strconv.Atoi(s)
				if err == nil && n < 0 {
					err = strconv.ErrRange
				}
				if err == nil {
					o.MinFreeMB = n
				}
				return err
			},
		},
		{
			Group: "Keys", Flag: "key-rotation-grace-minutes", Env: "CONFIG_KEY_ROTATION_GRACE_MINUTES",
			Usage: "how long the old key is taken after a rotation, in minutes",
			Get:   func() string { return strconv.FormatFloat(o.KeyGrace.Minutes(), 'f', -1, 64) },
			Set: func(s string) error {
				m, err := strconv.ParseFloat(s, 64)
				if err == nil && !(m >= 0 && m <= 60*24*365) {
					err = strconv.ErrRange
				}
				if err == nil {
					o.KeyGrace = time.Duration(m * float64(time.Minute))
				}
				return err
			},
		},
		duration("Retention", "audit-retention", "CONFIG_AUDIT_RETENTION", "how long rows of the access log are kept; the leader's setting applies; 0 = permanently", &o.AuditRetention),
		duration("Retention", "history-retention", "CONFIG_HISTORY_RETENTION", "how long rows of the history are kept; the leader's setting applies; 0 = permanently", &o.HistoryRetention),
		text("Logging", "log-level", "CONFIG_MANAGER_LOG_LEVEL", "DEBUG, INFO, WARNING or ERROR", &o.LogLevel),
		text("Logging", "log-format", "CONFIG_LOG_FORMAT", "text or json", &o.LogFormat),
	}
}
