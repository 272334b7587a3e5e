// Command demo shows the program at work: it starts a Quay for tests on
// loopback with an organisation of real file trees, runs the built binary
// against it as a child, over real HTTP, and checks what came of it by itself.
//
//	go run ./internal/demo bin/quaymaster
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"time"

	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/oci"
)

const org = "stack"

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: demo PROGRAM")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := demo(ctx, os.Args[1], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		stop()
		os.Exit(1)
	}
}

// demo tells its story to out. What it makes lies in a folder that is gone at the end.
func demo(ctx context.Context, path string, out io.Writer) (err error) {
	began := time.Now()
	path, err = filepath.Abs(path)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "quaymaster-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	images, err := organisation(ctx)
	if err != nil {
		return err
	}
	server := quaytest.New(quaytest.Options{})
	repos := repositories(images)
	for _, i := range images {
		if err := server.Push(ctx, org+"/"+i.repo, "", i.image); err != nil {
			return err
		}
		// A repository a week, the last one now.
		set := began.AddDate(0, 0, -7*(len(repos)-1-slices.Index(repos, i.repo)))
		if err := server.SetTag(org+"/"+i.repo, i.tag, i.image.Desc.Digest, set, time.Time{}); err != nil {
			return err
		}
	}
	quay := server.Start()
	defer quay.Close()
	fmt.Fprintf(out, "A Quay for tests listens on %s. Its organisation %q has %d repositories and %d tags.\n", quay.Host, org, len(repos), len(images))

	p := program{path: path, flags: []string{"--plain-http", "--quay-host", quay.Host}, dir: dir, out: out}
	if err := p.run(ctx, "list", "quay://"+org+"/*:2025.1-*"); err != nil {
		return err
	}
	since := began.AddDate(0, 0, -15).UTC().Format(time.DateOnly)
	if err := p.run(ctx, "list", "quay://"+org+"/*:*-debian?since="+since); err != nil {
		return err
	}
	if err := p.run(ctx, "info", "quay://"+org+"/nova-*:2025.1-debian"); err != nil {
		return err
	}

	s := story{ctx: ctx, program: p, server: server, out: out}
	want := map[string]oci.Digest{}
	for _, repo := range repos {
		tags, err := tagsAtQuay(ctx, quay.URL, quay.Host, org+"/"+repo, "2025.1-")
		if err != nil {
			return err
		}
		for name, digest := range tags {
			want[name] = digest
		}
	}
	if err := s.first(want); err != nil {
		return err
	}
	if err := s.second(want); err != nil {
		return err
	}
	pub, err := newPublication(ctx, p, server, quay)
	if err != nil {
		return err
	}
	if err := pub.play(want); err != nil {
		return err
	}
	fmt.Fprintf(out, "\ndemo: ok (%.1f s)\n", time.Since(began).Seconds())
	return nil
}

// repositories gives the names of images' repositories, each once.
func repositories(images []tagged) []string {
	var names []string
	for _, i := range images {
		if !slices.Contains(names, i.repo) {
			names = append(names, i.repo)
		}
	}
	return names
}
