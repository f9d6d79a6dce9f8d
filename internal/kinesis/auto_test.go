package kinesis

import (
	"context"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"out_kinesis_agg/test/kit/fakekinesis"
)

// openAuto returns a sender with WireFormat Auto to AWS's own host, and the reasons for
// which it changes to JSON.
func openAuto(t *testing.T, o fakekinesis.Options) (*Sender, *fakekinesis.Server, *[]string) {
	t.Helper()
	var reasons []string
	sender, server := openAWS(t, o, func(s *Settings) {
		s.WireFormat = Auto
		s.CBORRefused = func(err error) { reasons = append(reasons, err.Error()) }
	})
	return sender, server, &reasons
}

// formats returns the format of each request.
func formats(server *fakekinesis.Server) string {
	var all []string
	for _, r := range server.Requests() {
		all = append(all, strings.TrimSuffix(strings.TrimPrefix(r.Header.Get("Content-Type"), "application/x-amz-"), "-1.1"))
	}
	return strings.Join(all, " ")
}

// bodyOfType responds with a status and a body in a format of AWS.
func bodyOfType(status int, media, body string) fakekinesis.Fault {
	return fakekinesis.Body(status, map[string]string{"Content-Type": media}, func(w io.Writer) { _, _ = io.WriteString(w, body) })
}

func TestAuto_RepeatsInJSONAfterARefusalOfCBOR(t *testing.T) {
	for name, fault := range map[string]fakekinesis.Fault{
		"serialization":       fakekinesis.Error(400, "SerializationException", ""),
		"unknown operation":   fakekinesis.Error(404, "UnknownOperationException", ""),
		"415":                 fakekinesis.Status(415),
		"404":                 fakekinesis.Status(404),
		"unreadable response": bodyOfType(200, mediaCBOR, "?"),
		"JSON in CBOR":        bodyOfType(200, mediaJSON, "?"),
		"unreadable error":    bodyOfType(400, mediaCBOR, "?"),
	} {
		t.Run(name, func(t *testing.T) {
			sender, server, reasons := openAuto(t, fakekinesis.Options{Fault: func(_ int, r *fakekinesis.Request) fakekinesis.Fault {
				if r.Header.Get("Content-Type") == mediaCBOR {
					return fault
				}
				return fakekinesis.OK
			}})
			put(t, sender)
			put(t, sender)
			if got := formats(server); got != "cbor json json" {
				t.Errorf("requests in %s", got)
			}
			if got := server.Records()[0]; got.PartitionKey != "key" || string(got.Data) != "data" {
				t.Errorf("the repetition is %q under %q", got.Data, got.PartitionKey)
			}
			if len(*reasons) != 1 {
				t.Errorf("reported %q", *reasons)
			}
		})
	}
}

func TestAuto_OtherRefusalsKeepCBOR(t *testing.T) {
	for name, fault := range map[string]fakekinesis.Fault{
		"throttled":  fakekinesis.Error(400, "ProvisionedThroughputExceededException", ""),
		"validation": fakekinesis.Error(400, "ValidationException", "invalid"),
		"not found":  fakekinesis.Error(400, "ResourceNotFoundException", ""),
		"denied":     fakekinesis.Error(403, "AccessDeniedException", ""),
		"signature":  fakekinesis.Error(403, "InvalidSignatureException", ""),
		"500":        fakekinesis.Error(500, "InternalFailure", ""),
		"503":        fakekinesis.Status(503),
		"429":        fakekinesis.Status(429),
		"403":        fakekinesis.Status(403),
		"reset":      fakekinesis.ResetRead,
		"lost":       fakekinesis.ResponseLost,
		"truncated":  fakekinesis.ResponseTruncated,
	} {
		t.Run(name, func(t *testing.T) {
			sender, server, reasons := openAuto(t, fakekinesis.Options{Fault: script(fault)})
			putFails(t, sender)
			put(t, sender)
			if got := formats(server); got != "cbor cbor" {
				t.Errorf("requests in %s", got)
			}
			if len(*reasons) != 0 {
				t.Errorf("reported %q", *reasons)
			}
		})
	}
}

