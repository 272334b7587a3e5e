// Package layout is the OCI image layout: what ocidir:// and archives of
// layouts share. It knows the marker file ([Marker], [CheckMarker]), the
// paths of blobs ([BlobPath]), index.json ([Index]) and the names in it
// ([RefName], [ParseName]).
//
// A [Reader] reads a layout through [Files], which a backend gives it: a folder
// or an archive. [Images] is the layout as a source, [Named] the reading half of
// a destination. How a layout is written is the backend's business.
//
// It follows the OCI image specification v1.1, image-layout.md.
package layout
