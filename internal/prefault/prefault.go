// Package prefault maps the whole program at once. A process that lives for
// some milliseconds otherwise takes a page fault at each piece of code that it
// enters for the first time, which is a twentieth of its life, and more on
// virtual machines.
package prefault

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// A programHeader is an Elf64_Phdr (man 5 elf).
type programHeader struct {
	kind, flags                                uint32
	offset, address, physical, fileSize, bytes uint64
	align                                      uint64
}

const (
	auxHeaders = 3 // AT_PHDR
	auxCount   = 5 // AT_PHNUM
	kindLoad   = 1 // PT_LOAD
	kindSelf   = 6 // PT_PHDR
	writable   = 2 // PF_W

	populateRead = 22 // MADV_POPULATE_READ
)

// Program has the kernel map the program's code and constants from the page
// cache. It is an optimization: older kernels than 5.14 refuse, and nothing
// depends on it.
func Program() {
	for _, s := range segments() {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, s[0], s[1]-s[0], populateRead)
	}
}

// segments returns start and end of what is loaded and never written.
func segments() [][2]uintptr {
	aux, err := unix.Auxv()
	if err != nil {
		return nil
	}
	var at, count, base uintptr
	for _, a := range aux {
		switch a[0] {
		case auxHeaders:
			at = a[1]
		case auxCount:
			count = a[1]
		}
	}
	if at == 0 {
		return nil
	}
	page := uintptr(unix.Getpagesize())
	var found [][2]uintptr
	for _, h := range unsafe.Slice((*programHeader)(unsafe.Add(unsafe.Pointer(nil), at)), count) {
		switch {
		case h.kind == kindSelf: // where it is less where it would be
			base = at - uintptr(h.address)
		case h.kind == kindLoad && h.flags&writable == 0:
			start, end := base+uintptr(h.address), base+uintptr(h.address+h.bytes)
			found = append(found, [2]uintptr{start &^ (page - 1), (end + page - 1) &^ (page - 1)})
		}
	}
	return found
}
