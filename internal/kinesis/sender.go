// Package kinesis sends records to Kinesis data streams: one PutRecord a call, with
// the credentials, connections and time limits that it needs. One function,
// Classify, says what an error means for the record.
//
// The package knows AWS and nothing of the plugin: neither what is in a record nor
// where its settings come from. The caller retries failed requests, except for the
// one repetition of Settings.AutoRetry.
package kinesis

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"
)

// Sender sends records. It is safe for concurrent use.
type Sender struct {
	client         *kinesis.Client
	pool           *http.Transport
	signer         *signer
	requestTimeout time.Duration
	autoRetry      bool
	format         WireFormat
	plaintext      []string
}

// Open creates a Sender. It reads the environment and the shared configuration
// files, and sends nothing: the first PutRecord fetches credentials. When the files
// change, only credentials are read again. An error about one of the settings is a
// *SettingError. Close the Sender.
func Open(ctx context.Context, s Settings) (*Sender, error) {
	if s.RequestTimeout == 0 {
		s.RequestTimeout = DefaultRequestTimeout
	}
	if s.ConnectTimeout == 0 {
		s.ConnectTimeout = DefaultConnectTimeout
	}
	var roles stsClient
	hidden := newSecrets(s)
	files := sharedFiles(s)
	seen := stat(files) // before they are read, so that no change is missed
	cfg, err := load(ctx, s, &roles, hidden)
	if err != nil {
		return nil, err
	}

	// load gave it this type; a CA bundle may have been added to it since.
	pool := pooled(cfg.HTTPClient.(*awshttp.BuildableClient).GetTransport())
	cfg.HTTPClient = sendingClient(s, pool, hidden)
	chain := newChain(cfg, files, seen, func(ctx context.Context) (aws.Config, error) { return load(ctx, s, &roles, hidden) })
	cfg.Credentials = chain
	roles.Client = sts.NewFromConfig(cfg, func(o *sts.Options) {
		if s.STSEndpoint != "" {
			o.BaseEndpoint = &s.STSEndpoint
		}
	})
	signer := newSigner(chain, s, &roles, hidden)
	cfg.Credentials = signer
	client := kinesis.NewFromConfig(cfg, func(o *kinesis.Options) {
		if s.Endpoint != "" {
			o.BaseEndpoint = &s.Endpoint
		}
	})
	return &Sender{
		client:         client,
		pool:           pool,
		signer:         signer,
		requestTimeout: s.RequestTimeout,
		autoRetry:      s.AutoRetry,
		format:         s.WireFormat,
		plaintext:      plaintextRemote(client.Options().BaseEndpoint, roles.Options().BaseEndpoint),
	}, nil
}

// load lets the SDK put its configuration together: settings first, then
// environment, then files. It hands roles to the chain for web identity, and
// leaves it to the caller to fill it.
func load(ctx context.Context, s Settings, roles *stsClient, hidden *secrets) (aws.Config, error) {
	options, err := chainOptions(s, roles, hidden)
	if err != nil {
		return aws.Config{}, err
	}
	client := credentialsClient(s)
	options = append(options,
		config.WithRegion(s.Region),
		config.WithHTTPClient(client),
		// Containers' credentials would come through a client of their own,
		// without the limits of ours.
		config.WithEndpointCredentialOptions(func(o *endpointcreds.Options) { o.HTTPClient = client }),
		// The engine retries, with a backoff that does not block a worker.
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
		// The SDK's default writes warnings to stderr instead of the engine's log.
		config.WithLogger(logging.Nop{}),
		// The mode "auto", which the environment can set, would call the metadata
		// service here. The modes only decide settings that are given above.
		config.WithDefaultsMode(aws.DefaultsModeLegacy),
		config.WithAPIOptions([]func(*middleware.Stack) error{
			awsmiddleware.AddUserAgentKeyValue("out_kinesis_agg", s.Version),
			boundResponses,
			hidden.noteRequests,
		}),
	)
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return aws.Config{}, profileError(s, err)
	}
	if !asksForAccountEndpoint(cfg) {
		cfg.AccountIDEndpointMode = aws.AccountIDEndpointModeDisabled
	}
	hidden.noteConfig(cfg)
	if cfg.Region == "" {
		return aws.Config{}, &SettingError{"Region", errors.New("not set, and neither AWS_REGION nor the profile provides it")}
	}
	return cfg, nil
}

// asksForAccountEndpoint tells whether the environment or the profile sets the
// account ID endpoint mode. Without it, the SDK sends to
// ACCOUNT.data-kinesis.REGION.amazonaws.com where the credentials tell the
// account, as a role's do, and to kinesis.REGION.amazonaws.com where they do not.
// An allow-list or a VPC endpoint that works with keys would then not work with
// a role, so the host is always the second unless it is asked for. A stream's ARN
// has the account in it, and the SDK offers no choice there.
func asksForAccountEndpoint(cfg aws.Config) bool {
	for _, source := range cfg.ConfigSources {
		switch c := source.(type) {
		case config.EnvConfig:
			if c.AccountIDEndpointMode != "" {
				return true
			}
		case config.SharedConfig:
			if c.AccountIDEndpointMode != "" {
				return true
			}
		}
	}
	return false
}

// plaintextRemote selects the base URLs that are used without encryption.
func plaintextRemote(bases ...*string) []string {
	var found []string
	for _, base := range bases {
		u, err := url.Parse(aws.ToString(base))
		if err == nil && u.Scheme == "http" && !thisHost(u.Hostname()) {
			found = append(found, u.Redacted())
		}
	}
	return found
}

// Region returns the region that requests go to.
func (s *Sender) Region() string { return s.client.Options().Region }

// PlaintextRemote returns the endpoints to which records or credentials are sent
// without encryption: http, and not on this host.
func (s *Sender) PlaintextRemote() []string { return s.plaintext }

