package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"out_kinesis_agg/aggregator"
	"out_kinesis_agg/kpl/compression"
	"out_kinesis_agg/test/kit/chunktest"
)

func TestLocal_Batches(t *testing.T) {
	k, kplcat := setUp(t)
	const stream = "batches"
	if err := k.CreateStream(t.Context(), stream, 1); err != nil {
		t.Fatal(err)
	}
	c := chunktest.Kubernetes(1, 300)
	records := aggregates(t, aggregator.Transform{BatchBytes: 10_000, Compression: compression.Zstd}, c.Bytes)
	for _, data := range records {
		_, err := k.Client.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: aws.String(stream), PartitionKey: aws.String("k"), Data: []byte(data)})
		if err != nil {
			t.Fatal(err)
		}
	}
	for n, want := range map[int][]string{0: c.JSON, 7: c.JSON[:7]} {
		args := []string{stream}
		if n > 0 {
			args = append(args, "--limit", fmt.Sprint(n))
		}
		out, err := kplcat(t.Context(), args...).Output()
		result{out: string(out), err: err}.lines(t, want...)
	}
	stats, err := kplcat(t.Context(), stream, "--stats").Output()
	if want := fmt.Sprintf("    0 %6d      0      0 ", len(records)); err != nil || !strings.Contains(string(stats), want) || !strings.Contains(string(stats), " 300 ") {
		t.Errorf("%v\n%s", err, stats)
	}
	t.Logf("\n%s", stats)
}
