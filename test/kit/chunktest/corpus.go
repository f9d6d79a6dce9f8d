package chunktest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"
)

// Corpus is a chunk and its records. The same function, seed and number of records
// always give the same corpus.
type Corpus struct {
	// Bytes is the chunk, in the format of Fluent Bit 2.1 and later.
	Bytes []byte
	// Ends are the offsets in Bytes after each record.
	Ends []int
	// Times, Bodies and JSON are the records in order; JSON is the text that the
	// plugin has to write for the body.
	Times  []EventTime
	Bodies []Map
	JSON   []string
}

// LegacyBytes is the same chunk in the format before Fluent Bit 2.1.
func (c Corpus) LegacyBytes() []byte {
	legacy := New()
	for i, body := range c.Bodies {
		legacy.Legacy(c.Times[i], body)
	}
	return legacy.Bytes()
}

// JSONBytes is the size of all JSON texts together.
func (c Corpus) JSONBytes() int {
	n := 0
	for _, text := range c.JSON {
		n += len(text)
	}
	return n
}

// Corpora holds the generators of corpora of log records, by name.
var Corpora = map[string]func(seed uint64, n int) Corpus{
	"access":     AccessLog,
	"kubernetes": Kubernetes,
	"longtext":   LongText,
	"numbers":    Numbers,
}

// NewCorpus makes a corpus of these bodies, a millisecond apart.
func NewCorpus(bodies ...Map) Corpus {
	return generate(0, len(bodies), func(_ *rand.Rand, i int, _ time.Time) Map { return bodies[i] })
}

// start is the time of the first record of every corpus.
var start = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

func generate(seed uint64, n int, body func(r *rand.Rand, i int, at time.Time) Map) Corpus {
	r := rand.New(rand.NewPCG(seed, 0x6b70_6c20_6368_756e))
	c := Corpus{
		Times:  make([]EventTime, 0, n),
		Bodies: make([]Map, 0, n),
		JSON:   make([]string, 0, n),
	}
	out := New()
	for i := range n {
		at := start.Add(time.Duration(i) * time.Millisecond)
		m := body(r, i, at)
		c.Times = append(c.Times, eventTime(at))
		c.Bodies = append(c.Bodies, m)
		c.JSON = append(c.JSON, JSON(m))
		out.Event(at, m)
	}
	c.Bytes, c.Ends = out.Bytes(), out.Ends()
	return c
}

// AccessLog is n lines of a web server's log, about 320 bytes of JSON each.
// The field seq counts from 0.
func AccessLog(seed uint64, n int) Corpus {
	methods := []string{"GET", "GET", "GET", "GET", "POST", "PUT", "DELETE"}
	status := []int{200, 200, 200, 200, 201, 204, 301, 304, 404, 500, 503}
	agents := []string{
		"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36",
		"curl/8.14.1",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15",
	}
	pages := []string{"items", "orders", "users", "search", "cart", "static/css", "static/js"}
	return generate(seed, n, func(r *rand.Rand, i int, at time.Time) Map {
		return M(
			"seq", i,
			"time", at.Format("2006-01-02T15:04:05.000Z"),
			"remote_addr", fmt.Sprintf("203.0.113.%d", r.IntN(256)),
			"method", pick(r, methods),
			"path", fmt.Sprintf("/api/v1/%s/%d?page=%d", pick(r, pages), r.IntN(1_000_000), r.IntN(100)),
			"status", pick(r, status),
			"bytes", r.IntN(200_000),
			"duration", float64(r.IntN(10_000))/1000,
			"referer", "https://example.com/"+pick(r, pages),
			"user_agent", pick(r, agents),
			"request_id", fmt.Sprintf("%016x", r.Uint64()),
		)
	})
}

// Kubernetes is n container lines with the nested metadata of the kubernetes
// filter.
func Kubernetes(seed uint64, n int) Corpus {
	apps := []string{"checkout", "cart", "search", "payment-gateway", "frontend"}
	levels := []string{"info", "warn", "error", "debug"}
	return generate(seed, n, func(r *rand.Rand, i int, at time.Time) Map {
		app := pick(r, apps)
		return M(
			"time", at.Format(time.RFC3339Nano),
			"stream", pick(r, []string{"stdout", "stderr"}),
			"_p", "F",
			"log", fmt.Sprintf(`{"level":"%s","msg":"request %d took %dms","path":"/v1/%s"}`,
				pick(r, levels), i, r.IntN(5000), app),
			"kubernetes", M(
				"pod_name", fmt.Sprintf("%s-%08x-%05x", app, r.Uint32(), r.IntN(1<<20)),
				"namespace_name", "shop",
				"pod_id", fmt.Sprintf("%08x-0000-4000-8000-%012x", r.Uint32(), r.Uint64()>>16),
				"labels", M("app", app, "app.kubernetes.io/part-of", "shop", "pod-template-hash", fmt.Sprintf("%08x", r.Uint32())),
				"annotations", M("prometheus.io/scrape", "true", "prometheus.io/port", "9102"),
				"host", fmt.Sprintf("ip-10-0-%d-%d.ec2.internal", r.IntN(256), r.IntN(256)),
				"container", M("name", app, "restarts", r.IntN(4), "ready", r.IntN(2) == 0, "limits", nil),
				"owners", []any{M("kind", "ReplicaSet", "controller", true), "Deployment/" + app},
			),
		)
	})
}

// LongText is n records with texts of up to about 4 KB: everything that JSON
// escapes, and UTF-8 of one to four bytes.
func LongText(seed uint64, n int) Corpus {
	words := []string{
		"plain ", "words ", "tab\t", "newline\n", "cr\r", `"quoted" `, `back\slash `, "slash/ ", "<tag> & ",
		"\x00", "\x01", "\b", "\v", "\f", "\x1b[31m", "\x1f", "\x7f",
		"café ", "€ ", "日本語 ", "😀 ", "\u2028", "\ufeff", "Ünïcødé ",
	}
	return generate(seed, n, func(r *rand.Rand, i int, _ time.Time) Map {
		var text strings.Builder
		for target := r.IntN(4096); text.Len() < target; {
			text.WriteString(pick(r, words))
		}
		return M("n", i, "message", text.String(), "clé "+pick(r, words), "", "short", pick(r, words))
	})
}

// Numbers is n records of integers and floats from the ends of their ranges
// and between.
func Numbers(seed uint64, n int) Corpus {
	integers := []any{
		0, 1, -1, 127, 128, -32, -33, -128, -129, 255, 256, 32767, -32768, 65535, 65536,
		int64(math.MaxInt32), int64(math.MinInt32), uint32(math.MaxUint32), int64(1)<<53 + 1,
		int64(math.MaxInt64), int64(math.MinInt64), uint64(math.MaxUint64),
	}
	floats := []any{
		0.0, math.Copysign(0, -1), 1.0, -1.0, 0.5, 0.1, 0.30000000000000004, 1e15, 1e20, 1e-7, 123456.789,
		math.MaxFloat64, math.SmallestNonzeroFloat64, math.Pi, float32(1.5), float32(-2),
	}
	return generate(seed, n, func(r *rand.Rand, i int, _ time.Time) Map {
		return M(
			"n", i,
			"integer", pick(r, integers),
			"float", pick(r, floats),
			"signed", int64(r.Uint64()),
			"unsigned", r.Uint64(),
			"fraction", r.Float64(),
			"money", float64(r.IntN(1_000_000))/100,
			"series", []any{r.IntN(10), -r.IntN(1000), r.Float64() * 1000, pick(r, floats)},
			"flag", r.IntN(2) == 0,
			"none", nil,
		)
	})
}

func pick[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }
