package plugin

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"out_kinesis_agg/aggregator"
	"out_kinesis_agg/internal/engine"
	"out_kinesis_agg/internal/kinesis"
	"out_kinesis_agg/internal/option"
	"out_kinesis_agg/internal/version"
)

// Start parses the options and prepares an instance. No record is sent yet. The error
// joins one for each invalid option. Stop the instance.
// stopping is called until Stop, and reports how long the engine waits for flushes if
// it is stopping.
func Start(options option.Source, log Log, meter engine.Meter, stopping func() (grace time.Duration, ok bool)) (*Instance, error) {
	c, warnings, err := option.Parse(options)
	if err != nil {
		return nil, err
	}
	k, err := open(c, log)
	if err != nil {
		return nil, err
	}
	c.Region, c.Endpoint = k.Region(), k.Endpoint()
	auto, checked, err := check(c, k)
	if err != nil {
		k.Close()
		return nil, err
	}
	in, err := newInstance(c, k, log, meter)
	if err != nil {
		k.Close()
		return nil, err
	}
	for _, warning := range append(warnings, checked...) {
		log(engine.Warn, warning)
	}
	log(engine.Info, fmt.Sprintf("version %s: %s", version.String(), c.Summary()))
	if auto {
		in.streams.find(c.Stream.String()).reported()
		in.metrics.autoStreams.Add(1)
	}
	in.watchEngine(stopping)
	if !c.CheckStream && !c.Stream.UsesTag() {
		in.checkInBackground(c.Stream.String(), rand.N(in.streams.interval), k.DryRun)
	}
	return in, nil
}

// open creates the sender. It sends nothing.
func open(c option.Config, log Log) (*kinesis.Sender, error) {
	s := kinesis.Settings{
		Connection: c.Connection,
		WireFormat: kinesis.WireFormat(c.WireFormat),
		Shell:      engine.Spawn,
		Version:    version.String(),
		CBORRefused: func(err error) {
			log(engine.Warn, fmt.Sprintf("wire_format auto: a host refuses CBOR, so requests are in JSON until restart: %v", err))
		},
	}
	if c.Debug {
		s.Debug = func(format string, args ...any) { log(engine.Info, fmt.Sprintf(format, args...)) }
	}
	k, err := kinesis.Open(context.Background(), s)
	var setting *kinesis.SettingError
	if errors.As(err, &setting) && settingOptions[setting.Field] != "" {
		err = fmt.Errorf("option %s: %w", settingOptions[setting.Field], setting.Err)
	}
	return k, err
}

// settingOptions has the options of the fields of kinesis.Connection that Open can refuse.
var settingOptions = map[string]string{
	"Region":          "region",
	"Profile":         "profile",
	"CredentialsPath": "credentials_path",
	"KeyID":           "aws_key_id",
	"SecretKey":       "aws_sec_key",
	"SessionToken":    "aws_session_token",
}

// check finds reasons not to start, and what an operator should know. auto reports that
// the stream has the strategy AUTO, and that on_auto_stream permits it.
func check(c option.Config, k *kinesis.Sender) (auto bool, warnings []string, err error) {
	for _, base := range k.PlaintextRemote() {
		warnings = append(warnings, fmt.Sprintf("records and credentials are sent to %s without encryption: use https:// unless you trust the network", base))
	}
	if !c.CheckStream {
		return false, warnings, nil
	}
	name := c.Stream.String()
	stream, err := k.Describe(context.Background(), name)
	if err != nil {
		warnings = append(warnings, "check_stream: "+err.Error())
	} else if auto, err = checkStream(c, stream); err != nil {
		return false, nil, err
	}
	if warning := checkAccess(context.Background(), name, k.DryRun); warning != "" {
		warnings = append(warnings, warning)
	}
	return auto, warnings, nil
}

// checkStream implements the option check_stream. The error says why the stream
// cannot be used.
func checkStream(c option.Config, stream kinesis.Stream) (auto bool, err error) {
	auto = stream.DistributesRecords && c.Format == aggregator.KPL
	if auto && c.OnAutoStream != option.NDJSON {
		return false, fmt.Errorf("option check_stream: %s has the record distribution strategy AUTO, with which consumers lose aggregated records: change the stream to USER_PARTITION_KEY, or set record_format ndjson or on_auto_stream ndjson", c.Stream)
	}
	if most := stream.MaxRecordBytes; most > 0 && c.MaxRecordBytes > most {
		return false, fmt.Errorf("option max_record_size: %d exceeds the record limit of %s, %d bytes: set %d or less, or raise the stream's limit with UpdateMaxRecordSize",
			c.MaxRecordBytes, c.Stream, most, most)
	}
	return auto, nil
}

// dryRun is kinesis.Sender.DryRun.
type dryRun func(ctx context.Context, stream, partitionKey string, data []byte) error

// checkAccess finds out whether records can be written to a stream, with the
// permission that they need and without storing one. It returns a line for the log, or
// an empty string, also if the check was throttled or failed in another way that says
// nothing about the configuration. The aggregated record that it sends has no user
// record: consumers would not see it even if it were stored.
func checkAccess(ctx context.Context, stream string, try dryRun) string {
	key, record := emptyRecord()
	err := try(ctx, stream, key, record)
	if err == nil || errors.Is(err, kinesis.ErrNoDryRun) || kinesis.Classify(err).Transient {
		return ""
	}
	return "records cannot be written yet, chunks will be retried: " + err.Error()
}

// checkInBackground runs checkAccess after the delay, without delaying the start. Stop
// ends it, and so does the first record that Kinesis accepts: Kinesis permits one check
// a second and stream, bills it, and thousands of agents can start at once. Its line
// goes to stderr, because the engine's log only accepts lines from the threads on which
// the engine calls the plugin.
func (in *Instance) checkInBackground(stream string, delay time.Duration, try dryRun) {
	ctx, cancel := context.WithCancel(context.Background())
	in.endCheck = cancel
	in.checking.Go(func() {
		defer func() {
			if p := recover(); p != nil {
				in.log(engine.Error, fmt.Sprintf("panic during the check of the stream: %v", p))
			}
		}()
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay):
		}
		if line := checkAccess(ctx, stream, try); line != "" {
			in.log(engine.Error, line)
		}
	})
}
