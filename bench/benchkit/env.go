package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// An env is where things are: what ../env.sh exports.
type env struct {
	bench, work, here string // kept, thrown away, the scripts
	lists, logs       string
	kit               string // this program
	src, dst          string // host:port of the registries
}

// Where what stands before the registries listens.
const (
	proxySource = "127.0.0.1:5003"
	proxyDest   = "127.0.0.1:5004"
	quayHost    = "127.0.0.1:5005"
)

func readEnv() (e env, err error) {
	for name, to := range map[string]*string{"BENCH": &e.bench, "WORK": &e.work, "HERE": &e.here, "KIT": &e.kit, "SRC": &e.src, "DST": &e.dst, "LISTS": &e.lists} {
		if *to = os.Getenv(name); *to == "" {
			return e, fmt.Errorf("%s isn't set: call this by run.sh or gen.sh", name)
		}
	}
	e.logs = filepath.Join(e.bench, "logs")
	for _, dir := range []string{e.logs, e.lists, filepath.Join(e.work, "tmp")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return e, err
		}
	}
	return e, nil
}

// lock keeps a second run away: ports and folders are the same for all.
func (e env) lock() (unlock func(), _ error) {
	f, err := os.OpenFile(filepath.Join(e.bench, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("another run is under way in %s: %w", e.bench, err)
	}
	return func() { f.Close() }, nil
}

// number reads a variable, def if it isn't set.
func number[T int | uint64 | float64](name string, def T) (T, error) {
	text := os.Getenv(name)
	if text == "" {
		return def, nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f < 0 {
		return def, fmt.Errorf("%s=%s is no number", name, text)
	}
	return T(f), nil
}

// variable reads a variable, def if it isn't set.
func variable(name, def string) string { return cmp.Or(os.Getenv(name), def) }
