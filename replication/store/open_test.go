package store

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"modernc.org/sqlite"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/tables"
)

// Roles of the test binary when a test starts it again as another process.
const (
	envRole = "HOLDFAST_STORE_TEST_ROLE"
	envPath = "HOLDFAST_STORE_TEST_PATH"
)

func TestMain(m *testing.M) {
	switch os.Getenv(envRole) {
	case "":
		os.Exit(m.Run())
	case "lock":
		os.Exit(holdLock(os.Getenv(envPath)))
	case "open":
		s, err := Open(context.Background(), testOptions(os.Getenv(envPath)))
		if s != nil {
			_ = s.Close()
		}
		fmt.Printf("code=%s\n", conf.CodeOf(err))
		os.Exit(0)
	}
}

// holdLock locks the database until its standard input ends.
func holdLock(path string) int {
	s := &file{path: path, busyTimeout: time.Second}
	w, err := tables.OpenWriter(context.Background(), s.dsn(false))
	if err == nil {
		err = w.Exec(context.Background(), "BEGIN EXCLUSIVE")
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("locked")
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = w.Exec(context.Background(), "ROLLBACK")
	_ = w.Close()
	return 0
}

// another starts the test binary in a role. Its standard output is read by line.
func another(t *testing.T, role, path string, attr *syscall.SysProcAttr) (*bufio.Reader, io.Closer) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if attr != nil {
		// The other user may not be let into the directory of this binary.
		data, err := os.ReadFile(exe)
		if err != nil {
			t.Fatal(err)
		}
		dir, err := os.MkdirTemp("", "holdfast-store-test")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		exe = filepath.Join(dir, "store.test")
		if err := os.WriteFile(exe, data, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), envRole+"="+role, envPath+"="+path)
	cmd.Dir = "/"
	cmd.SysProcAttr = attr
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	return bufio.NewReader(out), in
}

func TestPragmasTookEffect(t *testing.T) {
	s := openNew(t)
	if !sqlite.OFDLockingEnabled() || !sqlite.StrictPragmasEnabled() {
		t.Error("the switches of the process are off")
	}
	pragma := func(q tables.Querier, name string) string {
		var v string
		if err := q.QueryRowContext(t.Context(), "PRAGMA "+name).Scan(&v); err != nil {
			t.Fatal(name, err)
		}
		return v
	}
	for name, want := range map[string]string{
		"journal_mode": "wal", "synchronous": "1", "wal_autocheckpoint": "0", "busy_timeout": "200", "cell_size_check": "1",
		"trusted_schema": "0", "temp_store": "2", "cache_size": "-8192", "query_only": "0",
	} {
		if got := pragma(s.w, name); got != want {
			t.Errorf("writer: %s = %s, want %s", name, got, want)
		}
	}
	conn, err := s.reads.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for name, want := range map[string]string{"journal_mode": "wal", "busy_timeout": "200", "query_only": "1", "cell_size_check": "1", "trusted_schema": "0", "cache_size": "-2048"} {
		if got := pragma(conn, name); got != want {
			t.Errorf("reader: %s = %s, want %s", name, got, want)
		}
	}
	if _, err := conn.ExecContext(t.Context(), "PRAGMA query_only = 0"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.ExecContext(t.Context(), "DELETE FROM meta"); err == nil {
		t.Error("a reader can write")
	}
	// Defensive: what is not to be touched cannot be.
	if err := s.w.Exec(t.Context(), "DELETE FROM items_fts_data"); err == nil {
		t.Error("the tables inside the index can be written: _defensive is off")
	}
	if err := s.w.Exec(t.Context(), `SELECT "no such column"`); err == nil {
		t.Error(`a misspelled name is a string: _dqs is on`)
	}
}

func TestPathsThatLookLikeURIs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b?mode=memory&x#y%41é")
	path := filepath.Join(dir, "config.db")
	s := openAt(t, path)
	d := newDriver(t, s)
	d.ok(d.edit(command.ActionPut, put("a", 0, `{}`)))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Size() < tables.PageSize {
		t.Fatalf("the file is not where it should be: %v, %v", st, err)
	}
	if got := records(t, openAt(t, path)); len(got) != 1 {
		t.Errorf("records %v", got)
	}
}

