package gunzip_test

import (
	"bytes"
	stdgzip "compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/gzip"

	"github.com/quaymaster/quaymaster/internal/gunzip"
)

// text is n bytes of words, with a run of zeros and some noise here and there.
func text(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	words := make([]string, 500)
	for i := range words {
		words[i] = fmt.Sprintf("%x", r.Uint64()>>(r.UintN(50)))
	}
	var b bytes.Buffer
	for b.Len() < n {
		switch r.UintN(200) {
		case 0:
			b.Write(make([]byte, r.UintN(5000)))
		case 1:
			for range r.UintN(3000) {
				b.WriteByte(byte(r.Uint32()))
			}
		case 2:
			b.WriteString(strings.Repeat(words[0][:1+r.UintN(uint(len(words[0])))], int(r.UintN(300))))
		default:
			b.WriteString(words[r.UintN(500)])
			b.WriteByte(" \n\t,"[r.UintN(4)])
		}
	}
	return b.Bytes()[:n]
}

func compress(t testing.TB, level int, raw []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := stdgzip.NewWriterLevel(&b, level)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gunzipAll(src io.Reader) ([]byte, error) {
	z := new(gunzip.Reader)
	if err := z.Reset(src); err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

func TestReadsWhatOthersWrite(t *testing.T) {
	for _, size := range []int{0, 1, 100, 5_000, 65_535, 98_304, 98_305, 700_000} {
		raw := text(uint64(size), size)
		for _, level := range []int{stdgzip.HuffmanOnly, 0, 1, 6, 9} {
			z := compress(t, level, raw)
			for name, src := range map[string]io.Reader{
				"whole": bytes.NewReader(z), "byte by byte": iotest.OneByteReader(bytes.NewReader(z)),
				"halves": iotest.HalfReader(bytes.NewReader(z)), "end with the data": iotest.DataErrReader(bytes.NewReader(z)),
			} {
				if got, err := gunzipAll(src); err != nil || !bytes.Equal(got, raw) {
					t.Errorf("%d bytes, level %d, %s: %d other bytes, %v", size, level, name, len(got), err)
				}
			}
		}
	}
}

// TestLongCodes: bytes of which some are so rare that their codes have 15 bits,
// alone and among matches, so that all tables have subtables.
func TestLongCodes(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	var raw []byte
	for len(raw) < 500_000 {
		b := byte(0)
		for b < 30 && r.UintN(5) > 1 {
			b++
		}
		raw = append(raw, b)
		if n := len(raw); r.UintN(40) == 0 && n > 40_000 {
			back := 1 + r.IntN(1<<r.UintN(16))
			raw = append(raw, raw[n-back:][:min(back, 3+r.IntN(300))]...)
		}
	}
	for _, level := range []int{stdgzip.HuffmanOnly, 1, 6, 9} {
		if got, err := gunzipAll(bytes.NewReader(compress(t, level, raw))); err != nil || !bytes.Equal(got, raw) {
			t.Errorf("level %d: %d other bytes, %v", level, len(got), err)
		}
	}
}

// TestMembers has a second member that would refer to the first, and one that is empty.
func TestMembers(t *testing.T) {
	a, b := text(1, 100_000), text(2, 70_000)
	var with bytes.Buffer
	z, _ := stdgzip.NewWriterLevel(&with, 6)
	z.Name, z.Comment, z.Extra = "a name", "a comment", bytes.Repeat([]byte{1}, 300)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	z.Close()
	all := bytes.Join([][]byte{compress(t, 6, a), compress(t, 6, nil), with.Bytes(), compress(t, 0, a)}, nil)
	got, err := gunzipAll(iotest.HalfReader(bytes.NewReader(all)))
	if want := bytes.Join([][]byte{a, b, a}, nil); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, want %d: %v", len(got), len(want), err)
	}
}

// TestCut cuts a stream everywhere: what is there comes out, and never more.
func TestCut(t *testing.T) {
	raw := text(3, 2_500)
	for _, level := range []int{0, 1, 9, stdgzip.HuffmanOnly} {
		z := compress(t, level, raw)
		for n := range z {
			got, err := gunzipAll(bytes.NewReader(z[:n]))
			want := io.ErrUnexpectedEOF
			if n == 0 {
				want = io.EOF
			}
			if !errors.Is(err, want) || !bytes.HasPrefix(raw, got) {
				t.Fatalf("level %d, %d of %d bytes: %d bytes, %v", level, n, len(z), len(got), err)
			}
		}
	}
}

func TestDamage(t *testing.T) {
	raw := text(4, 1_000)
	z := compress(t, 6, raw)
	for bit := range 8 * len(z) {
		bad := bytes.Clone(z)
		bad[bit/8] ^= 1 << (bit % 8)
		same(t, bad)
	}
	if _, err := gunzipAll(bytes.NewReader(append(bytes.Clone(z), 0))); err == nil {
		t.Error("a byte behind the end went unseen")
	}
}

func TestErrorsOfTheSource(t *testing.T) {
	why := errors.New("no more")
	z := compress(t, 6, text(5, 300_000))
	src := io.MultiReader(bytes.NewReader(z[:len(z)/2]), iotest.ErrReader(why))
	if got, err := gunzipAll(src); !errors.Is(err, why) || len(got) == 0 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := gunzipAll(idle{}); !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
}

type idle struct{}

func (idle) Read([]byte) (int, error) { return 0, nil }

// TestUsedAgain: nothing of what was read before is left.
func TestUsedAgain(t *testing.T) {
	z := new(gunzip.Reader)
	raw := text(6, 200_000)
	ok := compress(t, 6, raw)
	for i, src := range [][]byte{ok, ok[:1000], ok, []byte("no gzip at all"), compress(t, 1, nil), nil, ok} {
		err := z.Reset(bytes.NewReader(src))
		if err == nil {
			var got []byte
			if got, err = io.ReadAll(z); err == nil && len(src) == len(ok) && !bytes.Equal(got, raw) {
				t.Errorf("%d: other bytes", i)
			}
		}
		if good := i%2 == 0; good != (err == nil) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if err := z.Reset(nil); err != io.EOF {
		t.Error(err)
	}
}

// TestHeaders has each field that a header may have, at its limits and cut everywhere.
func TestHeaders(t *testing.T) {
	plain := compress(t, 6, []byte("body"))
	with := func(flags byte, fields ...[]byte) []byte {
		head := bytes.Join(append([][]byte{plain[:3], {flags}, plain[4:10]}, fields...), nil)
		if flags&2 != 0 {
			head = binary.LittleEndian.AppendUint16(head, uint16(crc32.ChecksumIEEE(head)&0xffff))
		}
		return append(head, plain[10:]...)
	}
	name := func(n int) []byte { return append(bytes.Repeat([]byte{'n'}, n), 0) }
	extra := func(n uint16) []byte {
		return append(binary.LittleEndian.AppendUint16(nil, n), make([]byte, n)...)
	}
	wrongSum := with(2)
	wrongSum[10] ^= 1
	for _, tt := range []struct {
		name string
		src  []byte
		good bool
	}{
		{"text", with(1), true},
		{"sum", with(2), true},
		{"wrong sum", wrongSum, false},
		{"no extra bytes", with(4, extra(0)), true},
		{"65535 extra bytes", with(4, extra(65535)), true},
		{"empty name", with(8, name(0)), true},
		{"longest name", with(8, name(511)), true},
		{"longer name", with(8, name(512)), false},
		{"longest comment", with(16, name(511)), true},
		{"longer comment", with(16, name(512)), false},
		{"all", with(31, extra(70), name(30), name(40)), true},
		{"reserved bit 5", with(1 << 5), false},
		{"reserved bit 7", with(1<<7 | 2), false},
		{"another method", append([]byte{0x1f, 0x8b, 7}, plain[3:]...), false},
	} {
		got, err := gunzipAll(bytes.NewReader(tt.src))
		if (err == nil) != tt.good || tt.good && string(got) != "body" {
			t.Errorf("%s: got %q, %v", tt.name, got, err)
		}
		same(t, tt.src)
		same(t, append(bytes.Clone(plain), tt.src...))
		for n := 1; tt.good && n < min(len(tt.src), 1000); n++ {
			if _, err := gunzipAll(bytes.NewReader(tt.src[:n])); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%s, %d bytes of it: %v", tt.name, n, err)
			}
			got, err := gunzipAll(bytes.NewReader(append(bytes.Clone(plain), tt.src[:n]...)))
			if !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.HasPrefix(got, []byte("body")) {
				t.Fatalf("%s, %d bytes of it behind another: %q, %v", tt.name, n, got, err)
			}
		}
	}
	for _, pad := range []int{1, 9, 10, 512} { // zeros are no member
		same(t, append(bytes.Clone(plain), make([]byte, pad)...))
	}
}

// same compares with compress/gzip: the bytes, and whether there is an error. An
// error too are reserved bits in a header, which klauspost/compress sees.
func same(t *testing.T, src []byte) {
	t.Helper()
	const most = 4 << 20
	var want []byte
	std, wantErr := stdgzip.NewReader(bytes.NewReader(src))
	if wantErr == nil {
		want, wantErr = io.ReadAll(io.LimitReader(std, most))
	}
	if wantErr == nil {
		var k *gzip.Reader
		if k, wantErr = gzip.NewReader(bytes.NewReader(src)); wantErr == nil {
			_, wantErr = io.Copy(io.Discard, io.LimitReader(k, most))
		}
	}
	z := new(gunzip.Reader)
	var got []byte
	err := z.Reset(bytes.NewReader(src))
	if err == nil {
		got, err = io.ReadAll(io.LimitReader(z, most))
	}
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("got %v, compress/gzip says %v: %x", err, wantErr, src)
	}
	if err == nil && !bytes.Equal(got, want) || !bytes.HasPrefix(want, got[:min(len(got), len(want))]) {
		t.Fatalf("%d bytes that are not compress/gzip's %d: %x", len(got), len(want), src)
	}
}

