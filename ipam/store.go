package ipam

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/jsontext"
	"github.com/bowline-net/bowline/internal/state"
)

// A Store holds the allocations of one network. Its methods may be called from
// several goroutines and processes at once.
//
// It lives below /run/bowline/ipam, in a directory of this boot: what an
// earlier boot left is void, whether or not /run survived.
//
//	ipam/BOOT/NETWORK/      locked while anything changes
//	    network             symbolic link to the network's name
//	    addrs/10.1.0.2      symbolic link to CONTAINER/IFNAME: taken
//	    owners/KEY          record of one owner: its addresses, its namespace
//	    names/HASH          symbolic link to the addresses a name had last
//	    quarantine/10.1.0.3 symbolic link like that of addrs: somebody else uses it
//	    hint-KEY            bitmap and ring of one set of ranges
type Store struct {
	network string
	st      state.Store
	boot    string
}

const (
	addrsDir      = "addrs"
	ownersDir     = "owners"
	namesDir      = "names"
	quarantineDir = "quarantine"
	hintFiles     = "hint-"

	networkLink = "network"
)

// Open returns the store of a network. It touches nothing.
func Open(network string) *Store {
	boot := bootDir()
	return &Store{network, state.Run("ipam", boot, state.Key(network)), boot}
}

func bootDir() string {
	if id := state.BootID(); id != "" {
		return state.Key(id)
	}
	return "boot"
}

// A record is what is known of one owner. It is written before the links that
// it lists and erased after them.
type record struct {
	Container string        `json:"container"`
	IfName    string        `json:"ifname"`
	Name      string        `json:"name,omitempty"`
	Sandbox   string        `json:"sandbox,omitempty"`
	NetnsDev  uint64        `json:"netnsDev,omitempty"`
	NetnsIno  uint64        `json:"netnsIno,omitempty"`
	Cooldown  time.Duration `json:"cooldown,omitempty"`
	Created   time.Time     `json:"created"`
	Addrs     []held        `json:"addrs"`
}

type held struct {
	Addr    netip.Prefix `json:"addr"`
	Gateway netip.Addr   `json:"gateway,omitzero"`
	Space   string       `json:"space"` // key of its hint
	Index   uint64       `json:"index"` // within the space
}

// AppendJSON implements [jsontext.Appender], for one is written per attachment.
// It must say what the tags say; a test compares.
func (r record) AppendJSON(w *jsontext.Writer) {
	w.String("container", r.Container)
	w.String("ifname", r.IfName)
	w.OmitString("name", r.Name)
	w.OmitString("sandbox", r.Sandbox)
	w.OmitUint("netnsDev", r.NetnsDev)
	w.OmitUint("netnsIno", r.NetnsIno)
	w.OmitInt("cooldown", int64(r.Cooldown))
	w.Time("created", r.Created)
	w.List("addrs", func() {
		for _, h := range r.Addrs {
			w.Object("", func() {
				w.Prefix("addr", h.Addr)
				if h.Gateway.IsValid() {
					w.Addr("gateway", h.Gateway)
				}
				w.String("space", h.Space)
				w.Uint("index", h.Index)
			})
		}
	})
}

func (r record) owner() Owner { return Owner{r.Container, r.IfName} }

func (r record) allocations() []Allocation {
	as := make([]Allocation, len(r.Addrs))
	for i, h := range r.Addrs {
		as[i] = Allocation{h.Addr, h.Gateway, r.owner()}
	}
	return as
}

func recordName(o Owner) string { return ownersDir + "/" + state.Key(o.String()) }

// A session is a store while its directory is open, and locked if it changes.
type session struct {
	*Store
	dir   int // descriptor of the store's directory
	hints map[string]*hint
	files []int // descriptors of the hints
}

// lock waits for the exclusive lock. make says to make the directory if there
// is none; else ok is false then.
func (s *Store) lock(ctx context.Context, make bool) (l *session, ok bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, false, s.wrap(err)
	}
	var create func() error
	if make {
		if s.network == "" {
			return nil, false, s.wrap(wrong("name", "", "the name of the network"))
		}
		create = s.create
	}
	fd, ok, err := lockDir(s.st.Dir, create)
	if err != nil || !ok {
		return nil, false, s.wrap(err)
	}
	l = &session{Store: s, dir: fd}
	if make {
		if err := l.furnish(); err != nil {
			l.unlock()
			return nil, false, s.wrap(err)
		}
	}
	return l, true, nil
}

