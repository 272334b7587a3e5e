package gunzip

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

const (
	window = 32 << 10 // how far back a block may refer
	chunk  = 64 << 10 // decoded at a time
	limit  = window + chunk
	// slack is what one step may write beyond limit: literals, a match, and 15
	// bytes that don't count.
	slack = 4 + 258 + 16

	inSize = 64 << 10
	// ahead is what one step may read of the input: twice eight bytes.
	ahead = 16
	// inPad are the zeros behind the end of the input that a step may take before
	// anybody looks.
	inPad = 32
)

// Errors of a [Reader], beside io.ErrUnexpectedEOF and those of what it reads.
var (
	errCorrupt  = errors.New("gzip: invalid data")
	errHeader   = errors.New("gzip: invalid header")
	errChecksum = errors.New("gzip: invalid checksum")
	errCut      = io.ErrUnexpectedEOF
)

type state uint8

const (
	atHeader state = iota
	atBlock
	inStored
	inCodes
	atTrailer
)

// A Reader gives what gzip members, one behind the other up to the end of its
// source, hold. It is for one goroutine. The zero value waits for Reset.
//
// It holds about 170 KiB.
type Reader struct {
	src   io.Reader
	err   error // once all that was decoded is given
	eof   bool  // of src
	state state
	final bool // the block is its member's last
	fixed bool // the tables are those of fixed codes

	i, n int    // in[i:n] is to be decoded
	bits uint64 // the next nb bits, lowest first
	nb   uint

	r, w int // out[r:w] is to be given
	base int // where the member begins in out, if it does
	left int // of a stored block
	crc  uint32
	size uint32

	lits  [litSize]entry
	dists [distSize]entry
	in    [inSize + inPad]byte
	out   [limit + slack]byte
}

// Reset begins with src, and reads the first header. The error is io.EOF if src
// is empty. A Reader that isn't to hold on to src any more is Reset with nil.
func (z *Reader) Reset(src io.Reader) error {
	z.src, z.err, z.eof, z.state = src, nil, src == nil, atHeader
	z.i, z.n, z.bits, z.nb = 0, 0, 0, 0
	z.r, z.w, z.base = 0, 0, 0
	z.err = z.header()
	return z.err
}

// Read gives data before it is known that the checksum at its end is right. Its
// errors are io.EOF behind the last member, io.ErrUnexpectedEOF, those of the
// source as they are, and others for what is no gzip. What is at fault with the
// source comes out even where that is damaged too.
func (z *Reader) Read(p []byte) (int, error) {
	for z.r == z.w {
		if z.err != nil {
			return 0, z.err
		}
		z.err = z.more()
	}
	n := copy(p, z.out[z.r:z.w])
	z.r += n
	return n, nil
}

// more decodes the next chunk.
func (z *Reader) more() error {
	if z.w >= limit {
		copy(z.out[:window], z.out[z.w-window:z.w])
		z.base = max(0, z.base-(z.w-window))
		z.w = window
	}
	from := z.w
	z.r = from
	err := error(nil)
	for err == nil && z.w < limit && z.state != atTrailer {
		switch z.state {
		case atHeader:
			err = z.header()
		case atBlock:
			err = z.block()
		case inStored:
			err = z.stored()
		case inCodes:
			err = z.codes()
		}
	}
	z.crc = crc32.Update(z.crc, crc32.IEEETable, z.out[from:z.w])
	z.size += uint32(z.w - from) //nolint:gosec // at most 64 KiB
	if err == nil && z.state == atTrailer {
		err = z.trailer()
	}
	return err
}

// trailer compares the end of a member with what came before it.
func (z *Reader) trailer() error {
	if err := z.align(); err != nil {
		return err
	}
	if err := z.fill(); err != nil {
		return err
	}
	if z.n-z.i < 8 {
		return errCut
	}
	crc, size := binary.LittleEndian.Uint32(z.in[z.i:]), binary.LittleEndian.Uint32(z.in[z.i+4:])
	z.i += 8
	if crc != z.crc || size != z.size {
		return errChecksum
	}
	z.state = atHeader
	return nil
}

