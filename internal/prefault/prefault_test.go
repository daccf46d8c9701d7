package prefault

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// resident returns how many of the segments' bytes are mapped, and how many
// there are (man 5 proc, smaps).
func resident(t *testing.T) (mapped, size int) {
	t.Helper()
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range segments() {
		_, rest, found := strings.Cut("\n"+string(smaps), fmt.Sprintf("\n%08x-%08x ", s[0], s[1]))
		if !found {
			t.Fatalf("no mapping is %x-%x", s[0], s[1])
		}
		_, rest, _ = strings.Cut(rest, "\nRss:")
		var kib int
		if _, err := fmt.Sscan(rest, &kib); err != nil {
			t.Fatal(err)
		}
		mapped, size = mapped+kib<<10, size+int(s[1]-s[0])
	}
	return mapped, size
}

func TestProgram(t *testing.T) {
	for _, s := range segments() { // what runs meanwhile comes back by itself
		if _, _, err := unix.Syscall(unix.SYS_MADVISE, s[0], s[1]-s[0], unix.MADV_DONTNEED); err != 0 {
			t.Fatal(err)
		}
	}
	before, size := resident(t)
	if before >= size || size == 0 {
		t.Fatalf("%d of %d bytes are mapped before", before, size)
	}
	Program()
	if after, _ := resident(t); after != size {
		t.Errorf("%d of %d bytes are mapped, %d were before", after, size, before)
	}
}
