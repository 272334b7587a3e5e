package pipeline

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/quaymaster/quaymaster/internal/jsonedit"
	"github.com/quaymaster/quaymaster/oci"
)

// editEntries gives the manifest or index raw with what edit makes of the
// descriptors under key, nil for without one. All other bytes stay as they are.
func editEntries(raw []byte, key string, edit func(d oci.Descriptor, entry json.RawMessage) (json.RawMessage, error)) ([]byte, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("manifest: %w: %w", oci.ErrInvalid, err)
	}
	list, err := editList(m[key], func(entry json.RawMessage) (json.RawMessage, error) {
		var d oci.Descriptor
		if err := json.Unmarshal(entry, &d); err != nil {
			return nil, fmt.Errorf("%w: %w", oci.ErrInvalid, err)
		}
		return edit(d, entry)
	})
	if err != nil {
		return nil, fmt.Errorf("manifest: %s: %w", key, err)
	}
	return jsonedit.Set(raw, jsonedit.Change{Key: key, Value: list})
}

// editList gives the JSON list raw with what edit makes of each element, nil for
// without it. Where none goes, the space between them stays too.
func editList(raw []byte, edit func(element json.RawMessage) (json.RawMessage, error)) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	tok, err := dec.Token()
	if err == nil && tok != json.Delim('[') {
		err = errors.New("want a list")
	}
	var kept [][]byte
	var inPlace []byte
	last, gone := 0, false
	for err == nil && dec.More() {
		var old json.RawMessage
		if err = dec.Decode(&old); err != nil {
			break
		}
		end := int(dec.InputOffset())
		element, err := edit(old)
		if err != nil {
			return nil, err
		}
		if gone = gone || element == nil; element != nil {
			kept = append(kept, element)
		}
		inPlace = slices.Concat(inPlace, raw[last:end-len(old)], element)
		last = end
	}
	if err == nil {
		_, err = dec.Token() // the bracket
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", oci.ErrInvalid, err)
	}
	if gone {
		return slices.Concat([]byte{'['}, bytes.Join(kept, []byte{','}), []byte{']'}), nil
	}
	return append(inPlace, raw[last:]...), nil
}
