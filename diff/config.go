package diff

import (
	"maps"
	"slices"
	"strings"

	"github.com/quaymaster/quaymaster/filetree"
)

// settings gives what differs of two configs, without labels.
func settings(a, b *filetree.Config) []Setting {
	out := []Setting{}
	text := func(key, x, y string) {
		if x != y {
			out = append(out, Setting{Key: key, A: unless(x, x == ""), B: unless(y, y == "")})
		}
	}
	list := func(key string, x, y []string) {
		if !slices.Equal(x, y) {
			out = append(out, Setting{Key: key, A: unless(x, x == nil), B: unless(y, y == nil)})
		}
	}
	text("platform", platform(a.Platform), platform(b.Platform))
	out = append(out, byName("env", variables(a.Config.Env), variables(b.Config.Env))...)
	list("entrypoint", a.Config.Entrypoint, b.Config.Entrypoint)
	list("cmd", a.Config.Cmd, b.Config.Cmd)
	text("user", a.Config.User, b.Config.User)
	text("workdir", a.Config.WorkingDir, b.Config.WorkingDir)
	out = append(out, byName("port", names(a.Config.ExposedPorts), names(b.Config.ExposedPorts))...)
	out = append(out, byName("volume", names(a.Config.Volumes), names(b.Config.Volumes))...)
	text("stopsignal", a.Config.StopSignal, b.Config.StopSignal)
	return out
}

// labels gives the labels that differ.
func labels(a, b *filetree.Config) []Setting {
	return append([]Setting{}, byName("label", a.Config.Labels, b.Config.Labels)...)
}

func unless[T any](v T, unset bool) any {
	if unset {
		return nil
	}
	return v
}

// variables gives an environment by name. What comes last holds.
func variables(env []string) map[string]string {
	m := map[string]string{}
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		m[name] = value
	}
	return m
}

func names(set map[string]struct{}) map[string]string {
	m := map[string]string{}
	for k := range set {
		m[k] = k
	}
	return m
}

func byName(key string, a, b map[string]string) (out []Setting) {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, b)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		x, inA := a[name]
		y, inB := b[name]
		if inA != inB || x != y {
			out = append(out, Setting{Key: key, Name: name, A: unless(x, !inA), B: unless(y, !inB)})
		}
	}
	return out
}
