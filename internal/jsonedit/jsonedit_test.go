package jsonedit

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"testing"

	"github.com/quaymaster/quaymaster/oci"
)

func TestSet(t *testing.T) {
	tests := []struct {
		name    string
		raw     string
		changes []Change
		want    string
	}{
		{"no change, no other bytes", "{ \"b\" : 1.0 ,\n\"a\":[ ]}", nil, "{ \"b\" : 1.0 ,\n\"a\":[ ]}"},
		{"a value, and only it", `{ "b" : 1.0 , "a" : [ 1 ] }`, []Change{{"b", json.RawMessage("2")}}, `{ "b" : 2 , "a" : [ 1 ] }`},
		{"a new key at the end", `{"b": 1 }`, []Change{{"a", json.RawMessage("2")}}, `{"b": 1,"a":2 }`},
		{"a key of an empty object", `{ }`, []Change{{"a", json.RawMessage("2")}}, `{ "a":2}`},
		{"an object where there was none", ``, []Change{{"a", json.RawMessage("2")}, {"b", json.RawMessage("3")}}, `{"a":2,"b":3}`},
		{"null is no object yet", `null`, []Change{{"a", json.RawMessage("2")}}, `{"a":2}`},
		{"remove the first", `{"a":1, "b":2, "c":3}`, []Change{{"a", nil}}, `{"b":2, "c":3}`},
		{"remove one between", `{"a":1, "b":2, "c":3}`, []Change{{"b", nil}}, `{"a":1, "c":3}`},
		{"remove the last", `{"a":1, "b":2, "c":3}`, []Change{{"c", nil}}, `{"a":1, "b":2}`},
		{"remove the only one", `{"a":1}`, []Change{{"a", nil}}, `{}`},
		{"remove what isn't there", `{"a":1}`, []Change{{"b", nil}}, `{"a":1}`},
		{"keys in escapes", `{"\u0061":1,"x":{"a":7}}`, []Change{{"a", json.RawMessage("2")}}, `{"\u0061":2,"x":{"a":7}}`},
		{"a key that wants escapes", `{}`, []Change{{`<"&`, json.RawMessage("2")}}, `{"<\"&":2}`},
	}
	for _, tt := range tests {
		got, err := Set([]byte(tt.raw), tt.changes...)
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: got %s, %v; want %s", tt.name, got, err, tt.want)
		}
	}
}

func TestSetRefuses(t *testing.T) {
	for _, raw := range []string{`[]`, `"x"`, `{"a":1`, `{"a":1,"a":2}`, `{} {}`, `{"a":1}x`} {
		if got, err := Set([]byte(raw), Change{"a", json.RawMessage("1")}); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%s: got %s, %v", raw, got, err)
		}
	}
}

// FuzzSet compares with a map.
func FuzzSet(f *testing.F) {
	f.Add([]byte(`{"a": 1, "b" :[ {"a":"}"} ] }`), "a", false)
	f.Add([]byte(`{"a":"\"","c":{}}`), "b", true)
	f.Add([]byte(` null `), "b", true)
	f.Fuzz(func(t *testing.T, raw []byte, key string, remove bool) {
		change := Change{Key: string(Marshal(key))}
		if json.Unmarshal([]byte(change.Key), &change.Key) != nil {
			t.Fatal(change.Key)
		}
		if !remove {
			change.Value = json.RawMessage(`"new"`)
		}
		got, err := Set(raw, change)
		if err != nil {
			return
		}
		want := map[string]json.RawMessage{}
		if len(bytes.TrimSpace(raw)) > 0 && json.Unmarshal(raw, &want) != nil {
			t.Fatalf("%q is no object and was taken", raw)
		}
		if want == nil {
			want = map[string]json.RawMessage{}
		}
		if want[change.Key] = change.Value; remove {
			delete(want, change.Key)
		}
		have := map[string]json.RawMessage{}
		if len(bytes.TrimSpace(got)) > 0 {
			if err := json.Unmarshal(got, &have); err != nil {
				t.Fatalf("%q: %v", got, err)
			}
		}
		if have == nil {
			have = map[string]json.RawMessage{}
		}
		if !maps.EqualFunc(have, want, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
			t.Errorf("Set(%q, %q): got %s", raw, change.Key, got)
		}
	})
}
