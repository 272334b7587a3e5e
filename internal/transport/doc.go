// Package transport carries every HTTP request of a run.
//
// A [Transport] is one side, "source" or "destination". Its [Transport.Client]
// is a plain *http.Client whose RoundTripper does what every caller would have
// to do alone: it waits for the host's limits (limit.go: requests a second;
// gate.go: requests at once; pace.go: bytes a second; conns.go: connections),
// signs in (challenge.go, token.go, batch.go, realm.go), follows redirects
// without carrying credentials along (redirect.go), sends again what may be sent
// again (retry.go), watches that bytes keep coming (body.go) and refuses
// addresses that a public host has no business to name (guard.go).
//
// Who knows which repositories come says so by [Expect]: their tokens are then
// asked for together.
//
// The scopes that a /v2/ request needs are read from its context, as oras-go
// puts them there: auth.WithScopes, auth.AppendScopes,
// auth.AppendScopesForHost. Without any they follow from method and path.
// Credentials of a registry go to requests under /v2/ alone. A request that
// carries Authorization already (the client of Quay's API does) is sent as it
// is, and loses that header at the first redirect to another host.
//
// Attempts: a request gets 1 + [Options.Retries], after 1, 2 and 4 s less a
// random part of up to a half, for lost connections, timeouts and the statuses
// 408, 429, 500, 502, 503 and 504; after Retry-After where a 429 or 503 has it,
// at most five minutes, during which nothing goes to that host. All other
// statuses are final, and so are unknown names and certificates. Reads, and
// writes and deletes of manifests, are repeated; starts of uploads after a lost
// connection, 429 and 503; other writes never. A token or redirect that has
// expired is renewed once. A host that failed five requests in a row gets one
// attempt a request until one succeeds.
//
// Where credentials come from is said by a [CredentialFunc]: [Fixed], or a
// [Store] over the auth files of podman and docker. [SaveLogin] and
// [RemoveLogin] write such a file.
//
// Specifications: distribution's token authentication and OAuth 2 flow
// (distribution.github.io/distribution/spec/auth), RFC 9110 sections 10.2.3
// (Retry-After), 11 (authentication) and 15.4 (redirects).
package transport
