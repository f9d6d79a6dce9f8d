package interop

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf16"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"google.golang.org/protobuf/proto"

	"out_kinesis_agg/aggregator"
	"out_kinesis_agg/kpl"
	kplproto "out_kinesis_agg/proto"
	"out_kinesis_agg/test/kit/chunktest"
	"out_kinesis_agg/test/kit/harness"
)

// toolsVariable names the folder where `make interop` has built the readers and
// writers of others; without it there is nothing to compare with.
const toolsVariable = "OUT_KINESIS_AGG_INTEROP"

const (
	seed       = 20260301
	aggregates = 10_000
	damaged    = 1_000
	foreign    = 1_000 // groups for each writer
)

// tool is another reader, and possibly a writer.
type tool struct {
	name    string
	command func(mode, from, to string) *exec.Cmd
	// ranges: it drops aggregated records with a user record of another shard.
	ranges bool
	// firstHashKey: it gives a user record without an explicit hash key the first
	// one of the table, if there is one, because it reads a missing index as 0.
	firstHashKey bool
	// lenient: its protobuf reader accepts a key that is truncated at the end of
	// the message if the MD5 is correct.
	lenient bool
}

var (
	kcl    = tool{name: "KCL", ranges: true}
	node   = tool{name: "aws-kinesis-agg", firstHashKey: true, lenient: true}
	python = tool{name: "aws_kinesis_agg", firstHashKey: true}
)

// produce is the native KPL, and consume a KCL application: both talk to Kinesis
// themselves.
var produce, consume func(args ...string) *exec.Cmd

func tools(t *testing.T) []tool {
	t.Helper()
	built := os.Getenv(toolsVariable)
	if built == "" {
		t.Skip("run `make interop`, which builds the other readers")
	}
	options := javaOptions(t, "java")
	java := func(args ...string) *exec.Cmd { return exec.Command("java", append(slices.Clone(options), args...)...) }
	kcl.command = func(_, from, to string) *exec.Cmd { return java("Interop", from, to) }
	produce = func(args ...string) *exec.Cmd { return java(append([]string{"Produce"}, args...)...) }
	consume = func(args ...string) *exec.Cmd { return java(append([]string{"Consume"}, args...)...) }
	node.command = func(mode, from, to string) *exec.Cmd {
		cmd := exec.Command("node", filepath.Join("node", "interop.js"), mode, from, to)
		cmd.Env = append(os.Environ(), "NODE_PATH="+filepath.Join("..", "kit", "readers", "node_modules"))
		return cmd
	}
	python.command = func(mode, from, to string) *exec.Cmd {
		return exec.Command(filepath.Join(built, "venv", "bin", "python"), filepath.Join("python", "interop.py"), mode, from, to)
	}
	return []tool{kcl, node, python}
}

// javaOptions returns the arguments of java that come before the name of a class, with
// the classes and libraries of a folder of what `make interop` has built: java is
// test/interop/java, and examples is examples/java.
func javaOptions(t *testing.T, folder string) []string {
	t.Helper()
	built := filepath.Join(os.Getenv(toolsVariable), folder)
	classpath, err := os.ReadFile(filepath.Join(built, "classpath"))
	if err != nil {
		t.Fatal(err)
	}
	return []string{"-Dorg.slf4j.simpleLogger.defaultLogLevel=off", "-cp",
		filepath.Join(built, "classes") + string(os.PathListSeparator) + strings.TrimSpace(string(classpath))}
}

// buildPlugin builds the library and the ABI host once for all tests.
var buildPlugin = sync.OnceValues(func() (built [2]string, err error) {
	ctx, dir := context.Background(), os.Getenv(toolsVariable)
	root, err := harness.ModuleRoot()
	if err == nil {
		built[0], err = harness.BuildPlugin(ctx, root, dir)
	}
	if err == nil {
		built[1], err = harness.BuildHost(ctx, root, dir, false)
	}
	return built, err
})

