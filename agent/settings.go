package agent

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-config/holdfast/agent/keys"
	"github.com/holdfast-config/holdfast/replication/backup"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Roles of a process.
const (
	RoleMember   = "member"   // of the cluster: a server or a sidecar
	RoleObserver = "observer" // follows the signed updates of a broker, without Raft
)

// Options is how one agent process is set up. The zero value is not usable:
// take Defaults, then Resolve, or set the members and call Complete.
type Options struct {
	DataDir     string // everything that follows lives below it unless set
	DBPath      string
	LKGPath     string
	EpochPath   string
	EnvFile     string
	LocalSocket string
	SchemaDir   string // *.json, one schema a service; loaded by the leader at its start
	NodeID      string
	ServiceName string // the service beside this agent: GET /v1/config

	LocalAddr    string
	ManagerHost  string
	ManagerPort  string
	ClusterAddr  string
	MQTTAddr     string // embedded MQTT broker; "" or none = off
	MQTTUser     string // what its clients must show, both or none
	MQTTPassword string
	MQTTCert     string // PEM files: the embedded broker speaks TLS; both or none
	MQTTKey      string
	MQTTURL      string        // outside broker that the leader keeps up to date
	MQTTReissue  time.Duration // the leader signs everything anew when a signature is so old; 0 = never
	MQTTCA       string        // file with the CA certificates that vouch for a mqtts:// broker; "" = those of the system

	Role        string // RoleMember or RoleObserver
	Observe     string // of an observer: the broker that it follows, "" = MQTTURL
	Trust       string // public keys, or files with them, comma separated
	MemberURL   string // admin APIs of members to ask, comma separated
	AcceptEpoch string // an epoch that the operator vouches for

	Join          string // cluster port of a member to join at, on an empty directory
	JoinToken     string // what lets this agent in
	JoinTokenFile string // or the file that holds it
	AdvertiseAddr string // where the others reach this agent's cluster port
	// Where the agent that starts a cluster keeps reusable join tokens; none = nowhere.
	ServerTokenPath, SidecarTokenPath string

	Voters    int           // most voters of the cluster
	DeadAfter time.Duration // a member that is gone for so long is removed; 0 = never
	Version   string        // of this build, as the others are told

	KeyGrace    time.Duration // how long an old key is taken after a rotation
	Backup      backup.Target // where the leader copies the database to; the zero value is nowhere
	BackupHours int           // how long its restore points are kept
	BackupDrill time.Duration // how often it is proved by restoring it; 0 = only when it begins

	LogLevel         string
	LogFormat        string
	AllowAutoRebuild bool
	VerifyEvery      time.Duration // how often the database is checked while it runs; 0 = only at start
	MinFreeMB        int           // a leader with less space takes no changes; 0 = does not look
	AuditRetention   time.Duration // how long the access log is kept; 0 = for ever
	HistoryRetention time.Duration // how long the history is kept; 0 = for ever
	DigestEvery      time.Duration // how often the members compare their states; 0 = never

	// Env reads the environment of the process; nil means os.LookupEnv.
	Env func(string) (string, bool)
	// LookupEnv reads settings and secrets from the environment and then the
	// .env file. Resolve sets it.
	LookupEnv func(string) (string, bool)
}

// Defaults are the settings of an agent that is told nothing.
func Defaults() Options {
	return Options{
		DataDir: "holdfast-data", LocalAddr: "127.0.0.1:2770", ManagerHost: "127.0.0.1", ManagerPort: "8081",
		Role: RoleMember, ClusterAddr: ":2771", MQTTAddr: "127.0.0.1:1883", MQTTReissue: 4 * time.Minute, LogLevel: "INFO", LogFormat: "text", VerifyEvery: 10 * time.Minute, DigestEvery: time.Minute, MinFreeMB: 64,
		Voters: 3, DeadAfter: 72 * time.Hour, KeyGrace: time.Hour, BackupHours: 168, BackupDrill: time.Hour,
		AuditRetention: 90 * 24 * time.Hour, HistoryRetention: 366 * 24 * time.Hour,
	}
}

