// Package filetree reads layers as a file system: [Walk] gives the entries of
// one, verified and whole or with an error, and [Merge] lays them on each other
// as the image specification says, whiteouts and opaque directories applied.
//
// An [Image] is what is needed for that of a manifest. [Once] lets a run that
// meets the same layer in many images read it in one of them.
//
// Nothing is written to disk. Of names only the text is looked at: links are
// not followed.
package filetree
