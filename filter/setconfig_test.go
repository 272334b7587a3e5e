package filter_test

import (
	"encoding/json"
	"errors"
	"maps"
	"testing"

	"github.com/quaymaster/quaymaster/oci"
)

func TestSetConfig(t *testing.T) {
	const config = `{ "Hostname":"", "Env":["PATH=/bin","A=1","B=2","A=3"], "Cmd":["sh"],"Labels":{"z": "1", "a":"2<3"},"x-own":1.50 ,"WorkingDir":"/" }`
	tests := []struct {
		name, spec, in, want string
	}{
		{"env in its place, once", "env=A=9", config, `{ "Hostname":"", "Env":["PATH=/bin","A=9","B=2"], "Cmd":["sh"],"Labels":{"z": "1", "a":"2<3"},"x-own":1.50 ,"WorkingDir":"/" }`},
		{"new env at the end, in order", "env=Z=1,2,env=C=", `{"Env":["A=1"]}`, `{"Env":["A=1","Z=1,2","C="]}`},
		{"env given twice", "env=A=1,env=A=2", `{}`, `{"Env":["A=2"]}`},
		{"unset env", "unset-env=A,PATH", `{"Env":["PATH=/bin","A=1","B=2","A=3"]}`, `{"Env":["B=2"]}`},
		{"unset all env", "unset-env=A", `{"Env":["A=1"],"User":"x"}`, `{"User":"x"}`},
		{"unset, then set", "unset_env=A,env=A=2", `{"Env":["A=1","B=1"]}`, `{"Env":["B=1","A=2"]}`},
		{"labels", "label=a=4,label=org.x/y=b=c,unset-label=z", `{"Labels":{"z": "1", "a":"2<3"}}`, `{"Labels":{"a":"4","org.x/y":"b=c"}}`},
		{"a label given twice", "label=a=9,label=a=1", `{"Labels":{"a":"1"}}`, `{"Labels":{"a":"1"}}`},
		{"labels where there were none", "label=a=1", `{"Labels":null}`, `{"Labels":{"a":"1"}}`},
		{"entrypoint by words", `entrypoint=["/bin/x","-y, z=1"],user=nobody`, `{"Entrypoint":["a"]}`, `{"Entrypoint":["/bin/x","-y, z=1"],"User":"nobody"}`},
		{"entrypoint by one word", "entrypoint=/bin/x -y", `{}`, `{"Entrypoint":["/bin/x -y"]}`},
		{"no entrypoint", "entrypoint=[],cmd=", `{"Entrypoint":["a"],"Cmd":["b"]}`, `{}`},
		{"user and folder", "user=1:2,workdir=/w", `{"User":"","WorkingDir":"/"}`, `{"User":"1:2","WorkingDir":"/w"}`},
		{"none of them", "user=,workdir=", `{"User":"a","WorkingDir":"/"}`, `{}`},
		{"no config yet", "user=a", ``, `{"User":"a"}`},
		{"null for a config", "user=a", `null`, `{"User":"a"}`},
		{"as it is, byte for byte", "env=B=2,label=a=2<3,cmd=sh", config, config},
		{"words as they are", `cmd=["sh"],entrypoint=[],user=,workdir=/,unset-env=N,unset-label=n`, config, config},
		{"characters that JSON needn't escape", "env=A=<&>é", `{}`, `{"Env":["A=<&>é"]}`},
		{"annotations only", "annotation=a=b", config, config},
	}
	for _, tt := range tests {
		img := &oci.Image{Config: map[string]json.RawMessage{"os": json.RawMessage(`"linux"`)}}
		if tt.in != "" {
			img.Config["config"] = json.RawMessage(tt.in)
		}
		if err := parse(t, "set-config:"+tt.spec).Edit(t.Context(), img); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if got := string(img.Config["config"]); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
		if len(img.Config) != 2 || string(img.Config["os"]) != `"linux"` {
			t.Errorf("%s: other keys: %s", tt.name, img.Config)
		}
	}
}

func TestSetConfigAnnotations(t *testing.T) {
	tests := []struct {
		name, spec string
		in, want   map[string]string
	}{
		{"set and unset", "annotation=a=1,2,unset-annotation=b", map[string]string{"b": "x", "c": "y"}, map[string]string{"a": "1,2", "c": "y"}},
		{"none before", "annotation=a=", nil, map[string]string{"a": ""}},
		{"none to unset", "unset-annotation=a", nil, nil},
	}
	for _, tt := range tests {
		before := maps.Clone(tt.in)
		img := &oci.Image{Annotations: tt.in}
		if err := parse(t, "set-config:"+tt.spec).Edit(t.Context(), img); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if !maps.Equal(img.Annotations, tt.want) || (img.Annotations == nil) != (tt.want == nil) {
			t.Errorf("%s: got %q, want %q", tt.name, img.Annotations, tt.want)
		}
		if !maps.Equal(tt.in, before) {
			t.Errorf("%s: the map that was given is changed", tt.name)
		}
		if img.Config != nil {
			t.Errorf("%s: a config came into being: %s", tt.name, img.Config)
		}
	}
}

func TestSetConfigRefuses(t *testing.T) {
	for _, config := range []string{`[]`, `{"Env":"A=1"}`, `{"Labels":["a"]}`, `{"User":"a","User":"b"}`} {
		img := &oci.Image{Config: map[string]json.RawMessage{"config": json.RawMessage(config)}}
		err := parse(t, "set-config:user=x,label=a=b").Edit(t.Context(), img)
		if _, ok := errors.AsType[*oci.Error](err); !ok || !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%s: got %v", config, err)
		}
		if string(img.Config["config"]) != config {
			t.Errorf("%s: became %s", config, img.Config["config"])
		}
	}
}

// TestSetConfigID: what is set decides the ID, how it is written doesn't.
func TestSetConfigID(t *testing.T) {
	id := func(spec string) string { return parse(t, "set-config:"+spec).Images[0].ID() }
	same := [][2]string{{"user=a,env=B=c", "env=B=c,user=a"}, {`cmd=["a"]`, "cmd=a"}, {`cmd=[ "a" , "b"]`, `cmd=["a","b"]`}}
	for _, s := range same {
		if a, b := id(s[0]), id(s[1]); a != b {
			t.Errorf("%q and %q", a, b)
		}
	}
	other := [][2]string{{"user=a", "workdir=a"}, {"env=A=1,env=B=2", "env=B=2,env=A=1"}, {`env=A=1\,env=B=2`, "env=A=1,env=B=2"}, {"user=", "workdir="}}
	for _, s := range other {
		if a, b := id(s[0]), id(s[1]); a == b {
			t.Errorf("%q is the ID of both %q and %q", a, s[0], s[1])
		}
	}
}
