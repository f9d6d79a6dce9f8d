package kinesis

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"

	"out_kinesis_agg/internal/baseurl"
)

// firstSet returns the first of the environment variables that is not empty.
func firstSet(names ...string) (name, value string) {
	for _, name := range names {
		if value := os.Getenv(name); value != "" {
			return name, value
		}
	}
	return names[0], ""
}

// checkKeys checks the keys in the settings.
func checkKeys(s Settings) error {
	for _, key := range []struct{ field, value string }{{"KeyID", s.KeyID}, {"SecretKey", s.SecretKey}, {"SessionToken", s.SessionToken}} {
		if err := checkKey(key.value); err != nil {
			return &SettingError{key.field, err}
		}
	}
	return nil
}

func quoteUnlessLogin(text string) string {
	if strings.Contains(text, "@") {
		return "its value"
	}
	return strconv.Quote(text)
}

// checkEnvironment checks the environment variables that apply because a setting is
// not set. The SDK ignores some invalid values, and sends requests without a proxy, to
// another host or with other credentials.
func checkEnvironment(s Settings) error {
	var errs []error
	check := func(name string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("environment variable %s: %w", name, err))
		}
	}
	if s.HTTPProxy == "" {
		checkProxies(check)
	}
	if ignored, _ := strconv.ParseBool(os.Getenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")); !ignored {
		if s.Endpoint == "" {
			name, v := firstSet("AWS_ENDPOINT_URL_KINESIS", "AWS_ENDPOINT_URL")
			check(name, checkBase(v))
		}
		if s.STSEndpoint == "" {
			check("AWS_ENDPOINT_URL_STS", checkBase(os.Getenv("AWS_ENDPOINT_URL_STS")))
		}
	}
	if s.Region == "" {
		name, v := firstSet("AWS_REGION", "AWS_DEFAULT_REGION")
		check(name, checkRegion(v))
	}
	if s.KeyID == "" && s.Profile == "" && s.CredentialsPath == "" {
		checkEnvironmentCredentials(check)
	}
	return errors.Join(errs...)
}

// checkProxies checks the proxies that net/http uses. It ignores an invalid URL, and
// would send without a proxy.
func checkProxies(check func(string, error)) {
	any := false
	for _, names := range [][]string{{"HTTPS_PROXY", "https_proxy"}, {"HTTP_PROXY", "http_proxy"}} {
		name, v := firstSet(names...)
		if v == "" {
			continue
		}
		any = true
		if !strings.Contains(v, "://") {
			v = "http://" + v
		}
		if err := baseurl.CheckProxy(v); err != nil {
			check(name, fmt.Errorf("its value %w: set a URL, such as http://host:port or http://user:password@host:port", err))
		}
	}
	if name, v := firstSet("NO_PROXY", "no_proxy"); any {
		for host := range strings.SplitSeq(v, ",") {
			if host = strings.TrimSpace(host); strings.ContainsAny(host, " \t;") || strings.Contains(host, "://") {
				check(name, fmt.Errorf("%q is not a host: set hosts, domains or address ranges, separated by commas", host))
				return
			}
		}
	}
}

// checkEnvironmentCredentials checks the variables in the order in which the SDK uses
// them, up to the first that it would use.
func checkEnvironmentCredentials(check func(string, error)) {
	keyName, key := firstSet("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY")
	secretName, secret := firstSet("AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY")
	for _, name := range []string{keyName, secretName, "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"} {
		check(name, checkKey(os.Getenv(name)))
	}
	if (key == "") != (secret == "") {
		check(keyName, fmt.Errorf("it and %s require each other: set both, or neither", secretName))
		return
	}
	switch full := os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI"); {
	case key != "":
	case os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE") != "":
		check("AWS_ROLE_ARN", checkRole(os.Getenv("AWS_ROLE_ARN")))
	case full != "" && os.Getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") == "":
		check("AWS_CONTAINER_CREDENTIALS_FULL_URI", checkContainerURI(full))
	}
}

