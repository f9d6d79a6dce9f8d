package plugin

import (
	"strings"
	"testing"

	"github.com/google/uuid"
)

func TestFixedPartitionKeys(t *testing.T) {
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
		{"cost: 5$", "a", "cost: 5$"},
		{"x$TAG[7]", "a.b", "x"},
		{"$TAG[7]", "a.b", "a.b"}, // rather than none
		{"$TAG[1]", "a..b", "a..b"},
		{"$TAG[10]", "0.1.2.3.4.5.6.7.8.9.ten", "ten"},
		{"$TAG", "a\xffb", "a\uFFFDb"},
		{"$TAG", long + "x", long},
		{"$TAG!", long[:len(long)-len("🚲")], long[:len(long)-len("🚲")] + "!"},
		{long, "a", long},
	} {
		k, err := parsePartitionKeys(test.option)
		if err != nil {
			t.Errorf("%q: %v", test.option, err)
			continue
		}
		if got := k.next(test.tag); got != test.want {
			t.Errorf("%q for %q: %q, want %q", test.option, test.tag, got, test.want)
		}
	}
}

func TestRandomPartitionKeys(t *testing.T) {
	for _, option := range []string{"", "$TAG"} {
		k, err := parsePartitionKeys(option)
		if err != nil {
			t.Fatal(err)
		}
		one, two := k.next(""), k.next("")
		if one == two || uuid.Validate(one) != nil || uuid.Validate(two) != nil {
			t.Errorf("option %q and no tag: %q and %q", option, one, two)
		}
	}
}

func TestBadPartitionKeys(t *testing.T) {
	for _, bad := range []string{"$TAG[", "$TAG[]", "$TAG[x]", "$TAG[-1]", "$TAG[1", strings.Repeat("x", 257)} {
		if _, err := parsePartitionKeys(bad); err == nil || !strings.Contains(err.Error(), "option fixed_partition_key") {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
}
