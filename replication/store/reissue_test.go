package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-config/holdfast/replication/command"
	"github.com/holdfast-config/holdfast/replication/conf"
	"github.com/holdfast-config/holdfast/replication/store/apply"
)

func again(d *driver, at string, services ...string) *command.Reissue {
	r := &command.Reissue{Epoch: d.s.Epoch(), At: at, KeyID: "8899aabbccddeeff"}
	for _, name := range services {
		rec, err := d.s.Queries.Record(d.tb.Context(), name)
		if err != nil {
			d.tb.Fatal(err)
		}
		r.Items = append(r.Items, command.ReissueItem{Service: name, Version: rec.Version, Signature: "bmV3LQ==" + name})
	}
	return r
}

// TestReissue signs some of the services, and all of them: only the signature
// changes, and what the batch gives is what the store holds.
func TestReissue(t *testing.T) {
	for _, all := range []bool{false, true} {
		t.Run(fmt.Sprintf("all=%t", all), func(t *testing.T) {
			s := openNew(t)
			d := newDriver(t, s)
			names := []string{"a", "b", "gone"}
			for i := range 20 {
				names = append(names, fmt.Sprintf("more-%02d", i))
			}
			for _, n := range names {
				e := d.edit(command.ActionPut, put(n, 0, `{"x":1}`))
				if n == "a" {
					e.Secrets = []command.Secret{{Service: n, Key: "k", EncryptedValue: sealedText(1), KeyID: "m1"}}
				}
				if n != "b" {
					e.Schemas = []command.Schema{schemaOf(n, `{"x":{"d":"the x"}}`)}
				}
				d.ok(e)
			}
			e := d.edit(command.ActionSchema)
			e.Schemas = []command.Schema{schemaOf("bare", `{"y":{}}`)}
			d.ok(e)
			d.ok(d.edit(command.ActionDelete, tombstone("gone", 1)))
			want, before := content(t, s), records(t, s)

			signed := []string{"a", "b", "gone"}
			if all {
				signed = names
			}
			r := again(d, "2026-03-04T05:06:07+00:00", signed...)
			r.Items[1].IssuedAt = "2026-03-04T05:06:08+00:00"
			res, recs := d.ok(r)
			if res.Versions != nil || len(recs) != len(signed) {
				t.Fatalf("result %+v, %d records", res, len(recs))
			}
			after := records(t, s)
			for i, n := range signed {
				rec := *before[n]
				rec.IssuedAt, rec.Signature, rec.KeyID = r.Issued(i), r.Items[i].Signature, r.KeyID
				same(t, n, &rec, after[n])
				before[n] = &rec
			}
			same(t, "records", before, after)
			for _, rec := range recs {
				same(t, "what the batch gave of "+rec.Service, after[rec.Service], rec)
			}
			got := content(t, s)
			if got["digest"] == want["digest"] {
				t.Error("the digest does not cover the signatures")
			}
			for _, k := range []string{"items", "history", "access", "profiles", "schemas", "version", "items digest"} {
				same(t, k, want[k], got[k])
			}
			vs, err := s.Queries.Versions(t.Context(), "a", 10)
			if err != nil || len(vs) != 1 || vs[0].Signature != signature {
				t.Errorf("the versions that are kept: %+v, %v", vs, err)
			}
			if err := s.Verify(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestReissueComesTooLate holds that a signature never replaces a newer one, nor
// that of another version or epoch.
func TestReissueComesTooLate(t *testing.T) {
	s := openNew(t)
	d := newDriver(t, s)
	for _, n := range []string{"a", "b", "c", "d"} {
		d.ok(d.edit(command.ActionPut, put(n, 0, `{"x":1}`)))
	}
	r := again(d, "2026-03-04T05:06:07+00:00", "a", "b", "c", "d")
	r.Items = append(r.Items, command.ReissueItem{Service: "unknown", Version: 1, Signature: "bmV3"})
	later := again(d, "2026-03-04T05:06:08+00:00", "b")
	equal := again(d, "2026-03-04T05:06:07+00:00", "c")
	equal.Items[0].Signature = "b3RoZXI="
	change := d.edit(command.ActionPut, put("a", 1, `{"x":2}`))
	change.Updates[0].IssuedAt = "2026-03-04T05:06:06+00:00"
	foreign := again(d, "2026-03-04T05:06:09+00:00", "d")
	foreign.Epoch = "another"
	twice := again(d, "2026-03-04T05:06:09+00:00", "d")

	entries := d.entries(change, later, equal, r, foreign)
	twice.Items = append(twice.Items, twice.Items[0])
	d.index++
	entries = append(entries, apply.Entry{Index: d.index, Term: 1, Command: twice})
	res, recs, err := s.Apply(t.Context(), entries)
	if err != nil {
		t.Fatal(err)
	}
	codes := []conf.Code{}
	for _, r := range res {
		code := conf.Code("")
		if r.Err != nil {
			code = r.Err.Code
		}
		codes = append(codes, code)
	}
	same(t, "results", []conf.Code{"", "", "", "", conf.CodeConflict, conf.CodeInvalid}, codes)
	got := records(t, s)
	issued := map[string]string{}
	for n, rec := range got {
		issued[n] = rec.IssuedAt[17:19] + rec.Signature
	}
	same(t, "signatures", map[string]string{"a": "06" + signature, "b": "08bmV3LQ==b", "c": "07b3RoZXI=", "d": "07bmV3LQ==d"}, issued)
	for _, rec := range recs {
		same(t, "what the batch gave of "+rec.Service, got[rec.Service], rec)
	}
	if err := s.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

// BenchmarkReissue signs all services in one entry.
func BenchmarkReissue(b *testing.B) {
	for _, n := range []int{10, 2000} {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			s := openNew(b)
			d := newDriver(b, s)
			fill(b, d, n)
			names := conf.SortedKeys(records(b, s))
			at := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
			for b.Loop() {
				b.StopTimer()
				at = at.Add(time.Second)
				r := &command.Reissue{Epoch: testEpoch, At: conf.FormatTime(at), KeyID: "8899aabbccddeeff"}
				for _, name := range names {
					r.Items = append(r.Items, command.ReissueItem{Service: name, Version: 1, Signature: fmt.Sprintf("%086d==", at.Unix())})
				}
				b.StartTimer()
				d.ok(r)
			}
		})
	}
}

// TestReissueTakesBackATime holds that an item ends the one later time that it names, and
// that the signature of a version stays with its key.
func TestReissueTakesBackATime(t *testing.T) {
	s := openNew(t)
	d := newDriver(t, s)
	ed := d.edit(command.ActionPut, put("a", 0, `{"x":1}`))
	ed.Updates[0].IssuedAt, ed.Updates[0].VersionSignature = "2026-03-05T00:00:00+00:00", "dmVyc2lvbg=="
	d.ok(ed)
	at := func(issued, replaces, key, version string) *command.Reissue {
		r := again(d, issued, "a")
		r.KeyID, r.Items[0].Replaces, r.Items[0].VersionSignature = key, replaces, version
		return r
	}
	key := records(t, s)["a"].KeyID
	for _, step := range []struct {
		what            string
		cmd             *command.Reissue
		issued, version string
	}{
		{"earlier", at("2026-03-04T00:00:00+00:00", "", key, ""), "05", "dmVyc2lvbg=="},
		{"earlier than another one", at("2026-03-04T00:00:00+00:00", "2026-03-05T00:00:01+00:00", key, ""), "05", "dmVyc2lvbg=="},
		{"earlier than this one", at("2026-03-04T00:00:00+00:00", "2026-03-05T00:00:00+00:00", key, ""), "04", "dmVyc2lvbg=="},
		{"the same again, late", at("2026-03-03T00:00:00+00:00", "2026-03-05T00:00:00+00:00", key, ""), "04", "dmVyc2lvbg=="},
		{"by another key", at("2026-03-06T00:00:00+00:00", "", "8899aabbccddeeff", ""), "06", ""},
		{"with a version", at("2026-03-07T00:00:00+00:00", "", "8899aabbccddeeff", "bmV3"), "07", "bmV3"},
	} {
		d.ok(step.cmd)
		rec := records(t, s)["a"]
		same(t, step.what, []string{step.issued, step.version, "bmV3LQ==a"}, []string{rec.IssuedAt[8:10], rec.VersionSignature, map[bool]string{true: "bmV3LQ==a", false: rec.Signature}[step.issued == "05"]})
		if err := s.Verify(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
