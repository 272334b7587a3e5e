package cli_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/quaymaster/quaymaster/internal/cli"
)

// flagsOf is FlagsOf where the environment is right.
func flagsOf(t *testing.T, env map[string]string, args ...string) map[string]*pflag.FlagSet {
	t.Helper()
	all, err := cli.FlagsOf(env, args...)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestEnvironment sets each flag of each command by the variable of its name.
func TestEnvironment(t *testing.T) {
	values := map[string]struct{ env, want string }{ // by type
		"bool":        {"true", "true"},
		"int":         {"7", "7"},
		"int64":       {"7", "7"},
		"duration":    {"7m", "7m0s"},
		"string":      {"text", "text"},
		"stringArray": {"one", "[one]"},
		"stringSlice": {"one,two", "[one,two]"},
	}
	// One environment shows its flag of all commands that have it.
	type setting struct{ flag, env, want string }
	of := map[setting][]string{} // commands
	for command, flags := range flagsOf(t, nil) {
		flags.VisitAll(func(f *pflag.Flag) {
			if f.Name == "help" {
				return
			}
			v, ok := values[f.Value.Type()]
			if !ok {
				t.Fatalf("no value for --%s, a %s", f.Name, f.Value.Type())
			}
			if f.DefValue == v.want {
				v.env, v.want = "false", "false"
			}
			s := setting{f.Name, v.env, v.want}
			of[s] = append(of[s], command)
		})
	}
	seen := map[string]bool{}
	for s, commands := range of {
		name := "QUAYMASTER_" + strings.ToUpper(strings.ReplaceAll(s.flag, "-", "_"))
		got := flagsOf(t, map[string]string{name: s.env})
		for _, command := range commands {
			if got := got[command].Lookup(s.flag).Value.String(); got != s.want {
				t.Errorf("%s=%s: %s has --%s=%s, want %s", name, s.env, command, s.flag, got, s.want)
			}
		}
		seen[s.flag] = true
	}
	for _, name := range []string{"parallel", "src-creds", "dest-plain-http", "platform", "dest-template", "sizes", "visibility"} {
		if !seen[name] {
			t.Errorf("--%s isn't among %q", name, slices.Sorted(maps.Keys(seen)))
		}
	}
}

// TestEnvironmentNames sets flags by the names that users have from elsewhere,
// and by two at once.
func TestEnvironmentNames(t *testing.T) {
	tests := []struct {
		env        map[string]string
		args       []string
		flag, want string
	}{
		{map[string]string{"OCCYSTRAP_USERNAME": "u"}, nil, "username", "u"},
		{map[string]string{"OCCYSTRAP_PASSWORD": "p"}, nil, "password", "p"},
		{map[string]string{"OCCYSTRAP_PARALLEL": "9"}, nil, "parallel", "9"},
		{map[string]string{"OCCYSTRAP_IMAGE_PARALLEL": "9"}, nil, "image-parallel", "9"},
		{map[string]string{"OCCYSTRAP_RETRIES": "9"}, nil, "retries", "9"},
		{map[string]string{"OCCYSTRAP_COMPRESSION": "zstd"}, nil, "compression", "zstd"},
		{map[string]string{"OCCYSTRAP_TEMP_DIR": "/t"}, nil, "temp-dir", "/t"},
		{map[string]string{"OCCYSTRAP_RATE_LIMIT": "0.5"}, nil, "rate-limit", "0.5"},
		{map[string]string{"QUAY_API_TOKEN": "t"}, nil, "quay-api-token", "t"},
		{map[string]string{"QUAY_PASSWORD": "p"}, nil, "password", "p"},
		{map[string]string{"QUAY_PASSWORD": "theirs", "QUAYMASTER_PASSWORD": "ours"}, nil, "password", "ours"},
		{map[string]string{"OCCYSTRAP_PARALLEL": "9"}, []string{"-j", "2"}, "parallel", "2"},
		{map[string]string{"QUAYMASTER_CA_FILE": "theirs"}, []string{"--ca-file", "ours"}, "ca-file", "[ours]"},
		{map[string]string{"QUAYMASTER_PARALLEL": ""}, nil, "parallel", "4"},
		{map[string]string{"QUAYMASTER_INSECURE": "true"}, []string{"--plain-http=false"}, "plain-http", "false"},
		{map[string]string{"QUAYMASTER_PLAIN_HTTP": "false"}, []string{"--insecure"}, "plain-http", "true"},
		{map[string]string{"QUAYMASTER_NO_VERIFY": "true"}, []string{"--verify-full"}, "no-verify", "false"},
		{map[string]string{"QUAY_PASSWORD": "p"}, []string{"--password-stdin"}, "password", ""},
		{nil, nil, "parallel", "4"},
		{nil, nil, "image-parallel", "3"},
		{nil, nil, "retries", "3"},
	}
	for _, tt := range tests {
		for command, flags := range flagsOf(t, tt.env, tt.args...) {
			if got := flags.Lookup(tt.flag).Value.String(); got != tt.want {
				t.Errorf("%v %v: %s has --%s=%s, want %s", tt.env, tt.args, command, tt.flag, got, tt.want)
			}
		}
	}
}

// TestEnvironmentMistakes shows that a wrong value is named with its variable.
func TestEnvironmentMistakes(t *testing.T) {
	for name, value := range map[string]string{"QUAYMASTER_PARALLEL": "many", "OCCYSTRAP_RETRIES": "3x", "QUAYMASTER_TLS_VERIFY": "sometimes"} {
		got := program(t, map[string]string{name: value}, "list", "quay://kolla")
		if got.status != 2 || !strings.HasPrefix(got.talk, "Error: "+name+": ") || strings.Count(got.talk, "\n") != 1 {
			t.Errorf("%s=%s: status %d, %q", name, value, got.status, got.talk)
		}
	}
}
