package ops

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Verify returns the command holdfast verify.
func Verify(a *cli.App) *cobra.Command {
	var keys []string
	var trust string
	cmd := &cobra.Command{
		Use:   "verify [FILE|-]",
		Short: "Verify the signature of updates received over MQTT",
		Long: `Verify signed updates, the messages of the topics system/config/SERVICE: one in a
file, or one on each line, from standard input as they come. Each must be, byte for
byte, what a leader of the cluster signed. All are checked. The exit code is 0 when
all are valid, and 7 when one is not.

The keys are those of the local agent's /v1/keys, unless --key or --trust gives them.
A valid signature shows who signed an update, not that it is the newest: that of an
old update stays valid.`,
		Example: `  mosquitto_sub -t 'system/config/#' | holdfast verify
  holdfast verify update.json
  holdfast verify update.json --key "$CONFIG_SIGNATURE_PUBLIC_KEY"
  curl --noproxy '*' -s localhost:2770/v1/keys > trusted && holdfast verify - --trust trusted`,
		Args: cli.Needs("[FILE]"),
	}
	f := cmd.Flags()
	f.StringArrayVar(&keys, "key", nil, "public `KEY` to trust, PEM or base64; may be repeated")
	f.StringVar(&trust, "trust", "", "`FILE` with the public keys to trust: PEM, base64, or the response of /v1/keys")
	cmd.MarkFlagsMutuallyExclusive("key", "trust")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name := "-"
		if len(args) > 0 {
			name = args[0]
		}
		trusted, err := trustedKeys(cmd.Context(), a, keys, trust)
		if err != nil {
			return err
		}
		in, err := a.Open(name)
		if err != nil {
			return err
		}
		defer in.Close()
		return verifyAll(a, in, cli.FileName(name), trusted)
	}
	return cmd
}

// trustedKeys returns the public keys that the user gave, else those of the agent.
func trustedKeys(ctx context.Context, a *cli.App, given []string, file string) (keys []ed25519.PublicKey, err error) {
	for _, text := range given {
		more, err := client.ParseKeys([]byte(text))
		if err != nil {
			return nil, err
		}
		keys = append(keys, more...)
	}
	if len(given) > 0 {
		return keys, nil
	}
	if file != "" {
		text, err := a.ReadFile(file, 1<<20)
		if err != nil {
			return nil, err
		}
		return client.ParseKeys(text)
	}
	c, err := a.Local(false)
	if err != nil {
		return nil, err
	}
	if keys, err = c.PublicKeys(ctx); err != nil {
		e := conf.Errorf(conf.CodeOf(err), "the agent does not tell its public keys: %w", err)
		return nil, e.WithHint("start the agent, or give the keys with --key or --trust")
	}
	return keys, nil
}

// verdict is the result for one update.
type verdict struct {
	Good     bool   `json:"good"`
	Line     int    `json:"line"`
	Service  string `json:"service,omitempty"`
	Epoch    string `json:"config_epoch,omitempty"`
	IssuedAt string `json:"issued_at,omitempty"`
	KeyID    string `json:"key_id,omitempty"`
	Error    string `json:"error,omitempty"`
}

// verifyAll verifies each line of in, and prints a line for each at once: in may
// be a subscription that never ends.
func verifyAll(a *cli.App, in io.Reader, where string, keys []ed25519.PublicKey) error {
	r := bufio.NewReaderSize(in, 64<<10)
	good, bad := 0, 0
	for n := 1; ; n++ {
		line, err := readLine(r, client.MaxUpdate)
		end := errors.Is(err, io.EOF)
		if err != nil && !end {
			return fmt.Errorf("reading %s: %w", where, err)
		}
		if text := bytes.TrimSpace(line); len(text) > 0 {
			if good+bad == 0 && string(text) == "{" {
				// An update that was indented: read the rest, and reject it as one.
				rest, err := io.ReadAll(io.LimitReader(r, client.MaxUpdate))
				if err != nil {
					return fmt.Errorf("reading %s: %w", where, err)
				}
				text, end = append(text, rest...), true
			}
			ok, err := verifyOne(a, text, where, n, keys)
			if err != nil {
				return err
			}
			if ok {
				good++
			} else {
				bad++
			}
		}
		if end {
			break
		}
	}
	switch {
	case good+bad == 0:
		return conf.Errorf(conf.CodeInvalid, "there is no signed update in %s", where).
			WithHint("an update is one line of JSON: the message of a topic system/config/SERVICE")
	case bad > 0:
		return cli.QuietExit(cli.ExitInvalid)
	}
	return nil
}

// readLine reads a line. Of a line longer than limit it returns more than limit
// bytes, and drops the rest.
func readLine(r *bufio.Reader, limit int) (line []byte, err error) {
	for {
		piece, err := r.ReadSlice('\n')
		if len(line) <= limit {
			line = append(line, piece...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

func verifyOne(a *cli.App, text []byte, where string, n int, keys []ed25519.PublicKey) (bool, error) {
	u, err := client.VerifyUpdate(text, keys...)
	if err != nil {
		if a.AsJSON() {
			return false, json.NewEncoder(a.Out).Encode(verdict{Line: n, Error: err.Error()})
		}
		a.Note("holdfast: %s, line %d: not good: %s", where, n, cli.Clean(err.Error()))
		if hint := conf.HintOf(err); hint != "" {
			a.Note("hint: %s", cli.Clean(hint))
		}
		return false, nil
	}
	id, err := client.SignedBy(u, keys...)
	if err != nil {
		return false, err
	}
	if a.AsJSON() {
		return true, json.NewEncoder(a.Out).Encode(verdict{Good: true, Line: n, Service: u.Service, Epoch: u.Epoch, IssuedAt: u.IssuedAt, KeyID: id})
	}
	a.Say("%s epoch=%s issued_at=%s key=%s good", u.Service, u.Epoch, u.IssuedAt, id)
	return true, nil
}
