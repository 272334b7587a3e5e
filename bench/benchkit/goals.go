package main

import (
	"fmt"
	"slices"
	"strings"
)

// A goal is one figure that the project wants: at most limit.
type goal struct {
	number   int
	scenario string // as measured: a copy's has "-cold" or "-warm"
	what     string
	limit    float64
	unit     string // behind the figure: "x" of a ratio
	// got gives the figure and what it was compared with, false if that wasn't measured.
	got func(r *results) (float64, string, bool)
}

// line gives the goal as a row of a table.
func (g goal) line(r *results) string {
	figure, beside, ok := g.got(r)
	measured, met := "", "not run"
	if ok {
		measured, met = format(figure)+g.unit, "met"
		if near := g.limit - figure; near != 0 && near > -0.005 && near < 0.005 {
			measured = fmt.Sprintf("%.4f%s", figure, g.unit) // so that it shows on which side
		}
		if figure > g.limit+1e-9 {
			met = "**missed**"
		}
		if beside != "" {
			measured += " (" + beside + ")"
		}
	}
	return fmt.Sprintf("| %d | %s | %s | %s%s | %s | %s |", g.number, g.scenario, g.what, format(g.limit), g.unit, measured, met)
}

func format(f float64) string {
	if f == float64(int(f)) {
		return fmt.Sprintf("%.0f", f)
	}
	return fmt.Sprintf("%.2f", f)
}

// hashless are the peers that don't hash what they copy between registries.
const hashless = "oras"

// parity is what counts as equal, within what runs differ by.
const parity = 1.05

func goals() []goal {
	wall, cpu := cell.wall, cell.cpu
	return []goal{
		{1, "bulk-org-small-cold", "wall, of the fastest peer's", 0.50, "x", toFastest("bulk-org-small-cold", wall)},
		{1, "bulk-org-small-cold", "wall, of the floor's", 1.25, "x", toTool("bulk-org-small-cold", wall, "floor")},
		{1, "bulk-org-small-cold", "CPU, of the floor's", 1.50, "x", toTool("bulk-org-small-cold", cpu, "floor")},
		{2, "bulk-multiarch-cold", "wall, of the fastest peer's", 0.55, "x", toFastest("bulk-multiarch-cold", wall)},
		{3, "bulk-many-tiny-cold", "wall, of the fastest peer's", 0.60, "x", toFastest("bulk-many-tiny-cold", wall)},
		{3, "bulk-many-tiny-warm", "wall, of the fastest peer's", 0.90, "x", toFastest("bulk-many-tiny-warm", wall)},
		{4, "lat-org-small-cold", "blobs fetched, of the distinct ones", 1, "x", toDistinct("lat-org-small", "source", "GET.blobs")},
		{4, "lat-org-small-cold", "blobs uploaded, of the distinct ones", 1, "x", toDistinct("lat-org-small", "dest", "PUT.uploads")},
		{5, "lat-many-tiny-cold", "requests an image, tokens of several repositories", 12, "", anImage("lat-many-tiny", "cold")},
		{5, "lat-many-tiny-warm", "the same", 3, "", anImage("lat-many-tiny", "warm")},
		{5, "single-many-tiny-cold", "requests an image, tokens of one repository", 14, "", anImage("single-many-tiny", "cold")},
		{5, "single-many-tiny-warm", "the same", 4, "", anImage("single-many-tiny", "warm")},
		{5, "all through proxies", "connections to one registry", 8, "", connections("lat-many-tiny-cold", "lat-org-small-cold", "single-many-tiny-cold")},
		{6, "lat-many-tiny-cold", "wall, of the fastest peer's", 0.50, "x", toFastest("lat-many-tiny-cold", wall)},
		{6, "lat-org-small-cold", "wall, of the fastest peer's", 0.50, "x", toFastest("lat-org-small-cold", wall)},
		{7, "nomount-org-small-cold", "wall, of the fastest peer's", 0.75, "x", toFastest("nomount-org-small-cold", wall)},
		{7, "nomount-org-small-cold", "blobs fetched, of the distinct ones", 1, "x", toDistinct("nomount-org-small", "source", "GET.blobs")},
		{8, "one-copy", "CPU, of the floor's", 1.20, "x", toTool("one-copy", cpu, "floor")},
		{8, "one-copy", "wall, of the fastest peer's that hashes", parity, "x", toFastest("one-copy", wall, hashless)},
		{8, "one-oci", "CPU, of the floor's", 1.20, "x", toTool("one-oci", cpu, "floor")},
		{8, "one-oci", "wall, of the fastest peer's that hashes", parity, "x", toFastest("one-oci", wall)},
		{9, "one-tar", "wall, of skopeo's", 0.50, "x", toTool("one-tar", wall, "skopeo")},
		{9, "one-tar", "wall, of occystrap's", 0.65, "x", toTool("one-tar", wall, "occystrap")},
		{10, "normalize", "wall, of ggcr's mutate.Time", 0.35, "x", toTool("normalize", wall, "ggcr")},
		{10, "normalize", "wall, of regctl's", 0.20, "x", toTool("normalize", wall, "regctl")},
		{10, "normalize", "output, of what gzip -6 makes of it", 1.02, "x", repacked("normalize")},
		{11, "search", "wall, of occystrap's", 0.50, "x", toTool("search", wall, "occystrap")},
		{11, "inspect", "wall, of the fastest peer's", 0.45, "x", toFastest("inspect", wall)},
		{11, "inspect", "CPU, of the fastest peer's", 0.15, "x", toFastest("inspect", cpu)},
		{12, "list-since", "wall, of what the limit dictates", 1.05, "x", toLimit("list-since")},
		{12, "list-since", "answers 429", 0, "", limited("list-since")},
		{12, "list-since-free", "wall, of the CPU time of both ends", 1.20, "x", toWork("list-since-free")},
		{13, "all copies", "peak resident MiB", 48, "", peak(false)},
		{13, "normalize, search", "peak resident MiB", 64, "", peak(true)},
	}
}

