package main

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// maxGLIBC is the newest C library that a release may need: glibc 2.17 of 2012,
// which is in RHEL 7, Amazon Linux 2 and everything later. It is also the oldest
// glibc for arm64.
var maxGLIBC = glibc{2, 17}

// glibc is a version of the GNU C library: major, minor, patch.
type glibc [3]int

func (v glibc) String() string {
	if v[2] == 0 {
		return fmt.Sprintf("%d.%d", v[0], v[1])
	}
	return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2])
}

// libraries are the shared libraries that a release may need: parts of the C
// library, which every process of Fluent Bit has loaded.
var libraries = []string{"libc.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libm.so.6",
	"ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}

// entryPoints are the functions of the library that the engine looks up.
var entryPoints = []string{"FLBPluginRegister", "FLBPluginInit", "FLBPluginFlush", "FLBPluginFlushCtx"}

var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// checkELF reads an ELF file of the architecture (a GOARCH) and returns the
// newest version of glibc that it needs. The error names everything that keeps
// the file from loading on a system with maxGLIBC.
func checkELF(r io.ReaderAt, goarch string) (newest glibc, err error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return newest, err
	}
	if f.Machine != machines[goarch] {
		return newest, fmt.Errorf("it is for %v, not %s", f.Machine, goarch)
	}
	needed, err := f.ImportedLibraries()
	if err != nil {
		return newest, err
	}
	var problems []error
	if f.Section(".symtab") != nil {
		problems = append(problems, errors.New("it is not stripped"))
	}
	for _, library := range needed {
		if !slices.Contains(libraries, library) {
			problems = append(problems, fmt.Errorf("it needs the library %s", library))
		}
	}
	var versions []elf.DynamicVersionNeed
	// An executable without C code has no such section.
	if f.SectionByType(elf.SHT_GNU_VERNEED) != nil {
		if versions, err = f.DynamicVersionNeeds(); err != nil {
			return newest, err
		}
	}
	for _, library := range versions {
		for _, need := range library.Needs {
			v, ok := parseGLIBC(need.Dep)
			switch {
			case !ok:
				problems = append(problems, fmt.Errorf("it needs %s of %s", need.Dep, library.Name))
				continue
			case slices.Compare(v[:], maxGLIBC[:]) > 0:
				problems = append(problems, fmt.Errorf("it needs glibc %v (%s), a release may need at most %v", v, library.Name, maxGLIBC))
			}
			if slices.Compare(v[:], newest[:]) > 0 {
				newest = v
			}
		}
	}
	return newest, errors.Join(problems...)
}

// parseGLIBC reads the name of a symbol version, such as GLIBC_2.3.2.
func parseGLIBC(name string) (v glibc, ok bool) {
	numbers, ok := strings.CutPrefix(name, "GLIBC_")
	parts := strings.Split(numbers, ".")
	if !ok || len(parts) < 2 || len(parts) > len(v) {
		return v, false
	}
	for i, part := range parts {
		n, err := strconv.Atoi(part)
		if err != nil {
			return v, false
		}
		v[i] = n
	}
	return v, true
}

// checkExports returns an error if the engine would not find the library's
// functions.
func checkExports(r io.ReaderAt) error {
	f, err := elf.NewFile(r)
	if err != nil {
		return err
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return err
	}
	for _, name := range entryPoints {
		if !slices.ContainsFunc(symbols, func(s elf.Symbol) bool { return s.Name == name && s.Section != elf.SHN_UNDEF }) {
			return fmt.Errorf("it does not export %s", name)
		}
	}
	return nil
}
