package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/quaymaster/quaymaster/pipeline"
)

// infoText prints i as occystrap does: values from column 16 on, a table of
// layers, then what the config says of a container.
func (a *app) infoText(i pipeline.Info) error {
	var b strings.Builder
	row := func(label, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-15s%s\n", label+":", oneLine(value))
		}
	}
	row("Image", i.Image+":"+i.Tag)
	row("Digest", string(i.Digest))
	if m := i.ManifestInfo; m != nil {
		if m.MediaType != nil {
			row("Media type", *m.MediaType)
		}
		row("Schema", fmt.Sprintf("v%d", m.SchemaVersion))
	}
	if c := i.ConfigInfo; c != nil {
		row("Platform", strings.TrimSuffix(c.OS+"/"+c.Architecture+"/"+c.Variant, "/"))
		row("Created", c.Created)
	}
	var platforms []string
	for _, p := range i.Platforms {
		platforms = append(platforms, strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/"))
	}
	row("Platforms", strings.Join(platforms, ", "))
	if m := i.ManifestInfo; m != nil {
		row("Config digest", string(m.ConfigDigest))
		row("Config size", bytesText(m.ConfigSize))
		fmt.Fprintf(&b, "\nLayers: %d\nTotal compressed size: %s\n\n", m.LayerCount, bytesText(m.LayerBytes))
		if len(m.Layers) > 0 {
			b.WriteString(layerTable(m.Layers) + "\n\n")
		}
	} else if i.ConfigInfo != nil { // no manifest: the config tells of the layers
		fmt.Fprintf(&b, "\nLayers: %d\n\n", len(i.TarLayers))
		if len(i.TarLayers) > 0 {
			b.WriteString(tarLayerTable(i.TarLayers) + "\n\n")
		}
	}
	if c := i.ConfigInfo; c != nil {
		fmt.Fprintf(&b, "History: %d entries (%d empty)\n", c.HistoryCount, c.EmptyLayerCount)
		b.WriteString(containerText(c))
	}
	_, err := fmt.Fprint(a.out, b.String())
	return err
}

func layerTable(layers []pipeline.LayerInfo) string {
	t := table.NewWriter()
	t.AppendHeader(table.Row{"#", "Compressed Digest", "DiffID", "Size", "Compression", "Created By"})
	for _, l := range layers {
		t.AppendRow(table.Row{l.Index, cut25(string(l.Digest)), cut25(string(l.DiffID)), bytesText(l.Size), l.Compression, createdText(l.CreatedBy)})
	}
	return renderLayers(t)
}

func tarLayerTable(layers []pipeline.TarLayer) string {
	t := table.NewWriter()
	t.AppendHeader(table.Row{"#", "DiffID", "Created By"})
	for _, l := range layers {
		t.AppendRow(table.Row{l.Index, cut25(string(l.DiffID)), createdText(l.CreatedBy)})
	}
	return renderLayers(t)
}

func createdText(by *string) string {
	if by == nil {
		return ""
	}
	return oneLine(strings.ReplaceAll(*by, "\t", " "))
}

func renderLayers(t table.Writer) string {
	t.SetColumnConfigs([]table.ColumnConfig{{Number: 1, Align: text.AlignLeft}, {Name: "Created By", WidthMax: 50}})
	t.Style().Format.Header = text.FormatDefault
	return t.Render()
}

// cut25 shortens digests as occystrap does.
func cut25(s string) string {
	if len(s) <= 25 {
		return s
	}
	return s[:25] + "..."
}

// containerText gives what the config says of a container, without what is
// empty.
func containerText(c *pipeline.ConfigInfo) string {
	var b strings.Builder
	line := func(label, value string) {
		if value != "" {
			fmt.Fprintf(&b, "  %-11s %s\n", label+":", oneLine(value))
		}
	}
	line("Entrypoint", listText(c.Entrypoint))
	line("Cmd", listText(c.Cmd))
	line("WorkingDir", c.WorkingDir)
	line("Ports", strings.Join(c.ExposedPorts, ", "))
	line("Volumes", strings.Join(c.Volumes, ", "))
	if len(c.Env) > 0 {
		b.WriteString("  Environment:\n")
		for _, e := range c.Env {
			fmt.Fprintf(&b, "    %s\n", oneLine(e))
		}
	}
	if len(c.Labels) > 0 {
		b.WriteString("  Labels:\n")
		for _, k := range slices.Sorted(maps.Keys(c.Labels)) {
			fmt.Fprintf(&b, "    %s\n", oneLine(k+"="+c.Labels[k]))
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return "\nContainer Config:\n" + b.String()
}

// listText gives a list as occystrap writes it: ['a', 'b'].
func listText(list []string) string {
	if len(list) == 0 {
		return ""
	}
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = "'" + strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), "'", `\'`) + "'"
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
