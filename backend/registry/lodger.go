package registry

import "github.com/quaymaster/quaymaster/oci"

var _ oci.Lodger = source{}

// Lodging implements [oci.Lodger].
func (s source) Lodging() (registry, repository string) { return s.ref.Registry, s.ref.Repository }