func TestOpenTightensModes(t *testing.T) {
	s, _ := filled(t, 3)
	path := s.file.path
	_ = s.Close()
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	openAt(t, path)
	if st, _ := os.Stat(path); st.Mode().Perm() != 0o600 {
		t.Errorf("mode %o", st.Mode().Perm())
	}
}

// closed gives the bytes of a closed store, checkpointed, with its records.
func closed(t *testing.T, n int) ([]byte, map[string]*conf.Record) {
	t.Helper()
	s, _ := filled(t, n)
	recs := records(t, s)
	path := s.file.path
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + "-wal"); err == nil {
		t.Fatal("the WAL is still there: this test would test less than it says")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data, recs
}

// tryOpen opens a damaged file. It may be rejected as corrupt; otherwise it must
// answer what it answered before, and go on to.
func tryOpen(t *testing.T, what, path string, want map[string]*conf.Record) (rejected bool) {
	t.Helper()
	s, err := Open(context.Background(), testOptions(path))
	if err != nil && conf.CodeOf(err) != conf.CodeSchemaMismatch {
		if conf.CodeOf(err) != conf.CodeCorrupt {
			t.Errorf("%s: %v (%s), want %s", what, err, conf.CodeOf(err), conf.CodeCorrupt)
		}
		if s != nil {
			t.Errorf("%s: a store beside the error", what)
		}
		return true
	}
	defer s.Close()
	same(t, what, want, records(t, s))
	for service, rec := range want {
		got, err := s.Queries.Record(context.Background(), service)
		if err != nil {
			t.Errorf("%s: %s: %v", what, service, err)
			continue
		}
		same(t, what, rec, got)
	}
	return false
}

