package oci

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// known are the keys that [Manifest] and its descriptors read. encoding/json
// takes "Layers" for "layers"; other readers don't.
var known = []string{
	"schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests",
	"subject", "annotations", "digest", "size", "urls", "data", "platform",
}

// maxNesting is how many objects and arrays may be open at once.
const maxNesting = 32

// StrictJSON refuses what encoding/json lets pass: keys that stand twice or
// are a descriptor's or manifest's in another case, data behind the value, and
// nesting deeper than 32. Annotations may have any keys, each once.
func StrictJSON(raw []byte) error {
	if !json.Valid(raw) {
		var why json.RawMessage
		return json.Unmarshal(raw, &why)
	}
	var stack []level
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '{', '[':
			var top level
			if len(stack) > 0 {
				top = stack[len(stack)-1]
			}
			if len(stack) == maxNesting {
				return fmt.Errorf("nested deeper than %d", maxNesting)
			}
			isObject := raw[i] == '{'
			stack = append(stack, level{object: isObject, wantKey: isObject, free: top.free || isObject && top.last == "annotations"})
		case '}', ']':
			stack = stack[:len(stack)-1]
		case ',':
			top := &stack[len(stack)-1] // a comma is always in something
			top.wantKey = top.object
		case '"':
			end := i + stringEnd(raw[i:])
			if len(stack) > 0 {
				if top := &stack[len(stack)-1]; top.wantKey {
					if err := top.add(raw[i:end]); err != nil {
						return err
					}
				}
			}
			i = end - 1
		}
	}
	return nil
}

// stringEnd gives the length of the JSON string that raw begins with.
func stringEnd(raw []byte) int {
	for i := 1; ; i++ {
		switch raw[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
}

// A level is an open object or array.
type level struct {
	object  bool
	wantKey bool
	free    bool     // the keys are the author's, as in annotations
	keys    []string // that stand there, the first few
	more    map[string]bool
	last    string // the key whose value comes next
}

// fewKeys is how many keys are compared one by one.
const fewKeys = 16

// add takes a key as it stands in the text.
func (l *level) add(text []byte) error {
	key := string(text[1 : len(text)-1])
	plain := isPlain(text)
	if !plain {
		if err := json.Unmarshal(text, &key); err != nil {
			return err
		}
	}
	if slices.Contains(l.keys, key) || l.more[key] {
		return fmt.Errorf("key %q stands twice", key)
	}
	switch {
	case len(l.keys) < fewKeys:
		l.keys = append(l.keys, key)
	case l.more == nil:
		l.more = map[string]bool{key: true}
	default:
		l.more[key] = true
	}
	l.wantKey, l.last = false, key
	if l.free {
		return nil
	}
	for _, want := range known {
		if key != want && (len(key) == len(want) || !plain) && strings.EqualFold(key, want) {
			return fmt.Errorf("key %q is %q misspelt", key, want)
		}
	}
	return nil
}

// isPlain reports whether a JSON string says what its bytes are: ASCII, no
// escapes.
func isPlain(text []byte) bool {
	return bytes.IndexByte(text, '\\') < 0 && !bytes.ContainsFunc(text, func(r rune) bool { return r >= 0x80 })
}
