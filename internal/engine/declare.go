package engine

/*
#include <stdlib.h>
#include "declare.h"
#include "engine.h"
*/
import "C"

import "unsafe"

// Option describes an option to the engine.
type Option struct{ Name, Default, Help string }

// Declaration is the options as the engine reads them.
type Declaration struct{ entries *C.struct_kinesis_agg_option }

// NewDeclaration copies the options to C memory, which is not freed, since the engine
// keeps references to it.
func NewDeclaration(options []Option) Declaration {
	size := C.size_t(unsafe.Sizeof(C.struct_kinesis_agg_option{}))
	entries := (*C.struct_kinesis_agg_option)(C.calloc(C.size_t(len(options)+1), size))
	for i := range unsafe.Slice(entries, len(options)) {
		e, o := &unsafe.Slice(entries, len(options))[i], options[i]
		e.name, e.desc = C.CString(o.Name), C.CString(o.Help)
		if o.Default != "" {
			e.def_value = C.CString(o.Default)
		}
	}
	return Declaration{entries}
}

// Declare tells the engine about the options, if it is 5.1.1 or later. def is the
// argument of FLBPluginRegister.
func (d Declaration) Declare(def unsafe.Pointer) { C.kinesis_agg_declare(def, d.entries) }

// maxPairs is more options than a section can reasonably have.
const maxPairs = 1024

// Names returns the names of the options that the section sets, as they are written:
// one name for each time that it is set. nil means that they cannot be determined.
// known is an option that is set. plugin is only valid during the instance's Init.
func Names(plugin unsafe.Pointer, known string) []string {
	c := C.CString(known)
	defer C.free(unsafe.Pointer(c))
	p := (*C.struct_kinesis_agg_plugin)(plugin)
	value := C.kinesis_agg_property(p, c)
	if value == nil {
		return nil
	}
	pairs := (*C.struct_kinesis_agg_pair)(C.calloc(maxPairs, C.size_t(unsafe.Sizeof(C.struct_kinesis_agg_pair{}))))
	defer C.free(unsafe.Pointer(pairs))
	n := C.kinesis_agg_pairs(p.output, value, pairs, maxPairs)
	var names []string
	for _, pair := range unsafe.Slice(pairs, max(n, 0)) {
		names = append(names, C.GoString(pair.key))
	}
	return names
}
