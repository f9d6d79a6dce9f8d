package kinesis

import (
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"

	"out_kinesis_agg/test/kit/fakekinesis"
)

const credentialsURI = "AWS_CONTAINER_CREDENTIALS_FULL_URI"

func TestEnvironment_InvalidValuesAreRefused(t *testing.T) {
	for name, test := range map[string]struct {
		env    map[string]string
		want   string
		hidden string
	}{
		"raw percent":       {map[string]string{"HTTPS_PROXY": "http://user:pa55%w0rd@proxy.test:3128"}, "HTTPS_PROXY: its value is not a URL: percent-encode", "pa55"},
		"raw at":            {map[string]string{"HTTPS_PROXY": "http://user:pa55@w0rd@proxy.test:3128"}, "percent-encode", "w0rd"},
		"raw hash":          {map[string]string{"HTTPS_PROXY": "http://user:pa55#w0rd@proxy.test:3128"}, "percent-encode", "pa55"},
		"raw slash":         {map[string]string{"HTTPS_PROXY": "http://user:12/w0rd@proxy.test:3128"}, "percent-encode", "w0rd"},
		"raw question mark": {map[string]string{"HTTPS_PROXY": "http://user:12?w0rd@proxy.test:3128"}, "percent-encode", "w0rd"},
		"no scheme":         {map[string]string{"HTTPS_PROXY": "user:pa%ss@proxy.test:3128"}, "percent-encode", "pa%ss"},
		"lower case":        {map[string]string{"https_proxy": "http://user:p%@proxy.test"}, "variable https_proxy", "p%"},
		"plain HTTP":        {map[string]string{"http_proxy": "http://user:p%@proxy.test"}, "variable http_proxy", "p%"},
		"scheme of a proxy": {map[string]string{"HTTPS_PROXY": "ftp://proxy.test"}, "does not begin with http:// or https://", ""},
		"blanks":            {map[string]string{"HTTPS_PROXY": "http://proxy.test", "no_proxy": "a.test b.test"}, `no_proxy: "a.test b.test" is not a host: set hosts`, ""},
		"region":            {map[string]string{"AWS_REGION": "eu-west-1 "}, `AWS_REGION: "eu-west-1 " is not a region`, ""},
		"default region":    {map[string]string{"AWS_DEFAULT_REGION": "Europe (Ireland)"}, "AWS_DEFAULT_REGION", ""},
		"zone":              {map[string]string{"AWS_REGION": "eu-west-1a"}, `set its region, "eu-west-1"`, ""},
		"endpoint":          {map[string]string{"AWS_ENDPOINT_URL": "localhost:4566"}, `AWS_ENDPOINT_URL: "localhost:4566" does not begin with https:// or http://`, ""},
		"address":           {map[string]string{"AWS_ENDPOINT_URL_KINESIS": "127.0.0.1:4566"}, "AWS_ENDPOINT_URL_KINESIS", ""},
		"endpoint of STS":   {map[string]string{"AWS_ENDPOINT_URL_STS": "sts.test"}, "AWS_ENDPOINT_URL_STS", ""},
		"no CA file":        {map[string]string{"AWS_CA_BUNDLE": "/nowhere/ca.pem"}, "AWS_CA_BUNDLE: stat /nowhere/ca.pem", ""},
		"CA directory":      {map[string]string{"AWS_CA_BUNDLE": "/"}, "/ is not a regular file", ""},
		"newline in key":    {map[string]string{"AWS_ACCESS_KEY_ID": "AKID\n", "AWS_SECRET_ACCESS_KEY": "x"}, "AWS_ACCESS_KEY_ID: contains a space", ""},
		"newline in secret": {map[string]string{"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "hidden\n"}, "AWS_SECRET_ACCESS_KEY: contains", "hidden"},
		"blank in secret":   {map[string]string{"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "hid den"}, "AWS_SECRET_ACCESS_KEY: contains a space", "hid den"},
		"delete character":  {map[string]string{"AWS_ACCESS_KEY_ID": "AKID\x7f", "AWS_SECRET_ACCESS_KEY": "x"}, "AWS_ACCESS_KEY_ID: contains", ""},
		"control character": {map[string]string{"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "x", "AWS_SESSION_TOKEN": "hidden\x01"}, "AWS_SESSION_TOKEN: contains", "hidden"},
		"half a key":        {map[string]string{"AWS_SECRET_ACCESS_KEY": "hidden"}, "AWS_ACCESS_KEY_ID: it and AWS_SECRET_ACCESS_KEY require each other", "hidden"},
		"no role":           {map[string]string{"AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere"}, "AWS_ROLE_ARN: is not set", ""},
		"not a role":        {map[string]string{"AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere", "AWS_ROLE_ARN": "writer"}, `AWS_ROLE_ARN: "writer" is not the ARN`, ""},
		"container host":    {map[string]string{credentialsURI: "http://192.0.2.1/creds"}, credentialsURI + `: "http://192.0.2.1/creds" is on another host`, ""},
		"container name":    {map[string]string{credentialsURI: "http://agent..invalid/creds"}, credentialsURI + `: "http://agent..invalid/creds" names a host that cannot be resolved`, ""},
		"container path":    {map[string]string{credentialsURI: "/creds"}, credentialsURI, ""},
		"profile":           {map[string]string{"AWS_PROFILE": "missing"}, `AWS_PROFILE: "missing" is not in the files`, ""},
		"container token":   {map[string]string{"AWS_CONTAINER_AUTHORIZATION_TOKEN": "hidden\n"}, "AWS_CONTAINER_AUTHORIZATION_TOKEN", "hidden"},
	} {
		t.Run(name, func(t *testing.T) {
			isolate(t)
			s := Settings{}
			if test.env["AWS_REGION"] == "" && test.env["AWS_DEFAULT_REGION"] == "" {
				s.Region = "eu-west-1"
			}
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			sender, err := Open(context.Background(), s)
			if err == nil {
				sender.Close()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
			if test.hidden != "" && strings.Contains(err.Error(), test.hidden) {
				t.Errorf("%q is shown: %v", test.hidden, err)
			}
		})
	}
}

// Values that a setting overrides, and valid ones, do not prevent the start.
func TestEnvironment_AcceptedValues(t *testing.T) {
	for name, test := range map[string]struct {
		env      map[string]string
		settings Settings
	}{
		"settings have priority": {map[string]string{
			"AWS_REGION": "a b", "AWS_ENDPOINT_URL": "x", "HTTPS_PROXY": "%", "AWS_ENDPOINT_URL_STS": "x", "AWS_ACCESS_KEY_ID": "\n",
		}, Settings{Connection: Connection{KeyID: "A", SecretKey: "B", Endpoint: "http://localhost", STSEndpoint: "http://localhost", HTTPProxy: "http://proxy.test"}}},
		"ignored endpoint": {map[string]string{"AWS_ENDPOINT_URL": "x", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, Settings{}},
		"proxies": {map[string]string{"HTTPS_PROXY": "proxy.test:3128", "http_proxy": "socks5://user:p%40ss@proxy.test/",
			"NO_PROXY": "169.254.169.254, .internal,10.0.0.0/8,*"}, Settings{}},
		"container on this host": {map[string]string{credentialsURI: "http://127.0.0.1:1234/creds?role=x"}, Settings{}},
		"unused container URI":   {map[string]string{credentialsURI: "/creds", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/creds"}, Settings{}},
		"no shared files":        {map[string]string{"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull}, Settings{}},
		"container of EKS":       {map[string]string{credentialsURI: "http://[fd00:ec2::23]/v1/credentials"}, Settings{}},
	} {
		t.Run(name, func(t *testing.T) {
			isolate(t)
			test.settings.Region = "eu-west-1"
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			open(t, test.settings)
		})
	}
}

func TestEnvironment_EndpointIsReported(t *testing.T) {
	for _, name := range []string{"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KINESIS"} {
		isolate(t)
		t.Setenv(name, "http://user:word@127.0.0.1:4567")
		if got := open(t, Settings{Connection: Connection{Region: "eu-west-1"}}).Endpoint(); got != "http://user:word@127.0.0.1:4567" {
			t.Errorf("%s: got %q", name, got)
		}
	}
	isolate(t)
	t.Setenv("AWS_ENDPOINT_URL", "")
	t.Setenv("AWS_ENDPOINT_URL_KINESIS", "")
	if got := open(t, Settings{Connection: Connection{Region: "eu-west-1"}}).Endpoint(); got != "" {
		t.Errorf("AWS: got %q", got)
	}
}

func huge(t *testing.T) string {
	return write(t, "huge", strings.Repeat("#", maxFileBytes+1))
}

func TestFiles_LargestFile(t *testing.T) {
	isolate(t)
	keys := keysFile(oldKey)
	s := settings(start(t, fakekinesis.Options{}))
	s.KeyID, s.SecretKey = "", ""
	s.CredentialsPath = write(t, "largest", keys+strings.Repeat("#", maxFileBytes-len(keys)))
	put(t, open(t, s))
}

// fileUses are the ways to name a file that the credential chain reads.
var fileUses = map[string]func(t *testing.T, s *Settings, path string){
	"credentials_path":            func(_ *testing.T, s *Settings, path string) { s.CredentialsPath = path },
	"AWS_SHARED_CREDENTIALS_FILE": func(t *testing.T, _ *Settings, path string) { t.Setenv("AWS_SHARED_CREDENTIALS_FILE", path) },
	"AWS_CONFIG_FILE":             func(t *testing.T, _ *Settings, path string) { t.Setenv("AWS_CONFIG_FILE", path) },
	"AWS_CA_BUNDLE":               func(t *testing.T, _ *Settings, path string) { t.Setenv("AWS_CA_BUNDLE", path) },
	"ca_bundle": func(t *testing.T, _ *Settings, path string) {
		t.Setenv("AWS_CONFIG_FILE", write(t, "config", "[default]\nca_bundle = "+path+"\n"))
	},
	"AWS_WEB_IDENTITY_TOKEN_FILE": func(t *testing.T, _ *Settings, path string) {
		t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", path)
		t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/pod")
	},
	"web_identity_token_file": func(t *testing.T, _ *Settings, path string) {
		t.Setenv("AWS_CONFIG_FILE", write(t, "config", "[default]\nrole_arn = arn:aws:iam::123456789012:role/pod\nweb_identity_token_file = "+path+"\n"))
	},
	"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": func(t *testing.T, _ *Settings, path string) {
		t.Setenv(credentialsURI, "http://127.0.0.1:1/creds")
		t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path)
	},
}

func TestFiles_OnlySmallRegularFilesAreRead(t *testing.T) {
	for use, name := range fileUses {
		type kind struct {
			make func(t *testing.T) string
			want string
		}
		kinds := map[string]kind{
			"directory":   {func(t *testing.T) string { return t.TempDir() }, "is not a regular file"},
			"above a MiB": {huge, "is larger than 1048576 bytes"},
		}
		for name, make := range specialFiles {
			kinds[name] = kind{make, "is not a regular file"}
		}
		for kind, test := range kinds {
			t.Run(use+", "+kind, func(t *testing.T) {
				isolate(t)
				s := fileSettings(start(t, fakekinesis.Options{}))
				path := test.make(t)
				name(t, &s, path)
				sender, err := Open(context.Background(), s)
				if err == nil {
					defer sender.Close()
					_, err = sender.PutRecord(context.Background(), "logs", "key", []byte("data"))
				}
				if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got %v", err)
				}
			})
		}
	}
}

func TestFiles_SharedFiles(t *testing.T) {
	keys := keysFile(newKey)
	for name, test := range map[string]struct {
		credentials string
		want        string // of the error; empty: newKey is used
	}{
		"byte order mark": {"\uFEFF" + keys, ""},
		"Windows lines":   {strings.ReplaceAll(keys, "\n", "\r\n"), ""},
		"UTF-16": {string(func() (b []byte) {
			for _, u := range utf16.Encode([]rune("\uFEFF" + keys)) {
				b = append(b, byte(u), byte(u>>8))
			}
			return b
		}()), "is in UTF-16 or not text: save it as UTF-8"},
		"UTF-16, big endian": {"\x00[\x00d", "is in UTF-16 or not text: save it as UTF-8"},
		"profile prefix":     {"[profile default]\n" + keys, "[profile default] is not a profile: write [default]"},
		"no secret":          {"[default]\naws_access_key_id = A\n", "profile default has only one of"},
		"empty secret":       {"[default]\naws_access_key_id = A\naws_secret_access_key =\n", "profile default has only one of"},
		"no-break space":     {"[default]\naws_access_key_id = A\naws_secret_access_key = \u00a0B\n", "profile default: aws_secret_access_key contains"},
		"other profile":      {"[other-one]\naws_access_key_id = A\n" + keys, ""},
	} {
		t.Run(name, func(t *testing.T) {
			isolate(t)
			server := start(t, fakekinesis.Options{})
			s := fileSettings(server)
			s.CredentialsPath = write(t, "credentials", test.credentials)
			sender, err := Open(context.Background(), s)
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), s.CredentialsPath) {
					t.Errorf("got %v", err)
				}
				return
			}
			must(t, err)
			defer sender.Close()
			put(t, sender)
			if key, _, _ := server.Requests()[0].Signer(); key != newKey {
				t.Errorf("signed by %s", key)
			}
		})
	}
}

// A mistake in a profile prevents the start if its keys would be used, and only then.
func TestFiles_MistakesInTheProfileThatIsUsed(t *testing.T) {
	const (
		half  = "aws_access_key_id = A\n" // refused by the SDK too, also if it is not used
		blank = half + "aws_secret_access_key = \u00a0B\n"
	)
	for name, test := range map[string]struct {
		config, credentials string
		keys                bool // in the environment
		settings            Connection
		want                string // of the error; empty: it starts
	}{
		"the default profile":         {"", "[default]\n" + half, false, Connection{}, "profile default has only one of"},
		"a blank":                     {"", "[default]\n" + blank, false, Connection{}, "profile default: aws_secret_access_key contains"},
		"keys in the environment":     {"", "[default]\n" + blank, true, Connection{}, ""},
		"keys in the settings":        {"", "[default]\n" + blank, false, Connection{KeyID: "A", SecretKey: "B"}, ""},
		"profile before environment":  {"", "[other]\n" + half, true, Connection{Profile: "other"}, "profile other has only one of"},
		"file before environment":     {"", "", true, Connection{CredentialsPath: "half"}, "profile default has only one of"},
		"configuration, default":      {"[default]\n" + half, "", false, Connection{}, "profile default has only one of"},
		"configuration, with prefix":  {"[profile default]\n" + half, "", false, Connection{}, "profile default has only one of"},
		"configuration, prefix first": {"[default]\n" + half + "[profile default]\naws_access_key_id = A\naws_secret_access_key = B\n", "", false, Connection{}, ""},
		"not text":                    {"", "\x00", false, Connection{}, "environment variable AWS_SHARED_CREDENTIALS_FILE: "},
	} {
		t.Run(name, func(t *testing.T) {
			isolate(t)
			t.Setenv("AWS_CONFIG_FILE", write(t, "config", test.config))
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", write(t, "credentials", test.credentials))
			if test.keys {
				t.Setenv("AWS_ACCESS_KEY_ID", "AKID")
				t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
			}
			s := Settings{Connection: test.settings}
			s.Region = "eu-west-1"
			if s.CredentialsPath != "" {
				s.CredentialsPath = write(t, "half", "[default]\n"+half)
			}
			sender, err := Open(context.Background(), s)
			if err == nil {
				sender.Close()
			}
			if (err != nil) != (test.want != "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestFiles_CABundleIsTrusted(t *testing.T) {
	for name, use := range map[string]func(*testing.T, *Settings, string){"AWS_CA_BUNDLE": fileUses["AWS_CA_BUNDLE"], "ca_bundle": fileUses["ca_bundle"]} {
		t.Run(name, func(t *testing.T) {
			isolate(t)
			server := start(t, fakekinesis.Options{TLS: true})
			s := settings(server)
			use(t, &s, write(t, "ca.pem", string(server.CAPEM())))
			put(t, open(t, s))
			use(t, &s, write(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}))))
			if _, err := Open(context.Background(), s); err == nil || !strings.Contains(err.Error(), "contains no certificate in PEM") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// containerCredentials is a service that provides credentials which are valid for
// lifetime.
func containerCredentials(t *testing.T, lifetime time.Duration) (url string, requests *atomic.Int64) {
	requests = new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"AccessKeyId":"AKIDCONTAINER","SecretAccessKey":"s","Token":%q,"Expiration":%q}`,
			r.Header.Get("Authorization"), time.Now().Add(lifetime).UTC().Format(time.RFC3339))
	}))
	t.Cleanup(s.Close)
	return s.URL, requests
}

// Credentials that live shorter than renewBefore, or are expired when they arrive, are
// not requested for each record.
func TestCredentials_OneRequestPerValidity(t *testing.T) {
	for _, lifetime := range []time.Duration{4 * time.Minute, -time.Minute} {
		t.Run(lifetime.String(), func(t *testing.T) { oneRequestPerValidity(t, lifetime) })
	}
}

func oneRequestPerValidity(t *testing.T, lifetime time.Duration) {
	for name, use := range map[string]func(t *testing.T, s *Settings, server *fakekinesis.Server) (requests func() int){
		"container": func(t *testing.T, _ *Settings, _ *fakekinesis.Server) func() int {
			url, n := containerCredentials(t, lifetime)
			t.Setenv(credentialsURI, url)
			return func() int { return int(n.Load()) }
		},
		"web identity": func(t *testing.T, s *Settings, server *fakekinesis.Server) func() int {
			fileUses["AWS_WEB_IDENTITY_TOKEN_FILE"](t, s, write(t, "token", "token"))
			return func() int { return server.Counts().RoleRequests }
		},
		"role of a profile": func(t *testing.T, s *Settings, server *fakekinesis.Server) func() int {
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", write(t, "credentials", keysFile(oldKey)))
			t.Setenv("AWS_CONFIG_FILE", write(t, "config", "[profile writer]\nrole_arn = arn:aws:iam::123456789012:role/writer\nsource_profile = other\n"))
			t.Setenv("AWS_ENDPOINT_URL_STS", server.URL())
			s.Profile = "writer"
			return func() int { return server.Counts().RoleRequests }
		},
		"process": func(t *testing.T, _ *Settings, _ *fakekinesis.Server) func() int {
			runs := filepath.Join(t.TempDir(), "runs")
			useProcess(t, fmt.Sprintf("echo >> %s; echo '%s'", runs, processOutput(newKey, time.Now().Add(lifetime))))
			return func() int {
				content, err := os.ReadFile(runs)
				must(t, err)
				return len(content)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			isolate(t)
			server := start(t, fakekinesis.Options{Role: func(int, fakekinesis.RoleRequest) fakekinesis.RoleResponse {
				return fakekinesis.RoleResponse{Expires: time.Now().Add(lifetime)}
			}})
			s := fileSettings(server)
			requests := use(t, &s, server)
			sender := open(t, s)
			for range 3 {
				put(t, sender)
			}
			if n := requests(); n != 1 {
				t.Errorf("%d requests for credentials", n)
			}
		})
	}
}

func TestFiles_SSOTokenIsARegularFile(t *testing.T) {
	isolate(t)
	home := t.TempDir()
	t.Setenv("HOME", home)
	path, err := ssocreds.StandardCachedTokenFilepath("office")
	must(t, err)
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	t.Setenv("AWS_CONFIG_FILE", write(t, "config", "[default]\nsso_session = office\nsso_account_id = 123456789012\nsso_role_name = writer\n"+
		"[sso-session office]\nsso_region = us-east-1\nsso_start_url = https://example.com/start\n"))
	s := fileSettings(start(t, fakekinesis.Options{}))
	open(t, s) // the login may come later
	must(t, os.Mkdir(path, 0o700))
	if _, err := Open(context.Background(), s); err == nil || !strings.Contains(err.Error(), path+" is not a regular file") {
		t.Errorf("got %v", err)
	}
}
