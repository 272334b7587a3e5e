package publish

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

// A Plan says what [Publisher.Push] is to push where.
type Plan struct {
	Name     string // of the file, for messages
	Items    []PlanItem
	Warnings []string // what the user should know, a line each
}

// A PlanItem is one source and all tags that it gets.
type PlanItem struct {
	Source oci.Ref
	// Kind is what the source is; "" has it found out.
	Kind Kind
	// Dests are sorted by repository, tags in the order of the plan, each once.
	Dests []Destination

	number int // in the plan, from 1
}

// A Destination is one tag that is to be written.
type Destination struct {
	oci.Ref
	Path string // the repository below the registry and namespace of the plan
}

// PlanOptions are what the plan itself needn't say. What is set here goes first.
type PlanOptions struct {
	Registry       string // of the destinations, host[:port]
	Namespace      string // in front of their repositories
	SourceRegistry string // of pull_urls that name no host
	// Names is how repositories are named there: [NamesNested], which "" is as well,
	// [NamesFlatten], or a template of {namespace}, {repo} and {name}.
	Names string
}

const (
	// maxPlan bounds the size of a plan: 8 MiB. Items of a plan for 2,000 images
	// have some hundred bytes each.
	maxPlan = 8 << 20
	// maxDestinations bounds the tags of a plan, and so its items.
	maxDestinations = 100_000
	// maxPlanErrors is how many faults of a plan are told.
	maxPlanErrors = 50
)

// ParsePlan reads a plan, which is YAML or JSON; name is its file's. docs/publish.md
// has the format: a list of items, or a map with items and the defaults of
// [PlanOptions].
//
// Everything that is wrong is told together: the error matches [oci.ErrUsage] and has
// a line for each fault, "plan.yaml:12:3: item 3: ...". Unknown keys are faults, save
// those that pubtools-quay's push items have and nobody needs here. Items with one
// pull_url become one that gets the tags of all. A tag that two sources want is a
// fault.
func ParsePlan(name string, raw []byte, opt PlanOptions) (*Plan, error) {
	r := &planReader{name: name, opt: opt, plan: &Plan{Name: name}}
	items := r.document(raw)
	r.unite(items)
	if err := r.error(); err != nil {
		return nil, err
	}
	return r.plan, nil
}

// A planReader reads one plan.
type planReader struct {
	name   string
	opt    PlanOptions
	naming naming
	plan   *Plan
	faults []fault
	yaml   yamlNodes
}

// A place is where something is in a plan, from 1; the zero value is nowhere.
type place struct{ line, column int }

// A fault is one thing that is wrong.
type fault struct {
	at   place
	text string
}

func (r *planReader) fault(at place, format string, args ...any) {
	r.faults = append(r.faults, fault{at, fmt.Sprintf(format, args...)})
}

// error gives all faults, those further up first.
func (r *planReader) error() error {
	if len(r.faults) == 0 {
		return nil
	}
	slices.SortStableFunc(r.faults, func(a, b fault) int {
		return cmp.Or(cmp.Compare(a.at.line, b.at.line), cmp.Compare(a.at.column, b.at.column))
	})
	var lines []string
	for i, f := range r.faults {
		if i == maxPlanErrors {
			lines = append(lines, fmt.Sprintf("%s: and %d more", r.name, len(r.faults)-i))
			break
		}
		where := r.name
		if f.at.line > 0 {
			where = fmt.Sprintf("%s:%d:%d", r.name, f.at.line, f.at.column)
		}
		lines = append(lines, where+": "+f.text)
	}
	return oci.Usage(strings.Join(lines, "\n"))
}

// A rawItem is an item as it was written.
type rawItem struct {
	number  int
	at      place
	pullURL scalar
	tags    []rawTags
	kind    Kind
	other   string // its file_type, if that is no image's
	source  oci.Ref
}

// rawTags are the tags of one repository of an item.
type rawTags struct {
	repo scalar
	tags []scalar
}

// A scalar is one word of a plan.
type scalar struct {
	text string
	at   place
}

