package chunk_test

import (
	"fmt"

	"out_kinesis_agg/test/chunk"
)

func Example() {
	body := chunk.M("log", "hello", "n", 1)
	c := chunk.New().
		Event(chunk.EventTime{Sec: 1}, body).
		Legacy(uint32(2), chunk.Wide{Value: body, Bytes: 4}).
		Raw(0xc1)
	fmt.Printf("%d bytes, %s\n", len(c.Bytes()), chunk.JSON(body))
	// Output: 48 bytes, {"log":"hello","n":1}
}
