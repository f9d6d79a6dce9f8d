package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"out_kinesis_agg/internal/consumer"
	"out_kinesis_agg/kpl"
	"out_kinesis_agg/kpl/compression"
	"out_kinesis_agg/kpl/decompress"
)

// output processes the records of all shards, in batches of one shard.
type output interface {
	// print returns the number of user records in records. It returns
	// consumer.ErrStop when no more records are wanted.
	print(s *consumer.Shard, records []consumer.Record) (users int, err error)
	// end is called once, after the last batch.
	end() error
}

// printer prints records.
type printer struct {
	w *bufio.Writer
	options
	warn func(format string, args ...any)

	decoder     decompress.Decoder
	plain       []byte // output of the decoder, reused
	encoder     *json.Encoder
	printed     int
	damaged     int
	undecodable int // records that could not be decompressed
}

// line is a record with --json.
type line struct {
	Shard           string `json:"shard"`
	Sequence        string `json:"sequence"`
	SubSequence     *int   `json:"sub_sequence,omitempty"` // of a record in an aggregated record
	Arrival         string `json:"arrival,omitempty"`
	Key             string `json:"key"`
	ExplicitHashKey string `json:"explicit_hash_key,omitempty"`
	Data            any    `json:"data,omitempty"` // an object, an array, or a string
	Base64          []byte `json:"base64,omitempty"`
}

func (p *printer) print(s *consumer.Shard, records []consumer.Record) (users int, err error) {
	for _, r := range records {
		n, err := p.printRecord(s, r)
		if users += n; err != nil {
			return users, err
		}
	}
	return users, p.w.Flush()
}

// printRecord prints one Kinesis record and returns the number of lines.
func (p *printer) printRecord(s *consumer.Shard, r consumer.Record) (users int, err error) {
	if p.raw {
		r.Aggregate, r.Damage = nil, nil
	}
	if r.Damage != nil {
		p.damaged++
		p.warn("%s %s: skipped: %v", s.ID, r.SequenceNumber, r.Damage)
		return 0, nil
	}
	for n, user := range r.UserRecords() {
		if err := p.printUser(s, r, n, user); err != nil {
			return users, err
		}
		users++
		if p.printed++; p.printed == p.limit {
			return users, consumer.ErrStop
		}
	}
	return users, nil
}

// printUser prints one user record. n is -1 for a plain record.
func (p *printer) printUser(s *consumer.Shard, r consumer.Record, n int, user kpl.UserRecord) error {
	data := p.unpack(user.Data)
	if p.json {
		return p.printJSON(s, r, n, user, data)
	}
	if _, err := p.w.Write(data); err != nil {
		return err
	}
	// The writer of the record may have ended it with a newline already.
	if len(data) > 0 && data[len(data)-1] == '\n' {
		return nil
	}
	return p.w.WriteByte('\n')
}

// unpack decompresses a user record. It returns data that it cannot decompress
// unchanged.
func (p *printer) unpack(data []byte) []byte {
	format := p.decompress
	if format == auto {
		format = decompress.Detect(data)
	}
	if p.raw || format == compression.None {
		return data
	}
	plain, err := p.decoder.Append(p.plain[:0], data, format)
	if err != nil {
		if p.undecodable++; p.undecodable == 1 && p.decompress != auto {
			p.warn("a record is printed without decompression: %v", err)
		}
		return data
	}
	p.plain = plain
	return plain
}

func (p *printer) printJSON(s *consumer.Shard, r consumer.Record, n int, user kpl.UserRecord, data []byte) error {
	if p.encoder == nil {
		p.encoder = json.NewEncoder(p.w)
		p.encoder.SetEscapeHTML(false)
	}
	l := line{Shard: s.ID, Sequence: r.SequenceNumber, Key: user.PartitionKey, ExplicitHashKey: user.ExplicitHashKey}
	if n >= 0 {
		l.SubSequence = &n
	}
	if !r.Arrival.IsZero() {
		l.Arrival = r.Arrival.UTC().Format("2006-01-02T15:04:05.000Z")
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
	if p.undecodable > 0 && p.decompress != auto {
		p.warn("%s not in the format %s: printed without decompression", isOrAre(p.undecodable, "record"), p.decompress)
	}
	return damage(p.damaged)
}

// damage returns the error of a run that has read n damaged records.
func damage(n int) error {
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%s skipped", wasOrWere(n, "damaged aggregated record"))
}

func isOrAre(n int, noun string) string   { return verb(n, noun, "is", "are") }
func wasOrWere(n int, noun string) string { return verb(n, noun, "was", "were") }

func verb(n int, noun, one, many string) string {
	if n == 1 {
		return count(n, noun) + " " + one
	}
	return count(n, noun) + " " + many
}
