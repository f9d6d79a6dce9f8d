// Command dist makes the files of a release from the source in the current
// folder. `make dist` runs it.
//
// For each architecture it builds the plugin and kplcat with zig against glibc
// 2.17, checks what they need, and writes a tarball, packages for Debian and RPM
// systems, and a list of the components (SBOM); at the end the checksums. The
// files are the same, byte for byte, from every folder, user, umask and time
// zone, from a checkout and from an archive of the same tag.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	name        = "out_kinesis_agg"
	packageName = "fluent-bit-kinesis-agg"
	sumsName    = "SHA256SUMS"

	// goToolchain compiles a release. The go command downloads it if another
	// version is installed, because the bytes depend on the compiler.
	goToolchain = "go1.26.8"
)

// builder is what all steps know.
type builder struct {
	out, zig, nfpm, cyclonedx string
	maintainer, homepage      string
	module                    string // the path in go.mod

	version string // without a leading v
	date    time.Time
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("dist: ")
	var b builder
	flag.StringVar(&b.out, "out", "build/dist", "folder for the files; its contents are replaced")
	flag.StringVar(&b.zig, "zig", "", "path of zig")
	flag.StringVar(&b.nfpm, "nfpm", "", "command that runs nfpm, as words")
	flag.StringVar(&b.cyclonedx, "cyclonedx", "", "command that runs cyclonedx-gomod, as words")
	flag.StringVar(&b.maintainer, "maintainer", "", "name <address> in the packages")
	flag.StringVar(&b.homepage, "homepage", "", "address of the project in the packages")
	architectures := flag.String("arch", "amd64 arm64", "architectures, as words")
	flag.Parse()
	if err := b.run(strings.Fields(*architectures)); err != nil {
		log.Fatal(err)
	}
}

func (b *builder) run(architectures []string) error {
	if err := b.checkZig(); err != nil {
		return err
	}
	if err := b.findVersion(); err != nil {
		return err
	}
	if err := os.RemoveAll(b.out); err != nil {
		return err
	}
	if err := os.MkdirAll(b.out, 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "dist-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	for _, arch := range architectures {
		if machines[arch] == 0 {
			return fmt.Errorf("architecture %q: want amd64 or arm64", arch)
		}
		if err := b.release(arch, filepath.Join(work, arch)); err != nil {
			return fmt.Errorf("%s: %w", arch, err)
		}
	}
	sums, err := checksums(b.out)
	if err != nil {
		return err
	}
	fmt.Print(sums)
	return os.WriteFile(filepath.Join(b.out, sumsName), []byte(sums), 0o644)
}

var pinnedZig = regexp.MustCompile(`(?m)^ziglang==(\S+)`)

// checkZig makes sure that the C compiler is the one that the release of this
// version is built with everywhere.
func (b *builder) checkZig() error {
	const file = "packaging/requirements.txt"
	requirements, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	pinned := pinnedZig.FindSubmatch(requirements)
	if pinned == nil {
		return fmt.Errorf("%s does not name a version of ziglang", file)
	}
	if b.zig, err = filepath.Abs(b.zig); err != nil {
		return err
	}
	out, err := output(exec.Command(b.zig, "version"))
	if have := strings.TrimSpace(out); err == nil && have != string(pinned[1]) {
		err = fmt.Errorf("%s is version %s, and %s wants %s", b.zig, have, file, pinned[1])
	}
	return err
}

func (b *builder) findVersion() error {
	const script = "internal/version/version.sh"
	version, err := output(exec.Command("sh", script, "--release"))
	if err != nil {
		return err
	}
	date, err := output(exec.Command("sh", script, "--release", "--date"))
	if err != nil {
		return err
	}
	module, err := output(exec.Command("go", "list", "-m"))
	if err != nil {
		return err
	}
	b.module = strings.TrimSpace(module)
	seconds, err := strconv.ParseInt(strings.TrimSpace(date), 10, 64)
	b.version, b.date = strings.TrimSpace(version), time.Unix(seconds, 0).UTC()
	return err
}

// release makes the files of one architecture.
func (b *builder) release(arch, work string) error {
	bin := filepath.Join(work, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	library, kplcat := filepath.Join(bin, name+".so"), filepath.Join(bin, "kplcat")
	if err := b.build(arch, library, kplcat); err != nil {
		return err
	}
	for _, path := range []string{library, kplcat} {
		if err := check(path, arch); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(path), err)
		}
	}

	stem := fmt.Sprintf("%s-%s-linux-%s", name, b.version, arch)
	bom, err := b.bom(arch, library)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.out, stem+".cdx.json"), bom, 0o644); err != nil {
		return err
	}
	licenses, err := b.licenses(arch)
	if err != nil {
		return err
	}
	if err := b.tarball(stem, library, kplcat, licenses); err != nil {
		return err
	}
	return b.packages(arch, filepath.Join(work, "package"), library, kplcat, licenses)
}

// env is the environment of the go command for an architecture. Everything that
// changes the bytes is set, whatever the user's environment and `go env -w` say.
func (b *builder) env(arch string) []string {
	target := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[arch] + "-linux-gnu." + maxGLIBC.String()
	return append(os.Environ(),
		"CGO_ENABLED=1", "GOOS=linux", "GOARCH="+arch, "GOAMD64=v1", "GOARM64=v8.0",
		fmt.Sprintf("CC=%q cc -target %s", b.zig, target), fmt.Sprintf("CXX=%q c++ -target %s", b.zig, target),
		"CGO_CFLAGS=-O2 -g", "CGO_CPPFLAGS=", "CGO_CXXFLAGS=-O2 -g",
		// Without -g, which Go has by default: after Go's -s it makes zig keep all
		// symbols and debug information.
		"CGO_LDFLAGS=-O2",
		"CPATH=", "C_INCLUDE_PATH=", "LIBRARY_PATH=",
		"GOENV=off", "GOFLAGS=-mod=readonly", "GOEXPERIMENT=", "GOFIPS140=off", "GOWORK=off", "GO_EXTLINK_ENABLED=",
		"GOTOOLCHAIN="+goToolchain,
		// GOENV=off hides these two too, which do not change the bytes: go.sum
		// has the checksums of all modules.
		"GOPROXY="+goEnv("GOPROXY"), "GOMODCACHE="+goEnv("GOMODCACHE"), "GOSUMDB="+goEnv("GOSUMDB"),
	)
}