// Setting is one member of Options as a person meets it: a flag, an environment
// variable and a line of the .env file, which win in this order.
type Setting struct {
	Group, Flag, Env, Usage string
	Bool                    bool
	Get                     func() string
	Set                     func(string) error
}

// Groups are the headings of Settings, in the order to show them.
func Groups() []string {
	return []string{"This agent", "Listeners", "MQTT", "Observer", "Cluster", "Files", "Backup", "Recovery", "Keys", "Retention", "Logging"}
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
		text("This agent", "schema-dir", "CONFIG_SCHEMA_DIR", "directory of <service>.json schemas to load at start", &o.SchemaDir),
		text("Listeners", "local-addr", "CONFIG_LOCAL_ADDR", "local HTTP for the service beside this agent; loopback", &o.LocalAddr),
		text("Listeners", "local-socket", "CONFIG_LOCAL_SOCKET", "unix socket of the same API (default: DATA-DIR/local.sock; none = off)", &o.LocalSocket),
		text("Listeners", "manager-host", "CONFIG_MANAGER_HOST", "address of the admin REST API", &o.ManagerHost),
		text("Listeners", "manager-port", "CONFIG_MANAGER_PORT", "port of the admin REST API", &o.ManagerPort),
		text("Listeners", "cluster-addr", "CONFIG_CLUSTER_ADDR", "address of the cluster port, which is mTLS only", &o.ClusterAddr),
		text("MQTT", "mqtt-addr", "CONFIG_MQTT_ADDR", "address of the embedded MQTT broker; none = off", &o.MQTTAddr),
		text("MQTT", "mqtt-user", "CONFIG_MQTT_USER", "user that clients of the embedded broker must name", &o.MQTTUser),
		text("MQTT", "mqtt-password", "CONFIG_MQTT_PASSWORD", "and their password; better in the .env file than as a flag", &o.MQTTPassword),
		text("MQTT", "mqtt-tls-cert", "CONFIG_MQTT_TLS_CERT", "PEM file with the certificate of the embedded broker, which then speaks TLS only; read again when it changes", &o.MQTTCert),
		text("MQTT", "mqtt-tls-key", "CONFIG_MQTT_TLS_KEY", "PEM file with its key", &o.MQTTKey),
		text("MQTT", "mqtt-url", "MQTT_URL", "outside broker that the leader keeps up to date: mqtt://user:password@host:1883 or mqtts://", &o.MQTTURL),
		duration("MQTT", "mqtt-reissue", "CONFIG_MQTT_REISSUE", "the leader signs everything anew when a signature is so old, so that a message's age tells its freshness; 0 = never", &o.MQTTReissue),
		text("MQTT", "mqtt-ca", "MQTT_CA_FILE", "file with the CA certificates that vouch for a mqtts:// broker (default: those of the system)", &o.MQTTCA),
		text("Observer", "mqtt", "CONFIG_OBSERVE_URL", "broker to follow, the embedded one of an agent or an outside one (default: MQTT_URL)", &o.Observe),
		text("Observer", "trust", "CONFIG_TRUST", "public key of the cluster: PEM, base64, or a file with keys; several comma separated, while keys are rotated (default: CONFIG_SIGNATURE_PUBLIC_KEY)", &o.Trust),
		text("Observer", "member", "CONFIG_MEMBER_URL", "admin API of a member, or several comma separated, to ask when the broker has nothing; with the token in CONFIG_API_TOKEN", &o.MemberURL),
		text("Observer", "accept-epoch", "CONFIG_ACCEPT_EPOCH", "epoch to accept without a proof, after a restore that left none", &o.AcceptEpoch),
		text("Cluster", "join", "CONFIG_JOIN", "cluster port of a member to join at, when the data directory is empty", &o.Join),
		text("Cluster", "token", "CONFIG_JOIN_TOKEN", "the join token; holdfast token create prints one", &o.JoinToken),
		text("Cluster", "token-file", "CONFIG_JOIN_TOKEN_FILE", "a file that holds the join token", &o.JoinTokenFile),
		text("Cluster", "advertise-addr", "CONFIG_ADVERTISE_ADDR", "where the others reach this agent's cluster port (default: the host's own address)", &o.AdvertiseAddr),
		text("Cluster", "server-token-path", "CONFIG_SERVER_TOKEN_PATH", "where the agent that starts a cluster keeps a reusable join token for servers (default: DATA-DIR/join-token; none = off)", &o.ServerTokenPath),
		text("Cluster", "sidecar-token-path", "CONFIG_SIDECAR_TOKEN_PATH", "the same for sidecars (default: DATA-DIR/join-token-sidecar; none = off)", &o.SidecarTokenPath),
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
		duration("Cluster", "dead-after", "CONFIG_DEAD_AFTER", "a member that nobody reached for so long is removed; 0 = never", &o.DeadAfter),
		text("Files", "env-file", "CONFIG_ENV_FILE", "the .env file with keys and settings (default: DATA-DIR/.env)", &o.EnvFile),
		text("Files", "db-path", "CONFIG_DB_PATH", "SQLite database (default: DATA-DIR/config.db)", &o.DBPath),
		text("Files", "lkg-cache-path", "CONFIG_LKG_CACHE_PATH", "last-known-good file (default: DATA-DIR/config.lkg.json)", &o.LKGPath),
		text("Files", "epoch-path", "CONFIG_EPOCH_PATH", "epoch file (default: DATA-DIR/health+epoch.json)", &o.EpochPath),
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
		duration("Backup", "backup-drill", "CONFIG_BACKUP_DRILL", "how often the leader proves the backup by restoring it; 0 = only when it begins one", &o.BackupDrill),
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
		duration("Retention", "audit-retention", "CONFIG_AUDIT_RETENTION", "how long rows of the access log are kept; the leader's setting counts; 0 = for ever", &o.AuditRetention),
		duration("Retention", "history-retention", "CONFIG_HISTORY_RETENTION", "how long rows of the history are kept; the leader's setting counts; 0 = for ever", &o.HistoryRetention),
		text("Logging", "log-level", "CONFIG_MANAGER_LOG_LEVEL", "DEBUG, INFO, WARNING or ERROR", &o.LogLevel),
		text("Logging", "log-format", "CONFIG_LOG_FORMAT", "text or json", &o.LogFormat),
	}
}

