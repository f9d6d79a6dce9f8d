package main

import (
	"bytes"
	"compress/gzip"
	"math/big"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"out_kinesis_agg/kpl"
)

// quiet is a consumer.Monitor that reports nothing.
type quiet struct{}

func (quiet) Shards(int, int)           {}
func (quiet) Lag(string, time.Duration) {}
func (quiet) Throttled()                {}
func (quiet) Warn(string, ...any)       {}

func compressed(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b) // A Buffer returns no error.
	_ = w.Close()
	return out.Bytes()
}

// middle is the hash key in the middle of a range, in decimal.
func middle(r kpl.HashKeyRange) string {
	from, to := number(r.Starting.String()), number(r.Ending.String())
	return from.Add(from, to).Rsh(from, 1).String()
}

func number(decimal string) *big.Int {
	n, _ := new(big.Int).SetString(decimal, 10)
	return n
}

// adjacent reports whether right begins where left ends.
func adjacent(left, right *types.HashKeyRange) bool {
	end, start := number(aws.ToString(left.EndingHashKey)), number(aws.ToString(right.StartingHashKey))
	return end.Add(end, big.NewInt(1)).Cmp(start) == 0
}
