package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// The section of Go's FIPS 140 information (crypto/internal/fips140/check): a magic
// number, a sum, its own address, and start and end of each part that is summed.
const (
	fipsSection  = ".go.fipsinfo"
	fipsMagicLen = 16
	fipsParts    = 4
	fipsLen      = fipsMagicLen + sha256.Size + 8 + fipsParts*16
)

// sealFIPS writes the sum that a library checks when it starts with GODEBUG=fips140=on.
// The Go linker calculates it after the C linker, from addresses in the file. GNU ld
// writes them there and into the relocations. zig's linker writes them into the
// relocations only, has no option for both, and Go then sums nothing: the check would
// end the process.
func sealFIPS(path string) (err error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	f, err := elf.NewFile(file)
	if err != nil {
		return err
	}
	info := f.Section(fipsSection)
	if info == nil {
		return fmt.Errorf("it has no section %s", fipsSection)
	}
	data, err := info.Data()
	if err != nil {
		return err
	}
	if len(data) < fipsLen {
		return fmt.Errorf("%s has %d bytes, fewer than %d", fipsSection, len(data), fipsLen)
	}
	relative := map[elf.Machine]uint32{elf.EM_X86_64: uint32(elf.R_X86_64_RELATIVE), elf.EM_AARCH64: uint32(elf.R_AARCH64_RELATIVE)}[f.Machine]
	for _, section := range f.Sections {
		if section.Type != elf.SHT_RELA || section.Flags&elf.SHF_ALLOC == 0 {
			continue
		}
		relocations, err := section.Data()
		if err != nil {
			return err
		}
		for ; len(relocations) >= 24; relocations = relocations[24:] {
			at := binary.LittleEndian.Uint64(relocations) - info.Addr
			if at <= fipsLen-8 && elf.R_TYPE64(binary.LittleEndian.Uint64(relocations[8:])) == relative {
				copy(data[at:], relocations[16:24])
			}
		}
	}
	sum, err := fipsSum(f, data[fipsMagicLen+sha256.Size+8:])
	if err != nil {
		return err
	}
	copy(data[fipsMagicLen:], sum)
	_, err = file.WriteAt(data, int64(info.Offset))
	return err
}

// fipsSum is what the Go linker calculates (cmd/link/internal/ld/fips140.go).
func fipsSum(f *elf.File, addresses []byte) ([]byte, error) {
	h := hmac.New(sha256.New, make([]byte, 32))
	_, _ = io.WriteString(h, "go fips object v1\n")
	for range fipsParts {
		start, end := binary.LittleEndian.Uint64(addresses), binary.LittleEndian.Uint64(addresses[8:])
		addresses = addresses[16:]
		found := false
		for _, p := range f.Progs {
			if p.Type == elf.PT_LOAD && p.Vaddr <= start && start <= end && end <= p.Vaddr+p.Filesz {
				_, _ = h.Write(binary.BigEndian.AppendUint64(nil, end-start))
				if _, err := io.Copy(h, io.NewSectionReader(p, int64(start-p.Vaddr), int64(end-start))); err != nil {
					return nil, err
				}
				found = true
				break
			}
		}
		if !found || start == 0 {
			return nil, fmt.Errorf("%s has the address %#x, which is not one of the file", fipsSection, start)
		}
	}
	return h.Sum(nil), nil
}
