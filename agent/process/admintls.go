package process

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"

	"github.com/holdfast-config/holdfast/agent/certfile"
	"github.com/holdfast-config/holdfast/agent/options"
)

// AdminTLS is for a server of the admin port: nil where it speaks plain HTTP.
func AdminTLS(o *options.Options, log *slog.Logger) (*tls.Config, error) {
	if o.AdminScheme() != "https://" {
		return nil, nil //nolint:nilnil // plain HTTP is no error
	}
	return certfile.Server("the admin port", "CONFIG_MANAGER", o.ManagerCert, o.ManagerKey, log)
}

// ServeAdmin serves at the admin port: by the TLSConfig of the server if secure is set. The
// configuration alone does not tell, because net/http makes one.
func ServeAdmin(s *http.Server, l net.Listener, secure bool) error {
	if secure {
		return s.ServeTLS(l, "", "") // the certificate is in the configuration
	}
	return s.Serve(l)
}
