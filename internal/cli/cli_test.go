package cli_test

import (
	"context"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/quaymaster/quaymaster/internal/cli"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"quaymaster": func() {
			os.Exit(cli.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
		},
	})
}

// A script has Quays of its own: $QUAY with the organisations of fill, the
// empty $MIRROR, and $TLS, whose certificate is in ca.pem. The first two speak
// plain HTTP, and the program is told so. $QUAY_STORAGE and so on are the hosts of
// their blobs.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata",
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Setup:         setUp,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"authfile": cmdAuthfile,
			"breaks":   cmdBreaks,
			"counts":   cmdCounts,
			"hidden":   cmdHidden,
			"image":    cmdImage,
			"keys":     cmdKeys,
			"list":     cmdList,
			"means":    cmdMeans,
			"moved":    cmdMoved,
			"quay":     cmdQuay,
			"shown":    cmdShown,
			"status":   cmdStatus,
			"tags":     cmdTags,
			"written":  cmdWritten,
		},
	})
}

// setUp gives a script its servers and its environment.
func setUp(env *testscript.Env) error {
	s := servers{"QUAY": newFar(), "MIRROR": newFar(), "TLS": newFar()}
	quay, mirror := s["QUAY"], s["MIRROR"]
	if err := fill(quay.Server); err != nil {
		return err
	}
	if err := fill(s["TLS"].Server); err != nil {
		return err
	}
	quay.CreateUser("alice", "pa55word")
	env.Setenv("TOKEN", quay.AddToken("alice", "repo:read"))
	env.Setenv("ROBOT", quay.AddRobot("secret", "bot"))
	if err := quay.Grant("secret/app", "secret+bot", "read"); err != nil {
		return err
	}
	mirror.CreateOrg("upstream", "alice")
	mirror.CreateUser("alice", "wonder1and")
	if err := publishing(s, env.Setenv); err != nil {
		return err
	}
	env.Setenv("MIRROR_TOKEN", mirror.AddToken("alice", "repo:admin", "repo:create"))
	for name, f := range s {
		if name == "TLS" {
			f.run = f.StartTLS()
		} else {
			f.run = f.Start()
		}
		env.Defer(f.run.Close)
		env.Setenv(name, f.run.Host)
		env.Setenv(name+"_STORAGE", f.run.StorageHost)
	}
	env.Setenv("QUAYMASTER_QUAY_HOST", env.Getenv("QUAY"))
	env.Setenv("QUAYMASTER_PLAIN_HTTP", "true")
	env.Setenv("QUAYMASTER_RATE_LIMIT", "0")
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("GORACE", "atexit_sleep_ms=0") // a second for each program otherwise
	env.Values["servers"] = s
	return os.WriteFile(env.WorkDir+"/ca.pem", s["TLS"].run.CertPEM(), 0o600)
}
