package ipam

import (
	"fmt"
	"net/netip"
	"os"
	"testing"

	"github.com/bowline-net/bowline/internal/state"
)

// newRunStore returns a store on a tmpfs if there is one, as /run is. On ext4
// the figures say how it looks for an inode that was not deleted lately.
func newRunStore(b *testing.B) *Store {
	b.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "bowline-ipam-")
	if err != nil {
		return newStore(b)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return &Store{"web", state.Store{Dir: dir + "/ipam/boot/web"}, "boot"}
}

// BenchmarkAllocate is one ADD's and one DEL's share, with that many addresses
// taken before.
func BenchmarkAllocate(b *testing.B) {
	for _, taken := range []int{0, 1000, 60000} {
		b.Run(fmt.Sprint(taken), func(b *testing.B) {
			s := newRunStore(b)
			c := Config{Sets: []Set{{{Subnet: netip.MustParsePrefix("10.0.0.0/16"), Gateway: netip.MustParseAddr("10.0.0.1")}}}, Cooldown: DefaultCooldown}
			for i := range taken {
				mustAllocate(b, s, c, Request{Owner: owner(fmt.Sprint("before", i))})
			}
			b.ResetTimer()
			for i := range b.N {
				o := owner(fmt.Sprint("c", i))
				mustAllocate(b, s, c, Request{Owner: o})
				b.StopTimer()
				mustRelease(b, s, o)
				b.StartTimer()
			}
		})
	}
}

func BenchmarkRelease(b *testing.B) {
	for _, taken := range []int{0, 60000} {
		b.Run(fmt.Sprint(taken), func(b *testing.B) {
			s := newRunStore(b)
			c := Config{Sets: []Set{{{Subnet: netip.MustParsePrefix("10.0.0.0/16"), Gateway: netip.MustParseAddr("10.0.0.1")}}}, Cooldown: DefaultCooldown}
			for i := range taken {
				mustAllocate(b, s, c, Request{Owner: owner(fmt.Sprint("before", i))})
			}
			b.ResetTimer()
			for i := range b.N {
				o := owner(fmt.Sprint("c", i))
				b.StopTimer()
				mustAllocate(b, s, c, Request{Owner: o})
				b.StartTimer()
				mustRelease(b, s, o)
			}
		})
	}
}
