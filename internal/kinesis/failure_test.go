package kinesis

import (
	"io"
	"strings"
	"testing"
	"time"

	"out_kinesis_agg/test/kit/fakekinesis"
)

// page is a response with this body.
func page(status int, contentType, body string) fakekinesis.Fault {
	return fakekinesis.Body(status, map[string]string{"Content-Type": contentType},
		func(w io.Writer) { _, _ = io.WriteString(w, body) })
}

// Responses that are not in the format of Kinesis.
func TestForeignResponse_Text(t *testing.T) {
	isolate(t)
	for name, test := range map[string]struct {
		fault fakekinesis.Fault
		cause *Cause
		want  string
	}{
		"HTML": {page(403, "text/html", "<!DOCTYPE html><html><head><title>Blocked</title><style>p { color: red }</style></head><body>\n<p>by <b>policy</b> 7</body></html>"),
			CauseRefused, `"Blocked by policy 7"`},
		"text":            {page(502, "text/plain", "upstream\x1b[31m failed\nsecond line"), CauseInternal, `"upstream\x1b[31m failed second line"`},
		"long":            {page(403, "text/plain", strings.Repeat("x", 100_000)), CauseRefused, `x"...`},
		"too large":       {page(403, "text/plain", strings.Repeat("x", maxResponseBytes+1)), CauseBadResponse, "the response is too large"},
		"JSON":            {page(403, "application/json", `{"error": {"code": 7}, "reason": "not on the list"}`), CauseRefused, "not on the list"},
		"JSON, success":   {page(200, "text/html; charset=utf-8", `<h1>Log in to use the network</h1>`), CauseBadResponse, `"Log in to use the network"`},
		"300":             {page(300, "text/plain", "choose one"), CauseRefused, `is not one of AWS: "choose one"`},
		"413":             {page(413, "text/html", "<h1>413 Request Entity Too Large</h1><hr>nginx"), CauseRequestTooLarge, `"413 Request Entity Too Large nginx"`},
		"XML":             {page(403, "text/xml", `<ErrorResponse xmlns="x"><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not &amp; you</Message></Error></ErrorResponse>`), CauseAccessDenied, "AccessDenied: not & you"},
		"XML, root":       {page(400, "application/xml", "<ThrottlingException>\n  <Message>Rate exceeded</Message>\n</ThrottlingException>"), CauseThrottled, "ThrottlingException: Rate exceeded"},
		"XML, empty root": {page(404, "", "<UnknownOperationException/>"), CauseRefused, "UnknownOperationException"},
		"XML, not a code": {page(400, "text/xml", "<Error><Code>no\x1bcode</Code></Error>"), CauseRefused, "the response is not one of AWS"},
		"AWS":             {fakekinesis.Error(400, "AccessDeniedException", "<b>no</b>"), CauseAccessDenied, "AccessDeniedException: <b>no</b>"},
	} {
		t.Run(name, func(t *testing.T) {
			server := start(t, fakekinesis.Options{Fault: script(test.fault)})
			c, err := putFails(t, open(t, settings(server)))
			if c != test.cause || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v: got %v, want %v, %s", err, c, test.cause, test.want)
			}
			if n := len(err.Error()); n > 2*maxForeignBytes+800 {
				t.Errorf("%d bytes: %v", n, err)
			}
		})
	}
}

func TestForeignResponse_OfSTS(t *testing.T) {
	isolate(t)
	server := start(t, fakekinesis.Options{Role: func(int, fakekinesis.RoleRequest) fakekinesis.RoleResponse {
		return fakekinesis.RoleResponse{Fault: page(403, "text/html", "<h1>Blocked</h1>")}
	}})
	s := settings(server)
	s.RoleARN = "arn:aws:iam::123456789012:role/writer"
	if _, err := putFails(t, open(t, s)); !strings.Contains(err.Error(), `the response is not one of AWS: "Blocked"`) {
		t.Error(err)
	}
}

