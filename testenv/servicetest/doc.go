// Package servicetest tests what a person does with a whole service on the page: add it, export
// it, delete it, change its schema. All tests share one agent and one browser; each has services
// of its own.
package servicetest
