package kinesis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

const (
	// maxProcessBytes limits the output of a credential_process. Credentials have
	// about 2 KB.
	maxProcessBytes = 64 << 10

	// pipeDelay is how long to wait for output after the processes have ended. Only a
	// process that has left its process group can still hold the pipe.
	pipeDelay = 100 * time.Millisecond
)

// Shell starts a command with /bin/sh in a new process group, with its output to
// stdout, and returns its process ID.
type Shell func(command string, stdout *os.File) (pid int, err error)

// process provides the credentials of a credential_process. The SDK's provider has no
// limit for the output, and does not end the children of the process.
type process struct {
	command string
	start   Shell
	// running is locked for reading while the process runs.
	running *sync.RWMutex
	sources []aws.CredentialSource
}

// Retrieve implements aws.CredentialsProvider. The process ends before the request
// that has caused it.
func (p *process) Retrieve(ctx context.Context) (aws.Credentials, error) {
	p.running.RLock()
	defer p.running.RUnlock()
	// The SDK's cache hides the end of the request from ctx.
	if a, ok := ctx.Value(attemptKey{}).(*attempt); ok {
		ctx = a.ctx
	}
	if deadline, ok := ctx.Deadline(); ok {
		// The rest is for the error and for the request.
		limit := time.Until(deadline) * 9 / 10
		late := fmt.Errorf("it did not end within %s and was killed", limit.Round(time.Millisecond))
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, late)
		defer cancel()
	}
	output, err := p.run(ctx)
	var found aws.Credentials
	if err == nil {
		found, err = parseProcess(output)
	}
	if err != nil {
		return aws.Credentials{}, &processcreds.ProviderError{Err: err}
	}
	return found, nil
}

// readOutput reads what the process writes. If that is too much, it calls kill with the
// reason.
func readOutput(r io.Reader, kill context.CancelCauseFunc) []byte {
	output, _ := io.ReadAll(io.LimitReader(r, maxProcessBytes+1))
	if len(output) > maxProcessBytes {
		kill(fmt.Errorf("its output is larger than %d bytes, and it was killed", maxProcessBytes))
	}
	return output
}

// ProviderSources implements aws.CredentialProviderSource.
func (p *process) ProviderSources() []aws.CredentialSource { return p.sources }

// parseProcess parses the output of a credential_process. Its errors do not quote the
// output, which contains credentials.
func parseProcess(output []byte) (aws.Credentials, error) {
	var r processcreds.CredentialProcessResponse
	if json.Unmarshal(output, &r) != nil {
		return aws.Credentials{}, errors.New("its output is not a JSON object with credentials")
	}
	if r.Version != 1 || r.AccessKeyID == "" || r.SecretAccessKey == "" {
		return aws.Credentials{}, errors.New("its output does not have Version 1, AccessKeyId and SecretAccessKey")
	}
	for _, key := range []string{r.AccessKeyID, r.SecretAccessKey, r.SessionToken} {
		if err := checkKey(key); err != nil {
			return aws.Credentials{}, fmt.Errorf("a key or the token %w", err)
		}
	}
	found := aws.Credentials{
		AccessKeyID: r.AccessKeyID, SecretAccessKey: r.SecretAccessKey, SessionToken: r.SessionToken,
		AccountID: r.AccountID, Source: processcreds.ProviderName,
	}
	if r.Expiration != nil {
		found.CanExpire, found.Expires = true, *r.Expiration
	}
	return found, nil
}

// processProvider builds the credentials of a profile that leads to a
// credential_process, directly or by source_profile, as the SDK does.
func processProvider(profile config.SharedConfig, cfg aws.Config, base *process) aws.CredentialsProvider {
	var provider aws.CredentialsProvider
	if profile.Source != nil {
		provider = processProvider(*profile.Source, cfg, base)
	} else {
		base.command = profile.CredentialProcess
		provider = base
	}
	if profile.RoleARN == "" {
		return provider
	}
	cfg = cfg.Copy()
	cfg.Credentials = provider
	return stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), profile.RoleARN, func(o *stscreds.AssumeRoleOptions) {
		o.RoleSessionName = profile.RoleSessionName
		if profile.RoleDurationSeconds != nil {
			o.Duration = *profile.RoleDurationSeconds
		}
		if profile.ExternalID != "" {
			o.ExternalID = &profile.ExternalID
		}
		o.CredentialSources = base.sources
	})
}
