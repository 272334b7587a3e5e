package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"

	"golang.org/x/term"

	"github.com/quaymaster/quaymaster/oci"
	"github.com/quaymaster/quaymaster/publish"
)

// agree shows what do would delete and asks for a yes. Where nobody can be asked,
// or the answer is another, the error matches [oci.ErrRefused].
func (a *app) agree(ctx context.Context, verb string, repos []oci.Ref, f *repoFlags, do func(context.Context, *publish.Publisher) (*publish.Report, error)) error {
	in, ok := a.in.(interface{ Fd() uintptr })
	if !ok || !term.IsTerminal(int(in.Fd())) || a.creds.passwordStdin {
		return oci.Refuse(fmt.Sprintf("repo %s deletes; look at it with --dry-run, then say --yes", verb))
	}
	dry := f.publishFlags
	dry.dryRun, dry.events = true, ""
	o, err := a.publisher(nil, repos, &dry)
	if err != nil {
		return err
	}
	defer o.close()
	report, err := a.watch(ctx, o.Publisher, "tags", do)
	if err != nil {
		return hinted(err)
	}
	for _, i := range report.Items {
		for _, c := range i.Changes {
			if err := printChange(a.talk, c); err != nil {
				return err
			}
		}
	}
	fmt.Fprintf(a.talk, "Delete this? Write yes: ")
	line, err := bufio.NewReader(io.LimitReader(a.in, 1<<10)).ReadString('\n')
	if err != nil && err != io.EOF {
		return oci.Wrap(err, "read the answer", "stdin", oci.Descriptor{})
	}
	if strings.TrimSpace(line) != "yes" {
		return oci.Refuse("not agreed to; nothing was deleted")
	}
	return nil
}
