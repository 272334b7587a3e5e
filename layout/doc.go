// Package layout is the OCI image layout: what ocidir:// and archives of
// layouts share. It knows the marker file ([Marker], [CheckMarker]), the
// paths of blobs ([BlobPath]), index.json ([Index]) and the names in it
// ([RefName], [ParseName]).
//
// It follows the OCI image specification v1.1, image-layout.md. It does no
// I/O: where the files are is the backend's business.
package layout
