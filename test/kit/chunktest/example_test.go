package chunktest_test

import (
	"fmt"

	"out_kinesis_agg/test/kit/chunktest"
)

func Example() {
	body := chunktest.M("log", "hello", "n", 1)
	c := chunktest.New().
		Event(chunktest.EventTime{Sec: 1}, body).
		Legacy(uint32(2), chunktest.Wide{Value: body, Bytes: 4}).
		Raw(0xc1)
	fmt.Printf("%d bytes, %s\n", len(c.Bytes()), chunktest.JSON(body))
	// Output: 48 bytes, {"log":"hello","n":1}
}
