package model

import (
	"context"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/typegen"
	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

// Schema returns the command holdfast schema.
func Schema(a *cli.App) *cobra.Command {
	return cli.Group(&cobra.Command{
		Use:   "schema",
		Short: "Show and store the schemas of services",
		Long: `The schema of a service is a JSON Schema document, as Pydantic, zod or Go emit it,
optionally with x-complexity, x-help, x-secret, x-secret-source and x-env.`,
	}, schemaList(a), schemaGet(a), schemaPut(a), schemaTypes(a))
}

func schemaList(a *cli.App) *cobra.Command {
	return cli.List[conf.SchemaInfo]{
		Columns: []string{"SERVICE", "HASH", "UPDATED", "BY"},
		Row:     func(s conf.SchemaInfo) []string { return []string{s.Service, short(s.Hash), s.UpdatedAt, s.UpdatedBy} },
	}.Command(a, &cobra.Command{Use: "list", Short: "List the schemas"}, "schemas", (*client.Client).Schemas)
}

func schemaGet(a *cli.App) *cobra.Command {
	var fields bool
	cmd := &cobra.Command{
		Use:   "get SERVICE",
		Short: "Show the schema of a service, or its fields",
		Example: `  holdfast schema get stt-worker --fields
  holdfast schema get stt-worker > stt-worker.schema.json`,
		Args: cli.Needs("SERVICE"), ValidArgsFunction: a.CompleteService,
	}
	cmd.Flags().BoolVar(&fields, "fields", false, "show each key with its type, default and range")
	out := cli.List[conf.Field]{
		Columns: []string{"KEY", "TYPE", "DEFAULT", "ALLOWED", "COMPLEXITY", "DESCRIPTION"},
		Row: func(f conf.Field) []string {
			return []string{f.Key, string(f.Type), defaultOf(f), limits(f), string(f.Complexity), cli.Brief(f.Description, 60)}
		},
	}
	cmd.RunE = a.WithAdmin(conf.RoleRead, func(ctx context.Context, c *client.Client, args []string) error {
		info, err := c.Schema(ctx, args[0])
		if err != nil {
			return err
		}
		if !fields {
			return a.PrintJSON(info.Schema)
		}
		return out.Print(a, info.Fields, info.Fields)
	})
	return cmd
}

func schemaTypes(a *cli.App) *cobra.Command {
	var language string
	cmd := &cobra.Command{
		Use:   "types SERVICE --lang LANGUAGE",
		Short: "Write the types of a schema for Python, TypeScript or Go",
		Long: `Write the schema of a service as types of a language: dataclasses that the Python client
takes, interfaces for TypeScript, or structs for Go. Names that are none in the language
are changed, and map to their keys.`,
		Example: `  holdfast schema types stt-worker --lang python > stt_config.py
  holdfast schema types stt-worker --lang go > config/config.go`,
		Args: cli.Needs("SERVICE"), ValidArgsFunction: a.CompleteService,
	}
	cmd.Flags().StringVar(&language, "lang", "", "the `LANGUAGE`: "+strings.Join(typegen.Languages(), ", "))
	cli.CompleteFlag(cmd, "lang", typegen.Languages()...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !slices.Contains(typegen.Languages(), language) {
			return cli.UsageError(cmd, "%q is no language for types", language).WithHint("use --lang with one of %s", strings.Join(typegen.Languages(), ", "))
		}
		c, err := a.Admin(conf.RoleRead)
		if err != nil {
			return err
		}
		info, err := c.Schema(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		out, err := typegen.Generate(language, args[0], info.Schema)
		if err != nil {
			return err
		}
		_, err = io.WriteString(a.Out, out)
		return err
	}
	return cmd
}

func schemaPut(a *cli.App) *cobra.Command {
	var p putting
	cmd := &cobra.Command{
		Use:   "put SERVICE FILE",
		Short: "Store the schema of a service, alone or with values",
		Long: `Store the schema of a service, from a file or standard input (-). The first
version of a new service consists of its defaults. A schema is rejected when stored
values do not match it.

With --with the values in VALUES replace the stored ones in the same change: both are
stored, as one version, or neither is. So a new required field, another type or a
tighter bound needs no step in between. Secrets that VALUES does not name stay.

Profiles whose values the new schema rejects are named, and stay as they are.`,
		Example: `  holdfast schema put stt-worker stt-worker.schema.json
  holdfast schema put stt-worker stt-worker.schema.json --with stt-worker.json --dry-run
  python -m my_service.schema | holdfast schema put my-service -`,
		Args: cli.Needs("SERVICE", "FILE"),
	}
	cli.ReasonFlag(cmd, &p.reason)
	cmd.Flags().StringVar(&p.with, "with", "", "the JSON `VALUES` to store in the same change")
	cmd.Flags().Uint64Var(&p.version, "version", 0, "with --with: only when the service is at this version, else exit code 4")
	cmd.Flags().BoolVar(&p.dryRun, "dry-run", false, "check only")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p.anyVersion = !cmd.Flags().Changed("version")
		if p.with == "" && !p.anyVersion {
			return cli.UsageError(cmd, "--version goes with --with")
		}
		if p.with == "-" && args[1] == "-" {
			return cli.UsageError(cmd, "the schema and the values cannot both be the standard input")
		}
		doc, err := cli.ReadSchema(a, args[1])
		if err != nil {
			return err
		}
		d := conf.Draft{Service: args[0], Op: conf.OpSchema, Schema: doc, Reason: p.reason, DryRun: p.dryRun}
		if p.with != "" {
			d.Op = conf.OpPut
			if d.Document, err = a.ReadDocument(p.with, conf.MaxDocument); err != nil {
				return err
			}
		}
		c, err := a.Admin(conf.RoleWrite)
		if err != nil {
			return err
		}
		return p.put(cmd.Context(), a, c, d)
	}
	return cmd
}

// putting is one call of holdfast schema put.
type putting struct {
	reason, with string
	version      uint64
	anyVersion   bool
	dryRun       bool
}

func (p *putting) put(ctx context.Context, a *cli.App, c *client.Client, d conf.Draft) error {
	if d.Op == conf.OpPut && !d.DryRun {
		if p.anyVersion {
			var err error
			if p.version, err = c.LastVersion(ctx, d.Service); err != nil {
				return err
			}
		}
		d.Expect = &p.version
	}
	if d.Op == conf.OpPut || d.DryRun {
		out, err := c.Do(ctx, d)
		if err != nil {
			return err
		}
		cli.NoteStale(a, out.Stale)
		if d.DryRun {
			return a.Print(map[string]any{"valid": true, "config": out.Config, "new_version": out.Version},
				"%s: the schema would be stored, and the service be at version %d", d.Service, out.Version)
		}
		return a.Print(cli.ChangeOf(out), "%s: version %d, with its schema", d.Service, out.Version)
	}
	out, err := c.PutSchema(ctx, d.Service, d.Schema, client.Change{Reason: d.Reason})
	if err != nil {
		return err
	}
	cli.NoteStale(a, out.Stale)
	err = a.Print(map[string]any{"service": d.Service, "hash": out.Hash, "version": out.Version}, "%s: schema %s stored", d.Service, short(out.Hash))
	if out.Version == 0 && !a.AsJSON() {
		a.Note("hint: it has fields without a default: holdfast set %s KEY=VALUE... gives them values", d.Service)
	}
	return err
}

// short is the start of a hash, enough to distinguish it.
func short(hash string) string { return hash[:min(12, len(hash))] }

// defaultOf is the default of a field in a table.
func defaultOf(f conf.Field) string {
	switch {
	case f.IsSecret && f.Env != "":
		return "$" + f.Env
	case f.Required:
		return "(required)"
	default:
		return cli.Brief(string(f.Default), 32)
	}
}

// limits is what a field allows, in a table.
func limits(f conf.Field) string {
	switch {
	case len(f.Allowed) > 0:
		return cli.Brief(strings.Join(f.Allowed, ", "), 40)
	case f.Min != nil && f.Max != nil:
		return f.Min.String() + " to " + f.Max.String()
	case f.Min != nil:
		return "from " + f.Min.String()
	case f.Max != nil:
		return "up to " + f.Max.String()
	case f.Pattern != nil:
		return cli.Brief(*f.Pattern, 40)
	default:
		return ""
	}
}