type figure = func(r *results) (float64, string, bool)

func ours(tool string) bool   { return strings.HasPrefix(tool, "quaymaster") }
func isPeer(tool string) bool { return !ours(tool) && !strings.HasPrefix(tool, "floor") }

// toFastest compares with the peer of the shortest wall, but not with those named.
func toFastest(scenario string, column func(cell) float64, but ...string) figure {
	return func(r *results) (float64, string, bool) {
		for _, c := range r.cells(scenario) {
			name, _, _ := strings.Cut(c.tool, ":")
			if isPeer(c.tool) && !slices.Contains(but, name) && len(c.runs) > 0 {
				return r.ratio(scenario, c, column)
			}
		}
		return 0, "", false
	}
}

// toTool compares with the fastest of the tools whose names begin so.
func toTool(scenario string, column func(cell) float64, name string) figure {
	return func(r *results) (float64, string, bool) {
		for _, c := range r.cells(scenario) {
			if strings.HasPrefix(c.tool, name) && len(c.runs) > 0 {
				return r.ratio(scenario, c, column)
			}
		}
		return 0, "", false
	}
}

func (r *results) ratio(scenario string, with cell, column func(cell) float64) (float64, string, bool) {
	c, ok := r.cell(scenario, us)
	if !ok || column(with) == 0 {
		return 0, "", false
	}
	return column(c) / column(with), fmt.Sprintf("%.2f to %s %.2f s", column(c), with.tool, column(with)), true
}

// data gives what is known of a scenario's images: images, distinct, references.
func (r *results) data(scenario string) counts { return parseCounts(r.facts["data "+scenario]) }

func toDistinct(scenario, end, kind string) figure {
	return func(r *results) (float64, string, bool) {
		n, ok := r.most(scenario+"-cold", us, end, kind)
		distinct := r.data(scenario)["distinct"]
		if !ok || distinct == 0 {
			return 0, "", false
		}
		return float64(n) / float64(distinct), fmt.Sprintf("%d of %d", n, distinct), true
	}
}

func anImage(scenario, pass string) figure {
	return func(r *results) (float64, string, bool) {
		n, ok := r.most(scenario+"-"+pass, us, "", "total")
		images := r.data(scenario)["images"]
		if !ok || images == 0 {
			return 0, "", false
		}
		return float64(n) / float64(images), fmt.Sprintf("%d for %d images", n, images), true
	}
}

func connections(scenarios ...string) figure {
	return func(r *results) (most float64, _ string, ok bool) {
		for _, s := range scenarios {
			for _, end := range []string{"source", "dest"} {
				n, known := r.most(s, us, end, "conns")
				most, ok = max(most, float64(n)), ok || known
			}
		}
		return most, "", ok
	}
}

func repacked(scenario string) figure {
	return func(r *results) (f float64, _ string, ok bool) {
		_, err := fmt.Sscanf(r.facts["gzip6 "+scenario+" "+us], "%g", &f)
		return f, "", err == nil
	}
}

func toLimit(scenario string) figure {
	return func(r *results) (float64, string, bool) {
		c, ok := r.cell(scenario, us)
		n, counted := r.most(scenario, us, "source", "total")
		if !ok || !counted || quayTime(n) == 0 {
			return 0, "", false
		}
		return c.wall() / quayTime(n), fmt.Sprintf("%.2f to %.2f s, %d calls", c.wall(), quayTime(n), n), true
	}
}

func limited(scenario string) figure {
	return func(r *results) (float64, string, bool) {
		n, ok := r.most(scenario, us, "source", "limited")
		return float64(n), "", ok
	}
}

// toWork compares the wall with the work: above 1, something waits.
func toWork(scenario string) figure {
	return func(r *results) (float64, string, bool) {
		c, ok := r.cell(scenario, us)
		work := c.cpu() + c.median(func(one run) float64 { return one.src })
		if !ok || work == 0 {
			return 0, "", false
		}
		return c.wall() / work, fmt.Sprintf("%.2f to %.2f s", c.wall(), work), true
	}
}

// peak gives our highest, with filters and searches or without.
func peak(filtered bool) figure {
	return func(r *results) (most float64, where string, ok bool) {
		for _, name := range r.names() {
			if (strings.HasPrefix(name, "normalize") || name == "search") != filtered {
				continue
			}
			if c, known := r.cell(name, us); known && c.rss() > most {
				most, where, ok = c.rss(), name, true
			}
		}
		return most, where, ok
	}
}