// Once CBOR has worked, an unreadable response has another reason.
func TestAuto_UnreadableResponseLater(t *testing.T) {
	sender, server, _ := openAuto(t, fakekinesis.Options{Fault: script(fakekinesis.OK, bodyOfType(200, mediaCBOR, "?"))})
	put(t, sender)
	putFails(t, sender)
	put(t, sender)
	if got := formats(server); got != "cbor cbor cbor" {
		t.Errorf("requests in %s", got)
	}
}

// A host that refuses JSON in the same way does not refuse CBOR as such.
func TestAuto_JSONIsRefusedToo(t *testing.T) {
	var repaired atomic.Bool
	sender, server, reasons := openAuto(t, fakekinesis.Options{Fault: func(int, *fakekinesis.Request) fakekinesis.Fault {
		if repaired.Load() {
			return fakekinesis.OK
		}
		return fakekinesis.Status(404)
	}})
	putFails(t, sender)
	repaired.Store(true)
	put(t, sender)
	if got := formats(server); got != "cbor json cbor" || len(*reasons) != 0 {
		t.Errorf("requests in %s, reported %q", got, *reasons)
	}
}

// The record of an unreadable response may be stored: the repetition has the same
// partition key, and a failed repetition does not prove that nothing is stored.
func TestAuto_RepeatsTheSameRecord(t *testing.T) {
	sender, server, _ := openAuto(t, fakekinesis.Options{Fault: script(
		bodyOfType(200, mediaCBOR, "?"), fakekinesis.Error(400, "ProvisionedThroughputExceededException", ""))})
	_, err := sender.PutRecord(context.Background(), "logs", "key", []byte("data"))
	if err == nil || NotStored(err) {
		t.Errorf("%v proves that nothing is stored", err)
	}
	if got := formats(server); got != "cbor json" {
		t.Errorf("requests in %s", got)
	}
}

func TestAuto_CBOROnlyForAWS(t *testing.T) {
	for name, test := range map[string]struct {
		region, host, stream string
		env                  map[string]string
	}{
		"AWS":        {"us-east-1", "kinesis.us-east-1.amazonaws.com", "logs", nil},
		"FIPS":       {"us-east-1", "kinesis-fips.us-east-1.amazonaws.com", "logs", map[string]string{"AWS_USE_FIPS_ENDPOINT": "true"}},
		"dual-stack": {"us-east-1", "kinesis.us-east-1.api.aws", "logs", map[string]string{"AWS_USE_DUALSTACK_ENDPOINT": "true"}},
		"account":    {"eu-west-1", "123456789012.data-kinesis.eu-west-1.amazonaws.com", streamARN, nil},
		"China":      {"cn-north-1", "kinesis.cn-north-1.amazonaws.com.cn", "logs", nil},
		"GovCloud":   {"us-gov-west-1", "kinesis.us-gov-west-1.amazonaws.com", "logs", nil},
	} {
		t.Run(name, func(t *testing.T) {
			sender, server := openAWS(t, fakekinesis.Options{Hosts: []string{test.host}}, func(s *Settings) {
				s.WireFormat, s.Region = Auto, test.region
				for name, value := range test.env {
					t.Setenv(name, value)
				}
			})
			if _, err := sender.PutRecord(context.Background(), test.stream, "key", []byte("data")); err != nil {
				t.Fatal(err)
			}
			if got := formats(server); got != "cbor" || server.Requests()[0].Host != test.host {
				t.Errorf("sent %s to %s", got, server.Requests()[0].Host)
			}
		})
	}
	for _, variable := range []string{"", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KINESIS"} {
		isolate(t)
		server := start(t, fakekinesis.Options{})
		s := settings(server)
		s.WireFormat = Auto
		if variable != "" {
			s.Endpoint = ""
			t.Setenv(variable, server.URL())
		}
		put(t, open(t, s))
		if got := formats(server); got != "json" {
			t.Errorf("endpoint %s: sent %s", variable, got)
		}
	}
}