// pluginAndHost returns the paths of the library and of the ABI host.
func pluginAndHost(t *testing.T) (plugin, host string) {
	t.Helper()
	built, err := buildPlugin()
	if err != nil {
		t.Fatal(err)
	}
	return built[0], built[1]
}

// run makes a tool convert one file into another.
func (tool tool) run(t *testing.T, mode string, write func(path string) error) string {
	t.Helper()
	from, to := filepath.Join(t.TempDir(), "in"), filepath.Join(t.TempDir(), "out")
	if err := write(from); err != nil {
		t.Fatal(err)
	}
	if out, err := tool.command(mode, from, to).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", tool.name, err, out)
	}
	return to
}

func (tool tool) read(t *testing.T, records []Record) []Group {
	t.Helper()
	groups, err := ReadGroups(tool.run(t, "read", func(path string) error { return WriteRecords(path, records) }))
	if err != nil {
		t.Fatal(err)
	}
	if len(groups) != len(records) {
		t.Fatalf("%s: %d groups of %d records", tool.name, len(groups), len(records))
	}
	return groups
}

func (tool tool) write(t *testing.T, groups []Group) []Record {
	t.Helper()
	records, err := ReadRecords(tool.run(t, "write", func(path string) error { return WriteGroups(path, groups) }))
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != len(groups) {
		t.Fatalf("%s: %d records of %d groups", tool.name, len(records), len(groups))
	}
	return records
}

// open reads a record with this project's reader, and KCL's check.
func open(r Record) (Group, error) {
	a, err := kpl.Open(r.Data)
	if err != nil {
		return Group{}, err
	}
	shard, err := kpl.ParseHashKeyRange(r.Starting, r.Ending)
	if err != nil {
		return Group{}, err
	}
	if err := a.CheckHashKeys(shard); err != nil {
		return Group{}, err
	}
	var g Group
	for _, u := range a.All() {
		g.Users = append(g.Users, User{u.PartitionKey, u.ExplicitHashKey, u.Data})
	}
	return g, nil
}

// same returns an error that describes the first difference of two groups.
func same(got, want Group) error {
	if got.Plain != want.Plain || len(got.Users) != len(want.Users) {
		return fmt.Errorf("%d user records, plain: %v; want %d, %v", len(got.Users), got.Plain, len(want.Users), want.Plain)
	}
	for i, g := range got.Users {
		if w := want.Users[i]; g.Key != w.Key || g.ExplicitHashKey != w.ExplicitHashKey || !bytes.Equal(g.Data, w.Data) {
			return fmt.Errorf("user record %d: %q %q, %d bytes %.40q; want %q %q, %d bytes %.40q",
				i, g.Key, g.ExplicitHashKey, len(g.Data), g.Data, w.Key, w.ExplicitHashKey, len(w.Data), w.Data)
		}
	}
	return nil
}

// asReadBy returns the group as a tool reads it.
func (g Group) asReadBy(tool tool, message *kplproto.AggregatedRecord) Group {
	table := message.GetExplicitHashKeyTable()
	if !tool.firstHashKey || len(table) == 0 {
		return g
	}
	users := slices.Clone(g.Users)
	for i := range users {
		if users[i].ExplicitHashKey == "" {
			users[i].ExplicitHashKey = table[0]
		}
	}
	return Group{Users: users}
}