func TestProxyRefusal_Named(t *testing.T) {
	isolate(t)
	for _, status := range []string{"403 Forbidden", "407 Proxy Authentication Required", "503 Service Unavailable"} {
		sender, _, proxy := throughProxy(t, patience, first(fakekinesis.Tunnel{Refuse: status}))
		sender.Close()
		s := Settings{Connection: Connection{Region: "eu-central-1", KeyID: "AKID", SecretKey: "secret-key", Endpoint: "https://example.com",
			HTTPProxy: "http://agent:pass-of-proxy@" + proxy.Addr()}}
		c, err := putFails(t, open(t, s))
		if text := err.Error(); c != CauseProxy || !strings.Contains(text, proxy.Addr()) || !strings.Contains(text, status) ||
			strings.Contains(text, "pass-of-proxy") {
			t.Errorf("%s: %v: got %v", status, err, c)
		}
		if !NotStored(err) {
			t.Errorf("%s: the record may be stored", status)
		}
	}
}

// Each source of credentials has advice of its own.
func TestCredentials_AdviceOfTheSource(t *testing.T) {
	nowhere := "http://127.0.0.1:1"
	for name, test := range map[string]struct {
		env   map[string]string
		cause *Cause
	}{
		"container refuses": {map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "server"}, CauseContainerCredentials},
		"container, token file": {map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "server",
			"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "missing"}, CauseContainerCredentials},
		"no container agent": {map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": nowhere}, CauseContainerCredentials},
		"no metadata service": {map[string]string{"AWS_EC2_METADATA_DISABLED": "false",
			"AWS_EC2_METADATA_SERVICE_ENDPOINT": nowhere}, CauseInstanceMetadata},
		"no token file": {map[string]string{"AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/pod",
			"AWS_WEB_IDENTITY_TOKEN_FILE": "missing"}, CauseWebIdentity},
		"process": {map[string]string{"AWS_CONFIG_FILE": write(t, "config", "[default]\ncredential_process = false\n")}, CauseCredentialProcess},
	} {
		t.Run(name, func(t *testing.T) {
			isolate(t)
			server := start(t, fakekinesis.Options{})
			for key, value := range test.env {
				if value == "server" {
					value = server.URL()
				}
				t.Setenv(key, value)
			}
			sender := open(t, Settings{Connection: Connection{Region: "eu-central-1", Endpoint: server.URL()}})
			c, err := putFails(t, sender)
			if c != test.cause || !strings.HasSuffix(err.Error(), test.cause.Advice) || !NotStored(err) {
				t.Errorf("%v: got %v", err, c)
			}
		})
	}
}

// The clock of a server is only believed if AWS says that this host's clock is wrong.
func TestClock_CorrectedByAWSOnly(t *testing.T) {
	isolate(t)
	const date = "Thu, 01 Jan 1970 00:00:00 GMT"
	skewed := func(header map[string]string, code, message string) fakekinesis.Fault {
		header["Date"] = date
		return fakekinesis.Body(403, header, func(w io.Writer) {
			_, _ = io.WriteString(w, `{"__type": "`+code+`", "message": "`+message+`"}`)
		})
	}
	aws := func() map[string]string {
		return map[string]string{"Content-Type": mediaJSON, "X-Amzn-Requestid": "1"}
	}
	for name, test := range map[string]struct {
		fault     fakekinesis.Fault
		corrected bool
	}{
		"skew":              {skewed(aws(), "RequestTimeTooSkewed", "no"), true},
		"signature":         {skewed(aws(), "InvalidSignatureException", "Signature not yet current: x"), true},
		"other error":       {skewed(aws(), "AccessDeniedException", "no"), false},
		"not AWS":           {skewed(map[string]string{}, "RequestTimeTooSkewed", "no"), false},
		"page":              {fakekinesis.Body(503, map[string]string{"Date": date}, func(io.Writer) {}), false},
		"success with page": {fakekinesis.Body(200, map[string]string{"Date": date}, func(io.Writer) {}), false},
	} {
		t.Run(name, func(t *testing.T) {
			server := start(t, fakekinesis.Options{Fault: script(test.fault)})
			sender := open(t, settings(server))
			_, err := putFails(t, sender)
			if noted := strings.Contains(err.Error(), "signed with the time of this response"); noted != test.corrected {
				t.Errorf("error text %q", err)
			}
			put(t, sender)
			signed, parseErr := time.Parse("20060102T150405Z", server.Requests()[1].Header.Get("X-Amz-Date"))
			if parseErr != nil || (signed.Year() == 1970) != test.corrected {
				t.Errorf("signed at %s (%v), corrected should be %t", signed, parseErr, test.corrected)
			}
		})
	}
}
