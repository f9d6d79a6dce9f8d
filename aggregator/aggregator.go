// Package aggregator turns a Fluent Bit chunk into KPL aggregated records: it
// reads log events from msgpack, writes each record's body as JSON and frames it
// as a user record, all in one pass into the buffer that is sent.
package aggregator

import (
	"out_kinesis_agg/kpl"
)

// Aggregator builds aggregated records. It reuses its buffers, so it is made
// once and used many times, by one goroutine at a time.
type Aggregator struct {
	buffer []byte
	json   jsonWriter
	shaper *shaper // nil: records stay as they are
}

// Part is one aggregated record and what was passed over on the way.
type Part struct {
	// Aggregate is the sealed record, nil if there is no user record to send. It
	// belongs to the Aggregator and is valid until its next Fill.
	Aggregate []byte
	// Records is the number of user records in Aggregate.
	Records int
	// Markers is the number of group markers passed over; they are no records.
	Markers int
	// Next is the offset in the chunk of the first event that found no place in
	// Aggregate, or the length of the chunk when all of it is done.
	Next int

	// Unreadable is the rest of the chunk from the first byte on that is not
	// msgpack or where the chunk breaks off: it cannot be sent.
	Unreadable Loss
	// NotEvents are values that are msgpack, but no log events.
	NotEvents Loss
	// TooDeep are records nested deeper than 100 levels.
	TooDeep Loss
	// TooLarge are records that fit into no aggregated record on their own.
	TooLarge Loss
	// NoLogKey are records without what Shaping.LogKey names.
	NoLogKey Loss
}

// Loss counts what of a chunk is not sent.
type Loss struct {
	Count  int
	Offset int // of the first one in the chunk
	Bytes  int // of the chunk, all together
}

func (l *Loss) add(from, to int) {
	if l.Count == 0 {
		l.Offset = from
	}
	l.Count++
	l.Bytes += to - from
}

// Limit bounds the Kinesis records that are built, partition key included.
type Limit struct {
	// Bytes is the largest record.
	Bytes int
	// Alone is the largest record that has only one user record, which cannot
	// be made smaller. It is not below Bytes.
	Alone int
}

// New returns an Aggregator that leaves records as they are.
func New() *Aggregator { return new(Aggregator) }

// Fill builds one aggregated record under the partition key, which has to be
// valid UTF-8, from the events of chunk that start at offset from, as many as
// the limit allows. from is 0 or the Next of a Part before. chunk is only read,
// and not kept. Fill has no errors: what cannot be sent is counted in the Part.
func (a *Aggregator) Fill(chunk []byte, from int, partitionKey string, limit Limit) Part {
	// around is what is not in dst: the digest, and the key of the Kinesis record.
	around := kpl.DigestBytes + len(partitionKey)
	if a.buffer == nil {
		a.buffer = make([]byte, 0, min(limit.Bytes, len(chunk)+len(chunk)/4)+kpl.HeadBytes(partitionKey)+kpl.DigestBytes)
	}
	dst := kpl.AppendHead(a.buffer[:0], partitionKey)
	empty := len(dst)
	if a.shaper != nil {
		a.shaper.begin(chunk, from)
	}

	p := Part{Next: len(chunk)}
	guess := 0
	for i := from; i < len(chunk); {
		class, body := event(chunk, i)
		if class != isRecord {
			if body < 0 {
				p.Unreadable.add(i, len(chunk))
				break
			}
			if class == isMarker {
				p.Markers++
				if a.shaper != nil {
					a.shaper.marker(chunk, i)
				}
			} else {
				p.NotEvents.add(i, body)
			}
			i = body
			continue
		}

		start := len(dst)
		var next int
		dst = kpl.OpenRecord(dst, guess)
		data := len(dst)
		if a.shaper == nil {
			dst, next = a.json.value(dst, chunk, body, 0)
		} else {
			dst, next = a.shaper.record(dst, chunk, i, body)
		}
		if next < 0 {
			dst = dst[:start]
			if next != broken {
				loss := &p.TooDeep
				if next == noLogKey {
					loss = &p.NoLogKey
				}
				if next = skip(chunk, i); next >= 0 {
					loss.add(i, next)
					i = next
					continue
				}
			}
			p.Unreadable.add(i, len(chunk))
			break
		}
		size := len(dst) - data
		dst = kpl.CloseRecord(dst, start, data)
		guess = size
		if len(dst)+around > limit.Bytes {
			if empty+kpl.RecordBytes(size)+around > limit.Alone {
				dst = dst[:start]
				p.TooLarge.add(i, next)
				i = next
				continue
			}
			if start > empty {
				dst = dst[:start]
				p.Next = i
				break
			}
			p.Records, p.Next = 1, next
			break
		}
		p.Records++
		i = next
	}
	if p.Records > 0 {
		dst = kpl.Seal(dst)
		p.Aggregate = dst
	}
	a.buffer = dst
	return p
}
