//go:build !unix

package store

func noSpace(string) bool { return false }

func isReadOnlyFS(error) bool { return false }

func isFull(error) bool { return false }
