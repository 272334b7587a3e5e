// Package suite holds every backend of [backend/all.Table] to what places promise
// each other: what was put comes back, damage is an error that says where, a run
// that is stopped leaves nothing behind, and a second one does nothing.
//
// It has tests only. A backend takes part by a line in the table of
// places_test.go, which says how an empty place of its kind is made; a kind
// without a line fails. What is special about a place is tested beside its code.
package suite
