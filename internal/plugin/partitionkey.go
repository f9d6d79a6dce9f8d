package plugin

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"out_kinesis_agg/kpl"
)

// tagText is a text in which $TAG stands for a chunk's tag and $TAG[n] for the
// n-th part of it, split at dots, from 0, in the manner of out_s3's keys.
type tagText []tagPiece

// tagPiece is a literal text, or a part of the tag if part is not noTag.
type tagPiece struct {
	literal string
	part    int
}

const (
	noTag    = -2
	wholeTag = -1
)

// parseTagText reads a text with $TAG and $TAG[n] in it.
func parseTagText(text string) (tagText, error) {
	var pieces tagText
	for {
		before, after, found := strings.Cut(text, "$TAG")
		if before != "" {
			pieces = append(pieces, tagPiece{before, noTag})
		}
		if !found {
			return pieces, nil
		}
		part := wholeTag
		if rest, open := strings.CutPrefix(after, "["); open {
			number, behind, closed := strings.Cut(rest, "]")
			n, err := strconv.ParseUint(number, 10, 16)
			if !closed || err != nil {
				return nil, errors.New("behind $TAG[ there is no number and ]")
			}
			part, after = int(n), behind
		}
		pieces = append(pieces, tagPiece{part: part})
		text = after
	}
}

// usesTag reports whether the text depends on the tag.
func (t tagText) usesTag() bool {
	for _, p := range t {
		if p.part != noTag {
			return true
		}
	}
	return false
}

// expand puts a tag in. A part that the tag does not have is empty.
func (t tagText) expand(tag string) string {
	var b strings.Builder
	for _, p := range t {
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
	return b.String()
}

// partitionKeys makes the partition keys of one instance. The zero value makes
// a new random one each time.
type partitionKeys struct {
	fixed tagText
}

// parsePartitionKeys reads the option fixed_partition_key.
func parsePartitionKeys(text string) (partitionKeys, error) {
	fixed, err := parseTagText(text)
	if err == nil && !fixed.usesTag() {
		if n := utf8.RuneCountInString(text); n > kpl.MaxPartitionKeyChars {
			err = fmt.Errorf("it has %d characters", n)
		}
	}
	if err != nil {
		return partitionKeys{}, fmt.Errorf("option fixed_partition_key: %q is not allowed (%w): write 1 to %d characters, in which $TAG stands for the tag and $TAG[n] for its n-th part, from 0",
			text, err, kpl.MaxPartitionKeyChars)
	}
	return partitionKeys{fixed}, nil
}

// next returns the key for one PutRecord of a chunk with this tag: valid UTF-8
// of 1 to 256 characters. The same text goes into the aggregated record and into
// PutRecord, so that what the SDK would replace in it is replaced here.
func (k partitionKeys) next(tag string) string {
	if key := cutKey(k.fixed.expand(tag)); key != "" {
		return key
	}
	if k.fixed != nil {
		// The tag has too few parts. Its whole text still keeps the order of
		// its records.
		if key := cutKey(tag); key != "" {
			return key
		}
	}
	return uuid.NewString()
}

// cutKey makes a text valid UTF-8 and cuts it after 256 characters.
func cutKey(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	chars := 0
	for at := range text {
		if chars == kpl.MaxPartitionKeyChars {
			return text[:at]
		}
		chars++
	}
	return text
}
