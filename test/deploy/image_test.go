package deploy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"out_kinesis_agg/kpl"
	"out_kinesis_agg/test/kit/fakekinesis"
	"out_kinesis_agg/test/kit/harness"
)

// imageDeadline bounds a run of the image.
const imageDeadline = 60 * time.Second

// imageUser is the user of the image.
const imageUser = 65532

// TestImage_Delivers runs the image as root and as its own user, with a root file
// system that is read-only and one that is not, with a volume of the host and
// with the one that the image declares. Root has no capabilities, as in
// deploy/kubernetes. Each run delivers 500 lines, responds to HTTP probes, and
// has nothing left to send when it ends.
func TestImage_Delivers(t *testing.T) {
	image := os.Getenv("DEPLOY_IMAGE")
	if image == "" {
		t.Skip("SKIPPED: set DEPLOY_IMAGE to a folder with the root file system of the image; docs/docker.md says how")
	}
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: containers are started with crun as root")
	}
	if _, err := exec.LookPath("crun"); err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	for _, user := range []int{0, imageUser} {
		for _, readOnly := range []bool{true, false} {
			for _, volume := range []string{"host", "anonymous", "none"} {
				if readOnly && volume == "none" {
					continue // nowhere to write; Docker makes a volume
				}
				t.Run(fmt.Sprintf("user %d read-only %t volume %s", user, readOnly, volume), func(t *testing.T) {
					runImage(t, image, user, readOnly, volume)
				})
			}
		}
	}
}

