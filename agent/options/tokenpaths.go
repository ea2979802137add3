package options

import (
	"path/filepath"
	"strings"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// ServicePart stands for the name of a service in SidecarTokenPath.
const ServicePart = "{service}"

// checkTokenPaths rejects a path whose services could not be told from what is there.
func (o *Options) checkTokenPaths() error {
	dir := filepath.Dir(o.SidecarTokenPath)
	if strings.Contains(o.ServerTokenPath, ServicePart) || strings.Contains(filepath.Base(o.SidecarTokenPath), ServicePart) ||
		strings.Contains(dir, ServicePart) && (filepath.Base(dir) != ServicePart || strings.Count(dir, ServicePart) > 1) {
		return conf.Errorf(conf.CodeUsage, "%s names the directory of a token for sidecars, and nothing else", ServicePart).
			WithHint("use a path such as CONFIG_SIDECAR_TOKEN_PATH=/tokens/%s/join-token", ServicePart)
	}
	return nil
}

// SidecarTokens are the files for the join tokens of sidecars, each with the service that
// its sidecar belongs to. A path without ServicePart is one file, for any service. With it
// there is a file for each service whose directory exists: each sidecar can be given the
// token of its own service, and no other.
func (o *Options) SidecarTokens() map[string]string {
	if !strings.Contains(o.SidecarTokenPath, ServicePart) {
		return map[string]string{o.SidecarTokenPath: ""}
	}
	files := map[string]string{}
	dirs, _ := filepath.Glob(strings.ReplaceAll(filepath.Dir(o.SidecarTokenPath), ServicePart, "*")) // it fails for a bad pattern only
	for _, dir := range dirs {
		if service := filepath.Base(dir); conf.CheckService(service) == nil {
			files[filepath.Join(dir, filepath.Base(o.SidecarTokenPath))] = service
		}
	}
	return files
}
