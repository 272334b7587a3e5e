package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// cmdFill starts the source registry and makes the profiles that it lacks.
// What is there was made by an earlier call; the store is lost at a reboot if it
// is in memory, the lists are not, so each list's first image is asked for.
func cmdFill(ctx context.Context, args []string, out io.Writer) error {
	if err := flags("fill").Parse(args); err != nil {
		return err
	}
	e, err := readEnv()
	if err != nil {
		return err
	}
	unlock, err := e.lock()
	if err != nil {
		return err
	}
	defer unlock()
	seed, err := number("SEED", uint64(42))
	if err != nil {
		return err
	}
	scale, err := number("SCALE", 1.0)
	if err != nil {
		return err
	}
	src, err := e.registry(ctx, "src", e.src, filepath.Join(e.work, "src"))
	if err != nil {
		return err
	}
	defer src.stop()
	var g *generator
	for _, p := range strings.Fields(variable("PROFILES", strings.Join(profiles, " "))) {
		path := filepath.Join(e.lists, p)
		if e.has(ctx, path) {
			continue
		}
		if g == nil {
			g = newGenerator(seed, scale)
		}
		began := time.Now()
		lines, err := g.push(ctx, p, e.src)
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			return err
		}
		fmt.Fprintf(out, "%s: %d tags in %.0f s\n", p, len(lines), time.Since(began).Seconds())
	}
	return nil
}

// has reports whether the source has the first image of the list at path.
func (e env) has(ctx context.Context, path string) bool {
	list, err := readList(path)
	if err != nil || len(list) == 0 {
		return false
	}
	_, err = newClient().manifest(ctx, e.src, list[0].repo, list[0].tag)
	return err == nil
}
