package main

import (
	"debug/pe"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// checkPE reads a library or program for Windows on amd64. The error names
// everything that keeps it from loading on Windows 10 and Windows Server 2016, the
// oldest that Go supports: other libraries than the kernel's and the C runtime of
// Windows (UCRT), which Fluent Bit's own build uses as well.
func checkPE(r io.ReaderAt) error {
	f, err := pe.NewFile(r)
	if err != nil {
		return err
	}
	if f.Machine != pe.IMAGE_FILE_MACHINE_AMD64 {
		return fmt.Errorf("it is for machine %#x, not amd64", f.Machine)
	}
	// Each is NAME:LIBRARY; ImportedLibraries of this package returns nothing.
	symbols, err := f.ImportedSymbols()
	if err != nil {
		return err
	}
	var needed []string
	for _, symbol := range symbols {
		_, library, _ := strings.Cut(symbol, ":")
		needed = append(needed, strings.ToLower(library))
	}
	slices.Sort(needed)
	var problems []error
	for _, library := range slices.Compact(needed) {
		if library != "kernel32.dll" && !strings.HasPrefix(library, "api-ms-win-crt-") {
			problems = append(problems, fmt.Errorf("it needs the library %s", library))
		}
	}
	if f.FileHeader.NumberOfSymbols != 0 {
		problems = append(problems, errors.New("it is not stripped"))
	}
	return errors.Join(problems...)
}
