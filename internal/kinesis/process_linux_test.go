package kinesis

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"out_kinesis_agg/test/kit/fakekinesis"
)

// readPID waits until a script has written a process ID to path.
func readPID(t *testing.T, path string) int {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if content, err := os.ReadFile(path); err == nil && bytes.HasSuffix(content, []byte("\n")) {
			pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
			must(t, err)
			return pid
		}
	}
	t.Fatal("the process did not start")
	return 0
}

// hasEnded waits for the end of a process of another parent, which a signal of 0
// finds until it is reaped.
func hasEnded(pid int) bool {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || bytes.Contains(stat, []byte(") Z ")) {
			return true
		}
	}
	return false
}

func TestProcess_OutputIsLimited(t *testing.T) {
	isolate(t)
	useProcess(t, "exec yes")
	sender := open(t, fileSettings(start(t, fakekinesis.Options{})))
	var err error
	n := allocated(func() { _, err = putFails(t, sender) })
	if !strings.Contains(err.Error(), "process provider error: its output is larger than 65536 bytes") {
		t.Errorf("got %v", err)
	}
	if n > 4<<20 {
		t.Errorf("%d bytes allocated", n)
	}
}

// A process that hangs ends with its children before the request does, and the next
// request runs the command that the file then contains.
func TestProcess_HangingOneIsKilledWithItsChildren(t *testing.T) {
	isolate(t)
	child := filepath.Join(t.TempDir(), "child")
	config := useProcess(t, "sleep 1000 & echo $! > "+child+"; wait")
	s := fileSettings(start(t, fakekinesis.Options{}))
	// A tenth of it is left for the error, also on a machine under load.
	s.RequestTimeout = 5 * time.Second
	sender := open(t, s)
	now := frozen(sender)
	// Most of the time belongs to the process.
	if c, err := putFails(t, sender); !regexp.MustCompile(`process provider error: it did not end within [2-4](\.\d+)?s `).MatchString(err.Error()) {
		t.Errorf("got %v, %v", c, err)
	}
	if !hasEnded(readPID(t, child)) {
		t.Error("the child of the process still runs")
	}
	overwrite(t, config, "[default]\ncredential_process = echo '"+processOutput(newKey, time.Now().Add(time.Hour))+"'\n")
	pass(now)
	put(t, sender)
}

// The end of a request, as at the stop of an instance, kills the process, and Close
// returns after that.
func TestProcess_EndsWithTheRequest(t *testing.T) {
	isolate(t)
	leader := filepath.Join(t.TempDir(), "leader")
	useProcess(t, "echo $$ > "+leader+"; sleep 1000 & sleep 1000")
	s := fileSettings(start(t, fakekinesis.Options{}))
	s.RequestTimeout = time.Hour
	sender, err := Open(context.Background(), s)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error)
	go func() {
		_, err := sender.PutRecord(ctx, "logs", "key", []byte("data"))
		failed <- err
	}()
	pid := readPID(t, leader)
	cancel()
	if err := <-failed; err == nil {
		t.Error("no error")
	}
	sender.Close()
	if err := syscall.Kill(-pid, 0); err == nil {
		t.Error("a process of the group still runs")
	}
}

// Children that a process leaves do not delay the request, and do not survive it.
func TestProcess_ChildThatHoldsTheOutput(t *testing.T) {
	isolate(t)
	child := filepath.Join(t.TempDir(), "child")
	useProcess(t, "sleep 1000 & echo $! > "+child+"; echo '"+processOutput(newKey, time.Now().Add(time.Hour))+"'")
	put(t, open(t, fileSettings(start(t, fakekinesis.Options{}))))
	if !hasEnded(readPID(t, child)) {
		t.Error("the child still runs")
	}
}

func TestProcess_Errors(t *testing.T) {
	for name, test := range map[string]struct{ script, want string }{
		"fails":            {"echo hidden; exit 3", "process provider error: exit status 3"},
		"not JSON":         {"echo hidden", "its output is not a JSON object"},
		"wrong version":    {`echo '{"Version":2,"AccessKeyId":"A","SecretAccessKey":"hidden"}'`, "does not have Version 1"},
		"no secret":        {`echo '{"Version":1,"AccessKeyId":"hidden"}'`, "does not have Version 1"},
		"newline in a key": {`printf '{"Version":1,"AccessKeyId":"hidden\\n","SecretAccessKey":"hidden"}'`, "a key or the token contains"},
	} {
		t.Run(name, func(t *testing.T) {
			isolate(t)
			useProcess(t, test.script)
			_, err := putFails(t, open(t, fileSettings(start(t, fakekinesis.Options{}))))
			if !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hidden") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A role whose source profile has a credential_process.
func TestProcess_SourceOfARole(t *testing.T) {
	isolate(t)
	server := start(t, fakekinesis.Options{})
	t.Setenv("AWS_ENDPOINT_URL_STS", server.URL())
	t.Setenv("AWS_CONFIG_FILE", write(t, "config", "[profile base]\ncredential_process = echo '"+processOutput(newKey, time.Now().Add(time.Hour))+
		"'\n[profile writer]\nrole_arn = arn:aws:iam::123456789012:role/writer\nsource_profile = base\nexternal_id = e-1\nrole_session_name = web\n"))
	s := fileSettings(server)
	s.Profile = "writer"
	put(t, open(t, s))
	role := server.RoleRequests()[0]
	if key, _, _ := role.Request.Signer(); key != newKey || role.ExternalID != "e-1" || role.SessionName != "web" {
		t.Errorf("signed by %s, %+v", key, role)
	}
	if key, _, _ := server.Requests()[0].Signer(); key != fakekinesis.RoleKeyID(1) {
		t.Errorf("signed by %s", key)
	}
}
