package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"

	"github.com/holdfast-config/holdfast/localapi"
	"github.com/holdfast-config/holdfast/localapi/admin"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// view is a localapi.Source with one document.
type view struct{ doc *localapi.Document }

func (v view) Get(service string) (*localapi.Document, <-chan struct{}, bool) {
	if service != "stt-worker" {
		return nil, nil, false
	}
	return v.doc, nil, true
}
func (view) Missing(string) <-chan struct{} { return nil }
func (view) Names() []string                { return []string{"stt-worker"} }
func (view) State() *localapi.State         { return localapi.NewState("e1", "replica", 1, 0) }

// A service reads its document from the local API, and an operator's program
// changes it by the admin API, on the version that it read.
func Example() {
	adminAPI := httptest.NewServer(must(admin.New(options(&backend{}))))
	defer adminAPI.Close()
	var render *localapi.Renderer // without secrets
	doc := render.Render(&conf.Record{Service: "stt-worker", Version: 5, Epoch: "e1", Config: []byte(`{"a":1,"b":2}`)})
	localAPI := httptest.NewServer(must(localapi.New(localapi.Options{Source: view{doc}})).Handler())
	defer localAPI.Close()

	c := must(client.New(client.Options{AdminURL: adminAPI.URL, LocalURL: localAPI.URL, Token: "admin-token"}))
	defer c.Close()
	ctx := context.Background()

	read := must(c.Document(ctx, "stt-worker"))
	fmt.Printf("version %d from %s: %s\n", read.Metadata.Version, read.Source, read.Config)

	out := must(c.Do(ctx, conf.Draft{
		Op: conf.OpPatch, Service: "stt-worker", Document: []byte(`{"a":2}`), Expect: &read.Metadata.Version, Reason: "an example",
	}))
	fmt.Println("now at version", out.Version)

	_, err := c.Document(ctx, "sst-worker")
	fmt.Println(errors.Is(err, conf.ErrNotFound), "-", conf.HintOf(err))

	// Output:
	// version 5 from replica: {"a":1,"b":2}
	// now at version 6
	// true - did you mean stt-worker?
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
