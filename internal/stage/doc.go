// Package stage writes files into a folder so that none is ever seen half
// done: into a hidden run folder first, synced to the disk, then renamed to its
// final name. Layout folders and dir:// share it.
//
// Several processes may write one folder. Each has a run folder of its own,
// [Folder]/run-*, with a lock that lives as long as the process; run folders
// whose process is dead are removed by the next that writes. What all change
// (an index, a catalog) is read, changed and written under [Stage.Lock]; a
// [Group] gathers such changes, so that many images cost few writes.
//
// A stage makes nothing before its first write: to look at a place, or to plan,
// leaves no trace. Close leaves nothing but final files.
package stage