// PutRecord sends one record to stream, a name or an ARN, and returns the shard that
// stores it, or an error for Classify. It takes at most RequestTimeout, or less if
// ctx ends earlier. data belongs to the caller again on return.
//
// An error does not prove that the record is not stored: the response may be lost.
func (s *Sender) PutRecord(ctx context.Context, stream, partitionKey string, data []byte) (shardID string, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.requestTimeout)
	defer cancel()
	ctx, try := newAttempt(ctx)

	// There is no ExplicitHashKey, because KCL drops the aggregated record if its
	// shard is not that of the partition key.
	in := &kinesis.PutRecordInput{PartitionKey: &partitionKey, Data: data}
	in.StreamName, in.StreamARN = streamID(stream)
	r := requests.Get().(*request)
	defer requests.Put(r)
	r.encode(s.format, stream, partitionKey, data)
	out, err := s.send(ctx, in, r)
	if err != nil && s.autoRetry && Classify(err).Cause == CauseConnection {
		// Immediately, because a new connection probably works if a pooled one was
		// stale, and a failed flush waits for seconds. Once, because the engine
		// retries next. Not after other failures: a time-out has used all the time;
		// names, certificates and refused connections (every address was tried)
		// do not change immediately; and after a response, even an invalid one, the
		// record is probably stored.
		s.pool.CloseIdleConnections()
		out, err = s.send(ctx, in, r)
	}
	if err == nil && aws.ToString(out.SequenceNumber) == "" {
		err = errNoSequenceNumber
	}
	if err != nil {
		return "", s.failed(ctx, try, "put record to "+stream, err)
	}
	return aws.ToString(out.ShardId), nil
}

// errNoSequenceNumber is an error because only the number proves that the record is
// stored.
var errNoSequenceNumber = errors.New("the response has no sequence number")

// Stream is the part of a stream's summary that matters to aggregated records.
type Stream struct {
	// DistributesRecords: the stream ignores partition keys, and consumers
	// lose aggregated records.
	DistributesRecords bool
	// MaxRecordBytes is the stream's record limit, data and partition key together.
	// It is 0 if the response does not contain it.
	MaxRecordBytes int
}

// Describe asks for a stream's summary, within RequestTimeout. It needs the
// permission kinesis:DescribeStreamSummary.
func (s *Sender) Describe(ctx context.Context, stream string) (Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, s.requestTimeout)
	defer cancel()
	ctx, try := newAttempt(ctx)
	in := &kinesis.DescribeStreamSummaryInput{}
	in.StreamName, in.StreamARN = streamID(stream)
	out, err := s.client.DescribeStreamSummary(ctx, in)
	if err != nil {
		return Stream{}, s.failed(ctx, try, "describe "+stream, err)
	}
	summary := out.StreamDescriptionSummary
	if summary == nil {
		return Stream{}, s.failed(ctx, try, "describe "+stream, errors.New("the response has no summary"))
	}
	return Stream{
		DistributesRecords: summary.RecordDistributionStrategy == types.RecordDistributionStrategyAuto,
		MaxRecordBytes:     int(aws.ToInt32(summary.MaxRecordSizeInKiB)) << 10,
	}, nil
}

// Close closes the connections. Call it when no PutRecord is running. A fetch of
// credentials that outlived its PutRecord ends by itself, within RequestTimeout of
// its start.
func (s *Sender) Close() { s.pool.CloseIdleConnections() }

// failed wraps an error of the SDK and prepares for the next request.
//
// Credentials that were rejected are renewed: they expired before their time,
// were revoked, or were replaced in a file.
//
// After a request that got no response, the idle connections are closed. They
// lead to the same address, which may be dead, and each would cost the next
// request a time limit of its own; new ones resolve the host's name again.
func (s *Sender) failed(ctx context.Context, try *attempt, what string, err error) error {
	e := &requestError{what: what + " in " + s.Region(), err: err, secrets: s.signer.secrets}
	switch Classify(err).Cause {
	case CauseExpiredToken, CauseBadKey, CauseBadSignature:
		s.signer.renew(ctx, try)
		e.files = s.signer.chain.failed()
	case CauseNoCredentials, CauseAssumeRole:
		e.files = s.signer.chain.failed()
	case CauseTimeout, CauseConnection:
		s.pool.CloseIdleConnections()
	}
	return e
}

// requestError is an SDK error whose text can be logged.
type requestError struct {
	what string
	err  error
	// files says why changed shared files are not in use; nil where they are.
	files   error
	secrets *secrets // nil hides nothing
}

// maxErrorBytes keeps a log line readable; AWS's longest useful messages, about
// permissions, have some 500 bytes.
const maxErrorBytes = 1 << 10

// Error gives the first line only. Where a signature is wrong, AWS quotes the
// request's headers on the next ones, the session token among them.
func (e *requestError) Error() string {
	text, _, _ := strings.Cut(e.err.Error(), "\n")
	text, _, _ = strings.Cut(text, "The Canonical String")
	if e.hides(text) {
		text = e.secrets.withoutText(e.err)
	}
	if len(text) > maxErrorBytes {
		cut := maxErrorBytes
		for !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + "..."
	}
	if e.files != nil {
		text += "; the shared AWS files have changed and cannot be used, so the earlier credentials stay: " + e.files.Error()
	}
	return "kinesis: " + e.what + ": " + text
}

// hides tells whether a text must not be shown. Of a text of any length it looks
// at more than what Error shows, so that no credential is shown in part.
func (e *requestError) hides(text string) bool {
	return e.secrets != nil && (quotesProcess(e.err) || e.secrets.in(text[:min(len(text), 8*maxErrorBytes)]))
}

func (e *requestError) Unwrap() error { return e.err }
