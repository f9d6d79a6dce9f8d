package option

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Source is the options of one section.
type Source struct {
	// Get returns the value of an option, or an empty string if it is not set. Case
	// does not matter.
	Get func(name string) string
	// Names are the names that are set, as they are written; one that is set twice is
	// listed twice. nil: unknown.
	Names []string
}

// isSet returns a function that reports whether an option is set.
func (s Source) isSet() func(name string) bool {
	if s.Names == nil {
		return func(name string) bool { return s.Get(name) != "" }
	}
	set := map[string]bool{}
	for _, name := range s.Names {
		set[strings.ToLower(name)] = true
	}
	return func(name string) bool { return set[name] }
}

// checkNames finds names that are not those of an option: misspelled, repeated and
// unknown ones. Engines from 5.1.1 on refuse most of these themselves; earlier ones
// ignore them.
func (s Source) checkNames() (warnings []string, errs []error) {
	known := map[string]bool{}
	for _, name := range slices.Concat(ownNames(), engineNames, sectionNames, foreignNames()) {
		known[name] = true
	}
	isSet := s.isSet()
	reported := map[string]bool{}
	for _, name := range slices.Concat(ownNames(), engineNames) {
		eachMisspelling(name, func(other string) {
			if !known[other] && !reported[other] && isSet(other) {
				reported[other] = true
				errs = append(errs, fmt.Errorf("option %s is unknown: set %s", other, name))
			}
		})
	}
	count := map[string]int{}
	for _, name := range s.Names {
		name = strings.ToLower(name)
		count[name]++
		switch {
		case count[name] == 2 && known[name]:
			errs = append(errs, repeated(name))
		case !known[name] && !reported[name] && strings.HasPrefix(name, "aws_"):
			reported[name] = true
			errs = append(errs, fmt.Errorf("option %s is unknown, and may be meant to change the credentials: remove it, or set the options for credentials in docs/options.md", name))
		case !known[name] && !reported[name] && !strings.HasPrefix(name, "_debug."):
			reported[name] = true
			warnings = append(warnings, fmt.Sprintf("option %s is unknown and has no effect: remove it, or see the list of options in docs/options.md", name))
		}
	}
	return warnings, errs
}

func repeated(name string) error {
	if name == "data_keys" {
		return errors.New("option data_keys is set more than once or is a YAML list: set it once, to all keys, separated by commas, such as log,level")
	}
	return fmt.Errorf("option %s is set more than once or is a YAML list: set it once, to one value", name)
}

// engineNames are the engine's own options for outputs, except for those with a prefix
// (net., oauth2., tls.). It does not leave them in the section, but their misspellings.
// Source: flb_output_set_property in src/flb_output.c.
var engineNames = []string{"match", "match_regex", "alias", "log_level", "log_suppress_interval", "workers", "retry_limit", "storage.total_limit_size"}

// sectionNames are options of the engine that it leaves in the section. Source:
// flb_config_map_properties_check in src/flb_config_map.c.
var sectionNames = []string{"active", "condition"}

func foreignNames() (names []string) {
	for _, o := range foreignOptions {
		names = append(names, strings.Split(o.names, " ")...)
	}
	return names
}

// ownNames returns all names of the options.
func ownNames() (names []string) {
	for _, o := range Table() {
		names = append(append(names, o.Name), o.Aliases...)
	}
	return names
}

// eachMisspelling calls f with each name at edit distance 1, transpositions included,
// and with spellings that other programs use: "max-record-size" and "maxRecordSize",
// in lower case.
func eachMisspelling(name string, f func(string)) {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789_-. "
	for i := range len(name) + 1 {
		before, after := name[:i], name[i:]
		for _, c := range letters {
			f(before + string(c) + after)
		}
		if after == "" {
			break
		}
		f(before + after[1:])
		for _, c := range letters {
			f(before + string(c) + after[1:])
		}
		if len(after) > 1 {
			f(before + after[1:2] + after[:1] + after[2:])
		}
	}
	f(strings.ReplaceAll(name, "_", "-"))
	f(strings.ReplaceAll(name, "_", "."))
	f(strings.ReplaceAll(name, "_", ""))
}

// Entry is an option as the engine is told of it.
type Entry struct{ Name, Default, Help string }

// Entries returns what the engine is told of: each option under each of its names,
// for `fluent-bit -o kinesis_agg -h`, and then, unless forHelp, the names of other
// plugins' options. The engine would otherwise refuse these before Parse can say
// what to write instead.
func Entries(forHelp bool) (entries []Entry) {
	for _, o := range Table() {
		help := strings.ReplaceAll(o.Help, "`", "")
		entries = append(entries, Entry{o.Name, o.Default, fmt.Sprintf("%s Value: %s.", help, o.Allowed())})
		for _, alias := range o.Aliases {
			entries = append(entries, Entry{alias, "", "Same as " + o.Name + "."})
		}
	}
	if forHelp {
		return entries
	}
	// The engine lists all names when it refuses one.
	entries = append(entries, Entry{Name: "(of other plugins, each with a message that says what to set instead:)"})
	for _, name := range foreignNames() {
		entries = append(entries, Entry{Name: name})
	}
	return entries
}
