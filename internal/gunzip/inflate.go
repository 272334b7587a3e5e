package gunzip

import "encoding/binary"

// block begins the next block.
func (z *Reader) block() error {
	if err := z.refill(); err != nil {
		return err
	}
	z.final = z.take(1) == 1
	switch z.take(2) {
	case 0:
		return z.openStored()
	case 1:
		if !z.fixed { // else the tables are those
			z.fixed = true
			build(z.lits[:], litBits, fixedLengths[:maxLit], litSymbols[:])
			build(z.dists[:], distBits, fixedLengths[maxLit:], distSymbols[:])
		}
		z.state = inCodes
		return z.over()
	case 2:
		z.fixed = false
		z.state = inCodes
		err := z.openDynamic()
		if cut := z.over(); cut != nil {
			return cut // and zeros were taken for codes
		}
		return err
	}
	return errCorrupt
}

var fixedLengths = func() (all [maxLit + maxDist]uint8) {
	for i := range all {
		switch {
		case i < 144:
			all[i] = 8
		case i < 256:
			all[i] = 9
		case i < 280:
			all[i] = 7
		case i < maxLit:
			all[i] = 8
		default:
			all[i] = 5
		}
	}
	return all
}()

// lenOrder is in which order the lengths of the codes of code lengths come.
var lenOrder = [maxLens]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// openDynamic reads the codes of a block that brings its own.
func (z *Reader) openDynamic() error {
	lits, dists, lens := int(z.take(5))+257, int(z.take(5))+1, int(z.take(4))+4
	if lits > 286 || dists > 30 {
		return errCorrupt
	}
	var of [maxLens]uint8
	for _, s := range lenOrder[:lens] {
		if z.nb < 3 {
			if err := z.refill(); err != nil {
				return err
			}
		}
		of[s] = uint8(z.take(3))
	}
	var table [1 << lenBits]entry
	if !build(table[:], lenBits, of[:], lenSymbols[:]) {
		return errCorrupt
	}
	var lengths [maxLit + maxDist]uint8
	for i, all := 0, lits+dists; i < all; {
		if err := z.refill(); err != nil {
			return err
		}
		e := table[z.bits&(1<<lenBits-1)]
		if e&isOther != 0 {
			return errCorrupt
		}
		z.take(uint(e & 0xff))
		repeat, value := 0, uint8(0)
		switch s := e >> 16; s {
		case 16:
			if i == 0 {
				return errCorrupt
			}
			repeat, value = 3+int(z.take(2)), lengths[i-1]
		case 17:
			repeat = 3 + int(z.take(3))
		case 18:
			repeat = 11 + int(z.take(7))
		default:
			repeat, value = 1, uint8(s) //nolint:gosec // at most 15
		}
		if repeat > all-i {
			return errCorrupt
		}
		for range repeat {
			lengths[i] = value
			i++
		}
	}
	if !build(z.lits[:], litBits, lengths[:lits], litSymbols[:]) ||
		!build(z.dists[:], distBits, lengths[lits:lits+dists], distSymbols[:]) {
		return errCorrupt
	}
	return nil
}

