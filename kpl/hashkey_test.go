package kpl_test

import (
	"cmp"
	"errors"
	"math/big"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"out_kinesis_agg/kpl"
	kplproto "out_kinesis_agg/proto"
)

const largest = "340282366920938463463374607431768211455" // 2^128-1

func hashKey(t testing.TB, decimal string) kpl.HashKey {
	t.Helper()
	k, err := kpl.ParseHashKey(decimal)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestParseHashKey(t *testing.T) {
	for _, decimal := range []string{"0", "1", "10", "18446744073709551615", "18446744073709551616",
		"170141183460469231731687303715884105728", "340282366920938463463374607431768211454", largest} {
		if got := hashKey(t, decimal).String(); got != decimal {
			t.Errorf("%s: String returns %s", decimal, got)
		}
	}
	if got := hashKey(t, "007").String(); got != "7" {
		t.Errorf("007: String returns %s", got)
	}
	for _, decimal := range []string{"", "-1", "+1", "1.0", "0x1", "1 ", "٣", "340282366920938463463374607431768211456",
		"680564733841876926926749214863536422912", // 2^129
		"999999999999999999999999999999999999999", "1" + strings.Repeat("0", 39), strings.Repeat("9", 1000)} {
		if k, err := kpl.ParseHashKey(decimal); err == nil || k != (kpl.HashKey{}) {
			t.Errorf("%.50q: got %v, error %v", decimal, k, err)
		}
	}
}

func TestHashKey_Compare(t *testing.T) {
	// In ascending order, with differences in each half of the 128 bits.
	ordered := []string{"0", "1", "18446744073709551615", "18446744073709551616", "18446744073709551617", largest}
	for i, a := range ordered {
		for j, b := range ordered {
			if got, want := hashKey(t, a).Compare(hashKey(t, b)), cmp.Compare(i, j); got != want {
				t.Errorf("%s and %s: got %d, want %d", a, b, got, want)
			}
		}
	}
}

func TestHashKeyOf(t *testing.T) {
	// MD5("a") is 0cc175b9c0f1b6a831c399e269772661.
	want, _ := new(big.Int).SetString("0cc175b9c0f1b6a831c399e269772661", 16)
	if got := kpl.HashKeyOf("a").String(); got != want.String() {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestHashKeyRange_ContainsItsEnds(t *testing.T) {
	r, err := kpl.ParseHashKeyRange("18446744073709551615", "18446744073709551617")
	if err != nil {
		t.Fatal(err)
	}
	for decimal, want := range map[string]bool{
		"18446744073709551614": false, "18446744073709551615": true, "18446744073709551616": true,
		"18446744073709551617": true, "18446744073709551618": false, "0": false, largest: false,
	} {
		if got := r.Contains(hashKey(t, decimal)); got != want {
			t.Errorf("%s: got %v", decimal, got)
		}
	}
	for _, bad := range [][2]string{{"x", "1"}, {"1", "x"}} {
		if _, err := kpl.ParseHashKeyRange(bad[0], bad[1]); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

// The rule is KCL's: an explicit hash key replaces the partition key, and keys
// that no user record refers to are ignored.
func TestCheckHashKeys(t *testing.T) {
	a, b := kpl.HashKeyOf("a"), kpl.HashKeyOf("b")
	onlyA, onlyB := kpl.HashKeyRange{Starting: a, Ending: a}, kpl.HashKeyRange{Starting: b, Ending: b}
	full := kpl.HashKeyRange{Ending: hashKey(t, largest)}
	record := func(key uint64, explicit ...uint64) *kplproto.Record {
		r := &kplproto.Record{PartitionKeyIndex: proto.Uint64(key), Data: []byte{}}
		if len(explicit) > 0 {
			r.ExplicitHashKeyIndex = proto.Uint64(explicit[0])
		}
		return r
	}
	keys, explicit := []string{"a", "b"}, []string{a.String(), "5", "five", ""}
	for name, test := range map[string]struct {
		records []*kplproto.Record
		shard   kpl.HashKeyRange
		want    string // part of the error; empty: no error
	}{
		"inside":                {[]*kplproto.Record{record(0), record(0)}, onlyA, ""},
		"the whole stream":      {[]*kplproto.Record{record(0), record(1), record(1, 1)}, full, ""},
		"the second is outside": {[]*kplproto.Record{record(0), record(1)}, onlyA, "user record 1: hash key " + kpl.HashKeyOf("b").String()},
		"the third is outside":  {[]*kplproto.Record{record(0), record(0), record(1)}, onlyA, "user record 2: hash key "},
		"the first explicit is": {[]*kplproto.Record{record(1), record(1, 0)}, onlyB, "user record 1: hash key " + a.String()},
		"explicit comes first":  {[]*kplproto.Record{record(1, 0)}, onlyA, ""},
		"explicit is outside":   {[]*kplproto.Record{record(0), record(0, 1)}, onlyA, "user record 1: hash key 5"},
		"explicit is invalid":   {[]*kplproto.Record{record(0, 2)}, full, `"five" is not`},
		"explicit is empty":     {[]*kplproto.Record{record(0, 3)}, full, `"" is not`},
		"no user records":       {nil, kpl.HashKeyRange{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, more := range []int{0, 20} { // with 20 more keys, the table of checked keys is allocated
				aggregate, err := kpl.Open(seal(t, &kplproto.AggregatedRecord{
					PartitionKeyTable: append(keys[:2:2], make([]string, more)...), ExplicitHashKeyTable: explicit, Records: test.records}))
				if err != nil {
					t.Fatal(err)
				}
				err = aggregate.CheckHashKeys(test.shard)
				if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
					t.Errorf("%v, want %q", err, test.want)
				}
				if outside := strings.Contains(test.want, "hash key ") && err != nil; outside != errors.Is(err, kpl.ErrOutside) {
					t.Errorf("%v: is ErrOutside: %v", err, !outside)
				}
			}
		})
	}
}

func TestUserRecord_HashKey(t *testing.T) {
	if k, err := (kpl.UserRecord{PartitionKey: "a"}).HashKey(); err != nil || k != kpl.HashKeyOf("a") {
		t.Errorf("%v, %v", k, err)
	}
	if k, err := (kpl.UserRecord{PartitionKey: "a", ExplicitHashKey: "5"}).HashKey(); err != nil || k.String() != "5" {
		t.Errorf("%v, %v", k, err)
	}
}
