// Package e2e tests the module from outside, with what is too heavy to be among
// its libraries: a real registry (distribution), and a second opinion on what
// is pushed (go-containerregistry). It is a module of its own because these
// bring cloud SDKs. It has tests only.
//
// registry_test.go starts registries, in this process or in another one, whose
// memory is then not the tool's. tool_test.go builds the program as it ships,
// once, runs it, and measures it.
package e2e
