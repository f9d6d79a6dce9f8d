package version

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestChoose_ReleasesOnly(t *testing.T) {
	for _, c := range []struct{ stamped, main, want string }{
		{"1.2.3", "(devel)", "1.2.3"},
		{"1.2.3", "v9.9.9", "1.2.3"},
		{"", "v1.2.3", "1.2.3"},
		{"", "v1.2.3-rc.1", "1.2.3-rc.1"},
		{"", "", Development},
		{"", "(devel)", Development},
		{"", "v0.0.0-20260131120000-0123456789ab", Development},
		{"", "v1.2.4-0.20260131120000-0123456789ab", Development},
		{"", "v1.2.3+dirty", Development},
	} {
		if got := choose(c.stamped, c.main); got != c.want {
			t.Errorf("stamped %q, main module %q: %q, want %q", c.stamped, c.main, got, c.want)
		}
	}
}

// source is a copy of the files that know the version, as a source tree.
type source struct {
	t    *testing.T
	root string
}

func newSource(t *testing.T) source {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is missing: install it, such as the package git")
	}
	s := source{t, t.TempDir()}
	for from, to := range map[string]string{
		"version.sh":           "internal/version/version.sh",
		"archive.txt":          "internal/version/archive.txt",
		"../../.gitattributes": ".gitattributes",
	} {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		s.write(to, data)
	}
	return s
}

func (s source) write(name string, data []byte) {
	s.t.Helper()
	path := filepath.Join(s.root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o755)); err != nil {
		s.t.Fatal(err)
	}
}

func (s source) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = s.root
	// No configuration of the user, and a fixed time of the commits.
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.root, "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@localhost", "GIT_AUTHOR_DATE=1700000000 +0000",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@localhost", "GIT_COMMITTER_DATE=1700000000 +0000",
	}
	return cmd
}

func (s source) git(args ...string) []byte {
	s.t.Helper()
	var stderr bytes.Buffer
	cmd := s.command("git", args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("git %v: %v\n%s", args, err, stderr.String())
	}
	return out
}

// script runs version.sh with a variable, if it is not empty, and returns its standard output.
func (s source) script(env string, args ...string) (string, error) {
	cmd := s.command("sh", append([]string{"internal/version/version.sh"}, args...)...)
	if env != "" {
		cmd.Env = append(cmd.Env, env)
	}
	out, err := cmd.Output()
	return strings.TrimSuffix(string(out), "\n"), err
}

// want checks the version and the time of the source.
func (s source) want(version, date string) {
	s.t.Helper()
	got, err := s.script("")
	day, dayErr := s.script("", "--date")
	if err != nil || dayErr != nil || got != version || day != date {
		s.t.Errorf("version %q, date %q (%v, %v), want %q and %q", got, day, err, dayErr, version, date)
	}
}

// archive unpacks what `git archive` makes of a commit.
func (s source) archive(commit string) source {
	s.t.Helper()
	to := source{s.t, s.t.TempDir()}
	for r := tar.NewReader(bytes.NewReader(s.git("archive", commit))); ; {
		header, err := r.Next()
		if err == io.EOF {
			return to
		}
		if err != nil {
			s.t.Fatal(err)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		data, err := io.ReadAll(r)
		if err != nil {
			s.t.Fatal(err)
		}
		to.write(header.Name, data)
	}
}

func TestScript_SameFromTagAndArchive(t *testing.T) {
	s := newSource(t)
	s.want(Development, "315532800") // neither a checkout nor an archive

	s.git("init", "--quiet")
	s.git("add", "-A")
	s.git("commit", "--quiet", "-m", "first")
	s.want(Development, "1700000000")
	s.archive("HEAD").want(Development, "1700000000")

	s.git("tag", "not-a-version")
	s.want(Development, "1700000000")
	s.git("tag", "v1.2.3-rc.1")
	s.want("1.2.3-rc.1", "1700000000")
	s.archive("HEAD").want("1.2.3-rc.1", "1700000000")

	s.write("file", []byte("changed"))
	s.git("add", "file")
	s.want(Development, "1700000000")
	s.git("commit", "--quiet", "-m", "second")
	s.want(Development, "1700000000")
	s.archive("HEAD").want(Development, "1700000000")
	s.git("tag", "-a", "-m", "release", "v1.2.3")
	s.want("1.2.3", "1700000000")
	s.archive("v1.2.3").want("1.2.3", "1700000000")
}

// The version is a label: a checkout that git refuses to read, for example one of
// another user, can be built all the same. A release must not become a
// development version by that.
func TestScript_CheckoutThatCannotBeRead(t *testing.T) {
	s := newSource(t)
	s.write(".git", []byte("gitdir: /nowhere\n"))
	s.want(Development, "315532800")
	for _, args := range [][]string{{"--release"}, {"--release", "--date"}} {
		if out, err := s.script("", args...); err == nil {
			t.Errorf("%v: no error: %q", args, out)
		}
	}
	if out, err := s.script("VERSION=1.2.3", "--release"); err == nil {
		t.Errorf("no error without the time: %q", out)
	}
	cmd := s.command("sh", "internal/version/version.sh", "--release")
	cmd.Env = append(cmd.Env, "VERSION=1.2.3", "SOURCE_DATE_EPOCH=12")
	if out, err := cmd.Output(); err != nil || string(out) != "1.2.3\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestScript_ChecksWhatIsSet(t *testing.T) {
	s := newSource(t)
	for version, valid := range map[string]bool{
		"1.2.3": true, "1.2.3-rc.1": true, "10.20.30-0": true,
		"1.2": false, "v1.2.3": false, "1.2.3-": false, "1.2.3-a..b": false, "1.2.3 4": false, "1.2.3\n1.2.3": false,
		"1.2.3+4": false, "1.2.3_4": false, "'": false, "$(id)": false,
	} {
		out, err := s.script("VERSION=" + version)
		if (err == nil) != valid || valid && out != version {
			t.Errorf("VERSION=%q: %q, %v", version, out, err)
		}
	}
	if out, err := s.script("SOURCE_DATE_EPOCH=1e9", "--date"); err == nil {
		t.Errorf("no error: %q", out)
	}
	if out, err := s.script("SOURCE_DATE_EPOCH=12", "--date"); err != nil || out != "12" {
		t.Errorf("%q, %v", out, err)
	}
}
