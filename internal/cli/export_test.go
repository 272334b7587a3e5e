package cli

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/pflag"
)

// MainEnv is [Main] in this process, with env for its environment and nothing on
// stdin.
func MainEnv(ctx context.Context, env map[string]string, out, talk io.Writer, args ...string) int {
	a := &app{in: strings.NewReader(""), out: out, talk: talk, getenv: func(name string) string { return env[name] }}
	return a.main(ctx, args)
}

// FlagsOf gives the flags of every command, global ones among them, as they are
// with the flags args and the environment env, or the error of env.
func FlagsOf(env map[string]string, args ...string) (map[string]*pflag.FlagSet, error) {
	all := map[string]*pflag.FlagSet{}
	for i := range (&app{}).root().Commands() {
		// A program of its own for each: it runs one command.
		a := &app{getenv: func(name string) string { return env[name] }}
		cmd := a.root().Commands()[i]
		if err := cmd.ParseFlags(args); err != nil {
			return nil, err
		}
		if err := a.fromEnv(cmd); err != nil {
			return nil, err
		}
		all[cmd.Name()] = cmd.Flags()
	}
	return all, nil
}