// Resolve fills o from flags that were given, the environment and the .env
// file, in this order of strength, and completes the paths. flag answers the
// value of a flag and whether the user gave it; it may be nil.
func (o *Options) Resolve(flag, env func(string) (string, bool)) error {
	if env == nil {
		env = os.LookupEnv
	}
	if flag == nil {
		flag = func(string) (string, bool) { return "", false }
	}
	set := Settings(o)
	early := map[string]bool{"data-dir": true, "env-file": true} // they say where the .env file is
	for _, s := range set {
		if early[s.Flag] {
			if err := apply(s, flag, env); err != nil {
				return err
			}
		}
	}
	if o.EnvFile == "" {
		o.EnvFile = filepath.Join(o.DataDir, ".env")
	}
	file, err := keys.ReadEnvFile(o.EnvFile) // its errors never quote the file
	if err != nil {
		return err
	}
	o.Env = env
	o.LookupEnv = func(name string) (string, bool) {
		if v, ok := env(name); ok {
			return v, true
		}
		v, ok := file[name]
		return v, ok
	}
	for _, s := range set {
		if !early[s.Flag] {
			if err := apply(s, flag, o.LookupEnv); err != nil {
				return err
			}
		}
	}
	return o.Complete()
}

func apply(s Setting, flag, env func(string) (string, bool)) error {
	v, ok := flag(s.Flag)
	where := "--" + s.Flag
	if !ok {
		if v, ok = env(s.Env); !ok || (v == "" && s.Env != "CONFIG_MQTT_ADDR") {
			return nil
		}
		where = s.Env
	}
	if err := s.Set(v); err != nil {
		return conf.Errorf(conf.CodeUsage, "bad value %q for %s", v, where).WithHint("%s: %s", where, s.Usage)
	}
	return nil
}

