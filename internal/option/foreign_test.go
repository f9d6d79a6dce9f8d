package option

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Each foreign option is accepted with the values that ask for what happens in any
// case. With another value, one start names all of them, and a refusal says what to do.
func TestForeign_EachOption(t *testing.T) {
	others, accepted := []string{"stream", "logs"}, [][]string{}
	for _, o := range foreignOptions {
		other := "another"
		if o.boolean {
			other = map[string]string{"true": "off", "false": "on"}[o.accepted]
		}
		for _, name := range strings.Fields(o.names) {
			others = append(others, name, other)
			for i, value := range strings.Fields(o.accepted) {
				if i == len(accepted) {
					accepted = append(accepted, []string{"stream", "logs"})
				}
				accepted[i] = append(accepted[i], name, strings.ToUpper(value))
			}
		}
	}
	_, warnings, err := Parse(from(others...))
	refusals := strings.Split(fmt.Sprint(err), "\n")
	for _, o := range foreignOptions {
		for _, name := range strings.Fields(o.names) {
			says := func(line string) bool {
				return strings.HasPrefix(line, "option "+name) && strings.HasSuffix(line, o.text)
			}
			if slices.ContainsFunc(refusals, says) != o.refuses || slices.ContainsFunc(warnings, says) == o.refuses {
				t.Errorf("%s is not both named and refused or warned of as in the table", name)
			}
		}
		if o.refuses && !regexp.MustCompile(`\b(set|use|write|remove) `).MatchString(o.text) {
			t.Errorf("%s does not say what to do: %s", o.names, o.text)
		}
		if to := regexp.MustCompile(`the option is called (\w+)`).FindStringSubmatch(o.text); to != nil && !slices.Contains(ownNames(), to[1]) {
			t.Errorf("%s leads to an option that does not exist: %s", o.names, o.text)
		}
	}
	for _, options := range accepted {
		if _, warnings, err := Parse(from(options...)); err != nil || warnings != nil {
			t.Errorf("%v, %q", err, warnings)
		}
	}
}

func TestForeign_Messages(t *testing.T) {
	for _, test := range []struct{ name, value, want string }{
		{"aggregation", "On", ""},
		{"aggregation", "maybe", `option aggregation: "maybe" is not a boolean`},
		{"aggregation", "false", "set record_format ndjson"},
		{"partition_key", "container_id", "option partition_key: a chunk becomes one record with one partition key"},
		{"AWS_Profile", "p", "set profile"},
		{"timezone", "utc", ""},
		{"timezone", "Europe/Berlin", "option timezone: times are in UTC"},
	} {
		_, _, err := Parse(from("stream", "logs", test.name, test.value))
		if (err != nil) != (test.want != "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s %s: %v, want %q", test.name, test.value, err, test.want)
		}
	}
}

// TestForeign_AllAtOnce: one start names each refused option and each bad
// value.
func TestForeign_AllAtOnce(t *testing.T) {
	_, _, err := Parse(from("stream", "logs", "worker_id_key", "w", "hostname_key", "h", "data_key", "d",
		"aggregation", "off", "max_record_size", "11G"))
	for _, name := range []string{"worker_id_key", "hostname_key", "data_key", "aggregation", "max_record_size"} {
		if err == nil || !strings.Contains(err.Error(), "option "+name+":") {
			t.Errorf("%s is not in: %v", name, err)
		}
	}
}

// No foreign option is an own one, or is listed twice.
func TestForeign_AreNotOwn(t *testing.T) {
	own := map[string]bool{}
	for _, o := range Table() {
		for _, name := range append(o.Aliases, o.Name) {
			own[name] = true
		}
	}
	for _, name := range append(foreignNames(), engineNames...) {
		if own[name] || name != strings.ToLower(name) || name == "" {
			t.Errorf("%q is an own option, or listed twice, or not in lower case", name)
		}
		own[name] = true
	}
}
