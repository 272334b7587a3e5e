package dockerpush_test

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/quaymaster/quaymaster/internal/daemontest"
	"github.com/quaymaster/quaymaster/oci"
)

// killed is that tags which killed runs have left are removed, and no others.
func killed(t *testing.T, d daemontest.Daemon) {
	nothingLeft(t)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const id = "/quaymaster-push/00112233445566778899aabbccddeeff:v1"
	gone := "127.0.0.1:1" + id // where nobody listens
	others := []string{l.Addr().String() + id, "127.0.0.1:1/quaymaster-push/mine:v1", "localhost:1" + id}
	for _, tag := range append(others, gone) {
		d.Do(t, "tag", name, tag)
	}
	src, err := open(t, d.Socket, name, nil).Source(t.Context(), oci.Item{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := src.Head(t.Context(), ""); err != nil {
		t.Error(err)
	}
	names := strings.Fields(d.Do(t, "images", "--format", "{{.Repository}}:{{.Tag}}"))
	if slices.Contains(names, gone) {
		t.Errorf("%s is still there", gone)
	}
	for _, tag := range append(others, name) {
		if !slices.Contains(names, tag) {
			t.Errorf("%s is gone; there are %q", tag, names)
		}
	}
	d.Do(t, append([]string{"rmi"}, others...)...)

	// It is the only name of this one.
	const only = "example.com/only:v1"
	d.Do(t, "load", "--input", saved(t, only, layer(t, 9, 1000)))
	d.Do(t, "tag", only, gone)
	d.Do(t, "rmi", only)
	if src, err = open(t, d.Socket, name, nil).Source(t.Context(), oci.Item{}); err != nil {
		t.Fatal(err)
	}
	if _, err := src.Head(t.Context(), ""); err != nil {
		t.Error(err)
	}
	d.Do(t, "rmi", gone) // which fails if it isn't there
	tagGone(t, d)
}
