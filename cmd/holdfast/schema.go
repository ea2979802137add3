package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-config/holdfast/localapi/client"
	"github.com/holdfast-config/holdfast/replication/conf"
)

func newSchema(a *app) *cobra.Command {
	cmd := dispatch(&cobra.Command{
		Use:   "schema",
		Short: "The schemas: what each service's configuration may be",
		Long: `The schema of a service is a JSON Schema document, as Pydantic, zod or Go emit it,
with x-complexity, x-help, x-secret, x-secret-source and x-env where wanted.`,
	})
	cmd.AddCommand(newSchemaList(a), newSchemaGet(a), newSchemaPut(a))
	return cmd
}

func newSchemaList(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the schemas", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.admin(conf.RoleRead)
			if err != nil {
				return err
			}
			list, err := c.Schemas(cmd.Context())
			if err != nil {
				return err
			}
			if a.asJSON() {
				return a.printJSON(map[string]any{"schemas": list})
			}
			rows := make([][]string, len(list))
			for i, s := range list {
				rows[i] = []string{s.Service, s.Hash[:min(12, len(s.Hash))], s.UpdatedAt, s.UpdatedBy}
			}
			return a.table([]string{"SERVICE", "HASH", "UPDATED", "BY"}, rows)
		},
	}
}

func newSchemaGet(a *app) *cobra.Command {
	var fields bool
	cmd := &cobra.Command{
		Use:   "get SERVICE",
		Short: "Show the schema of a service, or its fields",
		Example: `  holdfast schema get stt-worker --fields
  holdfast schema get stt-worker > stt-worker.schema.json`,
		Args: needs("SERVICE"), ValidArgsFunction: a.completeService,
	}
	cmd.Flags().BoolVar(&fields, "fields", false, "show each key with its type, default and range")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := a.admin(conf.RoleRead)
		if err != nil {
			return err
		}
		info, err := c.Schema(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		switch {
		case !fields:
			return a.printJSON(info.Schema)
		case a.asJSON():
			return a.printJSON(info.Fields)
		}
		rows := make([][]string, len(info.Fields))
		for i, f := range info.Fields {
			rows[i] = []string{f.Key, string(f.Type), defaultOf(f), limits(f), string(f.Complexity), brief(f.Description, 60)}
		}
		return a.table([]string{"KEY", "TYPE", "DEFAULT", "ALLOWED", "COMPLEXITY", "DESCRIPTION"}, rows)
	}
	return cmd
}

func newSchemaPut(a *app) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "put SERVICE FILE",
		Short: "Store the schema of a service",
		Long: `Store the schema of a service, from a file or standard input (-). A service that is
new has its defaults as its first version. A schema that refuses values which are
stored now is refused itself.`,
		Example: `  holdfast schema put stt-worker stt-worker.schema.json
  python -m my_service.schema | holdfast schema put my-service -`,
		Args: needs("SERVICE", "FILE"),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`TEXT` for the history: why")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		doc, err := a.readDocument(args[1], conf.MaxSchema)
		if err != nil {
			return err
		}
		c, err := a.admin(conf.RoleWrite)
		if err != nil {
			return err
		}
		hash, version, err := c.PutSchema(cmd.Context(), args[0], doc, client.Change{Reason: reason})
		if err != nil {
			return err
		}
		if a.asJSON() {
			return a.printJSON(map[string]any{"service": args[0], "hash": hash, "version": version})
		}
		a.say("%s: schema %s stored", args[0], hash[:min(12, len(hash))])
		if version == 0 {
			a.note("hint: it has fields without a default: holdfast set %s KEY=VALUE... gives them values", args[0])
		}
		return nil
	}
	return cmd
}

// defaultOf is the default of a field in a table.
func defaultOf(f conf.Field) string {
	switch {
	case f.IsSecret && f.Env != "":
		return "$" + f.Env
	case f.Required:
		return "(required)"
	default:
		return brief(string(f.Default), 32)
	}
}

// limits is what a field allows, in a table.
func limits(f conf.Field) string {
	switch {
	case len(f.Allowed) > 0:
		return brief(strings.Join(f.Allowed, ", "), 40)
	case f.Min != nil && f.Max != nil:
		return f.Min.String() + " to " + f.Max.String()
	case f.Min != nil:
		return "from " + f.Min.String()
	case f.Max != nil:
		return "up to " + f.Max.String()
	case f.Pattern != nil:
		return brief(*f.Pattern, 40)
	default:
		return ""
	}
}
