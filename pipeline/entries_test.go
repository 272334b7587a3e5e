package pipeline

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/quaymaster/quaymaster/oci"
)

func TestEditList(t *testing.T) {
	edit := func(e json.RawMessage) (json.RawMessage, error) {
		switch string(e) {
		case "1":
			return json.RawMessage(`"one"`), nil
		case "2":
			return nil, nil
		}
		return e, nil
	}
	for raw, want := range map[string]string{
		`[ ]`:             `[ ]`,
		"[ 0 ,\n 1, {} ]": "[ 0 ,\n \"one\", {} ]",
		`[ 0, 2, 1 ]`:     `[0,"one"]`,
		`[2]`:             `[]`,
	} {
		if got, err := editList([]byte(raw), edit); err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v, want %s", raw, got, err, want)
		}
	}
	for _, raw := range []string{"", "{}", "[1", "[,]", "null"} {
		if got, err := editList([]byte(raw), edit); !errors.Is(err, oci.ErrInvalid) {
			t.Errorf("%q: got %s, %v, want invalid", raw, got, err)
		}
	}
}