func runImage(t *testing.T, image string, user int, readOnly bool, volume string) {
	const lines = 500
	dir := t.TempDir()
	folder := func(name string, mode fs.FileMode, uid int) string {
		path := filepath.Join(dir, name)
		for _, err := range []error{os.Mkdir(path, 0o700), os.Chmod(path, mode), os.Chown(path, uid, 0)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		return path
	}
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}

	// The image is below; what the container writes to its root is above.
	root := folder("root", 0o755, 0)
	overlay := "lowerdir=" + image + ",upperdir=" + folder("upper", 0o755, 0) + ",workdir=" + folder("work", 0o755, 0)
	if err := syscall.Mount("overlay", root, "overlay", 0, overlay); err != nil {
		t.Fatalf("overlay: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(root, syscall.MNT_DETACH) })
	info, err := os.Stat(filepath.Join(root, "fluent-bit/storage"))
	if err != nil {
		t.Fatal(err)
	}

	logs := folder("logs", 0o755, 0)
	var text strings.Builder
	for n := range lines {
		fmt.Fprintf(&text, "line %d\n", n)
	}
	write(filepath.Join(logs, "app.log"), text.String())

	var mu sync.Mutex
	got := map[string]int{}
	all := make(chan struct{})
	server := fakekinesis.Start(fakekinesis.Options{OnRecord: func(r fakekinesis.Record) {
		aggregate, err := kpl.Open(r.Data)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			t.Errorf("record: %v", err)
			return
		}
		before := len(got)
		for _, u := range aggregate.All() {
			got[string(u.Data)]++
		}
		if before < lines && len(got) >= lines {
			close(all)
		}
	}})
	t.Cleanup(server.Close)

	// The configuration of the image, for this machine.
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	configuration, err := os.ReadFile(filepath.Join(root, "fluent-bit/etc/fluent-bit.conf"))
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{
		{`(?m)^( +flush +)5$`, "${1}0.2"},
		{`(?m)^( +http_port +)2020$`, fmt.Sprintf("${1}%d", port)},
		{`(?m)^( +stream +logs)$`, "${1}\n    endpoint " + server.URL()},
	} {
		pattern := regexp.MustCompile(change[0])
		if !pattern.Match(configuration) {
			t.Fatalf("fluent-bit.conf of the image has no line that matches %s", change[0])
		}
		configuration = pattern.ReplaceAll(configuration, []byte(change[1]))
	}
	file := filepath.Join(dir, "fluent-bit.conf")
	write(file, string(configuration))

	type object = map[string]any
	bind := func(source, destination string, options ...string) object {
		return object{"type": "bind", "source": source, "destination": destination, "options": append([]string{"rbind"}, options...)}
	}
	mounts := []object{
		{"type": "proc", "source": "proc", "destination": "/proc"},
		bind("/dev/null", "/dev/null"), bind("/dev/urandom", "/dev/urandom"),
		bind(file, "/fluent-bit/etc/fluent-bit.conf", "ro"),
		bind(logs, "/var/log/app", "ro"),
	}
	storage := filepath.Join(root, "fluent-bit/storage")
	switch volume {
	case "host": // a folder that belongs to the user
		storage = folder("storage", 0o700, user)
		mounts = append(mounts, bind(storage, "/fluent-bit/storage"))
	case "anonymous": // as Docker makes it: with owner and mode of the image's folder
		owner := info.Sys().(*syscall.Stat_t)
		storage = folder("storage", info.Mode().Perm(), int(owner.Uid))
		mounts = append(mounts, bind(storage, "/fluent-bit/storage"))
	}
	spec := object{
		"ociVersion": "1.0.2",
		"root":       object{"path": root, "readonly": readOnly},
		"process": object{
			"args": []string{"/fluent-bit/bin/fluent-bit", "-c", "/fluent-bit/etc/fluent-bit.conf"},
			"cwd":  "/",
			"env":  []string{"PATH=/usr/bin:/bin", "AWS_ACCESS_KEY_ID=" + harness.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + harness.SecretAccessKey},
			"user": object{"uid": user, "gid": user},
			// No capabilities.
			"noNewPrivileges": true,
		},
		"mounts": mounts,
		// Without a network namespace, so that it reaches the endpoint.
		"linux": object{"namespaces": []object{{"type": "mount"}, {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}}},
	}
	encoded, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(dir, "config.json"), string(encoded))

	id := fmt.Sprintf("out-kinesis-agg-%d", port)
	crun := func(args ...string) *exec.Cmd {
		cmd := exec.Command("crun", append([]string{"--cgroup-manager=disabled", "--root", filepath.Join(dir, "crun")}, args...)...)
		cmd.Dir = dir
		return cmd
	}
	var log strings.Builder
	container := crun("run", id)
	container.Stdout, container.Stderr = &log, &log
	if err := container.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- container.Wait() }()
	kill := func() {
		_ = crun("kill", id, "KILL").Run()
		<-ended
	}

	select {
	case <-all:
	case err := <-ended:
		t.Fatalf("the container ended: %v\n%s", err, log.String())
	case <-time.After(imageDeadline):
		kill()
		t.Fatalf("%d of %d lines arrived\n%s", len(got), lines, log.String())
	}
	for _, path := range []string{"/", "/api/v1/health"} {
		response, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", port, path))
		if err != nil {
			t.Errorf("probe %s: %v", path, err)
			continue
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Errorf("probe %s: %s", path, response.Status)
		}
	}
	if out, err := crun("kill", id, "TERM").CombinedOutput(); err != nil {
		t.Errorf("SIGTERM: %v: %s", err, out)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the container ended with %v\n%s", err, log.String())
		}
	case <-time.After(imageDeadline):
		kill()
		t.Fatalf("the container does not end\n%s", log.String())
	}

	mu.Lock()
	defer mu.Unlock()
	for line, n := range got {
		if n != 1 {
			t.Errorf("%s arrived %d times", line, n)
		}
	}
	if strings.Contains(log.String(), "[error]") {
		t.Errorf("errors in the log:\n%s", log.String())
	}
	if _, err := os.Stat(filepath.Join(storage, "tail.db")); err != nil {
		t.Errorf("the container has not written to its storage: %v", err)
	}
	err = filepath.WalkDir(storage, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".flb") {
			err = errors.New("a chunk is pending: " + entry.Name())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
