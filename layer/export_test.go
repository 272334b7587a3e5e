package layer

import "io"

// NewGzip is an encoder that shares its pool with nobody.
func NewGzip(w io.Writer, workers int) io.WriteCloser {
	return newGzipWriter(w, newBlockPool(workers))
}

// NewEncoder is an encoder of the process.
func NewEncoder(c Codec, w io.Writer) (io.WriteCloser, error) { return c.encoder(w) }

// Encode compresses with the pools of the process. abandon gives up before the end.
func Encode(c Codec, w io.Writer, from io.Reader, abandon bool) error {
	enc, err := c.encoder(w)
	if err != nil {
		return err
	}
	defer enc.abort()
	if _, err := io.Copy(enc, from); err != nil || abandon {
		return err
	}
	return enc.Close()
}

// CompressKnown is what Codec.ID says of the library if the program doesn't know.
const CompressKnown = compressModule + " " + compressKnown
