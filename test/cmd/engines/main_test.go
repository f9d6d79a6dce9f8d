package main

import (
	"strings"
	"testing"
)

func TestTable_FailuresNamed(t *testing.T) {
	results, err := collect(strings.NewReader(`{"Action":"pass","Test":"TestFluentBit_Tail"}
{"Action":"fail","Test":"TestFluentBit_UnderFaults/x"}
{"Action":"fail","Test":"TestFluentBit_UnderFaults"}
{"Action":"skip","Test":"TestFluentBit_DeadLetters"}
{"Action":"pass","Test":"TestDaemon_InFluentBit"}
{"Action":"pass"}
`))
	if err != nil {
		t.Fatal(err)
	}
	got := table("5.1.1", results)
	for _, line := range []string{
		"| | 5.1.1 |",
		"| delivery: `tail`, `dummy`, `forward`, `exec` | yes |",
		"| faults, a killed engine, stop with `SIGTERM` | no: TestFluentBit_UnderFaults |",
		"| dead letters | no: skipped |",
		"| metrics, log file | not run |",
		"| everything else | yes |",
	} {
		if !strings.Contains(got, line+"\n") {
			t.Errorf("no line %q in\n%s", line, got)
		}
	}
}
