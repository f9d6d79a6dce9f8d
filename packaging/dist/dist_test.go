package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// compile builds a stripped shared library from C.
func compile(t *testing.T, folder, library, source string, flags ...string) *os.File {
	t.Helper()
	if _, err := exec.LookPath("cc"); err != nil {
		t.Skip("a C compiler is missing: install one, such as the package gcc, so that cc is on PATH")
	}
	if machines[runtime.GOARCH] == 0 || runtime.GOOS != "linux" {
		t.Skip("releases are for Linux on amd64 and arm64: run this test there")
	}
	c, out := filepath.Join(folder, library+".c"), filepath.Join(folder, library)
	if err := os.WriteFile(c, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"-s", "-shared", "-fPIC", "-o", out, c}, flags...)
	if message, err := exec.Command("cc", args...).CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, message)
	}
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestELF_NewCLibraryIsFound(t *testing.T) {
	dir := t.TempDir()
	f := compile(t, dir, "new.so", "int getrandom(void *, unsigned long, unsigned); int f(void *p) { return getrandom(p, 1, 0); }")
	newest, err := checkELF(f, runtime.GOARCH)
	if err == nil || newest != (glibc{2, 25}) || !strings.Contains(err.Error(), "it needs glibc 2.25 (libc.so.6)") {
		t.Errorf("newest %v, error %v", newest, err)
	}
}

func TestELF_UnexpectedLibraryIsFound(t *testing.T) {
	dir := t.TempDir()
	compile(t, dir, "libother.so", "int other(void) { return 1; }")
	f := compile(t, dir, "user.so", "int other(void); int f(void) { return other(); }", "-L"+dir, "-lother", "-nostartfiles")
	if _, err := checkELF(f, runtime.GOARCH); err == nil || !strings.Contains(err.Error(), "it needs the library libother.so") {
		t.Errorf("error %v", err)
	}
}

func TestELF_OldLibraryPasses(t *testing.T) {
	f := compile(t, t.TempDir(), "old.so", "int getpid(void); int f(void) { return getpid(); }", "-nostartfiles")
	if newest, err := checkELF(f, runtime.GOARCH); err != nil || newest == (glibc{}) {
		t.Errorf("newest %v, error %v", newest, err)
	}
	other := map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]
	if _, err := checkELF(f, other); err == nil {
		t.Errorf("a library for %s passes as one for %s", runtime.GOARCH, other)
	}
	if err := checkExports(f); err == nil || !strings.Contains(err.Error(), "FLBPluginRegister") {
		t.Errorf("a library without the functions of a plugin: %v", err)
	}
}

func TestGLIBC_Versions(t *testing.T) {
	for name, want := range map[string]glibc{"GLIBC_2.17": {2, 17}, "GLIBC_2.2.5": {2, 2, 5}, "GLIBC_2.34": {2, 34}} {
		if v, ok := parseGLIBC(name); !ok || v != want {
			t.Errorf("%s: %v, %v", name, v, ok)
		}
	}
	for _, name := range []string{"GLIBC_PRIVATE", "GLIBC_ABI_DT_RELR", "GCC_3.0", "GLIBC_2", "GLIBC_2.1.2.3", "GLIBC_", ""} {
		if v, ok := parseGLIBC(name); ok {
			t.Errorf("%s: %v", name, v)
		}
	}
}

