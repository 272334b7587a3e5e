package dir

import (
	"encoding/json"
	"testing"
)

// pythonWrote is what Python 3's json.dumps(v, indent=4, sort_keys=True) makes
// of the value in TestPythonJSON.
const pythonWrote = `{
    "Z": {},
    "a": [],
    "b": "gr\u00fcn & <x> \u2028 \ud83d\ude00 \u007f \u0001 \b\f\n\r\t \"\\/",
    "c": [
        1,
        true,
        null,
        {
            "x": "2",
            "y": "1"
        }
    ]
}`

func TestPythonJSON(t *testing.T) {
	got, err := pythonJSON(map[string]any{
		"b": "grün & <x> \u2028 \U0001F600 \x7f \x01 \b\f\n\r\t \"\\/",
		"a": []string{},
		"Z": struct{}{},
		"c": []any{json.Number("1"), true, nil, struct {
			Y string `json:"y"`
			X string `json:"x"`
		}{"1", "2"}},
	})
	if err != nil || string(got) != pythonWrote {
		t.Errorf("got\n%s\n%v, want\n%s", got, err, pythonWrote)
	}
}

func FuzzParseCatalog(f *testing.F) {
	f.Add(`{"kolla/nova-api": {"2025.1": "manifest-kolla_nova-api-2025.1.json"}}`)
	f.Add(`{"images": [{"image": "x"}]}`)
	f.Add(`{"a": {"b": 1}, "c": null}`)
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseCatalog([]byte(s))
		if err != nil {
			return
		}
		before := len(c)
		changed := c.draft()
		i := id{"some/image", "tag"}
		was := c.file(i)
		if err := changed.set(i, "manifest.json"); err != nil {
			return
		}
		if changed.file(i) != "manifest.json" || len(c) != before || c.file(i) != was {
			t.Fatalf("%q: lists %q, was %d long and is %d", s, changed.file(i), before, len(c))
		}
		raw, err := pythonJSON(changed.catalog)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parseCatalog(raw); err != nil || again.file(i) != "manifest.json" {
			t.Fatalf("%q: wrote %s, %v", s, raw, err)
		}
	})
}
