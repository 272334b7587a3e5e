// Package cli is the command line: one file per command, which reads flags,
// makes one call into the library and prints what it gives.
//
// It is the only package that reads the environment, prints, and decides exit
// statuses: 0 done, 1 something failed, 2 usage or configuration, 3 refused by
// a safety rule, 4 failed and not all undone, 130 interrupted; diff has its own.
package cli
