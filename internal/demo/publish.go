package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
	"github.com/quaymaster/quaymaster/oci"
)

// released is the organisation that images are published to.
const released = "released"

// A publication is the publishing part of the demo: a plan is looked at, pushed,
// and rolled back.
type publication struct {
	ctx       context.Context
	program   program
	url, host string
	out       io.Writer
}

// newPublication gives released what was published before: nova-api:latest, and
// base:latest for two platforms, one of which is built no more. A robot may write there.
func newPublication(ctx context.Context, p program, server *quaytest.Server, quay *quaytest.Run) (publication, error) {
	s := publication{ctx: ctx, program: p, url: quay.URL, host: quay.Host, out: p.out}
	server.CreateOrg(released, "demo")
	if err := server.SetDefault(released, released+"+ci", "write"); err != nil {
		return s, err
	}
	s.program.env = []string{"QUAYMASTER_USERNAME=" + released + "+ci", "QUAYMASTER_PASSWORD=" + server.AddRobot(released, "ci")}
	before := func(arch string) imagetest.Image {
		return imagetest.New(oci.Platform{OS: "linux", Architecture: arch}, nil, imagetest.Files(map[string]string{"etc/release": "2024.2 " + arch + "\n"}))
	}
	if err := server.Push(ctx, released+"/nova-api", "latest", before("amd64")); err != nil {
		return s, err
	}
	if err := server.Push(ctx, released+"/base", "latest", imagetest.Index(before("amd64"), before("s390x"))); err != nil {
		return s, err
	}
	plan := fmt.Sprintf(`registry: %[1]s
namespace: %[2]s
items:
- pull_url: %[1]s/%[3]s/nova-api:2025.1-debian
  tags: {nova-api: [v2025.1, latest]}
- pull_url: %[1]s/%[3]s/base:2025.1-debian
  tags: {base: [v2025.1, latest]}
`, s.host, released, org)
	fmt.Fprintf(s.out, "\nplan.yaml:\n%s", plan)
	return s, os.WriteFile(filepath.Join(p.dir, "plan.yaml"), []byte(plan), 0o600)
}

// tags gives what the tags of released mean, as Quay's API says it.
func (s publication) tags() (map[string]oci.Digest, error) {
	all := map[string]oci.Digest{}
	for _, repo := range []string{"nova-api", "base"} {
		tags, err := tagsAtQuay(s.ctx, s.url, s.host, released+"/"+repo, "")
		if err != nil {
			return nil, err
		}
		maps.Copy(all, tags)
	}
	return all, nil
}

// play pushes the plan and takes it back. built are the digests of what was built.
func (s publication) play(built map[string]oci.Digest) error {
	before, err := s.tags()
	if err != nil {
		return err
	}
	if err := s.program.run(s.ctx, "push", "plan.yaml", "--dry-run"); err != nil {
		return err
	}
	if now, err := s.tags(); err != nil {
		return err
	} else if !maps.Equal(now, before) {
		return fmt.Errorf("after a dry run tags mean %v, want %v", now, before)
	}
	if err := s.program.run(s.ctx, "push", "plan.yaml", "--journal", "push.jsonl"); err != nil {
		return err
	}
	after, err := s.tags()
	if err != nil {
		return err
	}
	at := func(tags map[string]oci.Digest, name string) oci.Digest { return tags[s.host+"/"+released+"/"+name] }
	nova, base := built[s.host+"/"+org+"/nova-api:2025.1-debian"], built[s.host+"/"+org+"/base:2025.1-debian"]
	switch {
	case at(after, "nova-api:latest") != nova || at(after, "nova-api:v2025.1") != nova || at(after, "base:v2025.1") != base:
		return fmt.Errorf("the tags mean %v, want what was built", after)
	case at(after, "base:latest") == base || at(after, "base:latest") == at(before, "base:latest"):
		return fmt.Errorf("base:latest means %s, want a merged list", at(after, "base:latest"))
	}
	if err := s.program.run(s.ctx, "rollback", "--journal", "push.jsonl"); err != nil {
		return err
	}
	now, err := s.tags()
	if err != nil {
		return err
	}
	if !maps.Equal(now, before) {
		return fmt.Errorf("after the rollback tags mean %v, want %v", now, before)
	}
	fmt.Fprintf(s.out, "\nundone  %d tags were written; all have the digests that they had, and new ones are gone\n", len(after))
	return nil
}
