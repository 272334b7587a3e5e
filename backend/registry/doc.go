// Package registry reads from and writes to registries that speak the OCI
// distribution protocol, v1.1, Quay's dialect of it included.
//
// [Kind] is its line in the table of backends and [Open] opens one repository
// as a source. The HTTP client is the caller's: tokens, retries of what may be
// repeated, limits and the rules of redirects are its RoundTripper's work. This
// package says in each request's context which scopes it needs
// (auth.WithScopes of oras-go), and asks for push only when it is about to write.
//
// What it does itself, because only it can: a blob's body that breaks off goes on
// from where it broke (fetch.go), and an upload that fails starts again from its
// POST with a new pass over the content (upload.go), which is opened only when
// the registry wants it (pass.go).
//
// Sources: the distribution specification, docs/reference of Quay's registry
// endpoints (endpoints/v2 of quay/quay at ffba0c70e).
package registry
