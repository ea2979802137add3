package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// backedServices make a database of about ten megabytes.
const backedServices = 160

// backup compares an agent that backs up, once a second, with one that does not, and a
// restore with a plain copy of the same bytes.
func (b *bench) backup() error {
	place := []string{"LITESTREAM_S3_ENDPOINT=file://" + filepath.Join(b.dir, "place"), "CONFIG_BACKUP_DRILL=0"}
	off, err := b.newAgent("unbacked", backedServices)
	if err != nil {
		return err
	}
	on, err := b.newAgent("backed", backedServices)
	if err != nil {
		return err
	}
	// Their services are loaded: from here on, one has a backup.
	var began time.Time
	for _, a := range []*agent{off, on} {
		if err := a.stop(); err != nil {
			return err
		}
		if a == on {
			a.env = append(a.env, place...)
		}
		began = time.Now()
		if err := a.start(); err != nil {
			return err
		}
		if err := a.settle(); err != nil {
			return err
		}
	}
	var st backupStatus
	if err := on.await("the backup to be verified", time.Minute, func() bool {
		st, err = on.backupStatus()
		return err == nil && st.Verified != nil
	}); err != nil {
		return err
	}
	b.add(row{what: "begin of a generation: start of the agent to a verified backup", ours: time.Since(began).Round(time.Millisecond).String(), other: fmt.Sprintf("drill %.0f ms", st.Drill.Took*1e3)})
	if err := b.backedWrites(on, off); err != nil {
		return err
	}
	if st, err = on.backupStatus(); err != nil {
		return err
	}
	b.add(row{what: "lag of the backup behind a commit: p99", ours: fmt.Sprintf("%.2f s", st.LagP99), target: "aim 2 s"})
	if err := b.restores(on); err != nil {
		return err
	}
	stop := func(a *agent) (time.Duration, error) {
		start := time.Now()
		err := a.stop()
		return time.Since(start), err
	}
	with, err := stop(on)
	if err != nil {
		return err
	}
	without, err := stop(off)
	if err != nil {
		return err
	}
	b.add(row{what: "end of a generation: stop of an agent with a backup, beside one without", ours: ms(with), other: ms(without)})
	return nil
}

func (b *bench) backedWrites(on, off *agent) error {
	took, err := b.writeTurns(20_000, on, off)
	if err != nil {
		return err
	}
	for _, q := range []struct {
		name string
		at   float64
	}{{"p50", 0.5}, {"p99", 0.99}} {
		w, wo := quantile(took[0], q.at), quantile(took[1], q.at)
		r, t := judge(float64(w)/float64(wo), 1.1, false)
		b.add(row{"a write with a backup beside one without: " + q.name, ms(w), ms(wo), r, t})
	}
	return nil
}

// restores times holdfast backup restore, which proves what it restored, and a copy.
func (b *bench) restores(a *agent) error {
	var ours, other []time.Duration
	var size int64
	for i := range 5 {
		out := filepath.Join(b.dir, fmt.Sprintf("restored-%d.db", i))
		cmd := exec.Command(b.options.agent, "backup", "restore", "-o", out)
		cmd.Env = append(os.Environ(), a.env...)
		start := time.Now()
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("restore: %w: %s", err, text)
		}
		ours = append(ours, time.Since(start))
		start = time.Now()
		n, err := copyFile(out, out+".copy")
		if err != nil {
			return err
		}
		other, size = append(other, time.Since(start)), n
	}
	b.add(row{
		fmt.Sprintf("restore of %.1f MB, with its proof, beside a plain copy", float64(size)/1e6), ms(median(ours)), ms(median(other)),
		fmt.Sprintf("%.0f", float64(median(ours))/float64(median(other))), "aim 10 s",
	})
	return nil
}

func copyFile(from, to string) (int64, error) {
	in, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return 0, err
	}
	defer out.Close()
	n, err := io.Copy(out, in)
	if err == nil {
		err = out.Sync()
	}
	return n, err
}

type backupStatus struct {
	LagP99 float64 `json:"lag_p99_seconds"`
	Drill  *struct {
		Took float64 `json:"took_seconds"`
	} `json:"drill"`
	Verified *struct{} `json:"verified"`
}

func (a *agent) backupStatus() (st backupStatus, err error) {
	r, err := request("GET", "http://"+a.admin+"/api/config/backups/status", "", "X-API-Token", token)
	if err == nil {
		err = json.Unmarshal(r.Body, &st)
	}
	return st, err
}