func TestSingleBitFlips(t *testing.T) {
	data, want := closed(t, 60)
	rng := rand.New(rand.NewPCG(7, 7))
	path := filepath.Join(t.TempDir(), "config.db")
	rejected := 0
	const flips = 200
	for i := range flips {
		at, bit := rng.IntN(len(data)), rng.IntN(8)
		if i < 100 {
			at = i // every byte of the file's header
		}
		bad := bytes.Clone(data)
		bad[at] ^= 1 << bit
		for _, p := range []string{path, path + "-wal", path + "-shm"} {
			_ = os.Remove(p)
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if tryOpen(t, fmt.Sprintf("bit %d of byte %d", bit, at), path, want) {
			rejected++
		}
	}
	t.Logf("%d of %d flips rejected", rejected, flips)
	if rejected < flips/4 {
		t.Errorf("only %d of %d flips were rejected: are they where data is?", rejected, flips)
	}
}

// A changed text of a row is detected at every position. SQLite leaves
// copies of rows in unused space: those may change, and then nothing else does.
func TestFlipsInContent(t *testing.T) {
	s, _ := filled(t, 120)
	want := content(t, s)
	live := s.file.path
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(live)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "config.db")
	for _, text := range []string{`"value <`, "because", signature, testEpoch, "unauthorized", `"versions":`, `"service":"service-`, "req-"} {
		found, rejected := 0, 0
		for at := 0; ; found++ {
			i := bytes.Index(data[at:], []byte(text))
			if i < 0 {
				break
			}
			at += i + len(text)
			if found%4 != 0 {
				continue
			}
			bad := bytes.Clone(data)
			bad[at-1] ^= 1
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			damaged, err := Open(t.Context(), testOptions(path))
			if conf.CodeOf(err) == conf.CodeCorrupt {
				rejected++
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			same(t, fmt.Sprintf("%q at %d", text, at), want, content(t, damaged))
			_ = damaged.Close()
		}
		if rejected == 0 {
			t.Errorf("a changed %q was rejected in none of %d places", text, found)
		}
	}
}

func TestFlipsInTheWAL(t *testing.T) {
	dir := t.TempDir()
	live := filepath.Join(dir, "live", "config.db")
	s := openAt(t, live)
	d := newDriver(t, s)
	// What was true at each index: a torn WAL may lose its end, nothing else.
	at := map[uint64]map[string]*conf.Record{1: {}}
	for _, c := range story(d, 25) {
		d.apply(c)
		at[d.index] = records(t, s)
	}
	db, err := os.ReadFile(live)
	if err != nil {
		t.Fatal(err)
	}
	wal, err := os.ReadFile(live + "-wal")
	if err != nil || len(wal) < 100*tables.PageSize {
		t.Fatalf("WAL of %d bytes, %v", len(wal), err)
	}
	at[0] = map[string]*conf.Record{}
	rng := rand.New(rand.NewPCG(9, 9))
	lost := 0
	for i := range 100 {
		path := filepath.Join(dir, fmt.Sprint(i), "config.db")
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		bad := bytes.Clone(wal)
		pos := rng.IntN(len(bad))
		what := fmt.Sprintf("flip at %d", pos)
		if i%4 == 0 {
			bad, what = bad[:pos], fmt.Sprintf("cut at %d", pos)
		} else {
			bad[pos] ^= 1 << rng.IntN(8)
		}
		if err := os.WriteFile(path, db, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path+"-wal", bad, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(t.Context(), testOptions(path))
		if err != nil {
			if conf.CodeOf(err) != conf.CodeCorrupt {
				t.Errorf("%s: %v", what, err)
			}
			continue
		}
		index, _ := s.Applied()
		if index < d.index {
			lost++
		}
		same(t, fmt.Sprintf("%s, index %d", what, index), at[index], records(t, s))
		_ = s.Close()
		_ = os.RemoveAll(filepath.Dir(path))
	}
	if lost < 50 {
		t.Errorf("only %d of 100 lost anything: is the WAL used?", lost)
	}
}

func TestDamagedFiles(t *testing.T) {
	data, want := closed(t, 40)
	write := func(data []byte) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	rng := rand.New(rand.NewPCG(3, 3))
	garbage := make([]byte, 20000)
	for i := range garbage {
		garbage[i] = byte(rng.Uint32())
	}
	noTables := bytes.Clone(data)
	copy(noTables[103:105], []byte{0, 0}) // the schema has no cells any more
	sparse := bytes.Clone(data)
	clear(sparse[len(sparse)/2:])
	for name, prepare := range map[string]func(t *testing.T, path string){
		"garbage":       write(garbage),
		"text":          write([]byte("this is not a database\n")),
		"one byte":      write([]byte("S")),
		"half":          write(data[:len(data)/2/tables.PageSize*tables.PageSize]),
		"torn page":     write(data[:len(data)-1000]),
		"header only":   write(data[:tables.PageSize]),
		"no tables":     write(noTables),
		"second half 0": write(sparse),
		"all zero":      write(make([]byte, len(data))),
		"directory": func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		},
		"other database": func(t *testing.T, path string) {
			s := &file{path: path, busyTimeout: time.Second}
			w, err := tables.OpenWriter(t.Context(), s.dsn(false))
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Exec(t.Context(), "CREATE TABLE accounts (id INTEGER PRIMARY KEY, name TEXT)"); err != nil {
				t.Fatal(err)
			}
			_ = w.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.db")
			prepare(t, path)
			before, _ := os.ReadFile(path)
			if !tryOpen(t, name, path, want) {
				t.Error("not rejected")
			}
			if after, _ := os.ReadFile(path); name != "directory" && !bytes.Equal(before, after) {
				t.Error("the file was changed: nothing can be recovered from it now")
			}
		})
	}
}

// An empty file is what a crash leaves between making it and the first commit.
func TestEmptyFileIsANewStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := openAt(t, path)
	if index, term := s.Applied(); index != 0 || term != 0 || s.Epoch() != "" || len(records(t, s)) != 0 {
		t.Errorf("an empty file has the position %d/%d", index, term)
	}
	if err := s.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

// The schema is in the file itself from the start, so a lost WAL leaves a store.
func TestNewStoreWithoutItsWAL(t *testing.T) {
	s := openNew(t)
	data, err := os.ReadFile(s.file.path)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "config.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if index, _ := openAt(t, path).Applied(); index != 0 {
		t.Errorf("index %d", index)
	}
}

