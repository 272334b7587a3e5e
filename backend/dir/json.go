package dir

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode/utf16"
)

// pythonJSON writes v as Python's json.dumps(v, indent=4, sort_keys=True):
// keys sorted, ASCII only, no line break at the end.
func pythonJSON(v any) ([]byte, error) {
	sorted := v
	if _, isMap := v.(catalog); !isMap {
		var err error
		if sorted, err = generic(v); err != nil {
			return nil, err
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "    ")
	if err := enc.Encode(sorted); err != nil {
		return nil, err
	}
	var ascii bytes.Buffer
	ascii.Grow(b.Len())
	for _, r := range string(bytes.TrimSuffix(b.Bytes(), []byte("\n"))) {
		switch {
		case r < 0x7f:
			ascii.WriteRune(r)
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			fmt.Fprintf(&ascii, `\u%04x\u%04x`, hi, lo)
		default:
			fmt.Fprintf(&ascii, `\u%04x`, r)
		}
	}
	return ascii.Bytes(), nil
}

// generic gives v as maps, whose keys are written in order.
func generic(v any) (any, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var all any
	err = dec.Decode(&all)
	return all, err
}
