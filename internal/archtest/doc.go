// Package archtest holds the module to its architecture. It has tests only:
// they read the source of every package, the nested modules' too, and say which rule
// a line breaks and what the rule is for.
//
// floors_test.go is the table of who may import whom. The linter's depguard
// rules say the same coarsely and earlier, in the editor; where the two differ,
// this package rules.
package archtest
