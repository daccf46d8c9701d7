package tree

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What was changed too late to be told from later changes is not remembered.
func TestOrigin(t *testing.T) {
	t.Parallel()
	s := &unix.Stat_t{Ino: 5, Ctim: unix.Timespec{Sec: 1000, Nsec: 5}, Size: 7}
	changed := time.Unix(1000, 5)
	if got := Origin(s, changed); got != nil {
		t.Errorf("changed at that time: %q", got)
	}
	before := Origin(s, changed.Add(1))
	if before == nil {
		t.Error("changed before that time: nothing is remembered")
	}
	for name, other := range map[string]unix.Stat_t{
		"inode": {Ino: 6, Ctim: s.Ctim, Size: 7}, "time": {Ino: 5, Ctim: unix.Timespec{Sec: 1000, Nsec: 4}, Size: 7},
		"size": {Ino: 5, Ctim: s.Ctim, Size: 8}, "device": {Dev: 1, Ino: 5, Ctim: s.Ctim, Size: 7},
	} {
		if string(Origin(&other, changed.Add(time.Second))) == string(before) {
			t.Errorf("another %s is not seen", name)
		}
	}
}
