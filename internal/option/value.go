package option

import (
	"errors"
	"flag"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dustin/go-humanize"

	"out_kinesis_agg/aggregator"
	"out_kinesis_agg/internal/arn"
	"out_kinesis_agg/internal/baseurl"
	"out_kinesis_agg/kpl"
)

// value parses an option into its field. The error of Set completes a sentence
// that begins with the value, such as "is out of range". String returns the field
// as it would be written in a configuration.
type value interface {
	flag.Value
	// allowed completes a sentence that begins with "set".
	allowed() string
}

// stringValue is any string.
type stringValue struct{ to *string }

func (v stringValue) Set(text string) error {
	*v.to = text
	return nil
}

func (v stringValue) allowed() string { return "a string" }
func (v stringValue) String() string  { return *v.to }

// dotlessValue is a string without a dot.
type dotlessValue struct{ stringValue }

func (v dotlessValue) Set(text string) error {
	if strings.Contains(text, ".") {
		return errors.New("contains a dot")
	}
	if (boolValue{new(bool)}).Set(text) == nil {
		return errors.New("would be part of the keys")
	}
	return v.stringValue.Set(text)
}

func (v dotlessValue) allowed() string { return "a string without a dot, such as _" }

// roleValue is the ARN of a role.
type roleValue struct{ stringValue }

var roleARN = regexp.MustCompile(`^arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+$`)

func (v roleValue) Set(text string) error {
	if !roleARN.MatchString(text) {
		return errors.New("is not the ARN of a role")
	}
	return v.stringValue.Set(text)
}

func (v roleValue) allowed() string {
	return "the ARN of a role, such as arn:aws:iam::123456789012:role/name"
}

// regionValue is the name of a region.
type regionValue struct{ stringValue }

var (
	regionName = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)
	zoneName   = regexp.MustCompile(`^[a-z]+(-[a-z]+)+-[0-9]+(-[a-z]+-[0-9]+)?[a-z]$`)
)

func (v regionValue) Set(text string) error {
	if zoneName.MatchString(text) {
		return errors.New("is an availability zone, not a region")
	}
	if !regionName.MatchString(text) {
		return errors.New("is not a region")
	}
	return v.stringValue.Set(text)
}

func (v regionValue) allowed() string { return "a region, such as eu-central-1" }

// keysValue is a list of keys.
type keysValue struct{ to *[]string }

func (v keysValue) Set(text string) error {
	var keys []string
	for key := range strings.SplitSeq(text, ",") {
		key = strings.TrimSpace(key)
		if inner, ok := strings.CutPrefix(key, `"`); ok && strings.HasSuffix(inner, `"`) {
			key = inner[:len(inner)-1]
		} else if strings.ContainsAny(key, " \t$.[]") || strings.Contains(key, "->") {
			return fmt.Errorf("contains %q, which is not a single key", key)
		}
		if key != "" {
			keys = append(keys, key)
		}
	}
	if keys == nil {
		return errors.New("contains no key")
	}
	*v.to = keys
	return nil
}

func (v keysValue) allowed() string {
	return "top-level keys, separated by commas; in double quotes if a key itself contains a dot, a space, a $ or brackets"
}
func (v keysValue) String() string { return strings.Join(*v.to, ",") }

// pathValue is a key, or the keys that lead to a value in nested maps.
type pathValue struct{ stringValue }

func (v pathValue) Set(text string) error {
	if slices.Contains(strings.Split(text, "->"), "") {
		return errors.New("has no key before or after a ->")
	}
	return v.stringValue.Set(text)
}

func (v pathValue) allowed() string { return "a key, or a->b for the key b in the map a" }

// timeFormatValue is a format of strftime.
type timeFormatValue struct{ stringValue }

func (v timeFormatValue) Set(text string) error {
	if err := aggregator.CheckTimeFormat(text); err != nil {
		return fmt.Errorf("is not a time format, because %w", err)
	}
	if !strings.Contains(strings.ReplaceAll(text, "%%", ""), "%") {
		return errors.New("contains no conversion, so all times would be the same")
	}
	return v.stringValue.Set(text)
}

func (v timeFormatValue) allowed() string {
	return "a strftime format, such as %Y-%m-%dT%H:%M:%S.%LZ"
}

// enumValue is one of some words.
type enumValue struct {
	to    *string
	words []string
}

func enum(to *string, words ...string) value { return enumValue{to, words} }

func (v enumValue) Set(text string) error {
	word := strings.ToLower(text)
	if !slices.Contains(v.words, word) {
		return errors.New("is an unknown value")
	}
	*v.to = word
	return nil
}

func (v enumValue) allowed() string { return or(v.words) }

// or lists words, such as "a, b or c".
func or(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

func (v enumValue) String() string { return *v.to }

// boolValue accepts the words of the engine's flb_utils_bool.
type boolValue struct{ to *bool }

func (v boolValue) Set(text string) error {
	switch strings.ToLower(text) {
	case "true", "on", "yes":
		*v.to = true
	case "false", "off", "no":
		*v.to = false
	default:
		return errors.New("is not a boolean")
	}
	return nil
}

func (v boolValue) allowed() string { return "true, on or yes, or false, off or no" }
func (v boolValue) String() string  { return strconv.FormatBool(*v.to) }

// intValue is a whole number within a range.
type intValue struct {
	to       *int
	min, max int
}

func (v intValue) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil {
		return errors.New("is not a whole number")
	}
	if n < v.min || n > v.max {
		return errOutOfRange
	}
	*v.to = n
	return nil
}

var errOutOfRange = errors.New("is out of range")

func (v intValue) allowed() string { return fmt.Sprintf("a whole number from %d to %d", v.min, v.max) }
func (v intValue) String() string  { return strconv.Itoa(*v.to) }