var (
	regionName = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)
	zoneName   = regexp.MustCompile(`^([a-z]+-)+[0-9]+[a-z]$`)
	roleARN    = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$`)
)

func checkRegion(v string) error {
	switch {
	case v == "" || regionName.MatchString(v) && !zoneName.MatchString(v):
		return nil
	case zoneName.MatchString(v):
		return fmt.Errorf("%q is an availability zone: set its region, %q", v, v[:len(v)-1])
	}
	return fmt.Errorf("%q is not a region: set a region, such as eu-central-1", v)
}

func checkBase(v string) error {
	if v == "" {
		return nil
	}
	if err := baseurl.Check(v, "https", "http"); err != nil {
		return fmt.Errorf("%s %w: set a base URL, such as https://host or https://host:port", quoteUnlessLogin(v), err)
	}
	return nil
}

func checkRole(v string) error {
	switch {
	case v == "":
		return errors.New("is not set, but AWS_WEB_IDENTITY_TOKEN_FILE is: set the ARN of the role to assume")
	case !roleARN.MatchString(v):
		return fmt.Errorf("%q is not the ARN of a role: set an ARN, such as arn:aws:iam::123456789012:role/name", v)
	}
	return nil
}

// checkContainerURI checks the address of a service that provides credentials. The SDK
// sends the request over plain HTTP only to the hosts that are named here.
func checkContainerURI(v string) error {
	base, _, _ := strings.Cut(v, "?")
	if err := checkBase(base); err != nil {
		return err
	}
	u, _ := url.Parse(v)
	if u.Scheme != "http" {
		return nil
	}
	// An address is returned as it is. The SDK resolves a name at the start too.
	ctx, cancel := context.WithTimeout(context.Background(), resolveLimit)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil {
		return fmt.Errorf("%q names a host that cannot be resolved: %w: set https://, or the address of ECS, EKS or this host", v, err)
	}
	for _, addr := range addrs {
		if addr = addr.Unmap(); !addr.IsLoopback() && !metadataService(addr.String()) {
			return fmt.Errorf("%q is on another host: set https://, or the address of ECS, EKS or this host", v)
		}
	}
	return nil
}

// resolveLimit bounds a request to the name server at the start.
const resolveLimit = 10 * time.Second

// checkKey checks an access key ID, a secret key or a token. A newline at the end is a
// usual mistake, for which AWS returns an error about the signature.
func checkKey(v string) error {
	for i := range len(v) {
		if v[i] <= ' ' || v[i] >= 0x7f {
			return errors.New("contains a space, a control character or a letter outside ASCII, such as a newline at the end: set it without")
		}
	}
	return nil
}

// wantedProfile returns the profile that the SDK uses.
func wantedProfile(s Settings) string {
	if s.Profile != "" {
		return s.Profile
	}
	if _, v := firstSet("AWS_PROFILE", "AWS_DEFAULT_PROFILE"); v != "" {
		return v
	}
	return config.DefaultSharedConfigProfile
}

// usesProfile reports whether credentials come from the profile, unless it has none.
func usesProfile(s Settings) bool {
	_, key := firstSet("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY")
	return s.KeyID == "" && (s.Profile != "" || s.CredentialsPath != "" || key == "" && os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE") == "")
}

// caBundle reads the certificate authorities that the environment or the profile
// names, nil if neither does.
func caBundle(profile config.SharedConfig) ([]byte, error) {
	source, path := firstSet("AWS_CA_BUNDLE")
	if source = "environment variable " + source; path == "" {
		source, path = "ca_bundle in profile "+profile.Profile, profile.CustomCABundle
	}
	if path == "" {
		return nil, nil
	}
	bundle, err := readFile(path)
	if err == nil && !x509.NewCertPool().AppendCertsFromPEM(bundle) {
		err = fmt.Errorf("%s contains no certificate in PEM", path)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: set the path of a file with certificates in PEM", source, err)
	}
	return bundle, nil
}

// checkProfileValues checks what the profile provides because neither a setting nor a
// variable does.
func checkProfileValues(profile config.SharedConfig, cfg aws.Config) error {
	if err := checkRegion(cfg.Region); err != nil {
		return fmt.Errorf("profile %s: region: %w", profile.Profile, err)
	}
	for p := &profile; p != nil; p = p.Source {
		if err := checkSSOToken(*p); err != nil {
			return fmt.Errorf("profile %s: SSO token: %w", p.Profile, err)
		}
	}
	kinesis, _, _ := profile.GetServiceBaseEndpoint(context.Background(), "Kinesis")
	for _, base := range []string{profile.BaseEndpoint, kinesis} {
		if err := checkBase(base); err != nil {
			return fmt.Errorf("profile %s: endpoint_url: %w", profile.Profile, err)
		}
	}
	return nil
}

// checkSSOToken refuses a token of `aws sso login` that the SDK could block on when it
// opens it. The login may come later.
func checkSSOToken(profile config.SharedConfig) error {
	key := cmp.Or(profile.SSOSessionName, profile.SSOStartURL)
	if key == "" {
		return nil
	}
	path, err := ssocreds.StandardCachedTokenFilepath(key)
	if err != nil {
		return nil // no home
	}
	if _, err := readFile(path); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}
