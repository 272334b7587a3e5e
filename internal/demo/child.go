package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

// A program is the built binary and the flags that each call of it has.
type program struct {
	path  string
	flags []string
	dir   string // where it runs; also in place of the user's home, so that no login of theirs is read
	out   io.Writer
	env   []string // more of the environment
}

// run prints the command line, then runs it, with its output going where ours goes.
func (p program) run(ctx context.Context, args ...string) error {
	line := []string{"quaymaster"}
	all := append(append([]string{}, p.flags...), args...)
	for _, a := range all {
		if strings.ContainsAny(a, "*?&") {
			a = "'" + a + "'"
		}
		line = append(line, a)
	}
	fmt.Fprintln(p.out, "\n$ "+strings.Join(line, " "))
	cmd := exec.CommandContext(ctx, p.path, all...)
	cmd.Env = append(os.Environ(), "HOME="+p.dir, "DOCKER_CONFIG="+p.dir, "REGISTRY_AUTH_FILE=", "XDG_RUNTIME_DIR="+p.dir)
	cmd.Env = append(cmd.Env, p.env...)
	cmd.Dir = p.dir
	cmd.Stdout, cmd.Stderr = p.out, p.out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(line, " "), err)
	}
	return nil
}

// report reads what run was told to write by --report.
func report(path string) (oci.Report, error) {
	var r oci.Report
	raw, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(raw, &r)
}
