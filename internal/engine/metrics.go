package engine

/*
#include <stdlib.h>
#include "metrics.h"
*/
import "C"

import "unsafe"

// Counter creates a counter that the engine shows as
// fluentbit_kinesis_agg_<name>, with the instance as label "name" and, unless
// label is empty, a second label of the given values. The function that it
// returns adds to it; without a second label its value is ignored. All label
// values are set to 0 here, as engines before 5.1 add them without a lock. It
// does nothing on engines without metrics. Call Counter only during Init, and the
// function only until Release.
func (o *Output) Counter(name, help, label string, values ...string) func(value string, n int) {
	var cLabel *C.char
	if label != "" {
		cLabel = o.cString(label)
	}
	counter := C.kinesis_agg_counter(o.api, o.output, o.cString(name), o.cString(help), cLabel)
	if counter == nil {
		return func(string, int) {}
	}
	instance := o.cString(o.name)
	cValues := map[string]*C.char{}
	if label == "" {
		values = []string{""}
	}
	for _, v := range values {
		if label != "" {
			cValues[v] = o.cString(v)
		}
		C.kinesis_agg_add(counter, 0, instance, cValues[v])
	}
	return func(value string, n int) {
		v, known := cValues[value]
		if known || label == "" {
			C.kinesis_agg_add(counter, C.double(n), instance, v)
		}
	}
}

// Histogram creates a histogram in the same way, with these upper bounds, 32 at
// most.
func (o *Output) Histogram(name, help string, bounds ...float64) func(v float64) {
	instance := o.cString(o.name)
	histogram := C.kinesis_agg_histogram(o.api, o.output, o.cString(name), o.cString(help),
		(*C.double)(unsafe.SliceData(bounds)), C.size_t(len(bounds)), instance)
	if histogram == nil {
		return func(float64) {}
	}
	return func(v float64) { C.kinesis_agg_observe(histogram, C.double(v), instance) }
}

// cString copies a text to C memory, where it stays until Release.
func (o *Output) cString(text string) *C.char {
	c := C.CString(text)
	o.strings = append(o.strings, unsafe.Pointer(c))
	return c
}

// Release frees what the metrics need. They belong to the engine, and go with
// the instance.
func (o *Output) Release() {
	for _, c := range o.strings {
		C.free(c)
	}
	o.strings = nil
}
