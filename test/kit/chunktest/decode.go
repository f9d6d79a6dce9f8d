package chunktest

import (
	"bytes"
	"encoding/binary"
	"io"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// Decode decodes the msgpack value at b[i:] with a library that shares no code with
// the plugin or with the writer of this package, and returns the offset after it.
// Values have the types of this package: integers are int64 or uint64, maps are Map,
// and extensions are Ext or EventTime. The value shares no memory with b. The error
// is io.EOF if b ends at i.
func Decode(b []byte, i int) (value any, next int, err error) {
	r := bytes.NewReader(b[i:])
	value, err = decodeNext(msgpack.NewDecoder(r))
	return value, len(b) - r.Len(), err
}

// DecodeAll decodes all values of b, up to the first error.
func DecodeAll(b []byte) (values []any, err error) {
	for i := 0; i < len(b); {
		var v any
		if v, i, err = Decode(b, i); err != nil {
			return values, err
		}
		values = append(values, v)
	}
	return values, nil
}

func decodeNext(d *msgpack.Decoder) (any, error) {
	code, err := d.PeekCode()
	if err != nil {
		return nil, err
	}
	switch {
	case msgpcode.IsFixedMap(code), code == msgpcode.Map16, code == msgpcode.Map32:
		n, err := d.DecodeMapLen()
		m := Map{}
		for ; err == nil && n > 0; n-- {
			var p Pair
			if p.Key, err = decodeNext(d); err == nil {
				p.Value, err = decodeNext(d)
			}
			m = append(m, p)
		}
		return m, err
	case msgpcode.IsFixedArray(code), code == msgpcode.Array16, code == msgpcode.Array32:
		n, err := d.DecodeArrayLen()
		a := []any{}
		for ; err == nil && n > 0; n-- {
			var v any
			v, err = decodeNext(d)
			a = append(a, v)
		}
		return a, err
	case msgpcode.IsExt(code):
		kind, n, err := d.DecodeExtHeader()
		if err != nil {
			return nil, err
		}
		data, err := payload(d, n)
		if err != nil {
			return nil, err
		}
		if kind == 0 && n == 8 {
			return EventTime{Sec: binary.BigEndian.Uint32(data), Nsec: binary.BigEndian.Uint32(data[4:])}, nil
		}
		return Ext{Type: kind, Data: data}, nil
	case msgpcode.IsFixedNum(code), code >= msgpcode.Int8 && code <= msgpcode.Int64:
		return d.DecodeInt64()
	case code >= msgpcode.Uint8 && code <= msgpcode.Uint64:
		return d.DecodeUint64()
	case msgpcode.IsBin(code), msgpcode.IsString(code):
		n, err := d.DecodeBytesLen()
		if err != nil {
			return nil, err
		}
		data, err := payload(d, n)
		if msgpcode.IsString(code) {
			return string(data), err
		}
		return data, err
	}
	return d.DecodeInterface()
}

// payload reads n bytes. If the input is shorter, it allocates nothing, unlike the
// library.
func payload(d *msgpack.Decoder, n int) ([]byte, error) {
	if r := d.Buffered().(*bytes.Reader); n > r.Len() {
		return nil, io.ErrUnexpectedEOF
	}
	data := make([]byte, n)
	return data, d.ReadFull(data)
}
