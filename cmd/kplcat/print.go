package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"

	"out_kinesis_agg/kpl"
	"out_kinesis_agg/kpl/decompress"
)

// output gets the records of all shards, batch by batch.
type output interface {
	// take returns how many user records there were in the Kinesis records.
	take(s *shard, records []record) (users int, err error)
	// end is called once, after the last batch.
	end() error
}

// printer prints records.
type printer struct {
	w *bufio.Writer
	options
	warn func(format string, args ...any)

	decoder decompress.Decoder
	text    []byte // what the decoder made
	encoder *json.Encoder
	damaged int
	packed  int // records that could not be decompressed
}

// line is a record with --json.
type line struct {
	Shard           string  `json:"shard"`
	Sequence        *string `json:"sequence"`
	SubSequence     *int    `json:"sub_sequence,omitempty"` // of records out of aggregated ones
	Arrival         string  `json:"arrival,omitempty"`
	Key             string  `json:"key"`
	ExplicitHashKey string  `json:"explicit_hash_key,omitempty"`
	Data            any     `json:"data,omitempty"` // an object, an array, or other text
	Base64          []byte  `json:"base64,omitempty"`
}

func (p *printer) take(s *shard, records []record) (users int, err error) {
	for _, r := range records {
		n, err := p.record(s, r)
		if users += n; err != nil {
			return users, err
		}
	}
	return users, p.w.Flush()
}

// record prints one Kinesis record.
func (p *printer) record(s *shard, r record) (users int, err error) {
	aggregate, err := kpl.Open(r.Data)
	switch {
	case p.raw || errors.Is(err, kpl.ErrNotAggregated):
		return 1, p.print(s, r, -1, kpl.UserRecord{PartitionKey: aws.ToString(r.PartitionKey), Data: r.Data})
	case err != nil:
		p.damaged++
		p.warn("%s %s: passed over: %v", s.id, aws.ToString(r.SequenceNumber), err)
		return 0, nil
	}
	for n, user := range aggregate.All() {
		if err := p.print(s, r, n, user); err != nil {
			return n, err
		}
	}
	return aggregate.Len(), nil
}

// print prints one user record. n is -1 for a plain record.
func (p *printer) print(s *shard, r record, n int, user kpl.UserRecord) error {
	data := p.unpack(user.Data)
	if p.json {
		return p.printJSON(s, r, n, user, data)
	}
	if _, err := p.w.Write(data); err != nil {
		return err
	}
	// A writer may have ended its records with a newline already.
	if len(data) > 0 && data[len(data)-1] == '\n' {
		return nil
	}
	return p.w.WriteByte('\n')
}

// unpack decompresses a user record. What cannot be is left as it is.
func (p *printer) unpack(data []byte) []byte {
	format := p.decompress
	if format == auto {
		format = decompress.Detect(data)
	}
	if p.raw || format == decompress.None {
		return data
	}
	text, err := p.decoder.Append(p.text[:0], data, format)
	if err != nil {
		if p.packed++; p.packed == 1 && p.decompress != auto {
			p.warn("a record is printed as it is: %v", err)
		}
		return data
	}
	p.text = text
	return text
}

func (p *printer) printJSON(s *shard, r record, n int, user kpl.UserRecord, data []byte) error {
	if p.encoder == nil {
		p.encoder = json.NewEncoder(p.w)
		p.encoder.SetEscapeHTML(false)
	}
	l := line{Shard: s.id, Sequence: r.SequenceNumber, Key: user.PartitionKey, ExplicitHashKey: user.ExplicitHashKey}
	if n >= 0 {
		l.SubSequence = &n
	}
	if r.ApproximateArrivalTimestamp != nil {
		l.Arrival = r.ApproximateArrivalTimestamp.UTC().Format("2006-01-02T15:04:05.000Z")
	}
	switch {
	case !utf8.Valid(data):
		l.Base64 = data
	case len(data) > 0 && (data[0] == '{' || data[0] == '[') && json.Valid(data):
		l.Data = json.RawMessage(data)
	default:
		l.Data = string(data)
	}
	return p.encoder.Encode(l)
}

func (p *printer) end() error {
	if err := p.w.Flush(); err != nil {
		return err
	}
	if p.packed > 0 && p.decompress != auto {
		p.warn("%d records are no %s, and are printed as they are", p.packed, p.decompress)
	}
	return damage(p.damaged)
}

// damage is the error of a run that met damaged records.
func damage(n int) error {
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%d damaged aggregated records were passed over", n)
}

// age is how long ago that was, for a person.
func age(now, then time.Time) string {
	if then.IsZero() {
		return "-"
	}
	d := max(now.Sub(then), 0)
	if d < time.Minute {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
