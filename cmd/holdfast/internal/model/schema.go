package model

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/cmd/holdfast/internal/cli"
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
	}, schemaList(a), schemaGet(a), schemaPut(a))
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

func schemaPut(a *cli.App) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "put SERVICE FILE",
		Short: "Store the schema of a service",
		Long: `Store the schema of a service, from a file or standard input (-). The first
version of a new service consists of its defaults. A schema is rejected when stored
values do not match it.`,
		Example: `  holdfast schema put stt-worker stt-worker.schema.json
  python -m my_service.schema | holdfast schema put my-service -`,
		Args: cli.Needs("SERVICE", "FILE"),
	}
	cli.ReasonFlag(cmd, &reason)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		doc, err := a.ReadDocument(args[1], conf.MaxSchema)
		if err != nil {
			return err
		}
		c, err := a.Admin(conf.RoleWrite)
		if err != nil {
			return err
		}
		hash, version, err := c.PutSchema(cmd.Context(), args[0], doc, client.Change{Reason: reason})
		if err != nil {
			return err
		}
		err = a.Print(map[string]any{"service": args[0], "hash": hash, "version": version}, "%s: schema %s stored", args[0], short(hash))
		if version == 0 && !a.AsJSON() {
			a.Note("hint: it has fields without a default: holdfast set %s KEY=VALUE... gives them values", args[0])
		}
		return err
	}
	return cmd
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
