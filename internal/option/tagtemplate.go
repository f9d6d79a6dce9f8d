package option

import (
	"errors"
	"strconv"
	"strings"

	"out_kinesis_agg/internal/arn"
)

// TagTemplate is a string in which $TAG is replaced by a chunk's tag and $TAG[n] by
// its n-th part, split at dots, from 0, as in out_s3's keys. The zero value is the
// empty string.
type TagTemplate struct {
	text   string
	pieces []tagPiece
}

// tagPiece is a literal, or a part of the tag if part is not noTag.
type tagPiece struct {
	literal string
	part    int
}

const (
	noTag    = -2
	wholeTag = -1
)

// parseTagTemplate parses a template. The error completes a sentence that begins
// with the template.
func parseTagTemplate(text string) (TagTemplate, error) {
	t := TagTemplate{text: text}
	for {
		before, after, found := strings.Cut(text, "$TAG")
		if strings.Contains(before, "$") {
			return TagTemplate{}, errors.New("contains a $ that does not begin $TAG or $TAG[n]")
		}
		if before != "" {
			t.pieces = append(t.pieces, tagPiece{before, noTag})
		}
		if !found {
			return t, nil
		}
		part := wholeTag
		if rest, open := strings.CutPrefix(after, "["); open {
			number, rest, closed := strings.Cut(rest, "]")
			n, err := strconv.ParseUint(number, 10, 16)
			if !closed || err != nil {
				return TagTemplate{}, errors.New("has a $TAG[ without a number and ]")
			}
			part, after = int(n), rest
		}
		t.pieces = append(t.pieces, tagPiece{part: part})
		text = after
	}
}

// String returns the template as it is written in the configuration.
func (t TagTemplate) String() string { return t.text }

// UsesTag reports whether the result depends on the tag.
func (t TagTemplate) UsesTag() bool {
	for _, p := range t.pieces {
		if p.part != noTag {
			return true
		}
	}
	return false
}

// expand inserts a tag. A part that the tag does not have is empty; if nothing is
// left, the result is the whole tag.
func (t TagTemplate) expand(tag string) string {
	var b strings.Builder
	for _, p := range t.pieces {
		switch p.part {
		case noTag:
			b.WriteString(p.literal)
		case wholeTag:
			b.WriteString(tag)
		default:
			if parts := strings.Split(tag, "."); p.part < len(parts) {
				b.WriteString(parts[p.part])
			}
		}
	}
	if b.Len() == 0 && t.UsesTag() {
		return tag
	}
	return b.String()
}

// PartitionKey is the value of fixed_partition_key.
type PartitionKey struct{ TagTemplate }

// For returns the partition key of a chunk with this tag: valid UTF-8 of at most
// 256 characters, or an empty string for a random key.
func (k PartitionKey) For(tag string) string {
	return cutKey(k.expand(tag))
}

// Stream is the value of stream: a name, an ARN, or a template for names.
type Stream struct{ TagTemplate }

// For returns the stream of chunks with this tag, a name or an ARN. With a
// template, characters that a stream name cannot have become underscores.
func (s Stream) For(tag string) string {
	if !s.UsesTag() {
		return s.text
	}
	name := s.expand(tag)
	clean := []byte(name[:min(len(name), maxStreamNameBytes)])
	for i, c := range clean {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.':
		default:
			clean[i] = '_'
		}
	}
	return string(clean)
}

// Region returns the region of an ARN, or an empty string.
func (s Stream) Region() string { return arn.Region(s.text) }