// unite gives the plan its items: one for each source.
func (r *planReader) unite(items []*rawItem) {
	bySource := map[oci.Ref]int{}
	takenBy := map[oci.Ref]*rawItem{}
	skipped := 0
	for _, raw := range items {
		if raw.other != "" {
			skipped++
			r.plan.Warnings = append(r.plan.Warnings, fmt.Sprintf("%s:%d:%d: item %d is skipped: its file_type is %q", r.name, raw.at.line, raw.at.column, raw.number, raw.other))
			continue
		}
		dests := r.destinations(raw)
		if raw.source == (oci.Ref{}) {
			continue // that was told
		}
		i, ok := bySource[raw.source]
		if !ok {
			i = len(r.plan.Items)
			bySource[raw.source] = i
			r.plan.Items = append(r.plan.Items, PlanItem{Source: raw.source, Kind: raw.kind, number: raw.number})
		}
		item := &r.plan.Items[i]
		if item.Kind != raw.kind {
			r.fault(raw.at, "item %d: it says other than item %d what %s is", raw.number, item.number, raw.source)
		}
		for _, d := range dests {
			before := takenBy[d.Ref]
			switch {
			case before == nil:
				takenBy[d.Ref] = raw
				item.Dests = append(item.Dests, d)
			case before.source != raw.source:
				r.fault(raw.at, "item %d: %s is to be what item %d has, %s", raw.number, d.Ref, before.number, before.source)
			}
		}
	}
	if len(takenBy) > maxDestinations {
		r.fault(place{}, "%d tags, limit %d", len(takenBy), maxDestinations)
	}
	if len(items) == skipped && len(r.faults) == 0 {
		r.fault(place{}, "no item is to be pushed")
	}
	for _, item := range r.plan.Items {
		slices.SortStableFunc(item.Dests, func(a, b Destination) int { return strings.Compare(a.Name(), b.Name()) })
	}
}

// destinations gives the tags of an item, as they were written.
func (r *planReader) destinations(item *rawItem) []Destination {
	var all []Destination
	for _, t := range item.tags {
		if len(r.faults) > 10*maxPlanErrors {
			break // enough is told
		}
		to, path, err := r.repository(t.repo.text)
		if err != nil {
			r.fault(t.repo.at, "item %d: %v", item.number, err)
			continue
		}
		for _, tag := range t.tags {
			if !oci.ValidTag(tag.text) {
				r.fault(tag.at, "item %d: %q is no tag", item.number, tag.text)
				continue
			}
			to.Tag = tag.text
			all = append(all, Destination{to, path})
		}
	}
	return all
}

// repository gives where the repository repo of a plan is. Without a registry for
// all, repo is a complete name.
func (r *planReader) repository(repo string) (to oci.Ref, path string, err error) {
	host, rest, _ := strings.Cut(repo, "/")
	named := strings.ContainsAny(host, ".:") || host == "localhost"
	switch {
	case r.opt.Registry == "" && !named:
		return to, "", oci.Usage(fmt.Sprintf("repository %q names no registry, and the plan has none: --registry, or registry in the plan", repo))
	case r.opt.Registry != "" && named:
		return to, "", oci.Usage(fmt.Sprintf("repository %q names a registry, and the plan has one for all: %s", repo, r.opt.Registry))
	case r.opt.Registry == "":
		to.Registry, repo = host, rest
	default:
		to.Registry = r.opt.Registry
	}
	to.Registry = strings.ToLower(to.Registry) // or one tag could be two, and not be denied
	if again, err := oci.ParseRef(to.Registry+"/a", ""); err != nil || again.Registry != to.Registry {
		return to, "", oci.Usage(fmt.Sprintf("%q is no registry: write host[:port], with a dot or a port unless it is localhost", to.Registry))
	}
	if path, err = r.naming.name(repo); err != nil {
		return to, "", err
	}
	to.Repository = path
	if r.opt.Namespace != "" {
		to.Repository = r.opt.Namespace + "/" + path
	}
	if !oci.ValidRepository(to.Repository) {
		return to, "", oci.Usage(fmt.Sprintf("%q is no name for a repository", to.Repository))
	}
	return to, path, nil
}
