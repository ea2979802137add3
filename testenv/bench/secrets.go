package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// secrets compares a document with ten secrets, read with proof, with the same
// document without them, and the unix socket with TCP.
func (b *bench) secrets() error {
	const many = 10
	a, err := b.newAgent("secrets", few)
	if err != nil {
		return err
	}
	defer a.kill()
	plain, secret := &strings.Builder{}, &strings.Builder{}
	for k := range b.keys {
		sep := ","
		if k == 0 {
			sep = ""
		}
		fmt.Fprintf(plain, `%s"key_%02d":{"type":"string","default":"value of key %d"}`, sep, k, k)
		if k < many {
			fmt.Fprintf(secret, `%s"key_%02d":{"type":"string","x-secret":true}`, sep, k)
		} else {
			fmt.Fprintf(secret, `%s"key_%02d":{"type":"string","default":"value of key %d"}`, sep, k, k)
		}
	}
	put := func(path, body string) error {
		r, err := request("PUT", "http://"+a.admin+"/api/config/"+path, body, "X-API-Token", token, "Content-Type", "application/json")
		if err == nil && r.Status != http.StatusOK {
			err = fmt.Errorf("%s: %d %s", path, r.Status, r.Body)
		}
		return err
	}
	for name, props := range map[string]string{"without": plain.String(), "within": secret.String()} {
		if err := put("schemas/"+name, `{"type":"object","properties":{`+props+`}}`); err != nil {
			return err
		}
	}
	for k := range many {
		if err := put(fmt.Sprintf("services/within/secrets/key_%02d", k), fmt.Sprintf(`{"value":"value of key %d"}`, k)); err != nil {
			return err
		}
	}
	dir := filepath.Join(b.dir, "secrets")
	proof, err := os.ReadFile(filepath.Join(dir, "local-token"))
	if err != nil {
		return err
	}
	token := "X-Holdfast-Token: " + strings.TrimSpace(string(proof))
	for _, conns := range []int{1, 16, 64} {
		// Both show the token: what is compared is the document.
		got, err := b.duel([]target{
			get("with secrets", a.local, "/v1/config/within", "").with(token), get("without", a.local, "/v1/config/without", "").with(token),
		}, conns)
		if err != nil {
			return err
		}
		b.rates(fmt.Sprintf("GET with ten secrets, beside the same without, %d conn", conns), got, 0.9)
	}
	socket := filepath.Join(dir, "local.sock")
	for _, conns := range []int{1, 16, 64} {
		unix := get("unix", a.local, "/v1/config/without", "")
		unix.addr = socket
		got, err := b.duel([]target{unix, get("tcp", a.local, "/v1/config/without", "")}, conns)
		if err != nil {
			return err
		}
		b.rates(fmt.Sprintf("GET on the unix socket, beside TCP, %d conn", conns), got, 1)
	}
	return nil
}

// rates adds the line of two sides.
func (b *bench) rates(what string, got []series, least float64) {
	r, t := judge(ratio(got[0], got[1], rate), least, true)
	b.add(row{what + ": requests/s", fmt.Sprintf("%.0f", median(got[0].each(rate))), fmt.Sprintf("%.0f", median(got[1].each(rate))), r, t})
}

// with adds a header to the request.
func (t target) with(header string) target {
	t.request = append(t.request[:len(t.request)-2:len(t.request)-2], header+"\r\n\r\n"...)
	return t
}
