package filter

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/quaymaster/quaymaster/internal/jsonedit"
	"github.com/quaymaster/quaymaster/oci"
)

var setConfig = Kind{
	Name: "set-config",
	Help: "sets how containers start, labels and annotations",
	Options: map[string]string{
		"env":              "NAME=VALUE; repeatable",
		"unset-env":        "NAME; repeatable",
		"label":            "KEY=VALUE; repeatable",
		"unset-label":      "KEY; repeatable",
		"annotation":       "KEY=VALUE of the manifest; repeatable",
		"unset-annotation": "KEY of the manifest; repeatable",
		"entrypoint":       `["/bin/x","-y"], or one word; [] removes it`,
		"cmd":              "the same for the default arguments",
		"user":             "user[:group]; empty removes it",
		"workdir":          "folder to start in; empty removes it",
	},
	New: func(o Options, _ Env) (Filter, error) {
		var x configEdit
		var err error
		pairs := func(name string) (list []pair) {
			for _, text := range o.All(name) {
				p, perr := parsePair(name, text)
				if perr != nil && err == nil {
					err = perr
				}
				list = append(list, p)
			}
			return list
		}
		x.env, x.labels, x.annotations = pairs("env"), pairs("label"), pairs("annotation")
		x.unsetEnv, x.unsetLabels, x.unsetAnnotations = o.List("unset-env"), o.List("unset-label"), o.List("unset-annotation")
		for _, s := range []struct {
			name string
			to   **[]string
		}{{"entrypoint", &x.entrypoint}, {"cmd", &x.cmd}} {
			if err == nil {
				*s.to, err = parseWords(o, s.name)
			}
		}
		for _, s := range []struct {
			name string
			to   **string
		}{{"user", &x.user}, {"workdir", &x.workdir}} {
			v, ok, oerr := o.One(s.name)
			if ok {
				*s.to = &v
			}
			if err == nil {
				err = oerr
			}
		}
		switch {
		case err != nil:
			return Filter{}, err
		case len(o) == 0:
			return Filter{}, oci.Usage("set-config filter requires an option, as env=NAME=VALUE")
		}
		return Filter{Image: x}, nil
	},
}

// A pair is key=value.
type pair struct{ key, value string }

func (p pair) String() string { return p.key + "=" + p.value }

func parsePair(option, text string) (pair, error) {
	key, value, ok := strings.Cut(text, "=")
	if !ok || key == "" || strings.ContainsRune(text, 0) {
		return pair{}, oci.Usage(fmt.Sprintf("set-config: %s wants KEY=VALUE, not %q", option, text))
	}
	return pair{key, value}, nil
}

// parseWords gives the words of an option, nil if it isn't given.
func parseWords(o Options, name string) (*[]string, error) {
	v, ok, err := o.One(name)
	if !ok || err != nil {
		return nil, err
	}
	words := []string{}
	switch {
	case strings.HasPrefix(v, "["):
		if err := json.Unmarshal([]byte(v), &words); err != nil {
			return nil, oci.Usage(fmt.Sprintf(`set-config: %s wants ["word","word"] or one word, not %s`, name, v))
		}
	case v != "":
		words = append(words, v)
	}
	return &words, nil
}

// A configEdit is what set-config changes; nil leaves a thing as it is.
type configEdit struct {
	env, labels, annotations                []pair
	unsetEnv, unsetLabels, unsetAnnotations []string
	entrypoint, cmd                         *[]string // empty removes it
	user, workdir                           *string   // empty removes it
}

func (x configEdit) ID() string {
	i := newID("set-config", 1)
	for _, s := range []struct {
		name  string
		pairs []pair
		unset []string
	}{{"env", x.env, x.unsetEnv}, {"label", x.labels, x.unsetLabels}, {"annotation", x.annotations, x.unsetAnnotations}} {
		i.add("unset-"+s.name, s.unset...)
		for _, p := range s.pairs {
			i.add(s.name, p.String())
		}
	}
	if x.entrypoint != nil {
		i.add("entrypoint", string(jsonedit.Marshal(*x.entrypoint)))
	}
	if x.cmd != nil {
		i.add("cmd", string(jsonedit.Marshal(*x.cmd)))
	}
	if x.user != nil {
		i.add("user", *x.user)
	}
	if x.workdir != nil {
		i.add("workdir", *x.workdir)
	}
	return i.String()
}

