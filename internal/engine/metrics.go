package engine

/*
#include <stdlib.h>
#include "metrics.h"
*/
import "C"

import "unsafe"

// Meter creates the metrics of an instance. The engine exports a metric as
// fluentbit_kinesis_agg_NAME with the instance in the label "name". Metrics are
// created during Init and used until Release. They are safe for concurrent use.
type Meter interface {
	// Counter creates a counter, which starts at 0.
	Counter(name, help string) Counter
	// CounterVec creates a counter for each value of a second label. It creates all
	// of them now, because engines before 5.1 add label values without a lock.
	CounterVec(name, help, label string, values ...string) CounterVec
	// Histogram creates a histogram with these upper bounds, at most 32.
	Histogram(name, help string, bounds ...float64) Histogram
	// Release frees the memory of the metrics, which must not be used any more.
	Release()
}

// Counter counts events or bytes.
type Counter interface{ Add(n int) }

// CounterVec is a counter for each value of a label.
type CounterVec interface {
	// With returns the counter of a value. The value must be one of those that the
	// CounterVec was created with.
	With(value string) Counter
}

// Histogram counts observed values by size.
type Histogram interface{ Observe(v float64) }

// Counter implements Meter. On engines without metrics it returns a counter that
// does nothing.
func (o *Output) Counter(name, help string) Counter {
	return o.counter(o.createCounter(name, help, ""), nil)
}

// CounterVec implements Meter, as Counter does.
func (o *Output) CounterVec(name, help, label string, values ...string) CounterVec {
	metric := o.createCounter(name, help, label)
	vec := counterVec{}
	for _, v := range values {
		vec[v] = o.counter(metric, o.cString(v))
	}
	return vec
}

func (o *Output) createCounter(name, help, label string) unsafe.Pointer {
	var cLabel *C.char
	if label != "" {
		cLabel = o.cString(label)
	}
	return C.kinesis_agg_counter(o.api, o.output, o.cString(name), o.cString(help), cLabel)
}

// counter returns the counter with this value of the second label. value is nil if the
// metric has no second label.
func (o *Output) counter(metric unsafe.Pointer, value *C.char) counter {
	c := counter{metric, o.cString(o.name), value}
	c.Add(0)
	return c
}

type counter struct {
	metric          unsafe.Pointer // nil on engines without metrics
	instance, value *C.char
}

func (c counter) Add(n int) {
	if c.metric != nil {
		C.kinesis_agg_add(c.metric, C.double(n), c.instance, c.value)
	}
}

type counterVec map[string]counter

// With returns a counter that does nothing for an unknown value.
func (v counterVec) With(value string) Counter { return v[value] }

// Histogram implements Meter, as Counter does.
func (o *Output) Histogram(name, help string, bounds ...float64) Histogram {
	instance := o.cString(o.name)
	metric := C.kinesis_agg_histogram(o.api, o.output, o.cString(name), o.cString(help),
		(*C.double)(unsafe.SliceData(bounds)), C.size_t(len(bounds)), instance)
	return histogram{metric, instance}
}

type histogram struct {
	metric   unsafe.Pointer // nil on engines without metrics
	instance *C.char
}

func (h histogram) Observe(v float64) {
	if h.metric != nil {
		C.kinesis_agg_observe(h.metric, C.double(v), h.instance)
	}
}

// cString copies s to C memory, which Release frees.
func (o *Output) cString(s string) *C.char {
	c := C.CString(s)
	o.strings = append(o.strings, unsafe.Pointer(c))
	return c
}

// Release implements Meter. It frees only the strings. The engine owns the metrics and
// destroys them with the instance.
func (o *Output) Release() {
	for _, c := range o.strings {
		C.free(c)
	}
	o.strings = nil
}
