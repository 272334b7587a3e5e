package filter

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/quaymaster/quaymaster/oci"
)

// Parse makes the filter that spec names: NAME[:k=v[,k=v...]].
//
// Names of filters and options are taken in any case and with _ for -. A piece
// between commas that doesn't begin with a name and = goes on with the value
// before it, so exclude:pattern=A,B has two patterns; where an option takes one
// value, its commas are part of it. A comma that must not end a piece is written
// \, and other backslashes stay as they are. A value that begins with an array of
// strings as JSON has it, ["a","b"], is read to the array's end. Space around
// names and values doesn't count.
//
// The error matches [oci.ErrUsage].
func Parse(spec string, env Env) (Filter, error) {
	name, opts, err := parseSpec(spec)
	if err != nil {
		return Filter{}, err
	}
	k, err := find(name)
	if err != nil {
		return Filter{}, err
	}
	return k.make(opts, env)
}

// keyRE is the begin of a piece that is an option of its own.
var keyRE = regexp.MustCompile(`^\s*([A-Za-z][A-Za-z0-9_-]*)\s*=`)

func parseSpec(spec string) (name string, opts Options, err error) {
	name, rest, _ := strings.Cut(spec, ":")
	if name = strings.TrimSpace(name); name == "" {
		return "", nil, oci.Usage("Empty filter specification")
	}
	for more := rest != ""; more; {
		var piece string
		if m := keyRE.FindStringSubmatch(rest); m != nil {
			opts = append(opts, option{name: fold(m[1])})
			rest = rest[len(m[0]):]
			if n := arrayLen(rest); n > 0 {
				piece, rest = rest[:n], rest[n:]
				if more = rest != ""; more {
					rest = rest[1:]
				}
			} else {
				piece, rest, more = cutPiece(rest)
			}
		} else {
			piece, rest, more = cutPiece(rest)
			if len(opts) == 0 {
				switch {
				case strings.TrimSpace(piece) == "":
					continue
				case strings.Contains(piece, "="):
					return "", nil, oci.Usage(fmt.Sprintf("Invalid filter option (no name before =): %s", strings.TrimSpace(piece)))
				}
				return "", nil, oci.Usage(fmt.Sprintf("Invalid filter option (missing =): %s", strings.TrimSpace(piece)))
			}
		}
		last := &opts[len(opts)-1]
		last.pieces = append(last.pieces, piece)
	}
	for i := range opts {
		opts[i].trim()
	}
	return name, opts, nil
}

// cutPiece gives s up to its first comma without a backslash, with \, read as a
// comma, and what is behind that comma.
func cutPiece(s string) (piece, rest string, more bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == ',':
			return b.String(), s[i+1:], true
		case s[i] == '\\' && i+1 < len(s):
			i++
			if s[i] != ',' {
				b.WriteByte('\\')
			}
		}
		b.WriteByte(s[i])
	}
	return b.String(), "", false
}

// arrayLen gives how much of s is a JSON array of strings, 0 if s doesn't begin
// with one that ends at a comma or with s.
func arrayLen(s string) int {
	if !strings.HasPrefix(strings.TrimSpace(s), "[") {
		return 0
	}
	d := json.NewDecoder(strings.NewReader(s))
	var words []string
	if d.Decode(&words) != nil {
		return 0
	}
	n := int(d.InputOffset())
	n += len(s[n:]) - len(strings.TrimLeft(s[n:], " \t"))
	if n < len(s) && s[n] != ',' {
		return 0
	}
	return n
}
