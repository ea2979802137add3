package backup

import (
	"net/url"
	"path"
	"path/filepath"
	"strings"

	"github.com/benbjohnson/litestream"
	"github.com/benbjohnson/litestream/file"
	"github.com/benbjohnson/litestream/s3"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Target is the backup target. The zero value is none.
type Target struct {
	Endpoint  string // https://host, http://host, or file:///dir
	Bucket    string
	Path      string // below the bucket or the directory
	AccessKey string
	SecretKey string
}

// Enabled reports whether a target is configured.
func (t Target) Enabled() bool { return t.Endpoint != "" }

// String returns the address of the target, without secrets.
func (t Target) String() string {
	if dir, ok := t.dir(); ok {
		return "file://" + dir
	}
	u := t.Endpoint
	if p, err := url.Parse(t.Endpoint); err == nil {
		u = p.Redacted()
	}
	return strings.TrimSuffix(u, "/") + "/" + path.Join(t.Bucket, t.prefix())
}

// Validate returns an error if the settings are invalid.
func (t Target) Validate() error {
	if !t.Enabled() {
		if t.Bucket != "" {
			return conf.Errorf(conf.CodeUsage, "LITESTREAM_S3_BUCKET is set, LITESTREAM_S3_ENDPOINT is not").
				WithHint("set LITESTREAM_S3_ENDPOINT, such as https://s3.amazonaws.com or file:///var/backups")
		}
		return nil
	}
	u, err := url.Parse(t.Endpoint)
	if err != nil || (u.Scheme != "file" && u.Host == "") || u.User != nil {
		return conf.Errorf(conf.CodeUsage, "LITESTREAM_S3_ENDPOINT is not an address of an S3 service or of a directory").
			WithHint("use https://host, http://host or file:///dir; keys go to LITESTREAM_ACCESS_KEY_ID and LITESTREAM_SECRET_ACCESS_KEY")
	}
	switch u.Scheme {
	case "file":
		if u.Host != "" || !filepath.IsAbs(u.Path) {
			return conf.Errorf(conf.CodeUsage, "LITESTREAM_S3_ENDPOINT %q does not name an absolute directory", t.Endpoint).WithHint("write three slashes: file:///dir")
		}
	case "http", "https":
		if t.Bucket == "" {
			return conf.Errorf(conf.CodeUsage, "LITESTREAM_S3_BUCKET is not set").WithHint("set it to the name of an existing bucket")
		}
		if (t.AccessKey == "") != (t.SecretKey == "") {
			return conf.Errorf(conf.CodeUsage, "of LITESTREAM_ACCESS_KEY_ID and LITESTREAM_SECRET_ACCESS_KEY only one is set").WithHint("set both, or none for the keys of the machine")
		}
	default:
		return conf.Errorf(conf.CodeUsage, "LITESTREAM_S3_ENDPOINT has the scheme %q", u.Scheme).WithHint("use https://, http:// or file:///")
	}
	for _, part := range strings.Split(t.Path, "/") {
		if part == ".." {
			return conf.Errorf(conf.CodeUsage, "LITESTREAM_S3_PATH %q contains ..", t.Path)
		}
	}
	return nil
}

// dir is the directory of a file:// target.
func (t Target) dir() (string, bool) {
	u, err := url.Parse(t.Endpoint)
	if err != nil || u.Scheme != "file" {
		return "", false
	}
	return filepath.Join(u.Path, filepath.FromSlash(t.Path)), true
}

func (t Target) prefix() string { return strings.Trim(path.Clean("/"+t.Path), "/") }

// client is Litestream's access to the files below sub.
func (t Target) client(sub string) litestream.ReplicaClient {
	if dir, ok := t.dir(); ok {
		return file.NewReplicaClient(filepath.Join(dir, filepath.FromSlash(sub)))
	}
	c := s3.NewReplicaClient()
	c.AccessKeyID, c.SecretAccessKey = t.AccessKey, t.SecretKey
	c.Bucket, c.Path = t.Bucket, path.Join(t.prefix(), sub)
	c.Endpoint, c.Region = t.service()
	c.ForcePathStyle = c.Endpoint != ""
	c.MetadataConcurrency = 16
	return c
}

// service returns the endpoint and the region. Amazon needs the region of the bucket,
// which is queried; other services accept any.
func (t Target) service() (endpoint, region string) {
	u, err := url.Parse(t.Endpoint)
	if err != nil || !strings.HasSuffix(u.Hostname(), ".amazonaws.com") {
		return t.Endpoint, s3.DefaultRegion
	}
	if p := strings.Split(u.Hostname(), "."); len(p) == 4 && p[0] == "s3" { // s3.REGION.amazonaws.com
		return "", p[1]
	}
	return "", ""
}
