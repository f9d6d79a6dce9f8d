// Package baseurl checks the base URLs of services and proxies, which options and
// environment variables contain. Its errors complete a sentence that begins with the
// value. They do not quote it, because it may contain a password.
package baseurl

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
)

// Check checks the base URL of a service.
func Check(text string, schemes ...string) error {
	u, err := url.Parse(text)
	switch {
	case strings.ContainsFunc(text, unprintable):
		return errUnprintable
	case err != nil && !strings.Contains(text, "://") || err == nil && !slices.Contains(schemes, u.Scheme):
		return fmt.Errorf("does not begin with %s://", strings.Join(schemes, ":// or "))
	case err != nil:
		return errors.New("is not a URL")
	case u.Hostname() == "":
		return errors.New("has no host")
	case u.RawQuery != "" || u.Fragment != "":
		return errors.New("is more than a base URL")
	}
	return nil
}

// CheckProxy checks the URL of a proxy. A special character of a password that is not
// percent-encoded would make a part of the password the host.
func CheckProxy(text string) error {
	if err := Check(text, "http", "https", "socks5", "socks5h"); err != nil {
		if strings.Contains(text, "@") {
			return fmt.Errorf("%w: %s", err, percentEncode)
		}
		return err
	}
	u, err := url.Parse(text)
	if err != nil || strings.Trim(u.Path, "/") != "" || strings.Count(text, "@") > 1 {
		return fmt.Errorf("has more than scheme, user, password, host and port: %s", percentEncode)
	}
	return nil
}

var errUnprintable = errors.New("contains a space or a control character")

const percentEncode = "percent-encode the special characters of user and password: % as %25, @ as %40, # as %23, / as %2F, ? as %3F"

func unprintable(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }
