// Package tarfile gives random access to the members of a tar archive. [Open]
// reads the headers once and seeks over the bodies; what is compressed, or comes
// through a pipe, is spooled into a file without a name first.
//
// Names are keys and never paths: nothing is extracted. What an archive says is
// not believed: members are bounded in number and length, one that claims more
// bytes than the file has is an error at once, and links are followed within the
// archive only.
package tarfile