func FuzzReader(f *testing.F) {
	for level := range 10 {
		f.Add(compress(f, level, text(uint64(level), 2_000)))
	}
	f.Add([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, src []byte) { same(t, src) })
}

// FuzzDeflate wraps what it is given, so that the way to the decoder is short.
func FuzzDeflate(f *testing.F) {
	for level := range 10 {
		z := compress(f, level, text(uint64(level), 2_000))
		f.Add(z[10 : len(z)-8])
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		all := append([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}, src...)
		z := new(gunzip.Reader)
		if err := z.Reset(bytes.NewReader(all)); err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(io.LimitReader(z, 4<<20))
		k, err := gzip.NewReader(bytes.NewReader(all))
		if err != nil {
			t.Fatal(err)
		}
		want, _ := io.ReadAll(io.LimitReader(k, 4<<20))
		if n := min(len(got), len(want)); !bytes.Equal(got[:n], want[:n]) {
			t.Fatalf("got %x, want %x", got, want)
		}
		same(t, all)
	})
}

// BenchmarkReader: 8 MiB of text.
func BenchmarkReader(b *testing.B) {
	raw := text(9, 8<<20)
	src := compress(b, 6, raw)
	for _, tt := range []struct {
		name string
		open func(io.Reader) (io.Reader, error)
	}{
		{"ours", func(r io.Reader) (io.Reader, error) { z := new(gunzip.Reader); return z, z.Reset(r) }},
		{"klauspost", func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
		{"stdlib", func(r io.Reader) (io.Reader, error) { return stdgzip.NewReader(r) }},
	} {
		b.Run(tt.name, func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			buf := make([]byte, 64<<10)
			for b.Loop() {
				z, err := tt.open(bytes.NewReader(src))
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{z}, buf); n != int64(len(raw)) || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}
