package quaytest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/quaymaster/quaymaster/oci"
)

// A repository is what Quay knows of one, its content apart.
type repository struct {
	ID          int64
	Namespace   string
	Name        string // may hold "/"
	Description *string
	Public      bool
	State       string // NORMAL, READ_ONLY, MIRROR, ORG_MIRROR
	Grants      map[string]role
	History     []*tag
	Labels      map[oci.Digest][]label // that were set by the API
	Mirror      map[string]any         // its mirror configuration, nil: none
	Popularity  float64

	listed   []string // names in the cache of /v2 tag lists
	listedAt time.Time
}

func (r *repository) fullName() string { return r.Namespace + "/" + r.Name }

// storeName is where the store keeps the repository's content. It is made of
// the ID, since a name can be deleted and used again at once, and since Quay
// takes names that the distribution specification doesn't.
func (r *repository) storeName() string { return fmt.Sprintf("r%d", r.ID) }

// stateNumber is the number of r.State in Quay's error texts.
func (r *repository) stateNumber() int {
	return map[string]int{"READ_ONLY": 1, "MIRROR": 2, "ORG_MIRROR": 4}[r.State]
}

var (
	extendedNameRE = regexp.MustCompile(`^[a-z0-9][._a-z0-9-]*(/[a-z0-9][._a-z0-9-]*)*$`)
	plainNameRE    = regexp.MustCompile(`^[a-z0-9][._a-z0-9-]*$`)
)

func (s *Server) validRepoName(name string) bool {
	if s.opt.NoExtendedNames {
		return len(name) <= 255 && plainNameRE.MatchString(name)
	}
	return len(name) <= 255 && extendedNameRE.MatchString(name)
}

// addRepository makes a repository; owner, if any, becomes its admin.
func (s *Server) addRepository(ns, name string, public bool, owner string) *repository {
	s.state.NextID++
	r := &repository{
		ID: s.state.NextID, Namespace: ns, Name: name, Public: public, State: "NORMAL",
		Grants: map[string]role{}, Labels: map[oci.Digest][]label{},
	}
	if n := s.state.Namespaces[ns]; n != nil {
		maps.Copy(r.Grants, n.Defaults)
	}
	if owner != "" {
		r.Grants[owner] = admin
	}
	s.state.Repositories[r.fullName()] = r
	s.byID = append(s.byID, r)
	return r
}

func (s *Server) dropRepository(r *repository) {
	delete(s.state.Repositories, r.fullName())
	s.byID = slices.DeleteFunc(s.byID, func(o *repository) bool { return o == r })
}

// splitName splits at the first slash, as Quay does.
func splitName(full string) (ns, name string) {
	ns, name, _ = strings.Cut(full, "/")
	return ns, name
}
