// Package setup tests that `./run demo` works on every checkout: it runs the
// command on copies of this one.
package setup

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"out_kinesis_agg/test/kit/harness"
)

// nobody is a user without a home folder.
const nobody = 65534

// checkout is a copy of this one, with what ./run has installed and compiled, so
// that a test needs neither a network nor minutes.
type checkout struct {
	t    *testing.T
	root string // of the copy
	env  []string
	user uint32

	command []string
}

// newCheckout copies the files that git knows into a folder of the name, or all
// files without git.
func newCheckout(t *testing.T, name string) *checkout {
	if os.Getenv("OUT_KINESIS_AGG_SETUP") == "" {
		t.Skip("runs the demo on several checkouts, in about five minutes: run make setup-check")
	}
	from, err := harness.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := harness.ReadersDir(from); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	// The path of a temporary folder of testing can only be passed by its owner.
	for d := dir; strings.HasPrefix(d, os.TempDir()+"/"); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c := &checkout{t: t, root: filepath.Join(dir, name), command: []string{"./run", "demo"}}
	c.must("mkdir", c.root)
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != ".git" && e.Name() != "build" && e.Name() != ".tools" {
			c.must("cp", "-a", filepath.Join(from, e.Name()), c.root)
		}
	}
	for _, tool := range []string{"go", "node"} {
		if have := filepath.Join(from, ".tools", tool); exists(have) {
			c.must("mkdir", "-p", filepath.Join(c.root, ".tools"))
			c.must("cp", "-a", have, filepath.Join(c.root, ".tools"))
		}
	}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "FLUENT_BIT=") && !strings.HasPrefix(v, "VERSION=") && !strings.HasPrefix(v, "MAKE") {
			c.env = append(c.env, v)
		}
	}
	return c
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (c *checkout) must(name string, args ...string) {
	c.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		c.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// git makes the copy a git checkout.
func (c *checkout) git() {
	c.t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		c.t.Skip("git is missing: install it, such as the package git")
	}
	c.must("git", "-C", c.root, "init", "--quiet")
	c.must("git", "-C", c.root, "-c", "user.name=a", "-c", "user.email=a@localhost", "commit", "--quiet", "--allow-empty", "-m", "first")
}

// as runs the demo as another user, who can reach no home folder.
func (c *checkout) as(user uint32) {
	c.t.Helper()
	if os.Getuid() != 0 {
		c.t.Skip("needs root, to become another user")
	}
	c.user = user
	c.home("/nonexistent")
}

// home sets a home folder that cannot be written. ./run then keeps the caches of
// Go in .tools/cache, which here are links to those of this user.
func (c *checkout) home(path string) {
	c.t.Helper()
	c.env = append(c.env, "HOME="+path, "GOCACHE=", "GOMODCACHE=", "GOPATH=", "XDG_CACHE_HOME=", "npm_config_cache=")
	caches := filepath.Join(c.root, ".tools", "cache")
	c.must("mkdir", "-p", caches)
	for key, to := range map[string]string{"GOCACHE": "go-build", "GOMODCACHE": "mod"} {
		out, err := exec.Command("go", "env", key).Output()
		if err != nil {
			c.t.Fatal(err)
		}
		from := strings.TrimSpace(string(out))
		if exec.Command("cp", "-al", from, filepath.Join(caches, to)).Run() != nil { // another file system
			c.must("rm", "-rf", filepath.Join(caches, to))
			c.must("cp", "-a", from, filepath.Join(caches, to))
		}
	}
	if c.user != 0 {
		// Only folders: a linked file keeps its owner.
		c.must("find", caches, "-type", "d", "-exec", "chown", fmt.Sprint(c.user), "{}", "+")
	}
	c.t.Cleanup(func() { c.must("chmod", "-R", "u+w", filepath.Join(caches, "mod")) })
}

// demo runs ./run demo, and returns its output.
func (c *checkout) demo() string {
	c.t.Helper()
	cmd := exec.Command(c.command[0], c.command[1:]...)
	cmd.Dir, cmd.Env = c.root, c.env
	if c.user != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: c.user, Gid: c.user}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "kplcat") {
		c.t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// wantLines checks how many lines tell that the version is not known.
func (c *checkout) wantLines(want int, out string) {
	c.t.Helper()
	if got := strings.Count(out, "building version 0.0.0-dev"); got != want {
		c.t.Errorf("%d lines about the version, want %d:\n%s", got, want, out)
	}
}

func TestRun_CheckoutOfAnotherUserAsRoot(t *testing.T) {
	c := newCheckout(t, "checkout")
	if os.Getuid() != 0 {
		t.Skip("needs root, for a checkout of another user")
	}
	c.git()
	c.must("chown", "-R", fmt.Sprint(nobody), c.root)
	// sudo sets this variable, and git then trusts that user too.
	c.env = append(c.env, "SUDO_UID=")
	c.wantLines(1, c.demo())
}

func TestRun_CheckoutOfRootAsAnotherUser(t *testing.T) {
	c := newCheckout(t, "checkout")
	c.as(nobody)
	c.git()
	c.must("find", c.root, "-not", "-path", "*/.tools/cache/*", "-exec", "chmod", "a+rwX", "{}", "+")
	c.wantLines(1, c.demo())
}

func TestRun_FolderThatCannotBeWritten(t *testing.T) {
	c := newCheckout(t, "checkout")
	c.as(nobody)
	cmd := exec.Command("./run", "demo")
	cmd.Dir, cmd.Env = c.root, c.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "cannot write "+c.root+"/build: copy the checkout") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestRun_WithoutGit(t *testing.T) {
	c := newCheckout(t, "checkout")
	c.git()
	git, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	// In a mount namespace of its own, git is a file that cannot be executed.
	c.command = []string{"unshare", "--mount", "sh", "-euc", `mount --bind /dev/null "$0"; exec ./run demo`, git}
	if os.Getuid() != 0 || exec.Command("unshare", "--mount", "mount", "--bind", "/dev/null", git).Run() != nil {
		t.Skip("needs root and mount namespaces, to hide git")
	}
	c.wantLines(1, c.demo())
}

// A source tarball has no .git.
func TestRun_TarballInAPathWithSpaces(t *testing.T) {
	c := newCheckout(t, "a folder with 'spaces'")
	c.wantLines(0, c.demo())
}

func TestRun_HomeThatCannotBeWritten(t *testing.T) {
	c := newCheckout(t, "checkout")
	home := filepath.Join(filepath.Dir(c.root), "home")
	c.must("mkdir", home)
	c.home(home)
	if os.Getuid() == 0 {
		// Permissions do not stop root, so the folder is one of another user's.
		c.user = nobody
		c.must("find", c.root, "-not", "-path", "*/.tools/cache/*", "-exec", "chown", "-h", fmt.Sprint(nobody), "{}", "+")
		c.must("find", c.root, "-type", "d", "-exec", "chown", fmt.Sprint(nobody), "{}", "+")
	} else {
		c.must("chmod", "0555", home)
	}
	c.demo()
	if entries, err := os.ReadDir(home); err != nil || len(entries) != 0 {
		t.Errorf("files in the home folder: %v, %v", entries, err)
	}
}