func TestTamperedByHand(t *testing.T) {
	for name, c := range map[string]struct {
		sql  string
		code conf.Code
	}{
		"a value":          {"UPDATE service_configs SET config_json = replace(config_json, ':1', ':2')", conf.CodeCorrupt},
		"a row gone":       {"DELETE FROM config_history WHERE id = 3", conf.CodeCorrupt},
		"a row more":       {"INSERT INTO access_log (action, success, timestamp, digest) VALUES ('read', 1, 't', x'00')", conf.CodeCorrupt},
		"a row twice":      {"INSERT INTO access_log (user_id, action, service, key, success, reason, timestamp, digest) SELECT user_id, action, service, key, success, reason, timestamp, digest FROM access_log LIMIT 1", conf.CodeCorrupt},
		"the index":        {"UPDATE meta SET applied_index = applied_index + 1", conf.CodeCorrupt},
		"the epoch":        {"UPDATE meta SET config_epoch = 'other'", conf.CodeCorrupt},
		"meta gone":        {"DELETE FROM meta", conf.CodeCorrupt},
		"a schema":         {"UPDATE schemas SET schema_json = '{}'", conf.CodeCorrupt},
		"a type":           {"UPDATE config_versions SET idx = '1' || idx", conf.CodeCorrupt},
		"schema version":   {"UPDATE schema_version SET version = version + 1", conf.CodeCorrupt},
		"no version row":   {"DELETE FROM schema_version", conf.CodeCorrupt},
		"an index dropped": {"DROP INDEX idx_config_items_key", conf.CodeCorrupt},
		"a trigger":        {"CREATE TRIGGER x AFTER INSERT ON service_configs BEGIN SELECT 1; END", conf.CodeCorrupt},
		"a column":         {"ALTER TABLE service_configs ADD COLUMN more TEXT", conf.CodeCorrupt},
		"a table dropped":  {"DROP TABLE profiles", conf.CodeCorrupt},
		"model hash":       {"UPDATE schema_version SET model_hash = 'feed'", conf.CodeSchemaMismatch},
		"a table of tools": {"CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER)", ""},
		"items":            {"UPDATE config_items SET value_json = '666'", ""},
		"items gone":       {"DELETE FROM config_items", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := filled(t, 40)
			want := content(t, s)
			path := s.file.path
			if err := s.w.Exec(t.Context(), c.sql); err != nil {
				t.Fatal(err)
			}
			_ = s.Close()
			s, err := Open(t.Context(), testOptions(path))
			if conf.CodeOf(err) != c.code {
				t.Fatalf("%v (%s), want %q", err, conf.CodeOf(err), c.code)
			}
			if s == nil {
				return
			}
			defer s.Close()
			got := content(t, s)
			if c.code == conf.CodeSchemaMismatch {
				delete(got, "version")
				delete(want, "version")
			}
			same(t, "content", want, got)
			if err := s.Verify(t.Context()); conf.CodeOf(err) != c.code {
				t.Errorf("Verify: %v", err)
			}
		})
	}
}

// A schema that is stored again heals a mismatch.
func TestSchemaMismatchHeals(t *testing.T) {
	s, _ := filled(t, 60)
	path := s.file.path
	if err := s.w.Exec(t.Context(), "UPDATE schema_version SET model_hash = 'feed'"); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	s, err := Open(t.Context(), testOptions(path))
	if conf.CodeOf(err) != conf.CodeSchemaMismatch || s == nil || conf.HintOf(err) == "" {
		t.Fatalf("%v, %v", s, err)
	}
	d := newDriver(t, s)
	e := d.edit(command.ActionSchema)
	e.Schemas = []command.Schema{schemaOf("service-1", `{"healed":{}}`)}
	d.ok(e)
	if err := s.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	_ = s.Close()
	openAt(t, path)
}

