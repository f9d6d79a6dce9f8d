package kinesis

import (
	"context"
	"strings"
	"testing"
	"time"

	"out_kinesis_agg/test/kit/fakekinesis"
)

func useCommand(t *testing.T, command string) {
	t.Setenv("AWS_CONFIG_FILE", write(t, "config", "[default]\ncredential_process = "+command+"\n"))
}

func TestProcess_CommandOfCmd(t *testing.T) {
	isolate(t)
	useCommand(t, `type "`+write(t, "out put.json", processOutput(newKey, time.Now().Add(time.Hour)))+`"`)
	server := start(t, fakekinesis.Options{})
	put(t, open(t, fileSettings(server)))
	if key, _, _ := server.Requests()[0].Signer(); key != newKey {
		t.Errorf("signed by %s", key)
	}
}

// The job ends cmd.exe and its child, which would both run forever.
func TestProcess_HangingOneIsKilledWithItsChildren(t *testing.T) {
	isolate(t)
	useCommand(t, "cmd.exe /C for /L %i in (1,0,2) do @rem")
	s := fileSettings(start(t, fakekinesis.Options{}))
	s.RequestTimeout = time.Second
	sender := open(t, s)
	begin := time.Now()
	_, err := sender.PutRecord(context.Background(), "logs", "key", []byte("data"))
	if err == nil || !strings.Contains(err.Error(), "was killed") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(begin); took > patience {
		t.Errorf("it took %s", took)
	}
}
