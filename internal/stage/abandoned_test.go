package stage_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/quaymaster/quaymaster/oci"
)

// Content that was given up on purpose isn't begun again.
func TestPutLeavesWhatIsAbandoned(t *testing.T) {
	opened := 0
	_, err := open(t, t.TempDir()).Put(t.Context(), blob(oci.Descriptor{Size: -1}, func() io.Reader {
		opened++
		return io.MultiReader(strings.NewReader("begun"), iotest.ErrReader(fmt.Errorf("unchanged: %w", oci.ErrAbandoned)))
	}), blobName)
	if !errors.Is(err, oci.ErrAbandoned) || opened != 1 {
		t.Errorf("got %v after %d attempts, want one", err, opened)
	}
}
