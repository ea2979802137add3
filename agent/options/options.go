package options

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
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

// Options are the settings of one agent process, in groups. The zero value is not usable:
// use Defaults, then Resolve, or set the members and call Complete.
type Options struct {
	Paths
	Service
	Ports
	Broker
	Observation
	Joining
	Upkeep
	Beside

	Role      string // RoleMember or RoleObserver
	NodeID    string
	Version   string // of this build, as the other members see it
	LogLevel  string
	LogFormat string

	// Env reads the environment of the process; nil means os.LookupEnv.
	Env func(string) (string, bool)
	// LookupEnv reads settings and secrets from the environment and then the
	// .env file. Resolve sets it.
	LookupEnv func(string) (string, bool)

	// Now reads the wall clock; nil means time.Now.
	Now func() time.Time
}

// Paths are where the files of the agent are.
type Paths struct {
	DataDir     string // everything that follows lives below it unless set
	DBPath      string
	LKGPath     string
	EpochPath   string
	EnvFile     string
	LocalSocket string
	RaftLog     string // "wal" or "boltdb"; empty: where it is, and wal for a new member
}

// Service is what the agent knows of the services that it serves.
type Service struct {
	SchemaDir   string // *.json, one schema a service; loaded by the leader at its start
	ServiceName string // the service beside this agent: GET /v1/config
	Render      string // render.yaml, which says what is written into files; "" = nothing
	EnvAllow    string // variables that services may have besides those that EnvAllowed accepts, comma separated
}

// Ports are where the agent listens for services, people and other members.
type Ports struct {
	LocalAddr   string
	LocalFront  string // on: plain reads are answered without net/http; off
	ManagerHost string
	ManagerPort string
	ManagerCert string // PEM files: the admin port and the web page speak TLS; both or none
	ManagerKey  string
	UIAddr      string // another address of the admin port's APIs and page; empty = the default of the role; none = off
	ClusterAddr string
	MetricsAddr string // /metrics for other hosts; "" or none = off
}

// Broker has the settings of the embedded MQTT broker, and of one that the operator runs.
type Broker struct {
	MQTTAddr string // embedded MQTT broker; "" or none = off
	// MQTTLocalAddr is a second, local address of it: MQTTAddr is for others then.
	MQTTLocalAddr string
	MQTTUser      string // what its clients must show, both or none
	MQTTPassword  string
	MQTTCert      string // PEM files: the embedded broker speaks TLS; both or none
	MQTTKey       string
	MQTTURL       string        // external broker that the leader keeps up to date
	MQTTReissue   time.Duration // the leader reissues each signature that is this old; 0 = never
	MQTTCA        string        // file with the CA certificates that vouch for a mqtts:// broker; "" = those of the system
}

// Observation has the settings of an observer.
type Observation struct {
	Observe     string // the broker that it follows, "" = MQTTURL
	Trust       string // public keys, or files with them, comma separated
	MemberURL   string // admin APIs of members to ask, comma separated
	AcceptEpoch string // an epoch that the operator vouches for
}

// Joining is how the agent becomes a member of a cluster, and how others do.
type Joining struct {
	Join          string // cluster port of a member to join at, on an empty directory
	JoinToken     string // what lets this agent in
	JoinTokenFile string // or the file that holds it
	AdvertiseAddr string // address of this agent's cluster port for the other members
	// Where the agent that starts a cluster writes reusable join tokens; none = nowhere.
	ServerTokenPath, SidecarTokenPath string

	Voters    int           // most voters of the cluster
	DeadAfter time.Duration // a member that is unreachable for this long is removed; 0 = never
}

// Upkeep is what the agent does by itself with keys, backups, the database and its logs.
type Upkeep struct {
	KeyGrace    time.Duration // how long an old key is taken after a rotation
	Backup      backup.Target // where the leader copies the database to; the zero value is nowhere
	BackupHours int           // how long its restore points are kept
	BackupDrill time.Duration // time between restore drills; 0 = only at the start of a backup

	AllowAutoRebuild bool
	VerifyEvery      time.Duration // how often the database is checked while it runs; 0 = only at start
	MinFreeMB        int           // a leader with less space takes no changes; 0 = does not look
	AuditRetention   time.Duration // how long the access log is kept; 0 = permanently
	HistoryRetention time.Duration // how long the history is kept; 0 = permanently
	DigestEvery      time.Duration // how often the members compare their states; 0 = never
}

// Beside is what the agent tells of the service beside it, as one of its instances.
type Beside struct {
	Instance  string            // name of this instance; "" = the node id
	Labels    map[string]string // of this instance
	HealthURL string            // asked whether the service is well; "" = not asked
	HealthCmd string            // run for the same; see Words
	AckOpen   bool              // acknowledgements are accepted without the local token
}

// InstanceName is the name of this instance. The node id must be known.
func (o *Options) InstanceName() string { return cmp.Or(o.Instance, o.NodeID) }

