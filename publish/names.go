package publish

import (
	"fmt"
	"strings"

	"github.com/quaymaster/quaymaster/backend"
	"github.com/quaymaster/quaymaster/oci"
)

// How repositories are named at the destination, beside a template.
const (
	NamesNested  = "nested"  // as they are written: namespace/repo
	NamesFlatten = "flatten" // namespace/repo is namespace----repo, as pubtools-quay has it
)

// delimiter stands for the slash of a flattened name.
const delimiter = "----"

// FlattenName gives the name that the external repository repo ("namespace/repo" or
// "repo") has in one level. More than one slash, or one at an end, is an error
// matching [oci.ErrUsage].
func FlattenName(repo string) (string, error) { return swapDelimiter(repo, "/", delimiter) }

// UnflattenName is the inverse of [FlattenName], with the same errors.
func UnflattenName(repo string) (string, error) { return swapDelimiter(repo, delimiter, "/") }

func swapDelimiter(repo, from, to string) (string, error) {
	before, after, found := strings.Cut(repo, from)
	switch {
	case repo != "" && !found:
		return repo, nil
	case before == "" || after == "" || strings.Contains(after, from):
		return "", oci.Usage(fmt.Sprintf("repository %q: it has to be NAMESPACE%sREPOSITORY, or a name without %q", repo, from, from))
	}
	return before + to + after, nil
}

// naming gives repositories their names at the destination.
type naming struct {
	policy   string
	template backend.Template // of a policy that is one
}

// parseNaming reads a policy: nested (or ""), flatten, or a template of {namespace},
// {repo} and {name}. Errors match [oci.ErrUsage].
func parseNaming(policy string) (naming, error) {
	switch {
	case policy == "" || policy == NamesNested:
		return naming{policy: NamesNested}, nil
	case policy == NamesFlatten:
		return naming{policy: NamesFlatten}, nil
	case !strings.Contains(policy, "{"):
		return naming{}, oci.Usage(fmt.Sprintf("repository names %q: write nested, flatten, or a template of {namespace}, {repo} and {name}", policy))
	}
	t, err := backend.ParseTemplate(policy)
	if err != nil {
		return naming{}, err
	}
	for _, other := range []string{"registry", "tag", "digest", "arch"} {
		if t.Has(other) {
			return naming{}, oci.Usage(fmt.Sprintf("repository names %q: {%s} can't be part of one; write {namespace}, {repo} and {name}", policy, other))
		}
	}
	return naming{policy: policy, template: t}, nil
}

// name gives the name of repo at the destination.
func (n naming) name(repo string) (string, error) {
	name, err := repo, error(nil)
	switch n.policy {
	case "", NamesNested:
	case NamesFlatten:
		name, err = FlattenName(repo)
	default:
		if name, err = n.template.Expand(backend.Subject{Ref: oci.Ref{Repository: repo}}); err == nil {
			name = strings.Trim(name, "/") // of what has no namespace
		}
	}
	if err == nil && !oci.ValidRepository(name) {
		err = oci.Usage(fmt.Sprintf("repository %q: %q is no name for a repository", repo, name))
	}
	return name, err
}
