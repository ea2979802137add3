package cli

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/holdfast-config/holdfast/replication/conf"
)

// Confirm prompts the user at the terminal. Without a terminal it returns false.
func (a *App) Confirm(ctx context.Context, question string) bool {
	if !IsTerminal(a.In) {
		return false
	}
	fmt.Fprintf(a.Err, "%s [y/N] ", question)
	answer, err := a.ReadLine(ctx)
	answer = strings.ToLower(answer)
	return err == nil && (answer == "y" || answer == "yes")
}

// ReadLine reads what a person types. It returns when ctx ends: a read of a
// terminal cannot be interrupted otherwise.
func (a *App) ReadLine(ctx context.Context) (string, error) {
	type result struct {
		text string
		err  error
	}
	read := make(chan result, 1)
	go func() {
		text, err := bufio.NewReader(a.In).ReadString('\n')
		read <- result{strings.TrimSpace(text), err}
	}()
	select {
	case r := <-read:
		return r.text, r.err
	case <-ctx.Done():
		fmt.Fprintln(a.Err)
		return "", ctx.Err()
	}
}

// ReadHidden asks for a value at the terminal and does not show it. When ctx ends it gives
// the terminal back as it was: a read of it cannot be interrupted, and would leave it silent.
func (a *App) ReadHidden(ctx context.Context, question string) (string, error) {
	in, ok := a.In.(*os.File)
	if !ok {
		return "", conf.Errorf(conf.CodeUsage, "there is no terminal to ask at")
	}
	before, err := term.GetState(int(in.Fd()))
	if err != nil {
		return "", conf.Errorf(conf.CodeUsage, "the value was not read: %w", err)
	}
	type result struct {
		text []byte
		err  error
	}
	read := make(chan result, 1)
	go func() {
		text, err := term.ReadPassword(int(in.Fd()))
		read <- result{text, err}
	}()
	// The question comes when nothing is shown any more: what is restored then stays so.
	for range 200 {
		if now, err := term.GetState(int(in.Fd())); err != nil || *now != *before || len(read) > 0 {
			break
		}
		<-time.After(time.Millisecond)
	}
	fmt.Fprint(a.Err, Clean(question))
	select {
	case r := <-read:
		fmt.Fprintln(a.Err)
		if r.err != nil {
			return "", conf.Errorf(conf.CodeUsage, "the value was not read: %w", r.err)
		}
		return string(r.text), nil
	case <-ctx.Done():
		_ = term.Restore(int(in.Fd()), before) // a terminal that is gone needs none
		fmt.Fprintln(a.Err)
		return "", ctx.Err()
	}
}
