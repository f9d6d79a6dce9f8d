package plugin

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"out_kinesis_agg/internal/kinesis"
	"out_kinesis_agg/internal/option"
)

// maxStreamNameBytes is how long a stream's name can be. Source: API reference,
// CreateStream, StreamName (1 to 128 characters out of a-z, A-Z, 0-9, _.-).
const maxStreamNameBytes = 128

// streamNames makes the name of the stream that a chunk goes to.
type streamNames struct {
	text  string  // as configured
	byTag tagText // nil where one stream takes all
}

// parseStreamNames reads the option stream.
func parseStreamNames(text string) (streamNames, error) {
	names := streamNames{text: text}
	byTag, err := parseTagText(text)
	if err == nil && byTag.usesTag() {
		names.byTag = byTag
		if strings.HasPrefix(text, "arn:") {
			err = errors.New("$TAG is for a name, and this is an ARN")
		}
	}
	if err != nil {
		return streamNames{}, fmt.Errorf("option stream: %q is not allowed (%w): write a name or an ARN; in a name $TAG stands for the tag and $TAG[n] for its n-th part, from 0",
			text, err)
	}
	return names, nil
}

// fixed is the one stream that takes all, or an empty text.
func (s streamNames) fixed() string {
	if s.byTag != nil {
		return ""
	}
	return s.text
}

// of returns the stream for chunks with this tag. Where the tag has too few parts
// and nothing is left, it is the whole tag.
func (s streamNames) of(tag string) string {
	if s.byTag == nil {
		return s.text
	}
	name := s.byTag.expand(tag)
	if name == "" {
		name = tag
	}
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

// checkStream is the option check_stream. An error says why the stream does not
// do, a warning why that could not be found out.
func checkStream(ctx context.Context, c option.Config, names streamNames,
	describe func(ctx context.Context, stream string) (kinesis.Stream, error)) (warning string, err error) {
	if names.byTag != nil {
		return "", errors.New("option check_stream: with $TAG in stream it is not known at start which streams there are: remove one of them")
	}
	stream, err := describe(ctx, names.text)
	if err != nil {
		warning = fmt.Sprintf("check_stream: %v", err)
		if advice := kinesis.Judge(err).Advice; advice != "" {
			warning += ": " + advice
		}
		return warning, nil
	}
	if stream.DistributesRecords {
		return "", fmt.Errorf("option check_stream: %s has the record distribution strategy AUTO, under which consumers lose aggregated records: change the stream to USER_PARTITION_KEY, or use the output kinesis_streams", names.text)
	}
	if most := stream.MaxRecordBytes; most > 0 && c.MaxRecordBytes > most {
		return "", fmt.Errorf("option max_record_size: %d is more than the %d bytes that %s takes: write %d or less, or raise the stream with UpdateMaxRecordSize",
			c.MaxRecordBytes, most, names.text, most)
	}
	return "", nil
}