// TestReaders_ReadOurs: all readers agree with what was written, record by
// record, on every generated aggregate, from a shard that has all its keys; and
// from one that has not, KCL and kpl.CheckHashKeys drop the same.
func TestReaders_ReadOurs(t *testing.T) {
	readers := tools(t)
	g := newGenerator()
	var inside, outside []Record
	var want []Group
	var messages []*kplproto.AggregatedRecord
	users, size := 0, 0
	for n := range aggregates {
		data, group := g.next(n)
		users, size = users+len(group.Users), size+len(data)
		var message kplproto.AggregatedRecord
		if err := proto.Unmarshal(data[len(kpl.Magic):len(data)-md5.Size], &message); err != nil {
			t.Fatal(err)
		}
		in, out := ranges(t, group)
		key := group.Users[0].Key
		inside = append(inside, Record{key, in[0], in[1], data})
		outside = append(outside, Record{key, out[0], out[1], data})
		want, messages = append(want, group), append(messages, &message)
	}
	t.Logf("%d aggregates, %d user records, %d bytes", len(want), users, size)
	for n, r := range inside {
		got, err := open(r)
		if err == nil {
			err = same(got, want[n])
		}
		if err != nil {
			t.Fatalf("kpl: aggregate %d: %v", n, err)
		}
		if _, err := open(outside[n]); !errors.Is(err, kpl.ErrOutside) {
			t.Fatalf("kpl: aggregate %d, from another shard: %v", n, err)
		}
	}
	for _, reader := range readers {
		for n, got := range reader.read(t, inside) {
			if err := same(got, want[n].asReadBy(reader, messages[n])); err != nil {
				t.Fatalf("%s: aggregate %d: %v", reader.name, n, err)
			}
		}
		if !reader.ranges {
			continue
		}
		for n, got := range reader.read(t, outside) {
			if err := same(got, Group{}); err != nil {
				t.Fatalf("%s: aggregate %d, from another shard: %v", reader.name, n, err)
			}
		}
	}
}

// TestReaders_RefuseDamage: what kpl.Open refuses, no reader that checks accepts
// apart.
func TestReaders_RefuseDamage(t *testing.T) {
	readers := tools(t)
	g := newGenerator()
	r := rand.New(rand.NewPCG(seed, 1))
	var records []Record
	for n := range damaged {
		data, group := g.next(n)
		data = bytes.Clone(data)
		switch at := r.IntN(len(data)); n % 4 {
		case 0: // cut, though there is still a message
			data = data[:max(at, len(kpl.Magic)+md5.Size+1)]
			if n%8 == 0 { // with an MD5 that is right: the structure is broken
				data = data[:len(data)-md5.Size]
				sum := md5.Sum(data[len(kpl.Magic):])
				data = append(data, sum[:]...)
				// Cut between two records, it would be whole.
				if _, err := kpl.Open(data); err == nil {
					data[len(data)-1] ^= 1
				}
			}
		case 1: // bytes are missing in the middle
			from := len(kpl.Magic) + r.IntN(len(data)-len(kpl.Magic)-1)
			data = slices.Delete(data, from, from+1)
		default:
			data[at] ^= 1 << r.IntN(8)
		}
		if _, err := kpl.Open(data); err == nil {
			t.Fatalf("kpl: damaged aggregate %d is taken", n)
		}
		records = append(records, Record{group.Users[0].Key, "0", largest, data})
	}
	for _, reader := range readers {
		for n, got := range reader.read(t, records) {
			if reader.lenient && digestIsRight(records[n].Data) {
				continue
			}
			if err := same(got, Group{Plain: true, Users: []User{{Key: records[n].Key, Data: records[n].Data}}}); err != nil {
				_, kplErr := kpl.Open(records[n].Data)
				t.Errorf("%s: damaged aggregate %d: %v (kpl: %v)", reader.name, n, err, kplErr)
			}
		}
	}
}

func digestIsRight(data []byte) bool {
	sum := md5.Sum(data[len(kpl.Magic) : len(data)-md5.Size])
	return bytes.HasPrefix(data, []byte(kpl.Magic)) && bytes.HasSuffix(data, sum[:])
}

// TestOurReader_ReadsOthers: what other writers make, kpl.Open reads.
func TestOurReader_ReadsOthers(t *testing.T) {
	tools(t)
	g := newGenerator()
	var groups []Group
	for n := range foreign {
		groups = append(groups, g.foreign(n))
	}
	for _, writer := range []tool{node, python} {
		for n, r := range writer.write(t, groups) {
			r.Starting, r.Ending = "0", largest
			got, err := open(r)
			if err == nil {
				err = same(got, groups[n])
			}
			if err != nil {
				t.Fatalf("%s: aggregate %d: %v", writer.name, n, err)
			}
		}
	}
}

