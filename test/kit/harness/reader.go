package harness

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
)

// UserRecord is one record of an aggregated record.
type UserRecord struct {
	PartitionKey      string `json:"partitionKey"`
	ExplicitHashKey   string `json:"explicitHashKey"`
	SequenceNumber    string `json:"sequenceNumber"`
	SubSequenceNumber *int   `json:"subSequenceNumber"` // nil: the record was not aggregated
	Data              []byte `json:"data"`
}

// Deaggregate returns the user records of records, as aws-kinesis-agg of readersDir
// reads them with checksums verified. It fails if the library refuses a record.
func Deaggregate(ctx context.Context, readersDir string, records []Record) ([]UserRecord, error) {
	var in bytes.Buffer
	for _, r := range records {
		line, err := json.Marshal(map[string]any{
			"partitionKey":   r.PartitionKey,
			"sequenceNumber": r.SequenceNumber,
			"data":           r.Data,
		})
		if err != nil {
			return nil, fmt.Errorf("harness: deaggregate: %w", err)
		}
		in.Write(append(line, '\n'))
	}
	cmd := exec.CommandContext(ctx, "node", "deaggregate.js")
	cmd.Dir = readersDir
	cmd.Stdin = &in
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("harness: deaggregate.js: %w: %s", err, tail(stderr.String()))
	}
	var users []UserRecord
	for d := json.NewDecoder(bufio.NewReader(&out)); ; {
		var u UserRecord
		if err := d.Decode(&u); errors.Is(err, io.EOF) {
			return users, nil
		} else if err != nil {
			return nil, fmt.Errorf("harness: deaggregate.js: %w", err)
		}
		users = append(users, u)
	}
}
