package transport

import (
	"net/http"
	"net/url"
	"sync"
)

// Facts gives what callers have learnt of host through client, by keys of their
// own: whatever else is opened there needn't find it out again. Only host's scheme
// and host count. If client isn't a [Transport]'s it is an empty map of the caller's.
func Facts(client *http.Client, host *url.URL) *sync.Map {
	if client != nil && host != nil {
		if t, ok := client.Transport.(*Transport); ok {
			return &t.host(host).facts
		}
	}
	return &sync.Map{}
}
