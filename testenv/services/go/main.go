// Command go is a service that takes its configuration from the Holdfast agent
// beside it, with the standard library only. It prints its configuration, waits
// for a change, and prints the new one. With CONFIG_LOCAL_TOKEN_FILE, the agent's
// local-token file, it tells the agent what became of each version. Settings:
// CONFIG_AGENT_URL, CONFIG_SERVICE_NAME, CONFIG_KEY (the key to print), EXIT_AFTER_CHANGES.
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// document is what the agent answers, as far as this service cares.
type document struct {
	Config   map[string]any `json:"config"`
	Metadata struct {
		Version uint64 `json:"version"`
		Epoch   string `json:"config_epoch"`
	} `json:"metadata"`
	etag string
}

func main() {
	agent := cmp.Or(os.Getenv("CONFIG_AGENT_URL"), "http://127.0.0.1:2770")
	service := cmp.Or(os.Getenv("CONFIG_SERVICE_NAME"), "stt-worker")
	url := agent + "/v1/config/" + service
	key := cmp.Or(os.Getenv("CONFIG_KEY"), "whisper_model")
	exitAfter, _ := strconv.Atoi(os.Getenv("EXIT_AFTER_CHANGES")) // 0: never

	var last document
	for changes := -1; exitAfter == 0 || changes < exitAfter; {
		doc, err := fetch(url, last.etag)
		switch {
		case err != nil: // the agent restarts: keep the configuration, try again
			fmt.Println("agent:", err)
			time.Sleep(500 * time.Millisecond)
		case doc == nil: // nothing new within the wait
		case doc.Metadata.Epoch == last.Metadata.Epoch && doc.Metadata.Version <= last.Metadata.Version:
			// An agent that has just started may answer from its last-known-good
			// file for a moment, which may be older than what we have.
			time.Sleep(200 * time.Millisecond)
		default:
			last = *doc
			changes++
			fmt.Printf("config %s=%v version=%d\n", key, doc.Config[key], doc.Metadata.Version)
			status, reason := "applied", ""
			if _, ok := doc.Config[key]; !ok {
				status, reason = "rejected", "there is no "+key
			}
			if err := acknowledge(agent+"/v1/ack/"+service, doc, status, reason); err != nil {
				fmt.Println("acknowledge:", err) // no fault of ours
			}
		}
	}
}

// acknowledge tells the agent what became of a version.
func acknowledge(url string, doc *document, status, reason string) error {
	path := os.Getenv("CONFIG_LOCAL_TOKEN_FILE")
	if path == "" {
		return nil
	}
	token, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{
		"version": doc.Metadata.Version, "config_epoch": doc.Metadata.Epoch, "status": status, "reason": reason,
	})
	if err != nil {
		return err
	}
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("X-Holdfast-Token", strings.TrimSpace(string(token)))
	req.Header.Set("Content-Type", "application/json")
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		text, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("%s: %s", resp.Status, text)
	}
	return nil
}

// fetch reads the newest document; it waits while that is still the one of
// etag, and returns nil when nothing changed within the wait.
func fetch(url, etag string) (*document, error) {
	if etag != "" {
		url += "?wait=30s"
	}
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	if etag != "" {
		req.Header.Set("If-None-Match", etag)
	}
	client := http.Client{Timeout: time.Minute}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		doc := &document{etag: resp.Header.Get("ETag")}
		return doc, json.NewDecoder(resp.Body).Decode(doc)
	case http.StatusNotModified:
		return nil, nil
	default:
		text, _ := io.ReadAll(resp.Body)
		return nil, fmt.Errorf("%s: %s", resp.Status, text)
	}
}