// lockDir waits for the exclusive lock of a directory. It is on the directory
// itself, so that no lock file has to stay behind. If there is no directory,
// create makes it; ok is false if create is nil.
func lockDir(dir string, create func() error) (fd int, ok bool, err error) {
	for {
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) {
			if create == nil {
				return 0, false, nil
			}
			// Removing the last network takes the directories above along,
			// perhaps while they are being made.
			if err := create(); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
				return 0, false, err
			}
			continue
		}
		if err == nil {
			if err = flock(fd); err != nil {
				unix.Close(fd)
			}
		}
		if err != nil {
			return 0, false, fmt.Errorf("lock %s: %w", dir, err)
		}
		// Whoever held the lock may have removed the directory meanwhile.
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err == nil && st.Nlink > 0 {
			return fd, true, nil
		}
		unix.Close(fd)
	}
}

func flock(fd int) error {
	for {
		if err := unix.Flock(fd, unix.LOCK_EX); err != unix.EINTR {
			return err
		}
	}
}

// create makes the store's directory, and takes away what earlier boots left.
func (s *Store) create() error {
	root := filepath.Dir(filepath.Dir(s.st.Dir))
	boots, _ := os.ReadDir(root)
	for _, b := range boots {
		if b.Name() != s.boot {
			if err := os.RemoveAll(filepath.Join(root, b.Name())); err != nil {
				return fmt.Errorf("remove allocations of a previous boot: %w", err)
			}
		}
	}
	return os.MkdirAll(s.st.Dir, 0o700)
}

// furnish makes what a store has in its directory, if that is new.
func (l *session) furnish() error {
	if name, err := l.readLink(networkLink); err != nil || name != "" {
		return err
	}
	for _, dir := range []string{ownersDir, addrsDir} {
		if err := unix.Mkdirat(l.dir, dir, 0o700); err != nil && err != unix.EEXIST {
			return l.at("make", dir, err)
		}
	}
	// A directory of records goes with its last one, and would have to be made
	// again at every other ADD of a network with one container.
	if err := os.WriteFile(filepath.Join(l.st.Dir, ownersDir, ".keep"), nil, 0o600); err != nil {
		return err
	}
	if err := unix.Symlinkat(l.network, l.dir, networkLink); err != nil {
		return l.at("make link", networkLink, err)
	}
	return nil
}

func (l *session) unlock() {
	for _, fd := range l.files {
		unix.Close(fd)
	}
	unix.Close(l.dir)
}

// wrap says which network err is about.
func (s *Store) wrap(err error) error {
	if err == nil {
		return nil
	}
	var d *state.DamagedError
	if errors.As(err, &d) {
		return bowline.Wrong(bowline.ErrDamaged, fmt.Sprintf("network %q: ipam: %v", s.network, err))
	}
	return fmt.Errorf("network %q: ipam: %w", s.network, err)
}

// record reads what is known of an owner; ok is false if there is nothing.
func (s *Store) record(ctx context.Context, o Owner) (r record, ok bool, err error) {
	err = s.st.Get(ctx, recordName(o), &r)
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, false, nil
	}
	if err == nil && r.owner() != o {
		return record{}, false, fmt.Errorf("record %s is of %s, not of %s", recordName(o), r.owner(), o)
	}
	return r, err == nil, err
}

// records reads those of all owners. Damaged ones come as errors, joined,
// beside the good ones.
func (s *Store) records(ctx context.Context) ([]record, error) {
	names, err := s.st.List(ctx, ownersDir)
	if err != nil {
		return nil, err
	}
	var rs []record
	var errs []error
	for _, name := range names {
		var r record
		switch err := s.st.Get(ctx, name, &r); {
		case err == nil:
			rs = append(rs, r)
		case !errors.Is(err, fs.ErrNotExist): // released meanwhile
			errs = append(errs, err)
		}
	}
	return rs, errors.Join(errs...)
}