func TestLockedByAnotherProcess(t *testing.T) {
	s, d := filled(t, 5)
	path := s.file.path
	out, in := another(t, "lock", path, nil)
	if line, err := out.ReadString('\n'); line != "locked\n" {
		t.Fatal(line, err)
	}
	want := content(t, s) // reads go on
	begin := time.Now()
	e := d.entries(d.edit(command.ActionPut, put("new", 0, `{}`)))
	_, _, err := s.Apply(t.Context(), e)
	if conf.CodeOf(err) != conf.CodeLocked || conf.HintOf(err) == "" {
		t.Errorf("Apply: %v", err)
	}
	_, err = Open(t.Context(), testOptions(path))
	if conf.CodeOf(err) != conf.CodeLocked {
		t.Errorf("Open: %v", err)
	}
	if took := time.Since(begin); took < 300*time.Millisecond || took > 20*time.Second {
		t.Errorf("it took %v, the two together should wait for 400 ms", took)
	}
	same(t, "content", want, content(t, s))
	_ = in.Close()
	if _, err := out.ReadString('\n'); err != io.EOF { //nolint:errorlint // from a pipe
		t.Fatal(err)
	}
	// The same batch goes through now.
	res, _, err := s.Apply(t.Context(), e)
	if err != nil || res[0].Versions["new"] != 1 {
		t.Errorf("the same batch: %+v, %v", res, err)
	}
}

func TestFileThatCannotBeWritten(t *testing.T) {
	s, _ := filled(t, 5)
	data := s.file.path
	_ = s.Close()
	dir, err := os.MkdirTemp("", "holdfast-store-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "config.db")
	content, err := os.ReadFile(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o444); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	var attr *syscall.SysProcAttr
	if os.Geteuid() == 0 {
		attr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	for _, p := range []string{path, filepath.Join(dir, "missing.db"), filepath.Join(dir, "sub", "config.db")} {
		out, _ := another(t, "open", p, attr)
		if line, err := out.ReadString('\n'); line != "code="+string(conf.CodeReadOnly)+"\n" {
			t.Errorf("%s: %q, %v", p, line, err)
		}
	}
}

func TestPresent(t *testing.T) {
	for name, hurt := range map[string]func(path string) error{
		"deleted":     os.Remove,
		"wal deleted": func(p string) error { return os.Remove(p + "-wal") },
		"moved":       func(p string) error { return os.Rename(p, p+".old") },
		"replaced": func(p string) error {
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			if err := os.WriteFile(p+".new", data, 0o600); err != nil {
				return err
			}
			return os.Rename(p+".new", p)
		},
		"directory gone": func(p string) error { return os.RemoveAll(filepath.Dir(p)) },
	} {
		t.Run(name, func(t *testing.T) {
			s, d := filled(t, 5)
			if err := s.CheckFiles(); err != nil {
				t.Fatal(err)
			}
			if err := s.checkpoint(t.Context()); err != nil {
				t.Fatal(err)
			}
			d.ok(d.edit(command.ActionPut, put("x", 0, `{}`)))
			if err := s.CheckFiles(); err != nil {
				t.Fatalf("after a checkpoint: %v", err)
			}
			if err := hurt(s.file.path); err != nil {
				t.Fatal(err)
			}
			if err := s.CheckFiles(); conf.CodeOf(err) != conf.CodeCorrupt {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestClosedStore(t *testing.T) {
	s, d := filled(t, 5)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close twice: %v", err)
	}
	if _, _, err := s.Apply(t.Context(), d.entries(&command.Audit{})); err == nil {
		t.Error("Apply on a closed store")
	}
	if _, err := s.Queries.Record(t.Context(), "service-1"); err == nil {
		t.Error("Record on a closed store")
	}
	if _, err := s.Snapshot(t.Context()); err == nil {
		t.Error("Snapshot of a closed store")
	}
	if err := s.Restore(t.Context(), strings.NewReader("")); err == nil {
		t.Error("Restore into a closed store")
	}
	if err := s.Verify(t.Context()); err == nil {
		t.Error("Verify of a closed store")
	}
	if err := s.mergeSearchIndex(t.Context()); err != nil {
		t.Errorf("Merge on a closed store has nothing to do: %v", err)
	}
}
