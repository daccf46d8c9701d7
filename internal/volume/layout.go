package volume

import "path/filepath"

// A Layout is where a back-end keeps things below the directory of its pool:
//
//	NAME/live             the volume
//	NAME/snapshots/SNAP   its snapshots
//	NAME/ids/SNAP         what they are, where the file system does not know
//	NAME/partial          what is being made; whatever is there was cut short
type Layout string

// Volume returns the directory of all that belongs to one.
func (l Layout) Volume(name string) string { return filepath.Join(string(l), name) }

// Path returns the directory that containers mount.
func (l Layout) Path(name string) string { return filepath.Join(string(l), name, "live") }

// SnapshotsDir returns the directory that a volume's snapshots are in.
func (l Layout) SnapshotsDir(name string) string { return filepath.Join(string(l), name, "snapshots") }

// SnapshotDir returns the directory of a snapshot.
func (l Layout) SnapshotDir(name, snap string) string {
	return filepath.Join(l.SnapshotsDir(name), snap)
}

// ID returns the file that says what a snapshot is.
func (l Layout) ID(name, snap string) string { return filepath.Join(string(l), name, "ids", snap) }

// Partial returns the directory of what is being made.
func (l Layout) Partial(name string) string { return filepath.Join(string(l), name, "partial") }
