package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"out_kinesis_agg/internal/consumer"
	"out_kinesis_agg/internal/escape"
	"out_kinesis_agg/kpl"
)

// output processes the records of all shards, a few of one shard at a time.
type output interface {
	// print returns the number of log records in records. It returns
	// consumer.ErrStop when no more records are wanted.
	print(s *consumer.Shard, records []consumer.Record) (logs int, err error)
	// end is called once, after the last print.
	end() error
}

// printer prints log records.
type printer struct {
	w *bufio.Writer
	options
	escape bool // log records, for a terminal
	warn   func(format string, args ...any)
	unpack unpacker

	encoder *json.Encoder
	printed int
	damaged int // aggregated records
}

// line is a log record with --json.
type line struct {
	Shard           string `json:"shard"`
	Sequence        string `json:"sequence"`
	SubSequence     *int   `json:"sub_sequence,omitempty"` // of a user record in an aggregated record
	Line            *int   `json:"line,omitempty"`         // of a log record in a batch
	Arrival         string `json:"arrival,omitempty"`
	Key             string `json:"key"`
	ExplicitHashKey string `json:"explicit_hash_key,omitempty"`
	Data            any    `json:"data,omitempty"` // an object, an array, or a string
	Base64          []byte `json:"base64,omitempty"`
}

func (p *printer) print(s *consumer.Shard, records []consumer.Record) (logs int, err error) {
	for i := range records {
		n, err := p.printRecord(s, &records[i])
		if logs += n; err != nil {
			return logs, err
		}
	}
	return logs, p.w.Flush()
}

// printRecord prints one Kinesis record and returns the number of log records.
func (p *printer) printRecord(s *consumer.Shard, r *consumer.Record) (logs int, err error) {
	if p.raw {
		return 1, p.printOne(s, r, position{-1, -1}, kpl.UserRecord{PartitionKey: r.PartitionKey, Data: r.Data})
	}
	if r.Damage != nil {
		p.damaged++
		p.warn("%s %s: skipped: %v", s.ID, r.SequenceNumber, r.Damage)
		return 0, nil
	}
	for n, user := range r.UserRecords() {
		text, ok := p.unpack.unpack(s, r, n, user.Data)
		if !ok {
			continue
		}
		for number, data := range p.unpack.records(text) {
			user.Data = data
			err := p.printOne(s, r, position{n, number}, user)
			if logs++; err != nil {
				return logs, err
			}
		}
	}
	return logs, nil
}

// position is the place of a log record in a Kinesis record. Each number is -1 if
// there is none.
type position struct {
	sub  int // sub-sequence number
	line int // in a batch
}

// printOne prints one log record, which is the data of user. It returns
// consumer.ErrStop after the last record of --limit.
func (p *printer) printOne(s *consumer.Shard, r *consumer.Record, at position, user kpl.UserRecord) error {
	write := p.writeText
	if p.json {
		write = p.writeJSON
	}
	if err := write(s, r, at, user); err != nil {
		return err
	}
	if p.printed++; p.printed == p.limit {
		return consumer.ErrStop
	}
	return nil
}

func (p *printer) writeText(_ *consumer.Shard, _ *consumer.Record, at position, user kpl.UserRecord) error {
	if p.escape {
		user.Data = []byte(escape.Text(string(user.Data)))
	}
	if _, err := p.w.Write(user.Data); err != nil {
		return err
	}
	// A record that is not split may end with a newline.
	if n := len(user.Data); at.line < 0 && n > 0 && user.Data[n-1] == '\n' {
		return nil
	}
	return p.w.WriteByte('\n')
}

func (p *printer) writeJSON(s *consumer.Shard, r *consumer.Record, at position, user kpl.UserRecord) error {
	if p.encoder == nil {
		p.encoder = json.NewEncoder(p.w)
		p.encoder.SetEscapeHTML(false)
	}
	l := line{Shard: s.ID, Sequence: r.SequenceNumber, Key: user.PartitionKey, ExplicitHashKey: user.ExplicitHashKey}
	if at.sub >= 0 {
		l.SubSequence = &at.sub
	}
	if at.line >= 0 {
		l.Line = &at.line
	}
	if !r.Arrival.IsZero() {
		l.Arrival = r.Arrival.UTC().Format("2006-01-02T15:04:05.000Z")
	}
	switch data := user.Data; {
	case !utf8.Valid(data):
		l.Base64 = data
	case len(data) > 0 && (data[0] == '{' || data[0] == '[') && json.Valid(data):
		l.Data = json.RawMessage(data)
	default:
		l.Data = string(data)
	}
	if !p.escape {
		return p.encoder.Encode(l)
	}
	var text bytes.Buffer
	p.encoder = json.NewEncoder(&text)
	p.encoder.SetEscapeHTML(false)
	if err := p.encoder.Encode(l); err != nil {
		return err
	}
	_, err := p.w.WriteString(escapeJSON(text.String()))
	return err
}

// escapeJSON replaces characters that are not printable by JSON's escapes for them.
// They can only be in strings, and JSON itself escapes only some.
func escapeJSON(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r == '\n' || strconv.IsGraphic(r) {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}

func (p *printer) end() error {
	if err := p.w.Flush(); err != nil {
		return err
	}
	p.unpack.end()
	return damage(p.damaged, p.unpack.damaged)
}
