package gitops

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/values"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/localapi/yamljson"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// puller writes the cluster's state into a directory.
type puller struct {
	a     *cli.App
	c     *client.Client
	dir   *directory
	prune bool

	written, removed []string
	same             int
	keep             map[string]bool // keys of dir.files that describe something that exists
}

// pulled is the result of pull, as -o json prints it.
type pulled struct {
	Written []string `json:"written"`
	Removed []string `json:"removed"`
	Same    int      `json:"same"`
}

func (w *puller) result() pulled {
	return pulled{Written: append([]string{}, w.written...), Removed: append([]string{}, w.removed...), Same: w.same}
}

func (w *puller) run(ctx context.Context) error {
	w.keep = map[string]bool{}
	services, err := w.c.Services(ctx)
	if err != nil {
		return err
	}
	for _, s := range services {
		if err := w.service(ctx, s); err != nil {
			return err
		}
	}
	profiles, err := w.c.Profiles(ctx)
	if err != nil {
		return err
	}
	for _, p := range profiles {
		if p, err = w.c.Profile(ctx, p.Name); err != nil {
			return err
		}
		was := w.dir.profiles[p.Name]
		equal := was != nil && was.Description == p.Description && maps.EqualFunc(was.Services, p.Services, values.Same)
		if err := w.write(profilesDir, p.Name, equal, profileFile{p.Description, p.Services}); err != nil {
			return err
		}
	}
	for _, key := range conf.SortedKeys(w.dir.files) {
		if w.keep[key] {
			continue
		}
		file := w.dir.files[key]
		if !w.prune {
			w.a.Note("%s describes nothing that the cluster has; --prune removes it", file)
			continue
		}
		if err := os.Remove(filepath.Join(w.dir.path, file)); err != nil {
			return conf.Errorf(conf.CodeUsage, "remove a file: %w", err)
		}
		w.removed = append(w.removed, file)
	}
	return nil
}

func (w *puller) service(ctx context.Context, s conf.ServiceInfo) error {
	if s.HasSchema {
		info, err := w.c.Schema(ctx, s.Service)
		if err != nil {
			return err
		}
		if err := w.write(schemasDir, s.Service, values.Same(w.dir.schemas[s.Service], info.Schema), info.Schema); err != nil {
			return err
		}
	}
	if s.Version == 0 {
		return nil
	}
	stored, err := w.c.Stored(ctx, s.Service, 0)
	if conf.CodeOf(err) == conf.CodeNotFound { // it is deleted
		return nil
	}
	if err != nil {
		return err
	}
	secrets, err := w.c.Secrets(ctx, s.Service)
	if err != nil && conf.CodeOf(err) != conf.CodeNotFound {
		return err
	}
	was := w.dir.services[s.Service]
	file := serviceFile{Values: stored.Config}
	for _, i := range secrets {
		if i.Source == conf.SourceEnv {
			continue // the environment of the agent decides it
		}
		from := ""
		if was != nil {
			from = was.Secrets[i.Key]
		}
		if from == "" && i.Set {
			from = secretStored
		}
		if from != "" {
			if file.Secrets == nil {
				file.Secrets = map[string]string{}
			}
			file.Secrets[i.Key] = from
		}
	}
	equal := was != nil && values.Same(was.Values, file.Values) && maps.Equal(was.Secrets, file.Secrets)
	return w.write(servicesDir, s.Service, equal, file)
}

// write writes the file of one thing, unless it says the same already.
func (w *puller) write(folder, name string, equal bool, content any) error {
	w.keep[folder+"/"+name] = true
	if equal {
		w.same++
		return nil
	}
	file := w.dir.files[folder+"/"+name]
	if file == "" {
		file = filepath.Join(folder, name+".yaml")
		if folder == schemasDir {
			file = filepath.Join(folder, name+".json")
		}
	}
	var text []byte
	var err error
	if raw, ok := content.(json.RawMessage); ok {
		var b bytes.Buffer
		if err = json.Indent(&b, raw, "", "  "); err == nil {
			b.WriteByte('\n')
			text = b.Bytes()
		}
	} else if text, err = cli.JSON(content, "  "); err == nil && filepath.Ext(file) != ".json" {
		text, err = yamljson.FromJSON(text)
	}
	if err == nil {
		err = replace(filepath.Join(w.dir.path, file), text)
	}
	if err != nil {
		return conf.Errorf(conf.CodeUsage, "write %s: %w", file, err)
	}
	w.written = append(w.written, file)
	return nil
}

// replace writes a file beside and renames it: an interruption leaves no half of one.
func replace(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // no secret is in it
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".pull-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(text)
	if err == nil {
		err = f.Chmod(0o644) //nolint:gosec // no secret is in it
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
