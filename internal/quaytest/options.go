package quaytest

import (
	"net/http"
	"time"

	"cuelabs.dev/go/oci/ociregistry"
)

// Options say how a Quay is set up. The zero value is Quay's default
// configuration, with content in memory.
type Options struct {
	Store ociregistry.Interface     // content; nil: in memory. See [OpenDisk]
	Now   func() time.Time          // clock; nil: time.Now
	Fault func(*http.Request) Fault // asked about each request; nil: none. See [Faults]

	NoAnonymousAccess     bool // FEATURE_ANONYMOUS_ACCESS off: 401 for who has no token
	NoExtendedNames       bool // FEATURE_EXTENDED_REPOSITORY_NAMES off: no nested repositories
	NoLibrary             bool // FEATURE_LIBRARY_SUPPORT off: one-segment names are no "library/…"
	NoReferrers           bool // FEATURE_REFERRERS_API off
	NoGeneralOCI          bool // FEATURE_GENERAL_OCI_SUPPORT off: OCI manifests hold images only
	PublicCatalog         bool // FEATURE_PUBLIC_CATALOG: /v2/_catalog shows public repositories to all
	RepoMirror            bool // FEATURE_REPO_MIRROR: changestate and mirror exist
	OrgMirror             bool // FEATURE_ORG_MIRROR: nothing is created in a mirrored organisation
	QuotaManagement       bool // FEATURE_QUOTA_MANAGEMENT and EDIT_QUOTA: quota_report, refused pushes
	ImmutableTags         bool // FEATURE_IMMUTABLE_TAGS
	PermanentlyDeleteTags bool // FEATURE_PERMANENTLY_DELETE_TAGS: POST …/tag/T/expire
	SparseIndex           bool // FEATURE_SPARSE_INDEX: indexes may lack children
	RateLimits            bool // FEATURE_RATE_LIMITS: nginx's leaky buckets, HTML 429
	ReadOnly              bool // registry state "readonly": writes are refused

	TagCache     time.Duration // age of /v2 tag lists; 0 means 120 s, below 0 none
	CatalogCache time.Duration // age of /v2/_catalog; 0 means 60 s, below 0 none
	TimeMachine  time.Duration // how long dead tags are kept; 0 means 14 days
	TokenLife    time.Duration // life of a V2 token; 0 means an hour
	URLLife      time.Duration // life of a signed blob URL; 0 means 60 s
	WrongLogins  int           // wrong passwords of a user before 429; 0: no limit

	NoMounts     bool // every mount is answered with an upload, as by other registries; Quay has no such switch
	StreamBlobs  bool // blobs come as 200 from the registry (gzip-ed by nginx if the client takes it), not by a 302
	StorageProxy bool // the 302 goes to /_storage_proxy/ of the same host; always so without [Server.Start]
}

func (o Options) withDefaults() Options {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	def(&o.TagCache, 120*time.Second)
	def(&o.CatalogCache, 60*time.Second)
	def(&o.TimeMachine, 14*24*time.Hour)
	def(&o.TokenLife, time.Hour)
	def(&o.URLLife, 60*time.Second)
	return o
}
