// Package version is the version of the plugin and of kplcat. It comes from the
// git tag: version.sh finds it, and make hands it to the linker.
package version

import (
	"regexp"
	"runtime/debug"
)

// Development is the version of a build that is not of a release.
const Development = "0.0.0-dev"

// stamped is set by the linker, see LDFLAGS in the Makefile.
var stamped string

// String returns the version without a leading v, such as 1.2.3: the version
// that make stamped, else the one that `go install MODULE@VERSION` records in
// the binary, else Development.
func String() string {
	main := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		main = info.Main.Version
	}
	return choose(stamped, main)
}

// choose takes the version of the main module as the go command records it:
// "(devel)" or empty in a build that is not from a module proxy.
func choose(stamped, main string) string {
	switch {
	case stamped != "":
		return stamped
	case len(main) > 1 && main[0] == 'v' && !pseudo(main):
		return main[1:]
	}
	return Development
}

// pseudo reports whether the go command made the version up from a commit
// without a tag, or from a changed checkout: such a build is not of a release.
func pseudo(version string) bool {
	return pseudoVersion.MatchString(version)
}

// Source: https://go.dev/ref/mod#pseudo-versions; +dirty marks a changed checkout.
var pseudoVersion = regexp.MustCompile(`[-.]\d{14}-[0-9a-f]{12}|\+dirty$`)
