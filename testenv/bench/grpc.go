package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// grpcConn is one connection to a gRPC server: HTTP/2 in clear text by net/http,
// messages put together by hand. That is as direct as etcd's own client, and
// needs no dependency.
type grpcConn struct {
	addr   string
	client *http.Client
}

func dialGRPC(addr string) *grpcConn {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	return &grpcConn{addr: addr, client: &http.Client{Transport: &http.Transport{Protocols: &p}}}
}

func (g *grpcConn) close() { g.client.CloseIdleConnections() }

func (g *grpcConn) post(ctx context.Context, method string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+g.addr+method, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	if d, ok := ctx.Deadline(); ok {
		req.Header.Set("Grpc-Timeout", fmt.Sprintf("%dm", max(1, time.Until(d).Milliseconds())))
	}
	return g.client.Do(req)
}

// call is one unary call; it returns the answer's message.
func (g *grpcConn) call(ctx context.Context, method string, message []byte) ([]byte, error) {
	resp, err := g.post(ctx, method, bytes.NewReader(frame(message)))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	status, text := resp.Trailer.Get("Grpc-Status"), resp.Trailer.Get("Grpc-Message")
	if s := resp.Header.Get("Grpc-Status"); s != "" {
		status, text = s, resp.Header.Get("Grpc-Message")
	}
	if resp.StatusCode != http.StatusOK || status != "0" || len(data) < 5 {
		return nil, fmt.Errorf("%s: %s, status %s: %s", method, resp.Status, status, text)
	}
	return data[5:], nil
}

// stream sends one message and gives each message of the answer to seen, until
// ctx ends or seen returns false.
func (g *grpcConn) stream(ctx context.Context, method string, message []byte, seen func([]byte) bool) error {
	r, w := io.Pipe()
	defer w.Close()
	go func() { _, _ = w.Write(frame(message)) }()
	resp, err := g.post(ctx, method, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	for {
		var head [5]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return err
		}
		m := make([]byte, binary.BigEndian.Uint32(head[1:]))
		if _, err := io.ReadFull(in, m); err != nil {
			return err
		}
		if !seen(m) {
			return nil
		}
	}
}

func frame(message []byte) []byte {
	out := make([]byte, 5, 5+len(message))
	binary.BigEndian.PutUint32(out[1:], uint32(len(message)))
	return append(out, message...)
}

// Protocol buffers, as much as is needed of them.

func pbBytes(to []byte, field int, v []byte) []byte {
	to = binary.AppendUvarint(to, uint64(field)<<3|2)
	to = binary.AppendUvarint(to, uint64(len(v)))
	return append(to, v...)
}

func pbUint(to []byte, field int, v uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(to, uint64(field)<<3), v)
}

// pbFields calls f with each field: the number of an integer, the bytes of all else.
func pbFields(m []byte, f func(field int, number uint64, data []byte)) error {
	for len(m) > 0 {
		key, n := binary.Uvarint(m)
		if n <= 0 {
			return errors.New("malformed protocol buffer")
		}
		m = m[n:]
		v, n := binary.Uvarint(m)
		if n <= 0 || (key&7 != 0 && key&7 != 2) {
			return errors.New("malformed protocol buffer")
		}
		m = m[n:]
		if key&7 == 0 {
			f(int(key>>3), v, nil)
			continue
		}
		if v > uint64(len(m)) {
			return errors.New("malformed protocol buffer")
		}
		f(int(key>>3), 0, m[:v])
		m = m[v:]
	}
	return nil
}
