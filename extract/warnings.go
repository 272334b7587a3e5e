package extract

import "fmt"

// A warning is a kind of thing that could not be kept.
type warning int

const (
	warnEscapes warning = iota
	warnMark
	warnDevice
	warnHole
	warnOwner
	warnAttr
	warnHostAttr
	warnLast
)

var warningTexts = [warnLast]string{
	warnEscapes:  "names led out of the root file system and were taken as below it",
	warnMark:     "marks of a storage driver were left out",
	warnDevice:   "device nodes are empty files: this user may not make device nodes",
	warnHole:     "device nodes 0:0 are empty files: to overlayfs they would be whiteouts",
	warnOwner:    "entries belong to you and not to their users in the image (noted in user.rootlesscontainers): only root may give files away",
	warnAttr:     "extended attributes were left out: this user, or this type of file, can't have them",
	warnHostAttr: "extended attributes were left out: they are the host's to set (security.selinux, system.nfs4_acl)",
}

// Warnings count what could not be kept, by kind. The zero value has none.
type Warnings struct{ n [warnLast]int64 }

// Add counts what other counts too.
func (w *Warnings) Add(other Warnings) {
	for k, n := range other.n {
		w.n[k] += n
	}
}

// Lines gives a line for each kind that there was.
func (w Warnings) Lines() []string {
	var lines []string
	for k, n := range w.n {
		if n > 0 {
			lines = append(lines, fmt.Sprintf("%d %s", n, warningTexts[k]))
		}
	}
	return lines
}

func (w *Warnings) count(k warning) { w.n[k]++ }