// header reads the head of a member. io.EOF: there is none.
func (z *Reader) header() error {
	const (
		hasSum     = 1 << 1
		hasExtra   = 1 << 2
		hasName    = 1 << 3
		hasComment = 1 << 4
		reserved   = 7 << 5

		maxText = 512 // bytes of a name or comment with the 0 behind it, as compress/gzip has it
	)
	if err := z.fill(); err != nil {
		return err
	}
	if z.i == z.n {
		return io.EOF
	}
	z.crc = 0
	var head [10]byte
	if err := z.head(head[:]); err != nil {
		return err
	}
	if head[0] != 0x1f || head[1] != 0x8b || head[2] != 8 {
		return errHeader
	}
	flags := head[3]
	if flags&hasExtra != 0 {
		if err := z.head(head[:2]); err != nil {
			return err
		}
		for left := int(binary.LittleEndian.Uint16(head[:])); left > 0; left-- {
			if err := z.head(head[:1]); err != nil {
				return err
			}
		}
	}
	for _, has := range []byte{hasName, hasComment} {
		left := maxText
		for text := flags&has != 0; text; text = head[0] != 0 {
			if left == 0 {
				return errHeader
			}
			left--
			if err := z.head(head[:1]); err != nil {
				return err
			}
		}
	}
	if flags&hasSum != 0 {
		sum := uint16(z.crc & 0xffff)
		if err := z.head(head[:2]); err != nil {
			return err
		}
		if binary.LittleEndian.Uint16(head[:]) != sum {
			return errHeader
		}
	}
	if flags&reserved != 0 {
		return errHeader // nobody knows what would follow
	}
	z.crc, z.size, z.base, z.state = 0, 0, z.w, atBlock
	return nil
}

// head reads a part of the header.
func (z *Reader) head(p []byte) error {
	for i := range p {
		if z.i == z.n {
			if err := z.fill(); err != nil {
				return err
			}
			if z.i == z.n {
				return errCut
			}
		}
		p[i] = z.in[z.i]
		z.i++
	}
	z.crc = crc32.Update(z.crc, crc32.IEEETable, p)
	return nil
}

// fill sees to it that in has 16 bytes or all that there are. Zeros stand behind
// the last.
func (z *Reader) fill() error {
	if z.n-z.i >= ahead || z.eof {
		return nil
	}
	kept := min(z.i, 8) // bits may have it, and give it back
	z.n = copy(z.in[:], z.in[z.i-kept:z.n])
	z.i = kept
	for idle := 0; z.n-z.i < ahead; {
		n, err := z.src.Read(z.in[z.n:inSize])
		z.n += n
		switch {
		case err == io.EOF:
			z.eof = true
			clear(z.in[z.n : z.n+inPad])
			return nil
		case err != nil:
			return err
		case n > 0:
			idle = 0
		default:
			if idle++; idle == 100 {
				return io.ErrNoProgress
			}
		}
	}
	return nil
}

// refill sees to it that bits has 56 or more, zeros behind the end.
func (z *Reader) refill() error {
	if z.n-z.i < 8 {
		if err := z.over(); err != nil {
			return err
		}
		if err := z.fill(); err != nil {
			return err
		}
	}
	z.bits |= binary.LittleEndian.Uint64(z.in[z.i:z.i+8]) << (z.nb & 63)
	z.i += int((63 - z.nb) >> 3)
	z.nb |= 56
	return nil
}

// take takes n bits, which must be there.
func (z *Reader) take(n uint) uint32 {
	v := uint32(z.bits & (1<<(n&63) - 1)) //nolint:gosec // n is at most 15
	z.bits >>= n & 63
	z.nb -= n
	return v
}

// over reports as an error that bits were taken from behind the end.
func (z *Reader) over() error {
	if z.i-int(z.nb>>3) > z.n {
		return errCut
	}
	return nil
}

// align gives back the bits that were not taken, but for the rest of a byte.
func (z *Reader) align() error {
	z.i -= int(z.nb >> 3)
	z.bits, z.nb = 0, 0
	if z.i > z.n {
		return errCut
	}
	return nil
}
