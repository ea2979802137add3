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
	"github.com/holdfast-config/holdfast/replication/conf"
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
	MQTTURL      string // outside broker that the leader keeps up to date

	Join          string // cluster port of a member to join at, on an empty directory
	JoinToken     string // what lets this agent in
	JoinTokenFile string // or the file that holds it
	AdvertiseAddr string // where the others reach this agent's cluster port
	// Where the agent that starts a cluster keeps reusable join tokens; none = nowhere.
	ServerTokenPath, SidecarTokenPath string

	Voters    int           // most voters of the cluster
	DeadAfter time.Duration // a member that is gone for so long is removed; 0 = never
	Version   string        // of this build, as the others are told

	LogLevel         string
	LogFormat        string
	AllowAutoRebuild bool
	VerifyEvery      time.Duration // how often the database is checked while it runs; 0 = only at start
	MinFreeMB        int           // a leader with less space takes no changes; 0 = does not look
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
		ClusterAddr: ":2771", MQTTAddr: "127.0.0.1:1883", LogLevel: "INFO", LogFormat: "text", VerifyEvery: 10 * time.Minute, DigestEvery: time.Minute, MinFreeMB: 64,
		Voters: 3, DeadAfter: 72 * time.Hour,
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
	return []string{"This agent", "Listeners", "MQTT", "Cluster", "Files", "Recovery", "Logging"}
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
		text("This agent", "service", "CONFIG_SERVICE_NAME", "service beside this agent, served at /v1/config", &o.ServiceName),
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
		text("MQTT", "mqtt-url", "MQTT_URL", "outside broker that the leader keeps up to date: mqtt://user:password@host:1883 or mqtts://", &o.MQTTURL),
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
	if o.ServiceName != "" {
		if err := conf.CheckService(o.ServiceName); err != nil {
			return err
		}
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
	return nil
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
