// Package quay is a client of Quay's REST API, version 1: which repositories
// an organisation has, which tags a repository has, since when and on which
// digest. The registry itself (manifests, blobs) is the registry backend's.
//
// A [Client] is anonymous, or it has an OAuth 2 application token. Quay answers
// to a token that it doesn't know as to a stranger, with 200 and a shorter
// list, so call [Client.VerifyToken] before you rely on one. A robot account
// has no access to this API.
//
// Listings are sequences that fetch pages as they are read and end after their
// first error. A listing that breaks after its first page fails with an error
// matching [oci.ErrIncomplete]. What a server names is checked before it is
// used: names that are no repository, tag or digest are left out, and the
// Skipped function of the options is told.
//
// What is known of the API was read in Quay's source, commit ffba0c70e of
// 2026-08-21 (endpoints/api/repository.py, tag.py, manifest.py); older servers
// send fewer fields, newer ones more.
//
// The package is safe for concurrent use. It doesn't retry, limit or log:
// the [net/http.Client] that it is given does.
package quay
