package option

import (
	"strings"
	"testing"
)

func TestPartitionKey_For(t *testing.T) {
	long := strings.Repeat("🚲", 256)
	for _, test := range []struct{ option, tag, want string }{
		{"fixed", "a.b", "fixed"},
		{"Zürich", "a.b", "Zürich"},
		{"$TAG", "a.b.c", "a.b.c"},
		{"x-$TAG-y", "a.b", "x-a.b-y"},
		{"$TAG[0]", "a.b.c", "a"},
		{"$TAG[2]/$TAG[0]$TAG[1]", "a.b.c", "c/ab"},
		{"$TAG$TAG", "a", "aa"},
		{"$TAGS", "a", "aS"},
		{"x$TAG[7]", "a.b", "x"},
		{"x$TAG[2]", "a.b", "x"},
		{"$TAG[7]", "a.b", "a.b"}, // instead of an empty key
		{"$TAG[1]", "a..b", "a..b"},
		{"$TAG[10]", "0.1.2.3.4.5.6.7.8.9.ten", "ten"},
		{"$TAG", "a\xffb", "a\uFFFDb"},
		{"$TAG", long + "x", long},
		{"$TAG!", long[:len(long)-len("🚲")], long[:len(long)-len("🚲")] + "!"},
		{long, "a", long},
		{"", "a", ""},
		{"$TAG", "", ""},
	} {
		var key PartitionKey
		if err := (partitionKeyValue{&key}).Set(test.option); err != nil {
			t.Errorf("%q: %v", test.option, err)
			continue
		}
		if got := key.For(test.tag); got != test.want {
			t.Errorf("%q for %q: %q, want %q", test.option, test.tag, got, test.want)
		}
	}
}

func TestTagTemplate_Invalid(t *testing.T) {
	for _, text := range []string{"$TAG[", "$TAG[]", "$TAG[x]", "$TAG[-1]", "$TAG[1", "$TAG[99999]", "$tag", "cost: 5$", "$TAG-$", "$kubernetes['pod_name']", "$$TAG"} {
		if _, err := parseTagTemplate(text); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

func TestStream_For(t *testing.T) {
	for _, test := range []struct{ option, tag, want string }{
		{"logs", "app.web", "logs"},
		{"arn:aws:kinesis:eu-central-1:123456789012:stream/logs", "app", "arn:aws:kinesis:eu-central-1:123456789012:stream/logs"},
		{"$TAG", "app.web", "app.web"},
		{"logs-$TAG[1]", "app.web", "logs-web"},
		{"logs-$TAG[7]", "app.web", "logs-"},
		{"$TAG[7]", "app.web", "app.web"},
		{"$TAG", "app/web:é 1_2-3", "app_web____1_2-3"},
		{"$TAG", "", ""}, // The engine does not permit an empty tag.
		// Each range of characters, and its neighbors.
		{"$TAG", "azAZ09-.", "azAZ09-."},
		{"$TAG", "`{@[/:", "______"},
		{"a b-$TAG", "app", "a_b-app"},
		{"x$TAG", strings.Repeat("t", 128), "x" + strings.Repeat("t", 127)},
		{"x$TAG", strings.Repeat("é", 128), "x" + strings.Repeat("_", 127)},
	} {
		var s Stream
		if err := (streamValue{&s}).Set(test.option); err != nil {
			t.Fatal(err)
		}
		if got := s.For(test.tag); got != test.want {
			t.Errorf("%s for %s: %s, want %s", test.option, test.tag, got, test.want)
		}
	}
}

func TestParse_RegionOfARN(t *testing.T) {
	const arn = "arn:aws-cn:kinesis:cn-north-1:123456789012:stream/logs"
	c, _, err := Parse(from("stream", arn))
	if err != nil || c.Region != "cn-north-1" {
		t.Errorf("region %q, %v", c.Region, err)
	}
	if _, _, err := Parse(from("stream", arn, "region", "eu-west-1")); err == nil || !strings.Contains(err.Error(), `"eu-west-1" is not the region of the ARN in stream, "cn-north-1"`) {
		t.Errorf("%v", err)
	}
}