// TestOurReader_ReadsNativeKPL: what the KPL itself ships, through a local Kinesis.
func TestOurReader_ReadsNativeKPL(t *testing.T) {
	tools(t)
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("the native KPL is compared on linux/amd64 only: run `make interop` there")
	}
	k, err := harness.StartKinesis(t.Context(), filepath.Join("..", "kit", "readers"))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Stop()
	const stream = "native"
	if err := k.CreateStream(t.Context(), stream, 3); err != nil {
		t.Fatal(err)
	}
	g := newGenerator()
	count := map[string]int{} // how often a user record is still to come
	text := func(u User) string { return fmt.Sprintf("%q %q %q", u.Key, u.ExplicitHashKey, u.Data) }
	var groups []Group
	sent := 0
	for range foreign / 20 {
		var group Group
		for range 40 {
			u := User{Key: g.key(), Data: g.data()}
			for len(utf16.Encode([]rune(u.Key))) > kpl.MaxPartitionKeyChars {
				u.Key = g.key() // It counts as Java does.
			}
			if g.r.IntN(3) == 0 {
				u.ExplicitHashKey = g.hashKey()
			}
			count[text(u)]++
			sent++
			group.Users = append(group.Users, u)
		}
		groups = append(groups, group)
	}
	file := filepath.Join(t.TempDir(), "groups")
	if err := WriteGroups(file, groups); err != nil {
		t.Fatal(err)
	}
	cmd := produce(file, stream, strconv.Itoa(k.TLSPort), t.TempDir())
	cmd.Env = append(harness.Environ(), "AWS_REGION="+harness.Region,
		"AWS_ACCESS_KEY_ID="+harness.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+harness.SecretAccessKey)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("KPL: %v\n%s", err, out)
	}

	shards, err := k.Client.ListShards(t.Context(), &kinesis.ListShardsInput{StreamName: aws.String(stream)})
	if err != nil {
		t.Fatal(err)
	}
	hashKeys := map[string]*types.HashKeyRange{}
	for _, s := range shards.Shards {
		hashKeys[*s.ShardId] = s.HashKeyRange
	}
	records, err := k.ReadAll(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	aggregated, users := 0, 0
	for _, r := range records {
		owner := hashKeys[r.Shard]
		group, err := open(Record{r.PartitionKey, *owner.StartingHashKey, *owner.EndingHashKey, r.Data})
		switch {
		case errors.Is(err, kpl.ErrNotAggregated):
			// The KPL does not aggregate one record alone, and does not tell
			// its explicit hash key.
			continue
		case err != nil:
			t.Fatalf("%s %s: %v", r.Shard, r.SequenceNumber, err)
		}
		aggregated++
		for _, u := range group.Users {
			if count[text(u)]--; count[text(u)] < 0 {
				t.Fatalf("a user record that was not sent, or once too often: %.200s", text(u))
			}
			users++
		}
	}
	t.Logf("%d user records in %d aggregates of %d Kinesis records", users, aggregated, len(records))
	if plain := len(records) - aggregated; users+plain != sent+1 || plain > sent/10 { // and the first one, plain
		t.Errorf("%d user records and %d plain ones of %d", users, plain, sent)
	}
}

const (
	largest = "340282366920938463463374607431768211455"
	middle  = "170141183460469231731687303715884105728" // the first of the upper half
	below   = "170141183460469231731687303715884105727"
)

