package cli

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/quaymaster/quaymaster/quay"
)

func (a *app) historyCmd() *cobra.Command {
	var f publishFlags
	return &cobra.Command{
		Use:   "history REFERENCE",
		Short: "Show what a tag of a Quay meant, and when",
		Long: `History lists what REFERENCE, HOST/REPOSITORY:TAG, has meant, newest first: since when,
until when, and which digest. Quay keeps that for two weeks unless set otherwise.
quaymaster restore brings one of them back.`,
		Example: `  quaymaster history quay.io/org/app:v1`,
		Args:    args("REFERENCE"),
		RunE: run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			return a.history(ctx, args[0], &f)
		}),
	}
}

// meant is the JSON of one line of history; docs/publish.md has its meaning.
type meant struct {
	Digest   string     `json:"digest"`
	From     time.Time  `json:"from"`
	Until    *time.Time `json:"until"` // null: it still does, and doesn't expire
	IsIndex  bool       `json:"is_index"`
	Size     *int64     `json:"size"`
	Restored bool       `json:"restored"`
}

func (a *app) history(ctx context.Context, arg string, f *publishFlags) error {
	refs, err := tagged([]string{arg})
	if err != nil {
		return err
	}
	o, err := a.publisher(nil, refs, f)
	if err != nil {
		return err
	}
	defer o.close()
	rows := []meant{}
	jsonl := json.NewEncoder(a.out)
	for t, err := range o.History(ctx, refs[0]) {
		if err != nil {
			return hinted(err)
		}
		row := toMeant(t)
		if a.work.output == "jsonl" {
			if err := jsonl.Encode(row); err != nil {
				return err
			}
			continue
		}
		rows = append(rows, row)
	}
	switch a.work.output {
	case "jsonl":
		return nil
	case "json":
		return a.printJSON(rows)
	}
	return a.printHistory(rows)
}

func toMeant(t quay.Tag) meant {
	row := meant{Digest: string(t.Digest), From: t.Start.UTC(), IsIndex: t.IsIndex, Restored: t.Reversion}
	if !t.End.IsZero() {
		end := t.End.UTC()
		row.Until = &end
	}
	if t.Size >= 0 {
		row.Size = &t.Size
	}
	return row
}

func (a *app) printHistory(rows []meant) error {
	if len(rows) == 0 {
		return nil
	}
	var lines []table.Row
	for _, r := range rows {
		until, size, how := "-", "-", ""
		if r.Until != nil {
			until = r.Until.Format(time.RFC3339)
		}
		if r.Size != nil {
			size = bytesText(*r.Size)
		}
		if r.Restored {
			how = "restored"
		}
		lines = append(lines, table.Row{r.From.Format(time.RFC3339), until, r.Digest, size, how})
	}
	return a.printRows(table.Row{"FROM", "UNTIL", "DIGEST", "SIZE", ""}, lines)
}
