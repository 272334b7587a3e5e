// Package gunzip reads gzip (RFC 1952, RFC 1951), about twice as fast as
// compress/gzip and klauspost/compress do.
//
// Those promise never to read a byte behind the end of a stream, so they fetch
// and test their input byte by byte. A layer is the whole of what it is read
// from: a [Reader] reads ahead, takes eight bytes at a time and decodes several
// symbols of them before it looks again. docs/decisions/0015 has the measurements.
package gunzip
