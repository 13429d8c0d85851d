package test

import (
	"bytes"
	"encoding/binary"
)

// forwardingDLL returns a library of 64-bit Windows that has one function, which is
// another library's: LIBRARY.FUNCTION. A Go program asks bcryptprimitives.dll for
// ProcessPrng before anything else, and older Wine has no such library.
//
// It is headers and one section, which is the export directory (PE format, "The
// .edata Section"); there is no code in it.
func forwardingDLL(name, function, forward string) []byte {
	const (
		fileAlign    = 0x200
		sectionAlign = 0x1000 // where the section is in memory, too
		directory    = 40     // the size of an export directory
		base         = 0x180000000
	)
	u16, u32, u64 := binary.LittleEndian.AppendUint16, binary.LittleEndian.AppendUint32, binary.LittleEndian.AppendUint64

	// The section: directory, one address, one name's address, one ordinal, three texts.
	// An address within the section is no function's, but that of a forward.
	const address, names, ordinals, texts = directory, directory + 4, directory + 8, directory + 10
	at := func(offset int) uint32 { return uint32(sectionAlign + offset) }
	nameAt := texts
	functionAt := nameAt + len(name) + 1
	forwardAt := functionAt + len(function) + 1
	var section []byte
	for _, v := range []uint32{0, 0, 0, at(nameAt), 1, 1, 1, at(address), at(names), at(ordinals)} {
		section = u32(section, v)
	}
	section = u32(section, at(forwardAt))
	section = u32(section, at(functionAt))
	section = u16(section, 0)
	section = append(section, name+"\x00"+function+"\x00"+forward+"\x00"...)
	size := uint32(len(section))

	// The DOS header only says where the other begins.
	file := append([]byte("MZ"), make([]byte, 62)...)
	binary.LittleEndian.PutUint32(file[60:], 64)
	file = append(file, "PE\x00\x00"...)
	file = u16(file, 0x8664) // x86-64
	file = u16(file, 1)      // section
	file = append(file, make([]byte, 12)...)
	file = u16(file, 240)    // the optional header's size
	file = u16(file, 0x2022) // executable, large addresses, a DLL

	file = u16(file, 0x20b) // PE32+
	file = append(file, 14, 0)
	for _, v := range []uint32{0, fileAlign, 0, 0, 0} { // sizes of code and data, no entry point
		file = u32(file, v)
	}
	file = u64(file, base)
	file = u32(file, sectionAlign)
	file = u32(file, fileAlign)
	for _, v := range []uint16{6, 0, 0, 0, 6, 0} { // versions
		file = u16(file, v)
	}
	file = u32(file, 0)
	file = u32(file, 2*sectionAlign) // of the image
	file = u32(file, fileAlign)      // of the headers
	file = u32(file, 0)
	file = u16(file, 3)     // a console's
	file = u16(file, 0x100) // without data that is not executable
	for _, v := range []uint64{1 << 20, 1 << 12, 1 << 20, 1 << 12} {
		file = u64(file, v)
	}
	file = u32(file, 0)
	file = u32(file, 16) // directories, of which the first is of exports
	file = u32(file, at(0))
	file = u32(file, size)
	file = append(file, make([]byte, 15*8)...)

	file = append(file, ".edata\x00\x00"...)
	for _, v := range []uint32{size, sectionAlign, fileAlign, fileAlign, 0, 0, 0, 0x40000040} { // data that is read
		file = u32(file, v)
	}
	file = append(file, bytes.Repeat([]byte{0}, fileAlign-len(file))...)
	file = append(file, section...)
	return append(file, bytes.Repeat([]byte{0}, 2*fileAlign-len(file))...)
}
