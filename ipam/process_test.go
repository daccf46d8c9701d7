package ipam

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/state"
)

// workerEnv makes a process of this test binary a worker: the value is a
// directory for claims. $BOWLINE_RUN_DIR says where the store is.
const workerEnv = "BOWLINE_IPAM_TEST_CLAIMS"

func TestMain(m *testing.M) {
	if dir := os.Getenv(workerEnv); dir != "" {
		if err := work(dir, os.Args[1]); err != nil {
			fmt.Println("worker", os.Args[1], err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// workerConfig is small enough to run short and large enough not to be always.
func workerConfig() Config {
	c := v4("10.1.0.0/27")
	c.Sets = append(c.Sets, Set{{Subnet: pfx("fd00:1::/123"), Gateway: ip("fd00:1::1")}})
	c.Cooldown = time.Hour
	return c
}

// work allocates and releases until standard input ends, or workOnce times.
// While it holds an address it also has a file of that name, which it can make
// only if nobody else holds the address.
func work(claims, id string) error {
	ctx := context.Background()
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(done)
	}()
	s, c := Open("web"), workerConfig()
	fmt.Println("ready")
	held := map[Owner][]Allocation{}
	stop := func(n int) bool {
		select {
		case <-done:
			return true
		default:
			return n == workOnce
		}
	}
	for n := 0; ; n++ {
		if stop(n) {
			for o, as := range held {
				if err := disclaim(ctx, s, claims, o, as); err != nil {
					return err
				}
			}
			return nil
		}
		o := Owner{Container: fmt.Sprintf("w%s-%d", id, n%6), IfName: "eth0"}
		if as, ok := held[o]; ok {
			delete(held, o)
			if err := disclaim(ctx, s, claims, o, as); err != nil {
				return err
			}
			continue
		}
		r := Request{Owner: o}
		if n%3 == 0 {
			r.Name = o.Container
		}
		as, err := s.Allocate(ctx, c, r)
		if errors.Is(err, bowline.ErrExhausted) {
			continue
		}
		if err != nil {
			return err
		}
		held[o] = as
		for _, a := range as {
			f, err := os.OpenFile(filepath.Join(claims, a.Addr.Addr().String()), os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return fmt.Errorf("%s was given out twice: %w", a.Addr, err)
			}
			f.Close()
		}
	}
}

func disclaim(ctx context.Context, s *Store, claims string, o Owner, as []Allocation) error {
	for _, a := range as {
		if err := os.Remove(filepath.Join(claims, a.Addr.Addr().String())); err != nil {
			return err
		}
	}
	_, err := s.Release(ctx, o)
	return err
}

// workOnce is how often a worker that nobody stops does something.
const workOnce = 1000

type worker struct {
	cmd  *exec.Cmd
	stop io.Closer
	out  *bufio.Reader
}

func startWorker(t *testing.T, run, claims, id string) worker {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], id)
	cmd.Env = append(os.Environ(), workerEnv+"="+claims, "BOWLINE_RUN_DIR="+run)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w := worker{cmd, in, bufio.NewReader(out)}
	if line, err := w.out.ReadString('\n'); line != "ready\n" {
		t.Fatalf("worker %s said %q, %v", id, line, err)
	}
	return w
}

// wait returns what the worker said at last.
func (w worker) wait() (string, error) {
	rest, _ := io.ReadAll(w.out)
	return string(rest), w.cmd.Wait()
}

// storeBelow returns what Open("web") is for a worker.
func storeBelow(run string) *Store {
	boot := bootDir()
	return &Store{"web", state.Store{Dir: filepath.Join(run, "ipam", boot, "web")}, boot}
}

// TestProcesses: several processes, no address twice.
func TestProcesses(t *testing.T) {
	t.Parallel()
	run, claims := t.TempDir(), t.TempDir()
	var ws []worker
	for i := range 6 {
		ws = append(ws, startWorker(t, run, claims, fmt.Sprint(i)))
	}
	for i, w := range ws { // until each has done all that it does
		if said, err := w.wait(); err != nil {
			t.Errorf("worker %d: %v: %s", i, err, said)
		}
	}
	s := storeBelow(run)
	expectWhole(t, s)
	if err := s.Remove(t.Context()); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(run); err != nil || len(left) > 0 {
		t.Errorf("left after Remove: %v, %v", left, err)
	}
}

// TestKills: killed at random points, again and again, no address is given out
// twice by those who go on, and after GC none is lost.
func TestKills(t *testing.T) {
	t.Parallel()
	run, claims := t.TempDir(), t.TempDir()
	rounds := 16
	if testing.Short() {
		rounds = 8
	}
	s := storeBelow(run)
	rnd := rand.New(rand.NewPCG(1, 2))
	for round := range rounds {
		survivor := startWorker(t, run, claims, fmt.Sprintf("%d-s", round))
		victim := startWorker(t, run, claims, fmt.Sprintf("%d-v", round))
		<-time.After(time.Duration(rnd.IntN(8000)) * time.Microsecond) // at any moment is the point
		if err := victim.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_, _ = victim.wait()
		survivor.stop.Close()
		if said, err := survivor.wait(); err != nil {
			t.Fatalf("round %d: the survivor: %v: %s", round, err, said)
		}
		if round%4 < 2 { // else the next round has to live with what is left
			continue
		}
		released, err := s.GC(t.Context(), func(Owner) bool { return false })
		if err != nil {
			t.Fatalf("round %d: GC: %v", round, err)
		}
		for _, a := range released {
			_ = os.Remove(filepath.Join(claims, a.Addr.Addr().String()))
		}
		left, err := os.ReadDir(claims)
		if err != nil || len(left) > 0 { // released but not yet disclaimed cannot be
			t.Fatalf("round %d: claims without allocation: %v, %v", round, left, err)
		}
		expectWhole(t, s)
	}
}

// expectWhole: nothing is taken, and everything can be taken.
func expectWhole(t *testing.T, s *Store) {
	t.Helper()
	c := workerConfig()
	u, err := s.Usage(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if u.Used != 0 {
		t.Fatalf("usage is %+v, want none used", u)
	}
	seen := map[string]bool{}
	for i := range u.Free {
		got := mustAllocate(t, s, c, Request{Owner: owner(fmt.Sprint("all", i))})
		if seen[got] {
			t.Fatalf("%s was given out twice", got)
		}
		seen[got] = true
	}
	for i := range u.Free {
		mustRelease(t, s, owner(fmt.Sprint("all", i)))
	}
}