// urlValue is the base URL of a service, or of a proxy.
type urlValue struct {
	to    *string
	proxy bool
}

// Set returns errors that do not quote the URL, which may contain a password.
func (v urlValue) Set(text string) error {
	check := baseurl.CheckProxy
	if !v.proxy {
		check = func(text string) error { return baseurl.Check(text, "https", "http") }
	}
	if err := check(text); err != nil {
		return err
	}
	*v.to = text
	return nil
}

func (v urlValue) allowed() string {
	if v.proxy {
		return "a base URL, such as http://host:port or http://user:password@host:port"
	}
	return "a base URL, such as https://host or https://host:port"
}

// String hides a password.
func (v urlValue) String() string {
	if u, err := url.Parse(*v.to); err == nil {
		return u.Redacted()
	}
	return *v.to
}

// durationValue is a time within a range.
type durationValue struct {
	to       *time.Duration
	min, max time.Duration
}

// durationText is a whole number and a unit, as in the engine's
// flb_utils_time_to_seconds, which however reads any other string as 0.
var durationText = regexp.MustCompile(`^([0-9]{1,9})\s*([smhd]?)$`)

func (v durationValue) Set(text string) error {
	parts := durationText.FindStringSubmatch(strings.ToLower(text))
	if parts == nil {
		return errors.New("is not a whole number of seconds, minutes, hours or days")
	}
	n, _ := strconv.Atoi(parts[1]) // has at most nine digits
	units := map[string]time.Duration{"": time.Second, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}
	d := time.Duration(n) * units[parts[2]]
	if n > int(v.max/time.Second) || d < v.min || d > v.max {
		return errOutOfRange
	}
	*v.to = d
	return nil
}

func (v durationValue) allowed() string {
	return fmt.Sprintf("a time from %gs to %gm, such as 30, 30s or 2m", v.min.Seconds(), v.max.Minutes())
}

func (v durationValue) String() string { return fmt.Sprintf("%gs", v.to.Seconds()) }

// sizeValue is a number of bytes within a range, or 0 if zero is set.
type sizeValue struct {
	to       *int
	min, max int
	zero     bool
}

// sizeText is the part of humanize.ParseBytes that is also the engine's: K, M and G
// are powers of 1,000 in flb_utils_size_to_bytes, Ki, Mi and Gi are powers of 1,024
// in flb_utils_size_to_binary_bytes. A B may follow.
var sizeText = regexp.MustCompile(`(?i)^[0-9]{1,12}(\.[0-9]{1,6})?\s*([kmg]i?)?b?$`)

func (v sizeValue) Set(text string) error {
	if !sizeText.MatchString(text) {
		return errors.New("is not a size")
	}
	n, err := humanize.ParseBytes(text)
	if err != nil || n > uint64(v.max) || int(n) < v.min && !(v.zero && n == 0) {
		return errOutOfRange
	}
	*v.to = int(n)
	return nil
}

func (v sizeValue) allowed() string {
	text := fmt.Sprintf("a size from %d to %d bytes, such as 512K or 1M (512,000 and 1,000,000 bytes) or 1MiB (1,048,576)", v.min, v.max)
	if v.zero {
		return "0, or " + text
	}
	return text
}

func (v sizeValue) String() string { return strconv.Itoa(*v.to) }

// streamValue is a stream.
type streamValue struct{ to *Stream }

// maxStreamNameBytes is the length of the longest stream name. Source: API
// reference, CreateStream, StreamName (1 to 128 characters out of a-z, A-Z, 0-9,
// and _.-).
const maxStreamNameBytes = 128

var (
	streamName = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,128}$`)
	// An ARN with more after the name is that of a consumer, not of a stream.
	streamARN = regexp.MustCompile(`^arn:aws[a-z-]*:kinesis:[a-z0-9-]+:\d{12}:stream/[a-zA-Z0-9_.-]{1,128}$`)
)

func (v streamValue) Set(text string) error {
	t, err := parseTagTemplate(text)
	if err != nil {
		return err
	}
	switch {
	case arn.Is(text) && t.UsesTag():
		return errors.New("is an ARN with $TAG, which only a name can contain")
	case arn.Is(text) && !streamARN.MatchString(text):
		return errors.New("is not the ARN of a stream")
	case !arn.Is(text) && !t.UsesTag() && !streamName.MatchString(text):
		return errors.New("is not a stream name")
	}
	*v.to = Stream{t}
	return nil
}

func (v streamValue) allowed() string {
	return "a stream name or ARN; in a name, $TAG is the tag and $TAG[n] its n-th part, from 0"
}

func (v streamValue) String() string { return v.to.text }

// partitionKeyValue is a partition key.
type partitionKeyValue struct{ to *PartitionKey }

func (v partitionKeyValue) Set(text string) error {
	t, err := parseTagTemplate(text)
	if err != nil {
		return err
	}
	if n := utf8.RuneCountInString(text); n > kpl.MaxPartitionKeyChars && !t.UsesTag() {
		return fmt.Errorf("has %d characters", n)
	}
	*v.to = PartitionKey{t}
	return nil
}

func (v partitionKeyValue) allowed() string {
	return fmt.Sprintf("1 to %d characters; $TAG is the tag and $TAG[n] its n-th part, from 0", kpl.MaxPartitionKeyChars)
}

func (v partitionKeyValue) String() string { return v.to.text }

// cutKey makes a key valid UTF-8, so that the SDK replaces nothing in it, and cuts
// it after 256 characters.
func cutKey(key string) string {
	key = strings.ToValidUTF8(key, "\uFFFD")
	chars := 0
	for at := range key {
		if chars == kpl.MaxPartitionKeyChars {
			return key[:at]
		}
		chars++
	}
	return key
}
