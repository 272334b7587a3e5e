package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A stage is a scenario under way: its servers are up.
type stage struct {
	*bench
	scenario
	list   string // file of its images
	images []image
	from   string // host:port that tools read from
	to     string // and write to
	out    *writer
}

// emptied starts the destination's registry anew, with nothing in it.
func (s *stage) emptied(ctx context.Context) (err error) {
	s.dstServer.stop()
	dir := filepath.Join(s.work, "dst")
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	s.dstServer, err = s.registry(ctx, "dst", s.dst, dir)
	return err
}

// behind starts the scenario's proxies.
func (s *stage) behind(ctx context.Context, source, dest []string) error {
	for _, p := range []struct {
		name, listen, target string
		to                   *string
		flags                []string
	}{{"psrc", proxySource, s.src, &s.from, source}, {"pdst", proxyDest, s.dst, &s.to, dest}} {
		if *p.to = p.target; p.flags == nil {
			continue
		}
		one, err := s.start(ctx, p.name, p.listen, append([]string{s.kit, "proxy", "-listen", p.listen, "-target", p.target}, p.flags...)...)
		if err != nil {
			return err
		}
		s.proxies = append(s.proxies, one)
		*p.to = p.listen
	}
	return nil
}

// bare ends the proxies.
func (s *stage) bare() {
	for _, p := range s.proxies {
		p.stop()
	}
	s.proxies = nil
}

// stats takes what the server at address counted since it was asked last.
func stats(ctx context.Context, address string) (counts, error) {
	c := newClient()
	defer c.http.CloseIdleConnections()
	raw, _, err := c.ask(ctx, http.StatusOK, http.MethodGet, "http://"+address+statsPath, nil)
	return parseCounts(string(raw)), err
}

// asked writes what the proxies counted, or with note false forgets it.
func (s *stage) asked(ctx context.Context, name, tool string, note bool) error {
	for _, end := range []struct{ name, address, direct string }{{"source", s.from, s.src}, {"dest", s.to, s.dst}} {
		if end.address == end.direct {
			continue
		}
		c, err := stats(ctx, end.address)
		if err != nil {
			return err
		}
		if note {
			if err := s.out.requests(requests{name, tool, end.name, c}); err != nil {
				return err
			}
		}
	}
	return nil
}

// turn lets a tool do the scenario once, and gives what was measured.
func (s *stage) turn(ctx context.Context, tool string, rep int) ([]run, error) {
	if err := s.adapter(ctx, tool, "reset_state").Run(); err != nil {
		return nil, fmt.Errorf("%s: reset_state: %w", tool, err)
	}
	switch s.kind {
	case bulk:
		return s.copies(ctx, tool, rep)
	case listing:
		return s.listed(ctx, tool, rep)
	case read:
		return s.noted(s.measure(ctx, s.name, tool, rep, s.do, s.from, s.list))
	}
	return s.single(ctx, tool, rep)
}

// noted writes a run.
func (s *stage) noted(r run, err error) ([]run, error) {
	if err == nil {
		err = s.out.run(r)
	}
	return []run{r}, err
}

// copies copies into an empty destination, then again.
func (s *stage) copies(ctx context.Context, tool string, rep int) (done []run, _ error) {
	if err := s.emptied(ctx); err != nil {
		return nil, err
	}
	for _, pass := range []string{"cold", "warm"} {
		if pass == "warm" && !s.warm {
			break
		}
		name := s.name + "-" + pass
		if err := s.asked(ctx, name, tool, false); err != nil {
			return done, err
		}
		one, err := s.noted(s.measure(ctx, name, tool, rep, s.do, s.from, s.to, s.list))
		done = append(done, one...)
		if err != nil || one[0].status != 0 {
			return done, err
		}
		if err := s.asked(ctx, name, tool, !s.counted); err != nil {
			return done, err
		}
		if rep == 1 && pass == "cold" {
			_, err := verifyRegistry(ctx, s.src, s.dst, s.list, !strings.HasPrefix(tool, "occystrap"))
			if err := s.verified(name, tool, err); err != nil {
				return done, err
			}
		}
	}
	return done, nil
}

