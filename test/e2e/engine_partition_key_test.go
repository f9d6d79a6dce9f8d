package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"out_kinesis_agg/test/kit/harness"
)

// TestFluentBit_OrderPerKey: with the sample for rewrite_tag, all records with the
// same value of the field have it as their partition key, are on one shard, and are
// in order.
func TestFluentBit_OrderPerKey(t *testing.T) {
	t.Parallel()
	path, err := harness.FindFluentBit()
	if err != nil {
		t.Skip(err)
	}
	var found []sample
	for _, s := range samples(t) {
		if strings.Contains(s.text, "rewrite_tag") {
			found = append(found, s)
		}
	}
	if len(found) != 1 || found[0].format != ".conf" {
		t.Fatalf("%d samples with rewrite_tag, want one", len(found))
	}
	dir := t.TempDir()
	text := found[0].here(t, dir)
	stream := newStream(t, 4)
	text = strings.Replace(text, " logs\n", " "+stream+"\n", 1)
	text = strings.Replace(text, "[SERVICE]\n", "[SERVICE]\n    flush 0.2\n    parsers_file parsers.conf\n", 1)
	// In place of the input that the sample lacks.
	text = strings.Replace(text, "path "+dir+"/none\n", "path "+dir+"/app.log\n    tag app\n    parser json\n    read_from_head on\n", 1)

	const customers, each = 20, 300
	var lines strings.Builder
	for n := range each {
		for c := range customers {
			fmt.Fprintf(&lines, `{"customer":"c-%d","n":%d}`+"\n", c, n)
		}
		fmt.Fprintf(&lines, `{"n":%d}`+"\n", n) // no customer: the key is the tag
	}
	for name, text := range map[string]string{
		"app.log": lines.String(), "parsers.conf": "[PARSER]\n    Name json\n    Format json\n", "order.conf": text,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	engine, err := harness.StartFluentBitWith(path, dir, filepath.Join(dir, "order.conf"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(engine.Kill)
	arrived(t, engine, stream, (customers+1)*each)
	if err := engine.Stop(); err != nil {
		t.Error(err)
	}
	next, shard, shards := map[string]int{}, map[string]string{}, map[string]bool{}
	all := readAll(t, stream)
	for i, texts := range read(t, all) {
		record := all[i]
		shards[record.Shard] = true
		if before, ok := shard[record.PartitionKey]; ok && before != record.Shard {
			t.Errorf("key %s is on shards %s and %s", record.PartitionKey, before, record.Shard)
		}
		shard[record.PartitionKey] = record.Shard
		for _, text := range texts {
			body := struct {
				Customer string
				N        int
			}{Customer: "app"}
			if err := json.Unmarshal([]byte(text), &body); err != nil {
				t.Fatal(err)
			}
			if body.Customer != record.PartitionKey {
				t.Fatalf("record of %s has the partition key %s", body.Customer, record.PartitionKey)
			}
			if body.N != next[body.Customer] {
				t.Fatalf("%s: record %d comes after %d", body.Customer, body.N, next[body.Customer]-1)
			}
			next[body.Customer]++
		}
	}
	if len(next) != customers+1 || len(shards) < 2 {
		t.Errorf("%d keys on %d shards", len(next), len(shards))
	}
}
