package filter

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quaymaster/quaymaster/internal/jsonedit"
	"github.com/quaymaster/quaymaster/oci"
)

var normalizeTimestamps = Kind{
	Name: "normalize-timestamps",
	Help: "gives all files one time, so that equal content has equal digests",
	Options: map[string]string{
		"timestamp": "seconds since 1970; default SOURCE_DATE_EPOCH, else 0",
		"ts":        "the same; timestamp wins",
		"mode":      "set (default): every file; clamp: only files that are later",
		"config":    "true does the same to created in the config and its history",
	},
	New: func(o Options, env Env) (Filter, error) {
		to, err := timestampOf(o, env)
		if err != nil {
			return Filter{}, err
		}
		mode, ok, err := o.One("mode")
		if err == nil && ok && mode != "set" && mode != "clamp" {
			err = oci.Usage(fmt.Sprintf("normalize-timestamps: mode is set or clamp, not %q", mode))
		}
		if err != nil {
			return Filter{}, err
		}
		config, err := o.Bool("config")
		if err != nil {
			return Filter{}, err
		}
		x := timestamps{to: to, clamp: mode == "clamp"}
		f := Filter{Entry: x, Changes: true}
		if config {
			f.Image = x
		}
		return f, nil
	},
}

// lastTimestamp is the end of the year 9999, the last that RFC 3339 can write.
const lastTimestamp = 253402300799

func timestampOf(o Options, env Env) (time.Time, error) {
	ts, _, err := o.Number("ts", lastTimestamp)
	if err != nil {
		return time.Time{}, err
	}
	timestamp, ok, err := o.Number("timestamp", lastTimestamp)
	switch {
	case err != nil:
		return time.Time{}, err
	case ok:
		ts = timestamp
	case len(o.All("ts")) == 0 && env.SourceDateEpoch != "":
		if ts, err = number(env.SourceDateEpoch, lastTimestamp); err != nil {
			return time.Time{}, oci.Usage("SOURCE_DATE_EPOCH: " + err.Error())
		}
	}
	return time.Unix(ts, 0).UTC(), nil
}

// NormalizeTimestamps sets the time of every entry, or with clamp of every later
// one, to to, in whole seconds, and drops the times of access, of change and of
// creation, which few tools set and none reads.
func NormalizeTimestamps(to time.Time, clamp bool) oci.EntryFilter {
	return timestamps{to: to.UTC().Truncate(time.Second), clamp: clamp}
}

type timestamps struct {
	to    time.Time
	clamp bool
}

func (x timestamps) ID() string {
	i := newID("normalize-timestamps", 1).add("timestamp", strconv.FormatInt(x.to.Unix(), 10))
	if x.clamp {
		i.add("mode", "clamp")
	}
	return i.String()
}

// otherTimes are the records of a time that isn't the content's.
var otherTimes = []string{"atime", "ctime", "LIBARCHIVE.creationtime"}

func (x timestamps) Wrap(_ oci.Descriptor, next oci.Sink) oci.Sink {
	return sink{next, func(e *oci.Entry) error {
		set := x.replaces(e.Header.ModTime)
		if !set && !hasOtherTimes(e.Header) {
			return next.Put(e)
		}
		e = edited(e)
		dropRecords(e.Header, otherTimes...)
		e.Header.AccessTime, e.Header.ChangeTime = time.Time{}, time.Time{}
		if set {
			dropRecords(e.Header, "mtime")
			e.Header.ModTime = x.to
		}
		return next.Put(e)
	}}
}

// replaces reports whether the time t is to be replaced.
func (x timestamps) replaces(t time.Time) bool {
	if x.clamp {
		return t.After(x.to)
	}
	return !t.Equal(x.to)
}

func hasOtherTimes(h *tar.Header) bool {
	return !h.AccessTime.IsZero() || !h.ChangeTime.IsZero() ||
		slices.ContainsFunc(otherTimes, func(n string) bool { _, ok := h.PAXRecords[n]; return ok })
}

// Edit does the same to the times in the config.
func (x timestamps) Edit(_ context.Context, img *oci.Image) error {
	if raw, ok := img.Config["created"]; ok && x.replacesText(raw) {
		img.Config["created"] = x.text()
	}
	raw, ok := img.Config["history"]
	if !ok {
		return nil
	}
	var steps []json.RawMessage
	if err := json.Unmarshal(raw, &steps); err != nil {
		return fmt.Errorf("history: %w: %w", oci.ErrInvalid, err)
	}
	changed := false
	for i, step := range steps {
		var s struct {
			Created json.RawMessage `json:"created"`
		}
		if err := json.Unmarshal(step, &s); err != nil {
			return fmt.Errorf("history: %w: %w", oci.ErrInvalid, err)
		}
		if s.Created == nil || !x.replacesText(s.Created) {
			continue
		}
		var err error
		if steps[i], err = jsonedit.Set(step, jsonedit.Change{Key: "created", Value: x.text()}); err != nil {
			return fmt.Errorf("history: %w", err)
		}
		changed = true
	}
	if changed {
		img.Config["history"] = joinArray(steps)
	}
	return nil
}

// replacesText is replaces for a time in JSON. What is no time is to be replaced.
func (x timestamps) replacesText(raw json.RawMessage) bool {
	var t time.Time
	return json.Unmarshal(raw, &t) != nil || x.replaces(t)
}

func (x timestamps) text() json.RawMessage {
	return jsonedit.Marshal(x.to.Format(time.RFC3339))
}

// joinArray makes an array of elements, whose bytes stay as they are.
func joinArray(elements []json.RawMessage) json.RawMessage {
	parts := make([]string, len(elements))
	for i, e := range elements {
		parts[i] = string(e)
	}
	return json.RawMessage("[" + strings.Join(parts, ",") + "]")
}
