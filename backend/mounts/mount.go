package mounts

// What is at a mount point.
type mounted int

const (
	mountNone  mounted = iota
	mountOurs          // what the plan says
	mountOther         // something else
)
