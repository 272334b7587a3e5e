package e2e

import (
	"fmt"
	"os"
	"testing"
)

// roleEnv makes this test binary something else: see roles.
const roleEnv = "QUAYMASTER_E2E_ROLE"

// roles are what a child of the tests can be. Arguments are the command's.
var roles = map[string]func(args []string) error{
	"registry": serveRegistry,
}

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		if err := roles[role](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	status := m.Run()
	if toolDir != "" {
		_ = os.RemoveAll(toolDir) // it is in the folder for temporary files anyway
	}
	os.Exit(status)
}