// Clock returns the time of the wall clock. It may jump, and be wrong: what must not is
// measured with the monotonic clock of the time package.
func (o *Options) Clock() time.Time {
	if o.Now != nil {
		return o.Now()
	}
	return time.Now()
}

// DefaultUIAddr is where the web page of a server is, besides the admin port.
const DefaultUIAddr = "127.0.0.1:8080"

// Defaults returns the settings of an agent without flags, environment or .env file.
func Defaults() Options {
	return Options{
		Paths:   Paths{DataDir: "holdfast-data"},
		Ports:   Ports{LocalAddr: "localhost:2770", LocalFront: "on", ManagerHost: "localhost", ManagerPort: "8081", ClusterAddr: ":2771"},
		Broker:  Broker{MQTTAddr: "127.0.0.1:1883", MQTTReissue: 4 * time.Minute},
		Joining: Joining{Voters: 3, DeadAfter: 72 * time.Hour},
		Upkeep: Upkeep{
			KeyGrace: time.Hour, BackupHours: 168, BackupDrill: time.Hour, VerifyEvery: 10 * time.Minute, MinFreeMB: 64,
			AuditRetention: 90 * 24 * time.Hour, HistoryRetention: 366 * 24 * time.Hour, DigestEvery: time.Minute,
		},
		Role: RoleMember, LogLevel: "INFO", LogFormat: "text",
	}
}

// Resolve fills o from flags that were given, the environment and the .env
// file, in this order of strength, and completes the paths. flag returns the
// value of a flag and whether the user gave it; it may be nil.
func (o *Options) Resolve(flag, env func(string) (string, bool)) error {
	return o.resolve(flag, env, keys.ReadEnvFile)
}

// ErrUntrusted is in the error of ResolveTrusted for a .env file that others control.
var ErrUntrusted = keys.ErrUntrusted

// ResolveTrusted is Resolve for a command that sends secrets to where the settings point.
// It returns ErrUntrusted for a .env file that others control; trusted says whose
// files count as one's own.
func (o *Options) ResolveTrusted(flag, env func(string) (string, bool), trusted func(uid uint32) bool) error {
	return o.resolve(flag, env, func(path string) (map[string]string, error) { return keys.ReadTrustedEnvFile(path, trusted) })
}

// ResolveWithoutFile is Resolve without the .env file.
func (o *Options) ResolveWithoutFile(flag, env func(string) (string, bool)) error {
	return o.resolve(flag, env, func(string) (map[string]string, error) { return map[string]string{}, nil })
}

func (o *Options) resolve(flag, env func(string) (string, bool), readEnvFile func(string) (map[string]string, error)) error {
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
	file, err := readEnvFile(o.EnvFile) // its errors never quote the file
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
	if !slices.Contains([]string{"", "wal", "boltdb"}, o.RaftLog) {
		return conf.Errorf(conf.CodeUsage, "CONFIG_RAFT_LOG %q is neither wal nor boltdb", o.RaftLog).
			WithHint("leave it unset: the log then stays where it is, and a new member has it in segments (wal)")
	}
	if host, _, err := net.SplitHostPort(o.LocalAddr); err != nil || !loopback(host) {
		return conf.Errorf(conf.CodeUsage, "CONFIG_LOCAL_ADDR %q is not a loopback address with a port", o.LocalAddr).
			WithHint("the local API has no token for plain values: use 127.0.0.1:2770, localhost:2770 or [::1]:2770")
	}
	if o.LocalFront != "on" && o.LocalFront != "off" {
		return conf.Errorf(conf.CodeUsage, "CONFIG_LOCAL_FRONT %q is neither on nor off", o.LocalFront)
	}
	if IsOn(o.MQTTLocalAddr) && !IsLoopback(o.MQTTLocalAddr) {
		return conf.Errorf(conf.CodeUsage, "CONFIG_MQTT_LOCAL_ADDR %q is not a loopback address with a port", o.MQTTLocalAddr).
			WithHint("it is for services on this machine: use 127.0.0.1:1884; for others there is CONFIG_MQTT_ADDR")
	}
	if _, err := strconv.ParseUint(o.ManagerPort, 10, 16); err != nil {
		return conf.Errorf(conf.CodeUsage, "CONFIG_MANAGER_PORT %q is not a port", o.ManagerPort).WithHint("use a number from 0 to 65535")
	}
	if _, _, err := net.SplitHostPort(o.UIAddr); err != nil && o.UIAddr != "" && o.UIAddr != "none" {
		return conf.Errorf(conf.CodeUsage, "CONFIG_UI_ADDR %q is not host:port", o.UIAddr).WithHint("use a value such as 127.0.0.1:8080, or none")
	}
	if _, _, err := net.SplitHostPort(o.MetricsAddr); err != nil && o.MetricsAddr != "" && o.MetricsAddr != "none" {
		return conf.Errorf(conf.CodeUsage, "CONFIG_METRICS_ADDR %q is not host:port", o.MetricsAddr).WithHint("use a value such as 0.0.0.0:9270, or none")
	}
	if _, _, err := net.SplitHostPort(o.ClusterAddr); err != nil {
		return conf.Errorf(conf.CodeUsage, "CONFIG_CLUSTER_ADDR %q is not host:port", o.ClusterAddr).WithHint("use a value such as :2771")
	}
	if o.LogFormat != "text" && o.LogFormat != "json" {
		return conf.Errorf(conf.CodeUsage, "CONFIG_LOG_FORMAT %q is neither text nor json", o.LogFormat)
	}
	if _, err := o.Level(); err != nil {
		return err
	}
	if err := o.checkEnvAllow(); err != nil {
		return err
	}
	if err := o.checkTokenPaths(); err != nil {
		return err
	}
	if err := o.Beside.check(); err != nil {
		return err
	}
	return o.Backup.Validate()
}

