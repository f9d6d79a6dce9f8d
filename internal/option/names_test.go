package option

import (
	"slices"
	"strings"
	"testing"
)

// listed is a section on an engine that lists names.
func listed(pairs ...string) Source {
	s := from(pairs...)
	for i := 0; i < len(pairs); i += 2 {
		s.Names = append(s.Names, pairs[i])
	}
	return s
}

func TestNames_Misspelled(t *testing.T) {
	for _, test := range []struct{ name, means string }{
		{"max_record_sizes", "max_record_size"},
		{"max_record_siz", "max_record_size"},
		{"max_recrod_size", "max_record_size"},
		{"max_record-size", "max_record_size"},
		{"Max-Record-Size", "max_record_size"},
		{"maxRecordSize", "max_record_size"},
		{"max.record.size", "max_record_size"},
		{"maxrecord_size", "max_record_size"},
		{"data_key ", "data_keys"},
		{"steam", "stream"},
		{"streamname", "stream_name"},
		{"regions", "region"},
		{"rolearn", "role_arn"},
		{"compresion", "compression"},
		{"0debug", "debug"},
		{"worker", "workers"},
		{"retry-limit", "retry_limit"},
	} {
		for _, section := range []Source{
			from("stream", "logs", test.name, "x"),
			listed("stream", "logs", test.name, "x"),
		} {
			_, _, err := Parse(section)
			want := "option " + strings.ToLower(test.name) + " is unknown: set " + test.means
			if err == nil || !slices.Contains(strings.Split(err.Error(), "\n"), want) {
				t.Errorf("names %v: %v; want %s", section.Names, err, want)
			}
		}
	}
}

func TestNames_Listed(t *testing.T) {
	for _, test := range []struct {
		name     string
		section  Source
		warnings string
		errors   string
	}{
		{"all names once", listed("Stream", "logs", "REGION", "eu-west-1", "_debug.http.x", "on", "active", "true"), "", ""},
		{"an option of another plugin", listed("stream", "logs", "num_threads", "2"), "option num_threads has no effect", ""},
		{"an unknown option", listed("stream", "logs", "Enrichment", "2"), "option enrichment is unknown and has no effect", ""},
		{"an unknown option without a value", listed("stream", "logs", "enrichment", ""), "option enrichment is unknown and has no effect", ""},
		{"twice", listed("stream", "logs", "region", "eu-west-1", "region", "eu-west-1"), "", "option region is set more than once"},
		{"three times", listed("stream", "logs", "tag_key", "a", "tag_key", "b", "tag_key", "c"), "", "option tag_key is set more than once"},
		{"in different case", listed("stream", "logs", "Region", "eu-west-1", "region", "eu-west-1"), "", "option region is set more than once"},
		{"a list of keys", listed("stream", "logs", "data_keys", "log", "data_keys", "level"), "", "separated by commas"},
		{"an unknown identity", listed("stream", "logs", "aws_sso_session", "x"), "", "option aws_sso_session is unknown, and may be meant to change the credentials"},
		{"an unknown identity twice", listed("stream", "logs", "aws_sso_session", "x", "aws_sso_session", "y"), "", "option aws_sso_session is unknown"},
		{"an unknown option twice", listed("stream", "logs", "enrichment", "2", "enrichment", "3"), "option enrichment is unknown", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, warnings, err := Parse(test.section)
			if len(warnings) > 1 || !strings.Contains(strings.Join(warnings, "\n"), test.warnings) || (test.warnings == "") != (warnings == nil) {
				t.Errorf("warnings %q, want %q", warnings, test.warnings)
			}
			if (err == nil) != (test.errors == "") || err != nil && (!strings.Contains(err.Error(), test.errors) || strings.Contains(err.Error(), "\n")) {
				t.Errorf("error %v, want %q", err, test.errors)
			}
		})
	}
}

func BenchmarkParse_NamesUnknown(b *testing.B) {
	section := from("stream", "logs", "region", "eu-west-1", "compression", "zstd", "batch_size", "64K")
	for b.Loop() {
		if _, _, err := Parse(section); err != nil {
			b.Fatal(err)
		}
	}
}
