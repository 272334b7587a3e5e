// Package jsonedit changes single keys of a JSON object and leaves every other
// byte as it is: order, white space, number spelling, keys that nobody here
// knows.
package jsonedit

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/quaymaster/quaymaster/oci"
)

// A Change sets Key to Value, which is JSON. A nil Value removes the key.
type Change struct {
	Key   string
	Value json.RawMessage
}

// Set applies changes, in order, to the object in raw. New keys go to its end. An
// empty raw, or null, is an empty object; without changes raw is returned as it is.
//
// The error matches [oci.ErrInvalid] if raw is no object, or has a changed key twice.
func Set(raw []byte, changes ...Change) ([]byte, error) {
	for _, c := range changes {
		members, end, err := scan(raw)
		if err != nil {
			return nil, err
		}
		if raw, err = set(raw, members, end, c); err != nil {
			return nil, err
		}
	}
	return raw, nil
}

// A member is where a key of an object and its value stand.
type member struct {
	key             string
	from, value, to int // offsets: of the key, of the value, of what follows it
}

func set(raw []byte, members []member, end int, c Change) ([]byte, error) {
	at := -1
	for i, m := range members {
		if m.key != c.Key {
			continue
		}
		if at >= 0 {
			return nil, fmt.Errorf("%w: key %q stands twice", oci.ErrInvalid, c.Key)
		}
		at = i
	}
	switch {
	case at >= 0 && c.Value != nil:
		return splice(raw, members[at].value, members[at].to, c.Value), nil
	case at >= 0 && len(members) == 1:
		return splice(raw, members[0].from, members[0].to, nil), nil
	case at == len(members)-1 && at >= 0:
		return splice(raw, members[at-1].to, members[at].to, nil), nil
	case at >= 0:
		return splice(raw, members[at].from, members[at+1].from, nil), nil
	case c.Value == nil:
		return raw, nil
	}
	text := append(Marshal(c.Key), ':')
	text = append(text, c.Value...)
	if end < 0 {
		return append(append([]byte{'{'}, text...), '}'), nil
	}
	if len(members) == 0 {
		return splice(raw, end, end, text), nil
	}
	to := members[len(members)-1].to
	return splice(raw, to, to, append([]byte{','}, text...)), nil
}

func splice(raw []byte, from, to int, with []byte) []byte {
	out := make([]byte, 0, len(raw)-(to-from)+len(with))
	out = append(out, raw[:from]...)
	out = append(out, with...)
	return append(out, raw[to:]...)
}

// scan finds the members of the object in raw and where its closing brace is, -1
// if there is no object yet.
func scan(raw []byte) (members []member, end int, err error) {
	if t := bytes.TrimSpace(raw); len(t) == 0 || string(t) == "null" {
		return nil, -1, nil
	}
	fail := func(err error) ([]member, int, error) {
		return nil, 0, fmt.Errorf("%w: no JSON object: %w", oci.ErrInvalid, err)
	}
	var whole json.RawMessage
	if err := json.Unmarshal(raw, &whole); err != nil {
		return fail(err)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fail(fmt.Errorf("it begins with %v", t))
	}
	for d.More() {
		before := int(d.InputOffset())
		t, err := d.Token()
		if err != nil {
			return fail(err)
		}
		m := member{from: before + bytes.IndexByte(raw[before:], '"')}
		m.key, _ = t.(string)
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return fail(err)
		}
		m.to = int(d.InputOffset())
		m.value = m.to - len(v)
		members = append(members, m)
	}
	return members, int(d.InputOffset()) + bytes.IndexByte(raw[d.InputOffset():], '}'), nil
}

// Marshal gives v as compact JSON, one spelling for one value: keys of maps
// sorted, <, > and & as they are. v is made of strings, numbers, slices and maps.
func Marshal(v any) json.RawMessage {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // v is a channel, or the like
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