// copies returns two folders with the same files and different modes, times and
// order of creation, as of two users.
func copies(t *testing.T) (first, second string) {
	t.Helper()
	first, second = t.TempDir(), t.TempDir()
	names := []string{"a.md", "sub/b.md", "sub-c.md"}
	for i, folder := range []string{first, second} {
		for _, name := range names {
			p := filepath.Join(folder, name)
			if err := os.MkdirAll(filepath.Dir(p), 0o755-os.FileMode(i)*0o055); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(p, []byte(name), 0o664-os.FileMode(i)*0o064); err != nil {
				t.Fatal(err)
			}
			old := time.Unix(int64(1e9*(i+1)), 0)
			if err := os.Chtimes(p, old, old); err != nil {
				t.Fatal(err)
			}
		}
		slices.Reverse(names)
	}
	for _, junk := range []string{".hidden", "a.md~", ".git/config"} {
		p := filepath.Join(second, junk)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return first, second
}

func TestTarGz_SameBytesForEveryUser(t *testing.T) {
	date := time.Unix(1_700_000_000, 0)
	var archives [2]bytes.Buffer
	first, second := copies(t)
	for i, folder := range []string{first, second} {
		files := tree{"program": {[]byte("x"), true}}
		if err := files.readFolder("docs", folder); err != nil {
			t.Fatal(err)
		}
		if err := files.writeTarGz(&archives[i], "top", date); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(archives[0].Bytes(), archives[1].Bytes()) {
		t.Error("the archives differ")
	}

	zipped, err := gzip.NewReader(&archives[0])
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for r := tar.NewReader(zipped); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		mode := map[bool]int64{true: 0o755, false: 0o644}[h.Typeflag == tar.TypeDir || h.Name == "top/program"]
		if h.Mode != mode || h.Uid != 0 || h.Gid != 0 || h.Uname != "root" || !h.ModTime.Equal(date) {
			t.Errorf("%s: mode %o, owner %d:%d %s, time %v", h.Name, h.Mode, h.Uid, h.Gid, h.Uname, h.ModTime)
		}
	}
	want := []string{"top/", "top/docs/", "top/docs/a.md", "top/docs/sub-c.md", "top/docs/sub/", "top/docs/sub/b.md", "top/program"}
	if !slices.Equal(names, want) {
		t.Errorf("entries %q, want %q", names, want)
	}
}

func TestZip_SameBytesForEveryUser(t *testing.T) {
	date := time.Unix(1_700_000_001, 0)
	var archives [2]bytes.Buffer
	first, second := copies(t)
	for i, folder := range []string{first, second} {
		files := tree{"program.exe": {[]byte("x"), true}}
		if err := files.readFolder("docs", folder); err != nil {
			t.Fatal(err)
		}
		// Times of files in a zip can be those of a time zone.
		if err := files.writeZip(&archives[i], "top", date.In(time.FixedZone("", i*3600))); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(archives[0].Bytes(), archives[1].Bytes()) {
		t.Error("the archives differ")
	}
	r, err := zip.NewReader(bytes.NewReader(archives[0].Bytes()), int64(archives[0].Len()))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range r.File {
		names = append(names, f.Name)
		if !f.Modified.Equal(date) {
			t.Errorf("%s: time %v", f.Name, f.Modified)
		}
	}
	want := []string{"top/docs/a.md", "top/docs/sub-c.md", "top/docs/sub/b.md", "top/program.exe"}
	if !slices.Equal(names, want) {
		t.Errorf("entries %q, want %q", names, want)
	}
}

func TestPE_UnexpectedLibraryIsFound(t *testing.T) {
	cc, err := exec.LookPath("x86_64-w64-mingw32-gcc")
	if err != nil {
		t.Skip("x86_64-w64-mingw32-gcc is missing: install the package gcc-mingw-w64-x86-64")
	}
	dir := t.TempDir()
	for flag, want := range map[string]string{"-lkernel32": "", "-lws2_32": "it needs the library ws2_32.dll"} {
		c, out := filepath.Join(dir, "a.c"), filepath.Join(dir, "a.dll")
		if err := os.WriteFile(c, []byte("int closesocket(int); void Sleep(unsigned); int f(void) { return CALL; }"), 0o644); err != nil {
			t.Fatal(err)
		}
		call := map[string]string{"-lkernel32": "(Sleep(1), 0)", "-lws2_32": "closesocket(1)"}[flag]
		if message, err := exec.Command(cc, "-s", "-shared", "-nostdlib", "-Wl,-e,0", "-DCALL="+call, "-o", out, c, flag).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, message)
		}
		f, err := os.Open(out)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := checkPE(f); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", flag, err, want)
		}
	}
}

