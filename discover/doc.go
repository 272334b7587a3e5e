// Package discover finds images: each file is one way to, and [Table] is all of
// them. A way lists names with what they meant when they were listed, and
// leaves the reading to a function that its caller gives.
//
//	quay.go      the kind quay://: an organisation of a Quay
//	query.go     what its URI asks for; moment.go its dates
//	survey.go    one pass: token, repositories, then their tags in parallel
//	repository.go, label.go  the tags of one repository that match
//	cache.go     listings kept between runs
//	list.go      the kind list://: a file of references, or a report
//	atleast.go   a listing that must not shrink
//	pinned.go    a listing whose digests are all known
//
// Listings come in a stable order. One that breaks ends with an error matching
// [oci.ErrIncomplete], behind all that was found.
//
// To add a way see docs/recipes/add-a-discovery.md.
package discover
