package gunzip

import "math/bits"

// An entry of a table says what the bits that lead to it stand for:
//
//	bit 31     a literal
//	bits 16-30 the literal; or the base of a length or distance; or where a subtable begins
//	bit 15     none of these, so:
//	bit 14     the bits lead on to a subtable
//	bit 13     the end of the block; without either of these two, nothing at all
//	bits 8-11  the bits of the code, or those that index the subtable
//	bits 0-7   the bits of the code and of what it has behind it
type entry = uint32

const (
	isLiteral  entry = 1 << 31
	isOther    entry = 1 << 15
	isSubtable entry = 1 << 14
	isEnd      entry = 1 << 13
	isNothing        = isOther
)

// Codes of up to these many bits are found at once. The sizes of tables are those
// that no set of codes of up to 15 bits goes beyond, with all its subtables.
const (
	litBits  = 11
	distBits = 8
	lenBits  = 7 // all that the code of code lengths has

	litSize  = 2342
	distSize = 402

	maxBits = 15
	maxLit  = 288
	maxDist = 32
	maxLens = 19
)

// What each symbol stands for: the entry without the length of its code.
var (
	litSymbols  = literals()
	distSymbols = distances()
	lenSymbols  = codeLengths()
)

func literals() (all [maxLit]entry) {
	for i := range 256 {
		all[i] = isLiteral | entry(i)<<16
	}
	all[256] = isOther | isEnd
	base := entry(3)
	for i := 257; i < 285; i++ {
		extra := entry(max(0, (i-261)/4))
		all[i] = base<<16 | extra
		base += 1 << extra
	}
	all[285] = 258 << 16
	all[286], all[287] = isNothing, isNothing
	return all
}

func distances() (all [maxDist]entry) {
	base := entry(1)
	for i := range 30 {
		extra := entry(max(0, (i-2)/2))
		all[i] = base<<16 | extra
		base += 1 << extra
	}
	all[30], all[31] = isNothing, isNothing
	return all
}

func codeLengths() (all [maxLens]entry) {
	for i := range all {
		all[i] = entry(i) << 16
	}
	return all
}

// build fills table, indexed by root bits, for codes of the given lengths, which
// are at most 15, and 0 of symbols without a code. false: there are no such codes,
// or they leave some bits without a meaning. As zlib does it takes a single code
// of one bit, and none at all.
func build(table []entry, root int, lengths []uint8, symbols []entry) bool {
	var count, at [maxBits + 1]int
	for _, n := range lengths {
		count[n]++
	}
	count[0] = 0
	longest, free := 0, 1 // codes of n bits that are not taken
	for n := 1; n <= maxBits; n++ {
		if free = free<<1 - count[n]; free < 0 {
			return false
		}
		if count[n] > 0 {
			longest = n
		}
		if n < maxBits {
			at[n+1] = at[n] + count[n]
		}
	}
	if free > 0 {
		for i := range 1 << root {
			table[i] = isNothing
		}
		switch {
		case longest == 0:
			return true
		case longest > 1: // one code of one bit leaves half of all bits free
			return false
		}
	}
	// Shorter codes come first, and those of one length by their symbols.
	var sorted [maxLit]uint16
	for s, n := range lengths {
		if n > 0 {
			sorted[at[n]] = uint16(s) //nolint:gosec // below maxLit
			at[n]++
		}
	}
	if free > 0 {
		for i := 0; i < 1<<root; i += 2 {
			table[i] = symbols[sorted[0]] + 1 | 1<<8
		}
		return true
	}

	// A code is read from its first bit on, which is the lowest here: codes are
	// counted up with their bits reversed.
	code, next, n, filled := 0, 0, 1, 1
	for ; n <= min(root, longest); n++ {
		// What shorter codes stand for is the same whatever follows them.
		if filled < 1<<n {
			copy(table[filled:2*filled], table[:filled])
			filled *= 2
		}
		for range count[n] {
			table[code] = symbols[sorted[next]] + entry(n) | entry(n)<<8 //nolint:gosec // at most 15
			next++
			code = following(code, n)
		}
	}
	for ; filled < 1<<root; filled *= 2 {
		copy(table[filled:2*filled], table[:filled])
	}

	prefix, start, end := -1, 0, 1<<root
	for ; n <= longest; n++ {
		for left := count[n]; left > 0; left-- {
			if p := code & (1<<root - 1); p != prefix {
				// As many bits as it takes for all that begin so.
				more, used := n-root, left
				for used < 1<<more {
					more++
					used = used<<1 + count[root+more]
				}
				prefix, start, end = p, end, end+1<<more
				table[p] = isOther | isSubtable | entry(start)<<16 | entry(more)<<8 | entry(root) //nolint:gosec // small
			}
			e := symbols[sorted[next]] + entry(n-root) | entry(n-root)<<8 //nolint:gosec // at most 15
			next++
			for i := start + code>>root; i < end; i += 1 << (n - root) {
				table[i] = e
			}
			code = following(code, n)
		}
	}
	return true
}

// following gives the code behind code, of n bits, with the first bit lowest. It
// gives 0 behind the last.
func following(code, n int) int {
	zeros := ^code & (1<<n - 1)
	if zeros == 0 {
		return 0
	}
	bit := 1 << (bits.Len(uint(zeros)) - 1) //nolint:gosec // a code is not negative
	return code&(bit-1) | bit
}
