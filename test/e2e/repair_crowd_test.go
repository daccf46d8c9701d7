package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// TestRepairCrowd: with a hundred containers everything is right again, too,
// and nothing is done while nothing breaks.
func TestRepairCrowd(t *testing.T) {
	h := newBrokenHost(t, repairConf().with("macspoofchk", true))
	for i := range 98 {
		h.sandbox(fmt.Sprint("s", i)).add(h.conf)
	}
	h.watch()
	for _, harm := range []string{"nft flush ruleset", "ip link del br-web", "ip link set br-web down"} {
		start := time.Now()
		h.run("sh", "-c", harm)
		eventually(t, func() error { _, err := h.inspect("diff"); return err })
		t.Logf("right again %s after %s", time.Since(start).Round(time.Millisecond), harm)
	}
	if err := h.whole(); err != nil {
		t.Error(err)
	}
	if err := h.line.echo(); err != nil {
		t.Errorf("b's connection: %v", err)
	}
	// The last pass follows its own changes; after it the process only waits.
	eventually(t, func() error {
		before := h.watcherTime()
		<-time.After(time.Second)
		if spent := h.watcherTime() - before; spent > 0 {
			return fmt.Errorf("the watcher took %d ticks of a second in which nothing happened", spent)
		}
		return nil
	})
}

// watcherTime returns the processor time of the watching process, in ticks of
// mostly 10 ms.
func (h *brokenHost) watcherTime() (ticks int) {
	h.t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.watcher))
	if err != nil {
		h.t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(data), ") ")
	var user, system int
	if _, err := fmt.Sscan(strings.Join(strings.Fields(after)[11:13], " "), &user, &system); err != nil {
		h.t.Fatal(err)
	}
	return user + system
}
