// Package quaytest is a Quay for tests and for the demo: the REST API v1, the
// V2 token service and the V2 registry, as Quay's source (commit ffba0c70e)
// behaves, not as some client happens to ask.
//
// A [Server] has three parts. The state (users, organisations, robots, tokens,
// repositories and the history of their tags) is its own. Content lies in a
// store, any ociregistry.Interface: cuelabs' ocimem, or [OpenDisk], which
// streams. cuelabs' ociserver serves the store, and a middleware turns its
// answers into Quay's where the two differ. The middleware holds no content. It
// knows which tags live, so that digests that only dead tags name are 404.
//
//	s := quaytest.New(quaytest.Options{})
//	err := s.Push(ctx, "kolla/nova-api", "latest", image)
//	run := s.Start()
//	defer run.Close()
//	... use run.URL, then look at s.Counts(), s.Transfers(), s.Authorizations()
//
// Every switch of Quay that the API shows is a field of [Options]; its zero
// value is Quay's default. Blobs are served by a redirect to another host (a
// second port), which refuses requests that carry Authorization.
//
// What it leaves out: it never frees content (a manifest is gone for clients
// when the time machine's window is over, its bytes stay in the store), it
// takes no pushes of docker schema 1 (it does convert into it), it doesn't
// fetch what a mirror should hold, and `$token` access tokens don't exist.
package quaytest