// AdminURL is the base URL of the admin API of an agent with these settings.
func (p *Ports) AdminURL() string {
	return p.AdminScheme() + reachable(net.JoinHostPort(p.ManagerHost, p.ManagerPort))
}

// LocalURL is the base URL of its local API.
func (p *Ports) LocalURL() string { return "http://" + reachable(p.LocalAddr) }

// reachable replaces the host of a listener that means several addresses by the one
// that a client on this machine uses.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); host == "" || host == "localhost" || (ip != nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// Services are those of ServiceName, which has several of an observer, with commas
// between; none twice.
func (o *Options) Services() (out []string) {
	for s := range strings.SplitSeq(o.ServiceName, ",") {
		if s = strings.TrimSpace(s); s != "" && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// RaftDir is the directory of the Raft log and its snapshots.
func (p *Paths) RaftDir() string { return filepath.Join(p.DataDir, "raft") }

// TLSDir is the directory of this agent's certificate and key, and of the cluster's CA.
func (p *Paths) TLSDir() string { return filepath.Join(p.DataDir, "tls") }

// ClusterFile is the file with the identity of this agent and the last known members.
func (p *Paths) ClusterFile() string { return filepath.Join(p.DataDir, "cluster.json") }

// AuditSpool is the file of access log rows that are not delivered yet.
func (p *Paths) AuditSpool() string { return filepath.Join(p.DataDir, "audit.spool") }

// LocalTokenFile is the file with the token that reads secrets at the local API.
func (p *Paths) LocalTokenFile() string { return filepath.Join(p.DataDir, "local-token") }

// InstanceFile is the file of what services have acknowledged at this agent.
func (p *Paths) InstanceFile() string { return filepath.Join(p.DataDir, "instances.json") }

// LearnedKeysFile is the file of an observer with the signing keys that members proved.
func (p *Paths) LearnedKeysFile() string { return filepath.Join(p.DataDir, "learned-keys.json") }

// MarksDir is the directory of what the service beside this agent refused.
func (p *Paths) MarksDir() string { return filepath.Join(p.DataDir, "marks") }

// RebuildInfo is the report of the last rebuild, recovery, restore or rejoin.
func (p *Paths) RebuildInfo() string { return filepath.Join(p.DataDir, "rebuild.info") }

// RebuildPending marks a rebuild that is not finished.
func (p *Paths) RebuildPending() string { return filepath.Join(p.DataDir, "rebuild.pending") }

// RecoverPending marks a recovery or a restore that is not finished.
func (p *Paths) RecoverPending() string { return filepath.Join(p.DataDir, "recover.pending") }

// IsOn reports whether an address is one, and not none.
func IsOn(addr string) bool { return addr != "" && addr != "none" }

// IsLoopback reports whether only this machine reaches an address.
func IsLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && loopback(host)
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// Level is the log level: DEBUG, INFO, WARN or ERROR.
func (o *Options) Level() (string, error) {
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

// Advertise is the address at which other members reach this agent, as host:port; ""
// when only the listener knows the port.
func (o *Options) Advertise() string {
	if o.AdvertiseAddr != "" {
		return o.AdvertiseAddr
	}
	host, port, _ := net.SplitHostPort(o.ClusterAddr)
	if port == "0" {
		return ""
	}
	if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) {
		return o.ClusterAddr
	}
	return net.JoinHostPort(hostIP(), port)
}

// hostIP is an address of this host that others may reach, the loopback one when
// it has no other.
func hostIP() string {
	addrs, err := net.InterfaceAddrs()
	if err == nil {
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
				return n.IP.String()
			}
		}
	}
	return "127.0.0.1"
}

// BrokerTLS trusts the CAs of a file for a mqtts:// broker; nil is what the system trusts.
func (o *Options) BrokerTLS() (*tls.Config, error) {
	path := o.MQTTCA
	if path == "" {
		return nil, nil //nolint:nilnil // the default
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, conf.Errorf(conf.CodeUsage, "MQTT_CA_FILE: %w", err).WithHint("set it to a PEM file with the certificates of the broker's CA")
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(data) {
		return nil, conf.Errorf(conf.CodeUsage, "MQTT_CA_FILE %s holds no certificate", path).WithHint("set it to a PEM file with the certificates of the broker's CA")
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, nil
}
