package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/quaymaster/quaymaster/bulk"
	"github.com/quaymaster/quaymaster/oci"
)

func (a *app) listCmd() *cobra.Command {
	var sizes bool
	cmd := &cobra.Command{
		Use:   "list SOURCE",
		Short: "Show which images a source stands for",
		Long: `List shows the images that SOURCE stands for, with digest, size and date, in a
stable order. Nothing is pulled. It is the dry run of everything else.

Sizes are sums of compressed layers, as the listing counts them. Quay gives none
for images of several platforms; --sizes reads their manifests for it.`,
		Example: `  quaymaster list 'quay://kolla/nova-*:2025.1-*?since=2026-01-01'
  quaymaster list ocidir://kolla -O json`,
		Args: args("SOURCE"),
		RunE: run(func(ctx context.Context, _ *cobra.Command, args []string) error { return a.list(ctx, args[0], sizes) }),
	}
	cmd.Flags().BoolVar(&sizes, "sizes", false, "read manifests for the sizes that the listing lacks")
	return cmd
}

// listed is the JSON of one image of list; docs/cli.md has its meaning.
type listed struct {
	Reference  string     `json:"reference"`
	Registry   string     `json:"registry"`
	Repository string     `json:"repository"`
	Tag        string     `json:"tag"`
	Digest     *string    `json:"digest"`
	IsIndex    bool       `json:"is_index"`
	Size       *int64     `json:"size"`
	SetAt      *time.Time `json:"set_at"`
	ExpiresAt  *time.Time `json:"expires_at"`
}

func (a *app) list(ctx context.Context, uri string, sizes bool) error {
	s, err := a.open(ctx, uri, "")
	if err != nil {
		return err
	}
	defer s.close()
	rows := []listed{} // an empty listing is an empty array
	found := 0
	jsonl := json.NewEncoder(a.out)
	for item, err := range bulk.List(ctx, s.images, sizes, bulk.Options{Images: a.work.images}) {
		if err != nil {
			return hinted(err)
		}
		row := toListed(item)
		if a.work.output == "jsonl" {
			if err := jsonl.Encode(row); err != nil {
				return err
			}
		} else {
			rows = append(rows, row)
		}
		found++
	}
	if found == 0 {
		a.noneFound(s)
	}
	a.tellListing(s)
	switch a.work.output {
	case "jsonl":
		return nil
	case "json":
		return a.printJSON(rows)
	}
	return a.printTable(rows)
}

func toListed(i oci.Item) listed {
	row := listed{
		Reference:  i.Ref.String(),
		Registry:   i.Ref.Registry,
		Repository: i.Ref.Repository,
		Tag:        i.Ref.Tag,
		IsIndex:    i.IsIndex || oci.IsIndexType(i.Desc.MediaType),
	}
	if d := string(i.Desc.Digest); d != "" && !oci.IsSynthetic(i.Desc) {
		row.Digest = &d
	}
	if i.Bytes >= 0 {
		row.Size = &i.Bytes
	}
	if !i.Set.IsZero() {
		t := i.Set.UTC()
		row.SetAt = &t
	}
	if !i.Expires.IsZero() {
		t := i.Expires.UTC()
		row.ExpiresAt = &t
	}
	return row
}

func (a *app) printTable(rows []listed) error {
	if len(rows) == 0 {
		return nil
	}
	var lines []table.Row
	for _, r := range rows {
		digest, size, set := "-", "-", "-"
		if r.Digest != nil {
			digest = (*r.Digest)[:min(19, len(*r.Digest))]
		}
		if r.Size != nil {
			size = bytesText(*r.Size)
		}
		if r.SetAt != nil {
			set = r.SetAt.Format(time.RFC3339)
		}
		lines = append(lines, table.Row{oneLine(r.Reference), digest, size, set})
	}
	return a.printRows(table.Row{"REFERENCE", "DIGEST", "SIZE", "SET"}, lines)
}

// printRows prints a table in the look that all have.
func (a *app) printRows(header table.Row, lines []table.Row) error {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Options = table.OptionsNoBordersAndSeparators
	t.AppendHeader(header)
	t.AppendRows(lines)
	_, err := fmt.Fprintln(a.out, t.Render())
	return err
}

// printJSON prints v as occystrap does: indented by two.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
