package demo

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// orphanTime is how long an orphan has to end.
const orphanTime = 2 * time.Second

// adoptOrphans makes this process the parent of what its children leave behind
// when they end: a plugin may leave the slow rest of deleting a link to a child
// that outlives it by some milliseconds.
func adoptOrphans() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become parent of orphans: %w", err)
	}
	return nil
}

// waitOrphans waits until this process has no children any more, or one does not
// end in time; then the comparison will show it. Nobody else may be waiting for
// a child.
func waitOrphans() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	defer signal.Stop(ended)
	late := time.After(orphanTime)
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		switch {
		case pid > 0:
		case err != nil && !errors.Is(err, unix.EINTR): // no children
			return
		default:
			select {
			case <-ended:
			case <-late:
				return
			}
		}
	}
}
