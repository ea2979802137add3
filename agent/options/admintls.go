package options

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// AdminScheme is how URLs of the admin port begin.
func (p *Ports) AdminScheme() string {
	if p.ManagerCert != "" || p.ManagerKey != "" {
		return "https://"
	}
	return "http://"
}

// UIAddrOf is where the web page is besides the admin port, on a sidecar or on a server; ""
// where it is off. What is set counts for both.
func (p *Ports) UIAddrOf(sidecar bool) string {
	switch {
	case p.UIAddr == "none", p.UIAddr == "" && sidecar: // beside each service there is one
		return ""
	case p.UIAddr == "":
		return DefaultUIAddr
	}
	return p.UIAddr
}

// AdminInsecure reports whether others than this host reach the admin API, in plain text.
func (p *Ports) AdminInsecure() bool {
	ui, _, err := net.SplitHostPort(p.UIAddr)
	return p.AdminScheme() == "http://" && (!loopback(p.ManagerHost) || err == nil && !loopback(ui))
}

// AdminTLS is for a client on the host of the agent: it accepts the certificate in the
// agent's own file, whatever names are in it. It is nil without such a file.
func (o *Options) AdminTLS() *tls.Config {
	if o.ManagerCert == "" {
		return nil
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection accepts one certificate only
		VerifyConnection: func(s tls.ConnectionState) error {
			data, err := os.ReadFile(o.ManagerCert)
			if err != nil {
				return conf.Errorf(conf.CodeUsage, "the certificate of the admin port: %w", err).WithHint("point CONFIG_MANAGER_TLS_CERT to the file of the agent")
			}
			block, _ := pem.Decode(data) // the first one is the server's own
			if block != nil && bytes.Equal(block.Bytes, s.PeerCertificates[0].Raw) {
				return nil
			}
			return verifyByCAs(s)
		},
	}
}

// verifyByCAs is what a client does by default: another server than the agent may be meant.
func verifyByCAs(s tls.ConnectionState) error {
	o := x509.VerifyOptions{DNSName: s.ServerName, Intermediates: x509.NewCertPool()}
	for _, c := range s.PeerCertificates[1:] {
		o.Intermediates.AddCert(c)
	}
	_, err := s.PeerCertificates[0].Verify(o)
	return err
}
