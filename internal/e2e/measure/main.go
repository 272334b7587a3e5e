// Command measure runs a command and writes its exit status and its peak resident
// memory, in bytes, into a file.
//
// Linux counts the memory of whoever starts a command, until exec, as the
// command's. So that is a program of its own, and a small one: of the tests alone
// more is resident than of what they measure, most of all with the race detector.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

func main() {
	if err := measure(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
}

func measure(args []string) error {
	if len(args) < 2 {
		return errors.New("it needs a file and a command")
	}
	cmd := exec.Command(args[1], args[2:]...) //nolint:noctx // it ends when the command does
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		return err
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return errors.New("this system doesn't count memory")
	}
	text := strconv.Itoa(cmd.ProcessState.ExitCode()) + " " + strconv.FormatInt(usage.Maxrss<<10, 10) // it counts in KiB
	return os.WriteFile(args[0], []byte(text), 0o600)
}
