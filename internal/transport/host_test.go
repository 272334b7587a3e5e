package transport

import (
	"errors"
	"testing"
	"testing/synctest"
)

// Those who wait for a host's first answer wait once, also if there is none.
func TestDeadHostIsWaitedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTest(t, Options{Retries: -1})
		tr.resolve = func(string) string {
			t.Error("it was asked again")
			return ""
		}
		h := tr.host(mustURL(t, "http://registry.example.com"))
		dead := errors.New("dead")
		h.asking <- struct{}{}
		got := make(chan error, 3)
		for range 3 {
			go func() { got <- tr.discover(t.Context(), h) }()
		}
		synctest.Wait() // they wait for who asks
		h.probed(dead)
		<-h.asking
		for range 3 {
			if err := <-got; !errors.Is(err, dead) {
				t.Errorf("got %v", err)
			}
		}
	})
}
