package engine

/*
#include <stdlib.h>
#include "metrics.h"
*/
import "C"

import "unsafe"

// Meter creates the metrics of an instance. The engine shows a metric as
// fluentbit_kinesis_agg_NAME with the instance as the label "name". Metrics are
// created during Init and used until Release; they are safe for concurrent use.
type Meter interface {
	// Counter creates a counter, which starts at 0.
	Counter(name, help string) Counter
	// CounterVec creates a counter for each value of a second label. They all start
	// at 0, because engines before 5.1 add label values without a lock.
	CounterVec(name, help, label string, values ...string) CounterVec
	// Histogram creates a histogram with these upper bounds, at most 32.
	Histogram(name, help string, bounds ...float64) Histogram
	// Release ends the use of all metrics.
	Release()
}

// Counter counts events or bytes.
type Counter interface{ Add(n int) }

// CounterVec is a counter for each value of a label.
type CounterVec interface {
	// With returns the counter of a value, which has to be one of those that
	// CounterVec was created with.
	With(value string) Counter
}

// Histogram counts observations by their size.
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

// counter returns the counter with this value of the second label, nil for none.
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

// cString copies a string to C memory, where it stays until Release.
func (o *Output) cString(text string) *C.char {
	c := C.CString(text)
	o.strings = append(o.strings, unsafe.Pointer(c))
	return c
}

// Release implements Meter: it frees the strings. The metrics belong to the engine,
// which destroys them with the instance.
func (o *Output) Release() {
	for _, c := range o.strings {
		C.free(c)
	}
	o.strings = nil
}
