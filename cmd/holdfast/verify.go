package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

func newVerify(a *app) *cobra.Command {
	var keys []string
	var trust string
	cmd := &cobra.Command{
		Use:   "verify [FILE|-]",
		Short: "Prove who signed an update that came over MQTT",
		Long: `Verify signed updates, the messages of the topics system/config/SERVICE: one in a
file, or one on each line, from standard input as they come. Each must be, byte for
byte, what a leader of the cluster signed. With all of them good the exit code is 0,
with one that is not it is 7; all are looked at.

The keys are those that the local agent tells, unless --key or --trust gives them.
A good signature says who made an update, not that it is the newest: an old one
stays good.`,
		Example: `  mosquitto_sub -t 'system/config/#' | holdfast verify
  holdfast verify update.json
  holdfast verify update.json --key "$CONFIG_SIGNATURE_PUBLIC_KEY"
  curl -s localhost:2770/v1/keys > trusted && holdfast verify - --trust trusted`,
		Args: needs("[FILE]"),
	}
	f := cmd.Flags()
	f.StringArrayVar(&keys, "key", nil, "public `KEY` to trust, PEM or base64; more than once for more")
	f.StringVar(&trust, "trust", "", "`FILE` with the public keys to trust: PEM, base64, or the answer of /v1/keys")
	cmd.MarkFlagsMutuallyExclusive("key", "trust")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name := "-"
		if len(args) > 0 {
			name = args[0]
		}
		trusted, err := a.trusted(cmd.Context(), keys, trust)
		if err != nil {
			return err
		}
		in, err := a.open(name)
		if err != nil {
			return err
		}
		defer in.Close()
		return a.verifyAll(in, display(name), trusted)
	}
	return cmd
}

// trusted are the public keys that the user named, else those of the agent.
func (a *app) trusted(ctx context.Context, given []string, file string) (keys []ed25519.PublicKey, err error) {
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
		text, err := a.readFile(file, 1<<20)
		if err != nil {
			return nil, err
		}
		return client.ParseKeys(text)
	}
	c, err := a.local()
	if err != nil {
		return nil, err
	}
	if keys, err = c.PublicKeys(ctx); err != nil {
		e := conf.Errorf(conf.CodeOf(err), "the agent does not tell its public keys: %w", err)
		return nil, e.WithHint("start the agent, or give the keys with --key or --trust")
	}
	return keys, nil
}

// open opens a file, or standard input for "-".
func (a *app) open(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(a.in), nil
	}
	f, err := os.Open(name)
	if err != nil {
		if pe, ok := errors.AsType[*fs.PathError](err); ok {
			err = pe.Err
		}
		return nil, conf.Errorf(conf.CodeUsage, "cannot read %s: %w", name, err).WithHint("name a readable file, or - for standard input")
	}
	return f, nil
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
func (a *app) verifyAll(in io.Reader, where string, keys []ed25519.PublicKey) error {
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
				// Somebody indented it. What follows is its rest, to be refused as one.
				rest, err := io.ReadAll(io.LimitReader(r, client.MaxUpdate))
				if err != nil {
					return fmt.Errorf("reading %s: %w", where, err)
				}
				text, end = append(text, rest...), true
			}
			ok, err := a.verifyOne(text, where, n, keys)
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
		return quietExit(exitInvalid)
	}
	return nil
}

// readLine reads to the end of a line. Of a line over limit it returns enough to
// be over the limit too.
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

func (a *app) verifyOne(text []byte, where string, n int, keys []ed25519.PublicKey) (bool, error) {
	u, err := client.VerifyUpdate(text, keys...)
	if err != nil {
		if a.asJSON() {
			return false, json.NewEncoder(a.out).Encode(verdict{Line: n, Error: err.Error()})
		}
		a.note("holdfast: %s, line %d: not good: %s", where, n, clean(err.Error()))
		if hint := conf.HintOf(err); hint != "" {
			a.note("hint: %s", clean(hint))
		}
		return false, nil
	}
	id, err := client.SignedBy(u, keys...)
	if err != nil {
		return false, err
	}
	if a.asJSON() {
		return true, json.NewEncoder(a.out).Encode(verdict{Good: true, Line: n, Service: u.Service, Epoch: u.Epoch, IssuedAt: u.IssuedAt, KeyID: id})
	}
	a.say("%s epoch=%s issued_at=%s key=%s good", u.Service, u.Epoch, u.IssuedAt, id)
	return true, nil
}
