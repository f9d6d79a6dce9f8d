package fakekinesis

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/smithy-go/encoding/cbor"
)

// The formats of requests and responses.
const (
	mediaJSON = "application/x-amz-json-1.1"
	mediaCBOR = "application/x-amz-cbor-1.1"
)

// put is a PutRecord or a PutRecords.
type put struct {
	StreamName, StreamARN string
	DryRun                bool
	Records               []entry
}

// entry is one record of a request.
type entry struct {
	PartitionKey, ExplicitHashKey string
	Data                          []byte
}

// parsePut parses the body of a PutRecord, or of a PutRecords if many, and
// appends all data to dst. The returned buffer holds the data of the entries.
func parsePut(media string, many bool, body, dst []byte) (p put, data []byte, err error) {
	switch media {
	case mediaJSON:
		return parseJSON(many, body, dst)
	case mediaCBOR:
		p, err = parseCBOR(many, body)
		return p, dst, err
	}
	return put{}, dst, fmt.Errorf("unknown content type %q", media)
}

// parseJSON decodes the base64 of each Data itself and leaves only the rest to
// encoding/json, which would make this server slower than its clients.
func parseJSON(many bool, body, dst []byte) (put, []byte, error) {
	type jsonEntry struct {
		PartitionKey, ExplicitHashKey string
		Data                          *struct{}
	}
	var request struct {
		StreamName, StreamARN string
		DryRun                bool
		jsonEntry
		Records []jsonEntry
	}
	at := len(dst)
	rest := make([]byte, 0, 1024)
	var ends []int // of each Data in dst
	for {
		begin, length, err := nextData(body)
		if err != nil {
			return put{}, dst, err
		}
		if begin < 0 {
			break
		}
		text := body[begin : begin+length]
		if bytes.IndexByte(text, '\\') >= 0 { // in JSON, "\/" equals "/"
			text = bytes.ReplaceAll(text, []byte(`\/`), []byte("/"))
		}
		if dst, err = base64.StdEncoding.AppendDecode(dst, text); err != nil {
			return put{}, dst, fmt.Errorf("in Data: %w", err)
		}
		ends = append(ends, len(dst))
		// {} in place of the string: absent Data stays nil.
		rest = append(append(rest, body[:begin-1]...), "{}"...)
		body = body[begin+length+1:]
	}
	if err := json.Unmarshal(append(rest, body...), &request); err != nil {
		return put{}, dst, err
	}
	entries := request.Records
	if !many {
		entries = []jsonEntry{request.jsonEntry}
	}
	if len(entries) != len(ends) {
		return put{}, dst, errors.New("no Data")
	}
	p := put{StreamName: request.StreamName, StreamARN: request.StreamARN, DryRun: request.DryRun, Records: make([]entry, len(entries))}
	for i, e := range entries {
		if e.Data == nil {
			return put{}, dst, errors.New("no Data")
		}
		p.Records[i] = entry{e.PartitionKey, e.ExplicitHashKey, dst[at:ends[i]:ends[i]]}
		at = ends[i]
	}
	return p, dst, nil
}

// nextData finds the next value of a member Data in JSON: its first byte after
// the quote, and its length. begin is negative if there is none. Quotes that are
// not escaped, with a colon after them, cannot be inside of a string.
func nextData(body []byte) (begin, length int, err error) {
	const member = `"Data"`
	for at := 0; ; {
		i := bytes.Index(body[at:], []byte(member))
		if i < 0 {
			return -1, 0, nil
		}
		at += i + len(member)
		value, isMember := bytes.CutPrefix(bytes.TrimLeft(body[at:], " \t\r\n"), []byte(":"))
		value, isString := bytes.CutPrefix(bytes.TrimLeft(value, " \t\r\n"), []byte(`"`))
		if !isMember || !isString {
			continue
		}
		if length = bytes.IndexByte(value, '"'); length < 0 {
			return 0, 0, errors.New("no end of Data")
		}
		return len(body) - len(value), length, nil
	}
}

func parseCBOR(many bool, body []byte) (put, error) {
	value, err := cbor.Decode(body)
	if err != nil {
		return put{}, err
	}
	request, ok := value.(cbor.Map)
	if !ok {
		return put{}, fmt.Errorf("a %T instead of a map", value)
	}
	p := put{StreamName: cborString(request, "StreamName"), StreamARN: cborString(request, "StreamARN")}
	if dryRun, ok := request["DryRun"].(cbor.Bool); ok {
		p.DryRun = bool(dryRun)
	}
	entries := cbor.List{request}
	if many {
		entries, _ = request["Records"].(cbor.List)
	}
	for _, e := range entries {
		members, _ := e.(cbor.Map)
		data, ok := members["Data"].(cbor.Slice)
		if !ok {
			return put{}, errors.New("no Data")
		}
		p.Records = append(p.Records, entry{cborString(members, "PartitionKey"), cborString(members, "ExplicitHashKey"), data})
	}
	return p, nil
}

func cborString(members cbor.Map, name string) string {
	s, _ := members[name].(cbor.String)
	return string(s)
}

// putResult is the result of one record of a PutRecords.
type putResult struct {
	SequenceNumber string
	ShardID        string `json:"ShardId"`
}

// encode encodes the members of a response in the format media: JSON unless that is
// CBOR.
func encode(media string, members map[string]any) []byte {
	if media == mediaCBOR {
		return cbor.Encode(cborValue(members))
	}
	b, _ := json.Marshal(members)
	return b
}

func cborValue(v any) cbor.Value {
	switch v := v.(type) {
	case string:
		return cbor.String(v)
	case int:
		return cbor.Uint(v)
	case []putResult:
		list := make(cbor.List, len(v))
		for i, r := range v {
			list[i] = cbor.Map{"ShardId": cbor.String(r.ShardID), "SequenceNumber": cbor.String(r.SequenceNumber)}
		}
		return list
	case map[string]any:
		m := cbor.Map{}
		for name, member := range v {
			m[name] = cborValue(member)
		}
		return m
	}
	panic(fmt.Sprintf("fakekinesis: cannot encode a %T", v))
}

// respond writes a response with these members in the format media.
func respond(w http.ResponseWriter, media string, status int, members map[string]any) {
	if media != mediaCBOR {
		media = mediaJSON
	}
	w.Header().Set("Content-Type", media)
	w.Header().Set("X-Amzn-Requestid", "00000000-0000-0000-0000-000000000000")
	w.WriteHeader(status)
	_, _ = w.Write(encode(media, members))
}
