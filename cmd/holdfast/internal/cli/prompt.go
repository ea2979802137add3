package cli

import (
	"bufio"
	"context"
	"fmt"
	"strings"
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
