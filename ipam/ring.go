package ipam

import (
	"encoding/binary"
	"errors"
	"io"
)

// entries reads the ring's entries from..to, void ones left out.
func (h *hint) entries(from, to uint64) ([]entry, error) {
	es := make([]entry, 0, to-from)
	err := h.each(from, to, func(_ uint64, e entry) bool {
		es = append(es, e)
		return true
	})
	return es, err
}

// each calls f for the entries from..to that are not void, oldest first, until
// it says false.
func (h *hint) each(from, to uint64, f func(n uint64, e entry) bool) error {
	buf := make([]byte, 32*entryLen)
	for from < to {
		// Up to the ring's end at once, then again from its start.
		n := min(to-from, ringLen-from%ringLen, uint64(len(buf)/entryLen))
		if _, err := h.f.ReadAt(buf[:n*entryLen], entryAt(from)); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		for i := range n {
			b := buf[i*entryLen:]
			e := entry{
				binary.LittleEndian.Uint64(b), int64(binary.LittleEndian.Uint64(b[8:])), binary.LittleEndian.Uint64(b[16:]),
			}
			if e.index != 0 && !f(from+i, e) {
				return nil
			}
		}
		from += n
		if len(buf) == 32*entryLen { // more than the few that are due
			buf = make([]byte, 1024*entryLen)
		}
	}
	return nil
}

func entryAt(n uint64) int64 { return ringStart + int64(n%ringLen)*entryLen }

func (h *hint) writeEntry(n uint64, e entry) error {
	var b [entryLen]byte
	binary.LittleEndian.PutUint64(b[:], e.index)
	binary.LittleEndian.PutUint64(b[8:], uint64(e.until))
	binary.LittleEndian.PutUint64(b[16:], e.holder)
	_, err := h.f.WriteAt(b[:], entryAt(n))
	return err
}

// rest notes that index was released. If the ring is full its oldest entry
// goes; forgotten is the name that nobody remembers any more then, or 0.
func (h *hint) rest(index uint64, until int64, holder uint64) (forgotten uint64, err error) {
	if h.tail-h.head == ringLen {
		if forgotten, err = h.drop(); err != nil {
			return 0, err
		}
	}
	if err := h.writeEntry(h.tail, entry{index + 1, until, holder}); err != nil {
		return 0, err
	}
	h.tail++
	return forgotten, h.save()
}

// drop takes the oldest entry off the ring.
func (h *hint) drop() (forgotten uint64, err error) {
	oldest, err := h.entries(h.head, h.head+1)
	if err != nil {
		return 0, err
	}
	if h.cool == h.head {
		h.cool++
		for _, e := range oldest {
			if err := h.mark(e.index-1, false); err != nil {
				return 0, err
			}
		}
	}
	h.head++
	if len(oldest) == 0 || oldest[0].holder == 0 {
		return 0, nil
	}
	forgotten = oldest[0].holder
	err = h.each(h.head, h.tail, func(_ uint64, e entry) bool {
		if e.holder == forgotten {
			forgotten = 0
		}
		return forgotten != 0
	})
	return forgotten, err
}

// wake frees the bits of what has rested by now, but no more than some at once.
func (h *hint) wake(now int64, atMost uint64) error {
	var woken []entry
	cool := h.cool
	to := min(h.tail, h.cool+atMost)
	waiting := false
	err := h.each(h.cool, to, func(n uint64, e entry) bool {
		if waiting = e.until > now; !waiting {
			woken = append(woken, e)
			cool = n + 1
		}
		return !waiting
	})
	if err != nil {
		return err
	}
	for _, e := range woken {
		if err := h.mark(e.index-1, false); err != nil {
			return err
		}
	}
	if !waiting {
		cool = to
	}
	h.cool = cool
	return nil
}

// oldest returns the index that has rested longest, and forgets that it rests.
func (h *hint) oldest() (index uint64, ok bool, err error) {
	to := h.tail
	err = h.each(h.cool, h.tail, func(n uint64, e entry) bool {
		index, ok, to = e.index-1, true, n+1
		return false
	})
	if err == nil {
		h.cool = to
	}
	return index, ok, err
}

// forget makes void what the ring says of index, which has been taken for
// another reason than its turn.
func (h *hint) forget(index uint64) error {
	var found []uint64
	err := h.each(h.head, h.tail, func(n uint64, e entry) bool {
		if e.index == index+1 {
			found = append(found, n)
		}
		return true
	})
	for _, n := range found {
		err = errors.Join(err, h.writeEntry(n, entry{}))
	}
	return err
}