// ranges returns a shard that has all hash keys of a group, the smallest of
// some, and one that lacks at least one.
func ranges(t *testing.T, g Group) (in, out [2]string) {
	t.Helper()
	shards := [][2]string{{"0", below}, {middle, largest}, {"0", largest}}
	for _, shard := range shards {
		if has(t, shard, g) {
			in = shard
			break
		}
	}
	if in != shards[2] {
		out = shards[0]
		if in == out {
			out = shards[1]
		}
		return in, out
	}
	return in, shards[len(g.Users)%2]
}

func has(t *testing.T, shard [2]string, g Group) bool {
	t.Helper()
	r, err := kpl.ParseHashKeyRange(shard[0], shard[1])
	if err != nil {
		t.Fatal(err)
	}
	return !slices.ContainsFunc(g.Users, func(u User) bool {
		k, err := kpl.UserRecord{PartitionKey: u.Key, ExplicitHashKey: u.ExplicitHashKey}.HashKey()
		if err != nil {
			t.Fatal(err)
		}
		return !r.Contains(k)
	})
}

// generator makes aggregates, the same in every run.
type generator struct {
	r      *rand.Rand
	agg    *aggregator.Aggregator
	corpus []chunktest.Corpus
}

func newGenerator() *generator {
	return &generator{
		r: rand.New(rand.NewPCG(seed, 0)), agg: aggregator.New(),
		corpus: []chunktest.Corpus{chunktest.AccessLog(seed, 8000), chunktest.Kubernetes(seed, 4000), chunktest.Numbers(seed, 2000)},
	}
}

// next returns the n-th aggregated record and its content. Every set comes by
// again and again, the largest ones rarely.
func (g *generator) next(n int) ([]byte, Group) {
	if n%1000 == 0 {
		return g.full(n)
	}
	switch n % 5 {
	case 0, 1:
		return g.filled()
	case 2, 3:
		return g.appended()
	}
	return g.generated()
}

// filled is what the plugin sends for a chunk.
func (g *generator) filled() ([]byte, Group) {
	c := g.corpus[g.r.IntN(len(g.corpus))]
	from := g.r.IntN(len(c.Ends))
	to := min(from+1+g.r.IntN(20), len(c.Ends))
	start := 0
	if from > 0 {
		start = c.Ends[from-1]
	}
	key := g.key()
	return g.aggregate(c.Bytes[start:c.Ends[to-1]], key, c.JSON[from:to])
}

func (g *generator) aggregate(events []byte, key string, texts []string) ([]byte, Group) {
	limit := aggregator.Limit{RecordMax: kpl.DefaultMaxRecordBytes, SingleRecordMax: kpl.DefaultMaxRecordBytes}
	part := g.agg.Build(aggregator.Chunk{Data: events}, 0, key, limit)
	var group Group
	for _, text := range texts[:part.UserRecords] {
		group.Users = append(group.Users, User{Key: key, Data: []byte(text)})
	}
	return bytes.Clone(part.Data), group
}

// full is an aggregate of 1 MiB, partition key included, or, of logs, as much
// of that as they fill.
func (g *generator) full(n int) ([]byte, Group) {
	key := g.key()
	if n%2000 == 0 {
		c := g.corpus[0]
		return g.aggregate(c.Bytes, key, c.JSON)
	}
	size := kpl.DefaultMaxRecordBytes - len(key) - kpl.HeadBytes(key) - kpl.DigestBytes
	size -= kpl.RecordBytes(size) - size
	return g.append(key, [][]byte{g.bytes(size)})
}

// appended is made with package kpl: any data, empty ones and those at which a
// length takes one byte more among them.
func (g *generator) appended() ([]byte, Group) {
	var data [][]byte
	for range 1 + g.r.IntN(20) {
		data = append(data, g.data())
	}
	return g.append(g.key(), data)
}

func (g *generator) append(key string, data [][]byte) ([]byte, Group) {
	var group Group
	b := kpl.AppendHead(nil, key)
	for _, d := range data {
		open := len(b)
		b = kpl.OpenRecord(b, g.r.IntN(300))
		at := len(b)
		b = append(b, d...)
		b = kpl.CloseRecord(b, open, at)
		group.Users = append(group.Users, User{Key: key, Data: d})
	}
	return kpl.Seal(b), group
}

