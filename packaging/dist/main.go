// Command dist makes the files of a release from the source in the current
// folder. `make dist` runs it.
//
// For each target it builds the plugin and the commands with zig, checks what they
// need, and writes an archive and a list of the components (SBOM), and for Linux,
// where it builds against glibc 2.17, packages for Debian and RPM systems; at the
// end the checksums. The files are the same, byte for byte, from every folder,
// user, umask and time zone, from a checkout and from an archive of the same tag.
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
	"slices"
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

// target is a system that a release is for, with Go's names of it.
type target struct{ os, arch string }

var targets = []target{{"linux", "amd64"}, {"linux", "arm64"}, {"windows", "amd64"}}

func (t target) String() string { return t.os + "-" + t.arch }

// library is the name of the plugin's file.
func (t target) library() string {
	if t.os == "windows" {
		return name + ".dll"
	}
	return name + ".so"
}

// command is the name of a command's file.
func (t target) command(name string) string {
	if t.os == "windows" {
		return name + ".exe"
	}
	return name
}

// tags keep the C library's resolver and user database out of the files. Windows'
// resolver needs no C, and knows names that the one of Go does not, such as localhost.
func (t target) tags() string {
	if t.os == "windows" {
		return ""
	}
	return "netgo,osusergo"
}

// commands are those in the archives.
var commands = []string{"kplcat", "kinesis-agg-plan"}

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
	only := flag.String("only", "", "the only target to build, such as windows-amd64")
	flag.Parse()
	if err := b.run(*only); err != nil {
		log.Fatal(err)
	}
}

