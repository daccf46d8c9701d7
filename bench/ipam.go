package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// taken is how many leases there are at the second level.
const taken = 60000

// An allocator is an IPAM plugin with a /16 of its own.
type allocator struct {
	name, path, dir string
	sandbox         *attachment
	conf            map[string]any
	fill            func(ctx context.Context, a *allocator, n int) error
	add, del        []time.Duration
}

// allocation measures the ADD of an IPAM plugin with none and with very many
// addresses taken.
func allocation(ctx context.Context, o options) error {
	sandboxes, err := attachments("pool", 1)
	if err != nil {
		return err
	}
	defer closeAll(sandboxes)
	ranges := [][]map[string]any{{{"subnet": "10.64.0.0/16"}}}
	ours := &allocator{name: "bowline-ipam", path: o.ours + "/bowline-ipam", dir: filepath.Join(o.dir, "ipam-ours"), fill: fillByAdding, sandbox: sandboxes[0],
		conf: map[string]any{"type": "bowline-ipam", "ranges": ranges}}
	theirs := &allocator{name: "host-local", path: o.reference + "/host-local", dir: filepath.Join(o.dir, "ipam-ref"), fill: fillHostLocal, sandbox: sandboxes[0],
		conf: map[string]any{"type": "host-local", "ranges": ranges, "dataDir": filepath.Join(o.dir, "ipam-ref")}}
	empty := &allocator{name: "bowline-ipam", path: ours.path, dir: filepath.Join(o.dir, "ipam-empty"), sandbox: sandboxes[0], conf: ours.conf}
	head("IPAM alone (ms, medians)", "leases", "host-local ADD / DEL", "bowline-ipam ADD / DEL", "times faster", "bowline ADD × empty", "target")
	many := o.count(taken, 500)
	for _, level := range []int{0, many} {
		for _, a := range []*allocator{ours, theirs} {
			if level > 0 {
				if err := a.fill(ctx, a, level); err != nil {
					return fmt.Errorf("%s: %w", a.name, err)
				}
			}
		}
		if err := alternate(ctx, o.count(25, 5), ours, theirs); err != nil {
			return err
		}
		addOurs, delOurs := ours.add, ours.del
		growth, target := "", ""
		if level > 0 {
			// In the same rounds, or what the machine does meanwhile would be
			// taken for a difference; without the other, which leaves caches cold.
			if err := alternate(ctx, o.count(51, 5), ours, empty); err != nil {
				return err
			}
			growth, target = times(float64(median(ours.add)), float64(median(empty.add)), 0), "< 1.2×"
		}
		row(level, ms(median(theirs.add))+" / "+ms(median(theirs.del)), ms(median(addOurs))+" / "+ms(median(delOurs)),
			faster(median(theirs.add), median(addOurs), 0)+" / "+faster(median(theirs.del), median(delOurs), 0), growth, target)
	}
	return nil
}

// alternate measures ADD and DEL of both, each round in the other order.
func alternate(ctx context.Context, rounds int, a, b *allocator) error {
	a.add, a.del, b.add, b.del = nil, nil, nil, nil
	for i := range rounds + 1 {
		for _, x := range []*allocator{a, b} {
			id := fmt.Sprintf("probe%d", i)
			add, err := x.run(ctx, "ADD", id)
			if err != nil {
				return err
			}
			del, err := x.run(ctx, "DEL", id)
			if err != nil {
				return err
			}
			if i > 0 { // the first warms up
				x.add, x.del = append(x.add, add), append(x.del, del)
			}
		}
		a, b = b, a
	}
	return nil
}

// run executes the allocator once.
func (a *allocator) run(ctx context.Context, verb, id string) (time.Duration, error) {
	stdin, err := json.Marshal(map[string]any{"cniVersion": "1.0.0", "name": "pool", "type": "x", "ipam": a.conf})
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, a.path)
	cmd.Env = append(side{}.environ(a.dir), "CNI_COMMAND="+verb, "CNI_CONTAINERID="+id, "CNI_IFNAME=eth0", "CNI_NETNS="+a.sandbox.path(), "CNI_PATH=/")
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &out
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("%s %s: %w: %s", a.name, verb, err, out.String())
	}
	return time.Since(start), nil
}

// fillByAdding takes n addresses by ADD, 16 at a time: one of each sixteenth of
// the subnet.
func fillByAdding(ctx context.Context, a *allocator, n int) error {
	const at = 16
	var sixteenths [][]map[string]any
	for i := range at {
		sixteenths = append(sixteenths, []map[string]any{{"subnet": fmt.Sprintf("10.64.%d.0/20", i*256/at)}})
	}
	filler := *a
	filler.conf = maps.Clone(a.conf)
	filler.conf["ranges"] = sixteenths
	ids := make(chan string)
	var mu sync.Mutex
	var first error
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for id := range ids {
				if _, err := filler.run(ctx, "ADD", id); err != nil {
					mu.Lock()
					first = err
					mu.Unlock()
				}
			}
		})
	}
	for i := range n / at {
		ids <- fmt.Sprintf("c%d", i)
	}
	close(ids)
	wg.Wait()
	return first
}

// fillHostLocal writes the files that n ADDs would have written: running it
// would take hours, since each ADD reads all leases.
func fillHostLocal(_ context.Context, a *allocator, n int) error {
	dir := filepath.Join(a.dir, "pool")
	addr := netip.MustParseAddr("10.64.0.2")
	for i := range n {
		if err := os.WriteFile(filepath.Join(dir, addr.String()), fmt.Appendf(nil, "c%d\r\neth0", i), 0o600); err != nil {
			return err
		}
		addr = addr.Next()
	}
	return os.WriteFile(filepath.Join(dir, "last_reserved_ip.0"), []byte(addr.Prev().String()), 0o600)
}