// Edit changes what was asked for and nothing else. What already is as it
// should be keeps its bytes.
func (x configEdit) Edit(_ context.Context, img *oci.Image) error {
	old := img.Config["config"]
	var has struct {
		Env        []string
		Labels     json.RawMessage
		Entrypoint []string
		Cmd        []string
		User       string
		WorkingDir string
	}
	if len(old) > 0 {
		if err := json.Unmarshal(old, &has); err != nil {
			return fmt.Errorf("config: %w: %w", oci.ErrInvalid, err)
		}
	}
	var changes []jsonedit.Change
	set := func(key string, same, remove bool, v any) {
		switch {
		case same:
		case remove:
			changes = append(changes, jsonedit.Change{Key: key})
		default:
			changes = append(changes, jsonedit.Change{Key: key, Value: jsonedit.Marshal(v)})
		}
	}
	env := x.editEnv(has.Env)
	set("Env", slices.Equal(env, has.Env), len(env) == 0, env)
	if w := x.entrypoint; w != nil {
		set("Entrypoint", slices.Equal(*w, has.Entrypoint), len(*w) == 0, *w)
	}
	if w := x.cmd; w != nil {
		set("Cmd", slices.Equal(*w, has.Cmd), len(*w) == 0, *w)
	}
	if s := x.user; s != nil {
		set("User", *s == has.User, *s == "", *s)
	}
	if s := x.workdir; s != nil {
		set("WorkingDir", *s == has.WorkingDir, *s == "", *s)
	}
	labels, err := x.editLabels(has.Labels)
	if err != nil {
		return fmt.Errorf("config labels: %w", err)
	}
	if !bytes.Equal(labels, has.Labels) {
		changes = append(changes, jsonedit.Change{Key: "Labels", Value: labels})
	}
	edited, err := jsonedit.Set(old, changes...)
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	if len(changes) > 0 && !bytes.Equal(edited, old) {
		if img.Config == nil {
			img.Config = map[string]json.RawMessage{}
		}
		img.Config["config"] = edited
	}
	x.annotate(img)
	return nil
}

// editEnv gives env with what is set in its place, and new names at the end in
// the order in which they were given. A name that stood twice stands once then.
func (x configEdit) editEnv(env []string) []string {
	env = slices.DeleteFunc(slices.Clone(env), func(v string) bool {
		return slices.Contains(x.unsetEnv, envName(v))
	})
	for _, p := range x.env {
		at := slices.IndexFunc(env, func(v string) bool { return envName(v) == p.key })
		if at < 0 {
			env = append(env, p.String())
			continue
		}
		env[at] = p.String()
		rest := slices.DeleteFunc(env[at+1:], func(v string) bool { return envName(v) == p.key })
		env = env[:at+1+len(rest)]
	}
	return env
}

func envName(v string) string {
	name, _, _ := strings.Cut(v, "=")
	return name
}

// editLabels gives raw, an object of strings, with labels set and removed.
func (x configEdit) editLabels(raw json.RawMessage) (json.RawMessage, error) {
	var has map[string]string
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &has); err != nil {
			return nil, fmt.Errorf("%w: %w", oci.ErrInvalid, err)
		}
	}
	var changes []jsonedit.Change
	want := maps.Clone(has)
	if want == nil {
		want = map[string]string{}
	}
	for _, key := range x.unsetLabels {
		delete(want, key)
	}
	for _, p := range x.labels {
		want[p.key] = p.value
	}
	for _, key := range slices.Concat(x.unsetLabels, keys(x.labels)) {
		v, wanted := want[key]
		was, had := has[key]
		switch {
		case wanted && (!had || v != was):
			changes = append(changes, jsonedit.Change{Key: key, Value: jsonedit.Marshal(v)})
		case !wanted:
			changes = append(changes, jsonedit.Change{Key: key})
		}
	}
	return jsonedit.Set(raw, changes...)
}

func keys(pairs []pair) []string {
	all := make([]string, len(pairs))
	for i, p := range pairs {
		all[i] = p.key
	}
	return all
}

func (x configEdit) annotate(img *oci.Image) {
	if len(x.annotations)+len(x.unsetAnnotations) == 0 {
		return
	}
	img.Annotations = maps.Clone(img.Annotations)
	for _, key := range x.unsetAnnotations {
		delete(img.Annotations, key)
	}
	for _, p := range x.annotations {
		if img.Annotations == nil {
			img.Annotations = map[string]string{}
		}
		img.Annotations[p.key] = p.value
	}
}
