package check

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/quaymaster/quaymaster/oci"
)

// A config is an image's, as far as it is checked.
type config struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant"`
	RootFS       struct {
		Type    string       `json:"type"`
		DiffIDs []oci.Digest `json:"diff_ids"`
	} `json:"rootfs"`
	History []struct {
		Created    *time.Time `json:"created"`
		EmptyLayer bool       `json:"empty_layer"`
	} `json:"history"`
	Config struct {
		ArgsEscaped bool                `json:"ArgsEscaped"`
		Env         []string            `json:"Env"`
		Cmd         []string            `json:"Cmd"`
		Entrypoint  []string            `json:"Entrypoint"`
		User        string              `json:"User"`
		WorkingDir  string              `json:"WorkingDir"`
		Labels      map[string]string   `json:"Labels"`
		Volumes     map[string]struct{} `json:"Volumes"`
		Ports       map[string]struct{} `json:"ExposedPorts"`
	} `json:"config"`
}

// parseConfig reads a config that can be understood in one way only.
func parseConfig(raw []byte) (*config, error) {
	if err := unambiguous(raw); err != nil {
		return nil, err
	}
	var c config
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, err
	}
	return &c, nil
}

// unambiguous returns an error unless raw is one object without keys that stand
// twice; down to the keys of "config" and "rootfs", which some readers take in
// whatever case, also not in another case.
func unambiguous(raw []byte) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if tok, err := dec.Token(); err != nil {
		return err
	} else if tok != json.Delim('{') {
		return errors.New("it is no object")
	}
	if err := object(dec, 1); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("data behind the end")
	}
	return nil
}

// maxNesting is how deep a config may nest; real ones have four levels.
const maxNesting = 32

// object reads the rest of an object at depth, whose brace was read.
func object(dec *json.Decoder, depth int) error {
	keys := map[string]bool{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return err
		}
		k, _ := tok.(string)
		if depth <= 2 {
			k = strings.ToLower(k)
		}
		if keys[k] {
			return fmt.Errorf("key %q stands twice", tok)
		}
		keys[k] = true
		if err := value(dec, depth); err != nil {
			return err
		}
	}
	_, err := dec.Token()
	return err
}

// value reads a value within an object or array at depth.
func value(dec *json.Decoder, depth int) error {
	tok, err := dec.Token()
	switch {
	case err != nil:
		return err
	case depth == maxNesting:
		return fmt.Errorf("nested deeper than %d", maxNesting)
	case tok == json.Delim('{'):
		return object(dec, depth+1)
	case tok == json.Delim('['):
		for dec.More() {
			if err := value(dec, depth+1); err != nil {
				return err
			}
		}
		_, err = dec.Token()
	}
	return err
}

// check compares the config with the number of layers that the manifest has.
func (c *config) check(layers int) (out []Result) {
	if c.OS == "" || c.Architecture == "" {
		out = append(out, found(Warning, "config-platform", "os is %q and architecture %q", c.OS, c.Architecture))
	}
	out = append(out,
		either(c.RootFS.Type == "layers", "rootfs-type", "rootfs.type is layers", fmt.Sprintf("rootfs.type is %q, not layers", c.RootFS.Type)),
		either(len(c.RootFS.DiffIDs) == layers, "layer-count", fmt.Sprintf("%d layers, %d diff_ids", layers, len(c.RootFS.DiffIDs)),
			fmt.Sprintf("the manifest has %d layers, the config %d diff_ids", layers, len(c.RootFS.DiffIDs))))
	for i, d := range c.RootFS.DiffIDs {
		if err := oci.ValidDigest(d); err != nil {
			out = append(out, found(Error, "diff-id", "diff_ids[%d]: %v", i, err))
		}
	}
	out = append(out, c.history(layers)...)
	if c.Config.ArgsEscaped {
		out = append(out, found(Warning, "args-escaped", "config.ArgsEscaped is set"))
	}
	return out
}

func (c *config) history(layers int) (out []Result) {
	if len(c.History) == 0 {
		return []Result{found(Info, "history-count", "no history")}
	}
	filled := 0
	for _, h := range c.History {
		if !h.EmptyLayer {
			filled++
		}
	}
	out = append(out, either(filled == layers, "history-count", fmt.Sprintf("%d entries of the history have a layer", filled),
		fmt.Sprintf("%d entries of the history have a layer, and there are %d layers", filled, layers)))
	var last time.Time
	for i, h := range c.History {
		if h.Created == nil || h.Created.Unix() <= 0 { // what is built reproducibly has no time
			continue
		}
		if h.Created.Before(last) {
			return append(out, found(Info, "history-order", "entry %d of the history is of %s, one before it of %s", i, h.Created.UTC().Format(time.RFC3339), last.UTC().Format(time.RFC3339)))
		}
		last = *h.Created
	}
	return out
}