// Complete fills what depends on DataDir and checks the rest.
func (o *Options) Complete() error {
	for p, name := range map[*string]string{
		&o.DBPath: "config.db", &o.LKGPath: "config.lkg.json", &o.EpochPath: "health+epoch.json",
		&o.EnvFile: ".env", &o.LocalSocket: "local.sock",
		&o.ServerTokenPath: "join-token", &o.SidecarTokenPath: "join-token-sidecar",
	} {
		if *p == "" {
			*p = filepath.Join(o.DataDir, name)
		}
	}
	if o.Env == nil {
		o.Env = os.LookupEnv
	}
	if o.LookupEnv == nil {
		o.LookupEnv = o.Env
	}
	switch o.Role {
	case RoleObserver:
	case RoleMember, "":
		if o.ServiceName == "" {
			break
		}
		if err := conf.CheckService(o.ServiceName); err != nil {
			return err
		}
	default:
		return conf.Errorf(conf.CodeUsage, "CONFIG_ROLE %q is neither %s nor %s", o.Role, RoleMember, RoleObserver)
	}
	if host, _, err := net.SplitHostPort(o.LocalAddr); err != nil || !loopback(host) {
		return conf.Errorf(conf.CodeUsage, "CONFIG_LOCAL_ADDR %q is not a loopback address with a port", o.LocalAddr).
			WithHint("the local API has no token for plain values: use 127.0.0.1:2770, localhost:2770 or [::1]:2770")
	}
	if _, err := strconv.ParseUint(o.ManagerPort, 10, 16); err != nil {
		return conf.Errorf(conf.CodeUsage, "CONFIG_MANAGER_PORT %q is not a port", o.ManagerPort).WithHint("use a number from 0 to 65535")
	}
	if _, _, err := net.SplitHostPort(o.ClusterAddr); err != nil {
		return conf.Errorf(conf.CodeUsage, "CONFIG_CLUSTER_ADDR %q is not host:port", o.ClusterAddr).WithHint("use a value such as :2771")
	}
	if o.LogFormat != "text" && o.LogFormat != "json" {
		return conf.Errorf(conf.CodeUsage, "CONFIG_LOG_FORMAT %q is neither text nor json", o.LogFormat)
	}
	if _, err := o.level(); err != nil {
		return err
	}
	return o.Backup.Validate()
}

// AdminURL is where the admin REST API of an agent with these settings answers.
func (o *Options) AdminURL() string {
	host := o.ManagerHost
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, o.ManagerPort)
}

// LocalURL is where its local API answers.
func (o *Options) LocalURL() string { return "http://" + o.LocalAddr }

// raftDir, quarantineDir and the other fixed names below DataDir.
func (o *Options) raftDir() string        { return filepath.Join(o.DataDir, "raft") }
func (o *Options) auditSpool() string     { return filepath.Join(o.DataDir, "audit.spool") }
func (o *Options) rebuildInfo() string    { return filepath.Join(o.DataDir, "rebuild.info") }
func (o *Options) rebuildPending() string { return filepath.Join(o.DataDir, "rebuild.pending") }
func (o *Options) localTokenFile() string { return filepath.Join(o.DataDir, "local-token") }

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func (o *Options) level() (string, error) {
	switch l := strings.ToUpper(o.LogLevel); l {
	case "DEBUG", "INFO", "ERROR":
		return l, nil
	case "WARN", "WARNING":
		return "WARN", nil
	default:
		return "", conf.Errorf(conf.CodeUsage, "CONFIG_MANAGER_LOG_LEVEL %q is unknown", o.LogLevel).WithHint("use DEBUG, INFO, WARNING or ERROR")
	}
}

// String is for logs: it holds no key and no token.
func (o *Options) String() string {
	return fmt.Sprintf("data %s, local %s, admin %s", o.DataDir, o.LocalAddr, o.AdminURL())
}