// codes decodes a block until it ends or out is full.
func (z *Reader) codes() error {
	in, out := z.in[:], z.out[:]
	i, o, bb, nb := z.i, z.w, z.bits, z.nb
	lits, dists := &z.lits, &z.dists
	base, safe := z.base, z.n-ahead
	good := o // of what is certain to be there
	err := error(nil)
loop:
	for o < limit {
		if i > safe {
			// Input runs out: from here on each step is looked at.
			z.i, z.nb, z.bits = i, nb, bb
			if err = z.over(); err != nil {
				o = good
				break
			}
			if err = z.fill(); err != nil {
				break
			}
			i, safe, good = z.i, z.n-ahead, o
		}
		// 56 bits or more. Those above nb are in bits twice, and the same.
		bb |= binary.LittleEndian.Uint64(in[i:i+8]) << (nb & 63)
		i += int((63 - nb) >> 3)
		nb |= 56
		e := lits[bb&(1<<litBits-1)]
		if e&isLiteral != 0 {
			// Up to four, and the code of what follows them, fit into 56 bits.
			bb >>= e & 63
			nb -= uint(e & 0xff)
			out[o] = byte(e >> 16)
			o++
			if e = lits[bb&(1<<litBits-1)]; e&isLiteral != 0 {
				bb >>= e & 63
				nb -= uint(e & 0xff)
				out[o] = byte(e >> 16)
				o++
				if e = lits[bb&(1<<litBits-1)]; e&isLiteral != 0 {
					bb >>= e & 63
					nb -= uint(e & 0xff)
					out[o] = byte(e >> 16)
					o++
					if e = lits[bb&(1<<litBits-1)]; e&isLiteral != 0 {
						bb >>= e & 63
						nb -= uint(e & 0xff)
						out[o] = byte(e >> 16)
						o++
						continue
					}
				}
			}
			bb |= binary.LittleEndian.Uint64(in[i:i+8]) << (nb & 63)
			i += int((63 - nb) >> 3)
			nb |= 56
		}
		if e&isOther != 0 {
			if e&isSubtable != 0 {
				bb >>= litBits
				nb -= litBits
				e = lits[e>>16+entry(bb)&(1<<(e>>8&15)-1)]
			}
			switch {
			case e&isLiteral != 0:
				bb >>= e & 63
				nb -= uint(e & 0xff)
				out[o] = byte(e >> 16)
				o++
				continue
			case e&isEnd != 0:
				bb >>= e & 63
				nb -= uint(e & 0xff)
				z.state = atBlock
				if z.final {
					z.state = atTrailer
				}
				break loop
			case e&isOther != 0:
				err = errCorrupt
				break loop
			}
		}
		length := int(e>>16 + entry(bb&(1<<(e&63)-1)>>(e>>8&15)))
		bb >>= e & 63
		nb -= uint(e & 0xff)

		e = dists[bb&(1<<distBits-1)]
		if e&isOther != 0 {
			if e&isSubtable != 0 {
				bb >>= distBits
				nb -= distBits
				e = dists[e>>16+entry(bb)&(1<<(e>>8&15)-1)]
			}
			if e&isOther != 0 {
				err = errCorrupt
				break
			}
		}
		dist := int(e>>16 + entry(bb&(1<<(e&63)-1)>>(e>>8&15)))
		bb >>= e & 63
		nb -= uint(e & 0xff)

		from := o - dist
		if from < base {
			err = errCorrupt
			break
		}
		end := o + length
		switch {
		case dist >= 8:
			// Eight bytes at a time, and 16 at least: a branch costs more than that.
			for {
				binary.LittleEndian.PutUint64(out[o:o+8], binary.LittleEndian.Uint64(out[from:from+8]))
				binary.LittleEndian.PutUint64(out[o+8:o+16], binary.LittleEndian.Uint64(out[from+8:from+16]))
				if o += 16; o >= end {
					break
				}
				from += 16
			}
			o = end
		case dist == 1:
			v := uint64(out[from]) * 0x0101010101010101
			for ; o < end; o += 8 {
				binary.LittleEndian.PutUint64(out[o:o+8], v)
			}
			o = end
		default:
			for ; o < end; o++ {
				out[o] = out[from]
				from++
			}
		}
	}
	z.i, z.nb, z.bits, z.w = i, nb, bb, o
	if err == nil || err == errCorrupt {
		if cut := z.over(); cut != nil { // then what was decoded is of zeros
			z.w, err = good, cut
		}
	}
	return err
}

// openStored begins a block of bytes as they are.
func (z *Reader) openStored() error {
	if err := z.align(); err != nil {
		return err
	}
	if err := z.fill(); err != nil {
		return err
	}
	if z.n-z.i < 4 {
		return errCut
	}
	size := binary.LittleEndian.Uint16(z.in[z.i:])
	if size != ^binary.LittleEndian.Uint16(z.in[z.i+2:]) {
		return errCorrupt
	}
	z.i += 4
	z.left = int(size)
	z.state = inStored
	return nil
}

// stored copies what is left of such a block until it ends or out is full.
func (z *Reader) stored() error {
	for z.left > 0 && z.w < limit {
		if err := z.fill(); err != nil {
			return err
		}
		n := copy(z.out[z.w:limit], z.in[z.i:min(z.n, z.i+z.left)])
		if n == 0 {
			return errCut
		}
		z.i += n
		z.w += n
		z.left -= n
	}
	if z.left == 0 {
		z.state = atBlock
		if z.final {
			z.state = atTrailer
		}
	}
	return nil
}