func goEnv(key string) string {
	out, _ := output(exec.Command("go", "env", key))
	return strings.TrimSpace(out)
}

// build compiles the plugin and kplcat. The empty build ID keeps the name and the
// folder of the compiler out of the files.
func (b *builder) build(arch, library, kplcat string) error {
	log.Printf("building version %s for %s; without a cache this takes 2 to 5 minutes", b.version, arch)
	ldflags := "-s -w -buildid= -X " + b.module + "/internal/version.stamped=" + b.version
	for _, args := range [][]string{
		{"-buildmode=c-shared", "-o", library, "."},
		{"-buildmode=pie", "-o", kplcat, "./cmd/kplcat"},
	} {
		cmd := exec.Command("go", append([]string{"build", "-trimpath", "-buildvcs=false", "-tags", "netgo,osusergo", "-ldflags", ldflags}, args...)...)
		cmd.Env = b.env(arch)
		if _, err := output(cmd); err != nil {
			return err
		}
	}
	return nil
}

// check makes sure that a file loads on every system that releases are for.
func check(path, arch string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	newest, err := checkELF(f, arch)
	if err != nil {
		return err
	}
	needs := "no glibc"
	if newest != (glibc{}) {
		needs = "glibc " + newest.String()
	}
	log.Printf("%s for %s needs %s", filepath.Base(path), arch, needs)
	if strings.HasSuffix(path, ".so") {
		return checkExports(f)
	}
	return nil
}

func (b *builder) tarball(stem, library, kplcat string, licenses []byte) (err error) {
	t := tree{"THIRD_PARTY_LICENSES.txt": {data: licenses}}
	err = errors.Join(
		t.read(name+".so", library, false),
		t.read("kplcat", kplcat, true),
		t.readFolder("conf", "conf"),
		t.readFolder("docs", "docs"),
		t.readFolder("deploy", "deploy"),
	)
	for _, document := range []string{"README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE"} {
		err = errors.Join(err, t.read(document, document, false))
	}
	if err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(b.out, stem+".tar.gz"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return t.writeTarGz(f, stem, b.date)
}

// hostPaths are the paths of the examples in conf/, which are for containers, and
// the paths that the packages have for them.
var hostPaths = strings.NewReplacer(
	"/fluent-bit/storage", "/var/lib/fluent-bit",
	"/fluent-bit/lib/", "/usr/lib/fluent-bit/",
)

// packages runs nfpm for .deb and .rpm in a folder with the packages' contents.
func (b *builder) packages(arch, folder, library, kplcat string, licenses []byte) error {
	t := tree{
		"doc/THIRD_PARTY_LICENSES.txt": {data: licenses},
		"changelog.Debian.gz": {data: gzipped(fmt.Sprintf("%s (%s-1) stable; urgency=medium\n\n  * CHANGELOG.md in this folder lists the changes.\n\n -- %s  %s\n",
			packageName, strings.Replace(b.version, "-", "~", 1), b.maintainer, b.date.Format("Mon, 02 Jan 2006 15:04:05 -0700")))},
	}
	err := errors.Join(
		t.read(name+".so", library, false),
		t.read("kplcat", kplcat, true),
		t.readFolder("doc/docs", "docs"),
		t.readFolder("doc/deploy", "deploy"),
		t.read("doc/README.md", "README.md", false),
		t.read("doc/CHANGELOG.md", "CHANGELOG.md", false),
		t.read("doc/copyright", "packaging/copyright", false),
	)
	for _, conf := range []string{"fluent-bit.conf", "fluent-bit.yaml", "plugins.conf"} {
		text, readErr := os.ReadFile(filepath.Join("conf", conf))
		err = errors.Join(err, readErr)
		t[conf] = file{data: []byte(hostPaths.Replace(string(text)))}
	}
	if err != nil {
		return err
	}
	if err := t.write(folder, b.date); err != nil {
		return err
	}
	config, err := filepath.Abs("packaging/nfpm.yaml")
	if err != nil {
		return err
	}
	out, err := filepath.Abs(b.out)
	if err != nil {
		return err
	}
	for _, packager := range []string{"deb", "rpm"} {
		words := append(strings.Fields(b.nfpm), "package", "--config", config, "--packager", packager, "--target", out+string(filepath.Separator))
		cmd := exec.Command(words[0], words[1:]...)
		cmd.Dir = folder
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", fmt.Sprintf("SOURCE_DATE_EPOCH=%d", b.date.Unix()), "TZ=UTC",
			"PACKAGE_ARCH="+arch, "PACKAGE_VERSION="+b.version, "PACKAGE_MAINTAINER="+b.maintainer, "PACKAGE_HOMEPAGE="+b.homepage)
		if _, err := output(cmd); err != nil {
			return err
		}
	}
	return nil
}

// output runs a command and returns its standard output. The error contains the
// standard error.
func output(cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s%s", strings.Join(cmd.Args, " "), err, stderr.String(), stdout.String())
	}
	return stdout.String(), nil
}