// count lets a tool copy once more with a proxy before each registry, for what
// it asks; that isn't timed, since a proxy costs time.
func (s *stage) count(ctx context.Context, tool string) error {
	if err := s.emptied(ctx); err != nil {
		return err
	}
	if err := s.adapter(ctx, tool, "reset_state").Run(); err != nil {
		return err
	}
	if err := s.asked(ctx, s.name+"-cold", tool, false); err != nil {
		return err
	}
	if status, _, _, _, err := s.timed(ctx, tool, s.do, []string{s.from, s.to, s.list}); err != nil || status != 0 {
		return err
	}
	return s.asked(ctx, s.name+"-cold", tool, true)
}

// single does something with one image.
func (s *stage) single(ctx context.Context, tool string, rep int) ([]run, error) {
	out, img := filepath.Join(s.work, "out"), s.images[0]
	if err := os.RemoveAll(out); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, err
	}
	defer os.RemoveAll(out)
	arg := ""
	switch s.kind {
	case toRegistry:
		arg = s.to + "/" + img.String()
		if err := s.emptied(ctx); err != nil {
			return nil, err
		}
	case toLayout, toFolder:
		arg = filepath.Join(out, "d")
	case toFile:
		arg = filepath.Join(out, "f.tar")
	case find:
		arg = searched
	}
	done, err := s.noted(s.measure(ctx, s.name, tool, rep, s.do, s.from+"/"+img.String(), arg))
	if err != nil || done[0].status != 0 || rep > 1 {
		return done, err
	}
	return done, s.inspected(ctx, tool, arg)
}

// inspected looks at what a tool has made of one image.
func (s *stage) inspected(ctx context.Context, tool, arg string) error {
	img := s.images[0]
	var size int64
	var err error
	switch s.kind {
	case toRegistry:
		if _, err = verifyRegistry(ctx, s.src, s.dst, s.list, s.do == "copy_one"); err == nil {
			size, err = registrySize(ctx, s.dst, img)
		}
		if err == nil && s.do == "normalize" && tool == us {
			ratio, err := packedAgain(ctx, s.dst, img)
			if err != nil {
				return err
			}
			if err := s.out.fact("gzip6 "+s.name+" "+tool, fmt.Sprintf("%.4f", ratio)); err != nil {
				return err
			}
		}
	case toLayout:
		if err = verifyLayout(ctx, s.src, img, arg); err == nil {
			size, err = diskSize(arg)
		}
	case toFile, toFolder:
		size, err = diskSize(arg)
	default:
		return nil
	}
	if err := s.verified(s.name, tool, err); err != nil {
		return err
	}
	return s.out.fact("output "+s.name+" "+tool, fmt.Sprintf("%.0f", float64(size)/(1<<20)))
}

// verified notes whether what a tool made is right.
func (s *stage) verified(name, tool string, wrong error) error {
	text := "ok"
	if wrong != nil {
		text, _, _ = strings.Cut(wrong.Error(), "\n")
		fmt.Fprintf(os.Stderr, "-- %s %s: wrong: %s\n", name, tool, strings.ReplaceAll(wrong.Error(), "\n", " | "))
	}
	return s.out.fact("verify "+name+" "+tool, text)
}

// listed finds images in a Quay, a new one each time: its limits remember.
func (s *stage) listed(ctx context.Context, tool string, rep int) ([]run, error) {
	quay, err := s.start(ctx, "quay", quayHost, append([]string{s.kit, "quay", "-listen", quayHost}, s.source...)...)
	if err != nil {
		return nil, err
	}
	defer quay.stop()
	registry := s.srcServer
	s.srcServer = quay
	defer func() { s.srcServer = registry }()
	if _, err := stats(ctx, quayHost); err != nil { // of waiting until it listened
		return nil, err
	}
	done, err := s.noted(s.measure(ctx, s.name, tool, rep, s.do, quayHost, quayOrg, quaySince.Format(time.DateOnly)))
	if err != nil {
		return done, err
	}
	c, err := stats(ctx, quayHost)
	if err != nil {
		return done, err
	}
	return done, s.out.requests(requests{s.name, tool, "source", c})
}
