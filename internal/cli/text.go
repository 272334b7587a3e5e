package cli

import (
	"fmt"
	"time"

	"github.com/quaymaster/quaymaster/oci"
)

// bytesText gives n as occystrap writes sizes: 1024-based, one decimal.
func bytesText(n int64) string {
	units := []string{"KB", "MB", "GB", "TB"}
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f := float64(n)
	for _, u := range units {
		if f /= 1024; f < 1024 || u == "TB" {
			return fmt.Sprintf("%.1f %s", f, u)
		}
	}
	return ""
}

// seconds gives d with one decimal.
func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }

// count gives "1 image", "2 images".
func count(n int, noun string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case noun[len(noun)-1] == 'y':
		return fmt.Sprintf("%d %sies", n, noun[:len(noun)-1])
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// warnf tells the user one line that matters even with --quiet.
func (a *app) warnf(text string) { fmt.Fprintf(a.talk, "Warning: %s\n", oneLine(text)) }

// sayf tells the user one line of progress or result.
func (a *app) sayf(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintln(a.talk, oneLine(fmt.Sprintf(format, args...)))
	}
}

// noneFound says that nothing matched, and what may be the reason.
func (a *app) noneFound(s *session) {
	text := fmt.Sprintf("No images found matching %s", s.source.uri)
	if l, ok := s.images.(oci.Lister); ok && l.Listing().Anonymous {
		text += ", or it is private: --quay-api-token"
	}
	fmt.Fprintln(a.talk, oneLine(text))
}

// tellListing says what the listing left out.
func (a *app) tellListing(s *session) {
	l, ok := s.images.(oci.Lister)
	if !ok {
		return
	}
	if n := len(l.Listing().Hidden); n > 0 {
		a.sayf("%s not visible to these credentials", count(n, "repository"))
	}
}
