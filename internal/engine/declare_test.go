package engine

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDeclare_OnlyWhereThereIsRoom: the options are written into the engine's block
// only if its allocator is known and has room for the field, and the engine's own
// options have the known layout.
func TestDeclare_OnlyWhereThereIsRoom(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("a C compiler is missing: install one, such as the package gcc, so that cc is on PATH")
	}
	for _, test := range []struct{ name, flags, want string }{
		{"glibc, 5.1.1", "-DSIZE=48", "1 1"},
		{"glibc, 4.2.8", "-DSIZE=40", "0 0"},
		{"glibc, 3.2", "-DSIZE=32", "0 0"},
		{"jemalloc with a prefix, 5.1.1", "-DSIZE=48 -DOWN_ALLOCATOR", "1 1"},
		{"jemalloc with a prefix, 4.2.8", "-DSIZE=40 -DOWN_ALLOCATOR", "0 0"},
		{"unknown allocator", "-DSIZE=48 -DUNKNOWN_ALLOCATOR", "0 0"},
		{"another layout", "-DSIZE=48 -DSTRIDE=112", "0 0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			program := filepath.Join(t.TempDir(), "engine")
			flags := strings.Fields(test.flags)
			if !strings.Contains(test.flags, "STRIDE") {
				flags = append(flags, "-DSTRIDE=104")
			}
			args := append([]string{"-Wall", "-Werror", "-rdynamic", "-o", program, "testdata/declare.c", "declare.c", "symbols.c", "platform_linux.c", "-ldl"}, flags...)
			if out, err := exec.CommandContext(t.Context(), cc, args...).CombinedOutput(); err != nil {
				t.Fatalf("cc: %v\n%s", err, out)
			}
			out, err := exec.CommandContext(t.Context(), program).CombinedOutput()
			if got := strings.TrimSpace(string(out)); err != nil || got != test.want {
				t.Errorf("%q, %v; want %q", got, err, test.want)
			}
		})
	}
}
