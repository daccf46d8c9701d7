// Package e2e drives the built binaries as engines do: real namespaces as
// hosts, real engines on private paths, and a comparison of the whole host
// before and after each test.
//
// It imports nothing that is shipped but netns, so that what it proves is true
// of the binaries. Set BOWLINE_BIN to a directory to test those binaries; else
// they are built first. BOWLINE_E2E_REFERENCE=1 drives the reference plugins
// instead, where a test can: what fails then is what we do better.
package e2e