func TestBOM_NamesLibzstd(t *testing.T) {
	in := `{"metadata":{"tools":[{"name":"x","hashes":[{"alg":"MD5","content":"1"}]}]},"components":[{"name":"m"}],"version":1}`
	out, err := completeBOM([]byte(in), "1.5.7")
	if err != nil {
		t.Fatal(err)
	}
	var bom struct {
		Metadata   struct{ Tools []map[string]any }
		Components []struct{ Name, Version, Purl string }
		Version    int
	}
	if err := json.Unmarshal(out, &bom); err != nil {
		t.Fatal(err)
	}
	if len(bom.Components) != 2 || bom.Components[1].Name != "zstd" || bom.Components[1].Purl != "pkg:github/facebook/zstd@v1.5.7" || bom.Version != 1 {
		t.Errorf("components: %s", out)
	}
	if len(bom.Metadata.Tools) != 1 || bom.Metadata.Tools[0]["hashes"] != nil {
		t.Errorf("tools: %s", out)
	}
	if _, err := completeBOM([]byte(`{}`), "1.5.7"); err == nil {
		t.Error("a list without components passes")
	}
}

// The examples are for containers. In packages and in the archive for Windows no path
// of a container is left.
func TestPackages_PathsOfTheHost(t *testing.T) {
	containerPath := regexp.MustCompile(`(^|[^\w])/fluent-bit/`)
	linuxPath := regexp.MustCompile(`(^|\s)/[a-z]+/|\.so\b`)
	for _, name := range []string{"fluent-bit.conf", "fluent-bit.yaml", "plugins.conf"} {
		text, err := os.ReadFile(filepath.Join("../../conf", name))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(hostPaths.Replace(string(text))) {
			if containerPath.MatchString(line) {
				t.Errorf("%s: %s", name, line)
			}
		}
		for line := range strings.Lines(windowsPaths.Replace(string(text))) {
			if linuxPath.MatchString(line) && !strings.Contains(line, "/api/v") {
				t.Errorf("%s for Windows: %s", name, line)
			}
		}
		if !containerPath.Match(text) {
			t.Errorf("%s has no path of a container: is this test still needed?", name)
		}
	}
}

// Releases and images are built with the same compiler.
func TestToolchain_IsTheDockerfiles(t *testing.T) {
	dockerfile, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	if want := "golang:" + strings.TrimPrefix(goToolchain, "go"); !strings.Contains(string(dockerfile), want) {
		t.Errorf("the Dockerfile does not use %s, the compiler of releases", want)
	}
}

// The sum is that of the Go linker, from a library in which the system's C linker has
// written no addresses.
func TestFIPS_SumIsThatOfGo(t *testing.T) {
	if runtime.GOOS != "linux" || machines[runtime.GOARCH] == 0 {
		t.Skip("releases are for Linux on amd64 and arm64: run this test there")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":  "module m\n",
		"main.go": "package main\n\nimport \"C\"\nimport \"crypto/sha256\"\n\n//export F\nfunc F() byte { return sha256.Sum256(nil)[0] }\n\nfunc main() {}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-o", "m.so", ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if message, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, message)
	}
	library := filepath.Join(dir, "m.so")
	want, err := os.ReadFile(library)
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(want))
	if err != nil {
		t.Fatal(err)
	}
	at := f.Section(fipsSection).Offset
	wiped := slices.Clone(want)
	clear(wiped[at+fipsMagicLen : at+fipsLen])
	if err := os.WriteFile(library, wiped, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := sealFIPS(library); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(library)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("% x\nwant\n% x", got[at:at+fipsLen], want[at:at+fipsLen])
	}
}
