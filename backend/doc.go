// Package backend says what a place is where images live: the grammar of its
// URI ([ParseURI]), what it is to be opened with ([Env]), and the [Kind] that
// each of the packages below it exports. Package backend/all is the table.
//
// To add a backend see docs/recipes/add-a-backend.md.
package backend