func (b *builder) run(only string) error {
	wanted := targets
	if only != "" {
		i := slices.IndexFunc(targets, func(t target) bool { return t.String() == only })
		if i < 0 {
			return fmt.Errorf("no target %q among %v", only, targets)
		}
		wanted = targets[i : i+1]
	}
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
	for _, t := range wanted {
		if err := b.release(t, filepath.Join(work, t.String())); err != nil {
			return fmt.Errorf("%v: %w", t, err)
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

// release makes the files of one target.
func (b *builder) release(t target, work string) error {
	bin := filepath.Join(work, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	if err := b.build(t, bin); err != nil {
		return err
	}
	library := filepath.Join(bin, t.library())
	if t.os == "linux" {
		if err := sealFIPS(library); err != nil {
			return fmt.Errorf("%s: %w", t.library(), err)
		}
	}
	if err := check(library, t); err != nil {
		return fmt.Errorf("%s: %w", t.library(), err)
	}
	for _, command := range commands {
		if err := check(filepath.Join(bin, t.command(command)), t); err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
	}

	stem := fmt.Sprintf("%s-%s-%v", name, b.version, t)
	bom, err := b.bom(t, library)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.out, stem+".cdx.json"), bom, 0o644); err != nil {
		return err
	}
	licenses, err := b.licenses(t)
	if err != nil {
		return err
	}
	if err := b.archive(t, stem, bin, licenses); err != nil || t.os == "windows" {
		return err
	}
	return b.packages(t, filepath.Join(work, "package"), bin, licenses)
}

// env is the environment of the go command for a target. Everything that changes
// the bytes is set, whatever the user's environment and `go env -w` say.
func (b *builder) env(t target) []string {
	triple := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[t.arch] + "-" + t.os + "-gnu"
	if t.os == "linux" {
		triple += "." + maxGLIBC.String()
	}
	return append(os.Environ(),
		"CGO_ENABLED=1", "GOOS="+t.os, "GOARCH="+t.arch, "GOAMD64=v1", "GOARM64=v8.0",
		fmt.Sprintf("CC=%q cc -target %s", b.zig, triple), fmt.Sprintf("CXX=%q c++ -target %s", b.zig, triple),
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

// build compiles the plugin and the commands into a folder. The empty build ID keeps
// the name and the folder of the compiler out of the files.
func (b *builder) build(t target, folder string) error {
	log.Printf("building version %s for %v; without a cache this takes 2 to 5 minutes", b.version, t)
	ldflags := "-s -w -buildid= -X " + b.module + "/internal/version.stamped=" + b.version
	steps := [][]string{{"-buildmode=c-shared", "-o", filepath.Join(folder, t.library()), "."}}
	for _, command := range commands {
		steps = append(steps, []string{"-buildmode=pie", "-o", filepath.Join(folder, t.command(command)), "./cmd/" + command})
	}
	for _, args := range steps {
		cmd := exec.Command("go", append([]string{"build", "-trimpath", "-buildvcs=false", "-tags", t.tags(), "-ldflags", ldflags}, args...)...)
		cmd.Env = b.env(t)
		if _, err := output(cmd); err != nil {
			return err
		}
	}
	return nil
}

// check makes sure that a file loads on every system that releases are for.
func check(path string, t target) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if t.os == "windows" {
		return checkPE(f)
	}
	newest, err := checkELF(f, t.arch)
	if err != nil {
		return err
	}
	needs := "no glibc"
	if newest != (glibc{}) {
		needs = "glibc " + newest.String()
	}
	log.Printf("%s for %v needs %s", filepath.Base(path), t, needs)
	if strings.HasSuffix(path, ".so") {
		return checkExports(f)
	}
	return nil
}

// archive writes the tarball of a target, or the zip file for Windows.
func (b *builder) archive(t target, stem, bin string, licenses []byte) (err error) {
	files := tree{"THIRD_PARTY_LICENSES.txt": {data: licenses}}
	err = errors.Join(
		files.read(t.library(), filepath.Join(bin, t.library()), false),
		files.readFolder("conf", "conf"),
		files.readFolder("docs", "docs"),
		files.readFolder("deploy", "deploy"),
	)
	for _, command := range commands {
		err = errors.Join(err, files.read(t.command(command), filepath.Join(bin, t.command(command)), true))
	}
	for _, document := range []string{"README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE"} {
		err = errors.Join(err, files.read(document, document, false))
	}
	if err != nil {
		return err
	}
	suffix, write := ".tar.gz", files.writeTarGz
	if t.os == "windows" {
		suffix, write = ".zip", files.writeZip
		for name, f := range files {
			if strings.HasPrefix(name, "conf/") {
				files[name] = file{data: []byte(windowsPaths.Replace(string(f.data)))}
			}
		}
	}
	f, err := os.Create(filepath.Join(b.out, stem+suffix))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return write(f, stem, b.date)
}

// hostPaths are the paths of the examples in conf/, which are for containers, and
// the paths that the packages have for them.
var hostPaths = strings.NewReplacer(
	"/fluent-bit/storage", "/var/lib/fluent-bit",
	"/fluent-bit/lib/", "/usr/lib/fluent-bit/",
)

// windowsPaths are the same for the archive for Windows.
var windowsPaths = strings.NewReplacer(
	"/fluent-bit/storage/tail.db", `C:\ProgramData\fluent-bit\storage\tail.db`,
	"/fluent-bit/storage", `C:\ProgramData\fluent-bit\storage`,
	"/fluent-bit/lib/"+name+".so", `C:\Program Files\fluent-bit\bin\`+name+".dll",
	"/var/log/app/", `C:\logs\app\`,
)

// packages runs nfpm for .deb and .rpm in a folder with the packages' contents.
func (b *builder) packages(t target, folder, bin string, licenses []byte) error {
	files := tree{
		"doc/THIRD_PARTY_LICENSES.txt": {data: licenses},
		"changelog.Debian.gz": {data: gzipped(fmt.Sprintf("%s (%s-1) stable; urgency=medium\n\n  * CHANGELOG.md in this folder lists the changes.\n\n -- %s  %s\n",
			packageName, strings.Replace(b.version, "-", "~", 1), b.maintainer, b.date.Format("Mon, 02 Jan 2006 15:04:05 -0700")))},
	}
	err := errors.Join(
		files.read(name+".so", filepath.Join(bin, t.library()), false),
		files.read("kplcat", filepath.Join(bin, "kplcat"), true),
		files.readFolder("doc/docs", "docs"),
		files.readFolder("doc/deploy", "deploy"),
		files.read("doc/README.md", "README.md", false),
		files.read("doc/CHANGELOG.md", "CHANGELOG.md", false),
		files.read("doc/copyright", "packaging/copyright", false),
	)
	for _, conf := range []string{"fluent-bit.conf", "fluent-bit.yaml", "plugins.conf"} {
		text, readErr := os.ReadFile(filepath.Join("conf", conf))
		err = errors.Join(err, readErr)
		files[conf] = file{data: []byte(hostPaths.Replace(string(text)))}
	}
	if err != nil {
		return err
	}
	if err := files.write(folder, b.date); err != nil {
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
			"PACKAGE_ARCH="+t.arch, "PACKAGE_VERSION="+b.version, "PACKAGE_MAINTAINER="+b.maintainer, "PACKAGE_HOMEPAGE="+b.homepage)
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
