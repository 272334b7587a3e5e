package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/quaymaster/quaymaster/internal/imagetest"
	"github.com/quaymaster/quaymaster/internal/quaytest"
)

// What the Quay of the listing is: an organisation of many repositories with one
// tag each, some of them set lately; and what its API allows by HTTP/1.1.
const (
	quayOrg          = "kolla"
	quayRepositories = 1876
	quayFresh        = 60 // with a tag set at quaySince or later
	quayRate         = 5  // requests/s
	quayBurst        = 25 // requests
)

var quaySince = time.Date(2026, 1, 20, 0, 0, 0, 0, time.UTC)

// quayTime is what the limit makes of n requests, at the least: seconds.
func quayTime(n int) float64 { return max(0, float64(n-quayBurst)/quayRate) }

// cmdQuay serves a Quay in memory. Counted are the calls of its API, and
// as "limited" those that came too early.
func cmdQuay(ctx context.Context, args []string, _ io.Writer) error {
	fs := flags("quay")
	listen := fs.String("listen", "127.0.0.1:5005", "`host:port`")
	limits := fs.Bool("limits", false, "hold clients to quay.io's limits")
	if err := fs.Parse(args); err != nil {
		return err
	}
	h, c, err := newQuay(ctx, *limits)
	if err != nil {
		return err
	}
	return serve(ctx, *listen, h, c)
}

func newQuay(ctx context.Context, limits bool) (http.Handler, *counter, error) {
	s := quaytest.New(quaytest.Options{RateLimits: limits})
	img := imagetest.New(imagetest.Linux, nil, imagetest.Random(1, 1000))
	err := s.BulkRepositories(ctx, quayOrg, quayRepositories, func(i int) quaytest.BulkRepository {
		start := quaySince.AddDate(0, -1, 0)
		if i%(quayRepositories/quayFresh) == 0 && i/(quayRepositories/quayFresh) < quayFresh {
			start = quaySince
		}
		return quaytest.BulkRepository{Name: fmt.Sprintf("r-%04d", i), Tags: []quaytest.BulkTag{{Name: "latest", Image: img, Start: start}}}
	})
	if err != nil {
		return nil, nil, err
	}
	c := newCounter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == statsPath {
			c.mu.Lock()
			for kind, n := range s.Counts() {
				c.kinds[kind] = n
				if kind != "limited" {
					c.kinds["total"] += n
				}
			}
			c.mu.Unlock()
			s.Reset()
			c.ServeHTTP(w, r)
			return
		}
		s.ServeHTTP(w, r)
	}), c, nil
}
