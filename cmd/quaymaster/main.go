// Command quaymaster discovers, inspects and mirrors container images in bulk.
package main

import (
	"context"
	"os"

	"github.com/quaymaster/quaymaster/internal/cli"
)

func main() {
	os.Exit(cli.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
