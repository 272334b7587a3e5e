package oci_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/oci"
)

// reserved are the keys that may stand in one spelling only.
var reserved = []string{"schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests",
	"subject", "annotations", "digest", "size", "urls", "data", "platform"}

// strict says, by the tokens of encoding/json, what [oci.StrictJSON] is to say.
func strict(raw []byte) error {
	if !json.Valid(raw) {
		return errors.New("not valid")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber() // what is too large for a float is for who reads that number
	return strictValue(d, 0, "", false)
}

// strictValue reads one value, which stands at key.
func strictValue(d *json.Decoder, depth int, key string, free bool) error {
	tok, err := d.Token()
	if err != nil {
		return err
	}
	delim, ok := tok.(json.Delim)
	if !ok {
		return nil
	}
	if depth == 32 {
		return errors.New("deep")
	}
	free = free || delim == '{' && key == "annotations"
	for seen := map[string]bool{}; d.More(); {
		name := ""
		if delim == '{' {
			if tok, err = d.Token(); err != nil {
				return err
			}
			if name = tok.(string); seen[name] {
				return errors.New("twice")
			}
			seen[name] = true
			for _, want := range reserved {
				if !free && name != want && strings.EqualFold(name, want) {
					return errors.New("misspelt")
				}
			}
		}
		if err := strictValue(d, depth+1, name, free); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

func sameVerdict(t *testing.T, raw []byte) {
	t.Helper()
	got, want := oci.StrictJSON(raw), strict(raw)
	if (got == nil) != (want == nil) {
		t.Fatalf("%q: got %v, want %v", raw, got, want)
	}
}

func TestStrictJSON(t *testing.T) {
	for _, s := range []string{
		``, ` `, `null`, `""`, `"\""`, `1 2`, `{}{}`, `{} x`, `1e999`, `{"x":-1e999}`, "\ufeff{}", `{"":1,"":2}`, `{"a":1,"\u0061":2}`,
		"{\"\xff\":1,\"\xfe\":2}", "{\"a\xff\":1,\"b\xff\":2}", `{"\ud800":1,"\ud801":2}`, `[{"a":1},{"a":1}]`, `{"a":{"a":{"a":1}}}`,
		`{"annotations":{"Size":1}}`, `{"annotations":[{"Size":1}]}`, `{"annotations":{"x":[{"Size":{"SIZE":1}}]}}`,
		`{"annotations":1,"x":{"Size":1}}`, `{"x":"annotations","y":{"Size":1}}`, `{"annotations":{}, "x":{"Size":1}}`,
		`["annotations",{"Size":1}]`, `{"\u0061nnotations":{"Size":1}}`, `{"\u017fize":1}`, `{"\u212aey":1}`, `{"a":"\\","b":"]","c":["}"]}`,
		`{"s\u0069ze":1}`, `{"S\u0069ze":1}`, `{"a" : 1 , "b" : [ 1 , "a" , "a" ] , "a" : 2 }`,
		strings.Repeat("[", 32) + strings.Repeat("]", 32), strings.Repeat("[", 33) + strings.Repeat("]", 33),
		strings.Repeat(`{"a":`, 32) + "1" + strings.Repeat("}", 32), strings.Repeat(`{"a":`, 33) + "1" + strings.Repeat("}", 33),
		strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000),
		`{` + numbered(17) + `,"K3":1}`, `{` + numbered(17) + `,"k16":1}`, `{` + numbered(16) + `,"k15":1}`,
	} {
		sameVerdict(t, []byte(s))
	}
}

// FuzzStrictJSON compares with what encoding/json reads.
func FuzzStrictJSON(f *testing.F) {
	for _, s := range []string{`{"schemaVersion":2,"config":{"size":1},"layers":[{"digest":"x"}],"annotations":{"Size":"\\\""}}`,
		`{"a":1,"\u0061":{"annotations":[{"lay\u0065rs":[]}]}}`, `{"\u017fubject":{` + numbered(20) + `}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(sameVerdict)
}
