package option

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"out_kinesis_agg/aggregator"
)

// value reads the text of an option into its field.
type value interface {
	set(text string) error
	// allowed ends a sentence that begins with "write".
	allowed() string
	// String is the field's value as one would write it.
	String() string
}

type textValue struct{ to *string }

func text(to *string) value { return textValue{to} }

func (v textValue) set(text string) error {
	*v.to = text
	return nil
}

func (v textValue) allowed() string { return "a text" }
func (v textValue) String() string  { return *v.to }

type withoutValue struct {
	textValue
	without string
}

func without(to *string, part string) value { return withoutValue{textValue{to}, part} }

func (v withoutValue) set(text string) error {
	if strings.Contains(text, v.without) {
		return fmt.Errorf("there is a %q in it", v.without)
	}
	return v.textValue.set(text)
}

func (v withoutValue) allowed() string { return fmt.Sprintf("a text without %q", v.without) }

type namesValue struct{ textValue }

func names(to *string) value { return namesValue{textValue{to}} }

func (v namesValue) set(text string) error {
	var names []string
	for name := range strings.SplitSeq(text, ",") {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	if names == nil {
		return errors.New("there is no name in it")
	}
	return v.textValue.set(strings.Join(names, ","))
}

func (v namesValue) allowed() string { return "names of keys, separated by commas" }

type pathValue struct{ textValue }

func path(to *string) value { return pathValue{textValue{to}} }

func (v pathValue) set(text string) error {
	if slices.Contains(strings.Split(text, "->"), "") {
		return errors.New("on one side of a -> there is no name")
	}
	return v.textValue.set(text)
}

func (v pathValue) allowed() string {
	return "the name of a key, or a->b for the key b in the map at a"
}

type timeFormatValue struct{ textValue }

func timeFormat(to *string) value { return timeFormatValue{textValue{to}} }

func (v timeFormatValue) set(text string) error {
	if err := aggregator.CheckTimeFormat(text); err != nil {
		return err
	}
	return v.textValue.set(text)
}

func (v timeFormatValue) allowed() string {
	return "a format of strftime, such as %Y-%m-%dT%H:%M:%S.%LZ"
}

type wordValue struct {
	to    *string
	words []string
}

func word(to *string, words ...string) value { return wordValue{to, words} }

func (v wordValue) set(text string) error {
	if *v.to = strings.ToLower(text); !slices.Contains(v.words, *v.to) {
		return errors.New("not one of the words it can be")
	}
	return nil
}

func (v wordValue) allowed() string { return strings.Join(v.words, " or ") }
func (v wordValue) String() string  { return *v.to }

type boolValue struct{ to *bool }

func boolean(to *bool) value { return boolValue{to} }

// set knows the words of the engine's flb_utils_bool.
func (v boolValue) set(text string) error {
	switch strings.ToLower(text) {
	case "true", "on", "yes":
		*v.to = true
	case "false", "off", "no":
		*v.to = false
	default:
		return errors.New("neither true nor false")
	}
	return nil
}

func (v boolValue) allowed() string { return "true, on or yes, or false, off or no" }
func (v boolValue) String() string  { return strconv.FormatBool(*v.to) }

type numberValue struct {
	to          *int
	least, most int
}

func number(to *int, least, most int) value { return numberValue{to, least, most} }

func (v numberValue) set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil {
		return errors.New("not a whole number")
	}
	if n < v.least || n > v.most {
		return errors.New("out of range")
	}
	*v.to = n
	return nil
}

func (v numberValue) allowed() string {
	return fmt.Sprintf("a whole number from %d to %d", v.least, v.most)
}

func (v numberValue) String() string { return strconv.Itoa(*v.to) }

type urlValue struct {
	to      *string
	schemes []string
}

func baseURL(to *string, schemes ...string) value { return urlValue{to, schemes} }

// set's errors do not quote the text, in which there may be a password.
func (v urlValue) set(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return errors.New("not a URL")
	case !slices.Contains(v.schemes, u.Scheme):
		return fmt.Errorf("no %s:// in front", strings.Join(v.schemes, ":// or "))
	case u.Hostname() == "":
		return errors.New("no host in it")
	case u.RawQuery != "" || u.Fragment != "":
		return errors.New("more than a base URL")
	}
	*v.to = text
	return nil
}

func (v urlValue) allowed() string {
	return fmt.Sprintf("a base URL such as %[1]s://host or %[1]s://host:port", v.schemes[0])
}

// String hides a password.
func (v urlValue) String() string {
	if u, err := url.Parse(*v.to); err == nil {
		return u.Redacted()
	}
	return *v.to
}

type durationValue struct {
	to          *time.Duration
	least, most time.Duration
}

func duration(to *time.Duration, least, most time.Duration) value {
	return durationValue{to, least, most}
}

// set reads whole seconds, minutes, hours or days, as the engine's
// flb_utils_time_to_seconds does, which however takes any text for 0.
func (v durationValue) set(text string) error {
	number, unit := splitUnit(text)
	n, err := strconv.ParseUint(number, 10, 31)
	if err != nil {
		return errors.New("not a whole number of seconds, minutes or hours")
	}
	scale, ok := map[string]time.Duration{
		"": time.Second, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour,
	}[strings.ToLower(unit)]
	if !ok {
		return fmt.Errorf("no unit of time is called %q", unit)
	}
	if n > uint64(v.most/scale) || time.Duration(n)*scale < v.least {
		return errors.New("out of range")
	}
	*v.to = time.Duration(n) * scale
	return nil
}

func (v durationValue) allowed() string {
	return fmt.Sprintf("a time from %gs to %gm, such as 30, 30s or 2m", v.least.Seconds(), v.most.Minutes())
}

func (v durationValue) String() string { return fmt.Sprintf("%gs", v.to.Seconds()) }

type sizeValue struct {
	to          *int
	least, most int
}

func size(to *int, least, most int) value { return sizeValue{to, least, most} }

// sizeUnits are the engine's: K, M and G are powers of 1000 in
// flb_utils_size_to_bytes, Ki, Mi and Gi powers of 1024 in
// flb_utils_size_to_binary_bytes. A B may follow.
var sizeUnits = map[string]float64{
	"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30,
}

func (v sizeValue) set(text string) error {
	number, unit := splitUnit(text)
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || math.IsNaN(n) {
		return errors.New("not a number of bytes")
	}
	scale, ok := sizeUnits[strings.TrimSuffix(strings.ToLower(unit), "b")]
	if !ok {
		return fmt.Errorf("no unit of size is called %q", unit)
	}
	if n *= scale; n < float64(v.least) || n > float64(v.most) {
		return errors.New("out of range")
	}
	*v.to = int(n)
	return nil
}

func (v sizeValue) allowed() string {
	return fmt.Sprintf("a size from %d to %d bytes, such as 512K or 1M (512,000 and 1,000,000 bytes) or 1MiB (1,048,576)", v.least, v.most)
}

func (v sizeValue) String() string { return strconv.Itoa(*v.to) }

// splitUnit cuts a number from the letters behind it.
func splitUnit(text string) (number, unit string) {
	at := strings.LastIndexAny(text, "0123456789.") + 1
	return text[:at], strings.TrimSpace(text[at:])
}