// generated is made with the generated protobuf code: several keys, explicit
// hash keys and tags, none of which the plugin writes.
func (g *generator) generated() ([]byte, Group) {
	m := new(kplproto.AggregatedRecord)
	for range 1 + g.r.IntN(4) {
		m.PartitionKeyTable = append(m.PartitionKeyTable, g.key())
	}
	for range g.r.IntN(3) {
		m.ExplicitHashKeyTable = append(m.ExplicitHashKeyTable, g.hashKey())
	}
	var group Group
	for range 1 + g.r.IntN(20) {
		r := &kplproto.Record{PartitionKeyIndex: proto.Uint64(g.r.Uint64N(uint64(len(m.PartitionKeyTable)))), Data: g.data()}
		u := User{Key: m.PartitionKeyTable[r.GetPartitionKeyIndex()], Data: r.GetData()}
		if n := uint64(len(m.ExplicitHashKeyTable)); n > 0 && g.r.IntN(2) == 0 {
			r.ExplicitHashKeyIndex = proto.Uint64(g.r.Uint64N(n))
			u.ExplicitHashKey = m.ExplicitHashKeyTable[r.GetExplicitHashKeyIndex()]
		}
		for range g.r.IntN(3) {
			tag := &kplproto.Tag{Key: proto.String(g.key())}
			if g.r.IntN(2) == 0 {
				tag.Value = proto.String(g.key())
			}
			r.Tags = append(r.Tags, tag)
		}
		m.Records, group.Users = append(m.Records, r), append(group.Users, u)
	}
	message, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return kpl.Seal(append([]byte(kpl.Magic), message...)), group
}

// foreign is a group for other writers. aws-kinesis-agg confuses keys that look
// like small numbers, because its tables are in the order of a JavaScript
// object; both want all records or none to have an explicit hash key, as their
// readers do.
func (g *generator) foreign(n int) Group {
	var group Group
	keys := []string{"k-" + g.key(), "k-" + g.key(), "k-" + g.key()}
	hashKeys := []string{"", ""}
	if g.r.IntN(2) == 0 {
		hashKeys = []string{"1" + g.hashKey()[:20], "2" + g.hashKey()[:20]}
	}
	if n%250 == 0 { // as much as they put into 1 MiB
		return Group{Users: []User{{Key: keys[0], ExplicitHashKey: hashKeys[0], Data: g.bytes(1<<20 - 1024)}}}
	}
	for range 1 + g.r.IntN(30) {
		group.Users = append(group.Users, User{keys[g.r.IntN(len(keys))], hashKeys[g.r.IntN(2)], g.data()})
	}
	return group
}

func (g *generator) data() []byte {
	edges := []int{0, 0, 1, 120, 124, 127, 128}
	switch n := g.r.IntN(200); {
	case n < 60:
		return g.bytes(edges[n%len(edges)])
	case n < 62:
		return g.bytes(16_370 + g.r.IntN(20))
	}
	return g.bytes(g.r.IntN(500))
}

func (g *generator) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.r.Uint32())
	}
	return b
}

var letters = []rune("abcXYZ089-_.:/$ äßéñЖ東京\u0301🚲\u00a0")

// key is a partition key of 1 to 256 characters.
func (g *generator) key() string {
	n := 1 + g.r.IntN(20)
	if g.r.IntN(20) == 0 {
		n = kpl.MaxPartitionKeyChars
	}
	key := make([]rune, n)
	for i := range key {
		key[i] = letters[g.r.IntN(len(letters))]
	}
	return string(key)
}

// hashKey is an explicit hash key, the ends of the range now and then.
func (g *generator) hashKey() string {
	switch g.r.IntN(20) {
	case 0:
		return largest
	case 1:
		return middle
	}
	return kpl.HashKeyOf(g.key()).String()
}
