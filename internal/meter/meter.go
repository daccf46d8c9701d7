// Package meter counts how long operations took, for all processes together.
//
// The counters are a small file of fixed layout that every process maps into
// its memory and adds to: no lock, no write, nothing to parse, a few
// microseconds for a process that lives for one operation. A file that is not
// of this layout is set aside and begun anew. What it holds is about the past
// only: removing it harms nothing.
package meter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An Op is a kind of operation and how it ended.
type Op struct {
	Face string // "cni" or "docker"
	Verb string // such as "ADD", or "NetworkDriver.Join"
	Code int    // 0: done; else that of the error, as CNI numbers them
}

// Bounds returns the upper ends of the buckets. What took longer than the last
// is in one more.
func Bounds() [13]time.Duration {
	const ms = time.Millisecond
	return [...]time.Duration{1 * ms, 2 * ms, 3 * ms, 4 * ms, 6 * ms, 10 * ms, 25 * ms, 50 * ms, 100 * ms, 250 * ms, 500 * ms, 1000 * ms, 5000 * ms}
}

// The layout: a header, of which magic is the first part, and slots. A slot has
// a state (uint32), a key, the sum of durations in nanoseconds (uint64) and a
// counter for each bucket (uint64 each), all in the byte order of the machine.
const (
	magic    = "bowline-meter-1\n"
	fileSize = 16 << 10
	header   = 64
	lostAt   = 16 // in the header: operations that found no slot (uint64)
	slotSize = 192
	slots    = (fileSize - header) / slotSize
	keyAt    = 8
	keySize  = 56
	sumAt    = keyAt + keySize
	countsAt = sumAt + 8
	buckets  = 14
)

// The states of a slot, in the order in which it goes through them.
const (
	slotFree uint32 = iota
	slotTaken
	slotReady
)

// A Meter adds to one file. Its methods may be called from several goroutines.
type Meter struct{ mem []byte }

// Open opens the file, and makes it if there is none.
func Open(path string) (*Meter, error) {
	for try := 0; ; try++ {
		mem, err := open(path)
		if errors.Is(err, unix.ENOENT) && try == 0 {
			err = os.MkdirAll(filepath.Dir(path), 0o700)
		} else if errors.Is(err, errLayout) && try < 2 {
			err = os.Rename(path, path+".damaged")
		} else if err == nil {
			return &Meter{mem}, nil
		}
		if err != nil {
			return nil, fmt.Errorf("open meter %s: %w", path, err)
		}
	}
}

// errLayout says that a file is something else.
var errLayout = errors.New("not a file of this version")

// open maps the file. Several processes may make it at once: each step is the
// same whoever does it and how often.
func open(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var s unix.Stat_t
	if err := unix.Fstat(fd, &s); err != nil {
		return nil, err
	}
	if s.Size == 0 {
		// The room is taken at once: a page of a full file system that is only
		// found missing when it is written to would kill the process.
		if err := unix.Fallocate(fd, 0, 0, fileSize); err != nil {
			_ = unix.Unlink(path)
			return nil, err
		}
		s.Size = fileSize
	}
	if s.Size != fileSize || s.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errLayout
	}
	p, err := unix.MmapPtr(fd, 0, nil, fileSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	mem := unsafe.Slice((*byte)(p), fileSize)
	switch string(mem[:len(magic)]) {
	case magic:
		return mem, nil
	case string(make([]byte, len(magic))):
		copy(mem, magic)
		return mem, nil
	}
	_ = unix.MunmapPtr(p, fileSize)
	return nil, errLayout
}

// Close ends the use of the meter.
func (m *Meter) Close() error { return unix.MunmapPtr(unsafe.Pointer(&m.mem[0]), fileSize) }

// Add counts one operation. It never waits and never fails: what finds no slot
// is counted as lost.
func (m *Meter) Add(op Op, took time.Duration) {
	// Somebody may truncate the file under us.
	defer func() { _ = recover() }()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	slot := m.slot(op.key())
	if slot < 0 {
		m.word(lostAt).Add(1)
		return
	}
	bucket := 0
	for _, b := range Bounds() {
		if took <= b {
			break
		}
		bucket++
	}
	m.word(slot + countsAt + 8*bucket).Add(1)
	m.word(slot + sumAt).Add(uint64(max(0, took)))
}

func (m *Meter) word(at int) *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&m.mem[at])) }

// slot returns where the key's slot is, and takes one for it if there is none;
// -1 if all are taken.
func (m *Meter) slot(key [keySize]byte) int {
	h := uint32(2166136261) // FNV-1a
	for _, b := range key {
		h = (h ^ uint32(b)) * 16777619
	}
	for i := range slots {
		at := header + int((h+uint32(i))%slots)*slotSize
		state := (*atomic.Uint32)(unsafe.Pointer(&m.mem[at]))
		if state.CompareAndSwap(slotFree, slotTaken) {
			copy(m.mem[at+keyAt:], key[:])
			state.Store(slotReady)
			return at
		}
		// Another process is writing its key, unless it was killed meanwhile.
		for spin := 0; spin < 1000 && state.Load() == slotTaken; spin++ {
		}
		if state.Load() == slotReady && [keySize]byte(m.mem[at+keyAt:at+keyAt+keySize]) == key {
			return at
		}
	}
	return -1
}

// key is the operation in the file: three words, what is too long cut off.
func (o Op) key() (key [keySize]byte) {
	b := append(append(make([]byte, 0, 2*keySize), o.Face...), ' ')
	b = append(strconv.AppendInt(b, int64(o.Code), 10), ' ')
	copy(key[:], append(b, o.Verb...))
	return key
}

// A Series is what the file holds of one operation.
type Series struct {
	Op
	Counts [buckets]uint64 // of each bucket alone
	Sum    time.Duration
}

// Count returns how many operations there were.
func (s Series) Count() uint64 {
	var n uint64
	for _, c := range s.Counts {
		n += c
	}
	return n
}

// Read returns what the file holds, sorted by nothing. No file is no series.
func Read(path string) ([]Series, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err == nil && (len(data) != fileSize || string(data[:len(magic)]) != magic) {
		err = errLayout
	}
	if err != nil {
		return nil, fmt.Errorf("read meter %s: %w", path, err)
	}
	var all []Series
	for at := header; at+slotSize <= len(data); at += slotSize {
		if binary.NativeEndian.Uint32(data[at:]) != slotReady {
			continue
		}
		var s Series
		if n, err := fmt.Sscanf(unix.ByteSliceToString(data[at+keyAt:at+keyAt+keySize]), "%s %d %s", &s.Face, &s.Code, &s.Verb); n != 3 || err != nil {
			continue
		}
		s.Sum = time.Duration(binary.NativeEndian.Uint64(data[at+sumAt:]))
		for i := range s.Counts {
			s.Counts[i] = binary.NativeEndian.Uint64(data[at+countsAt+8*i:])
		}
		all = append(all, s)
	}
	return all, nil
}
