package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// groupNFTables is NFNLGRP_NFTABLES (linux/netfilter/nfnetlink.h).
const groupNFTables = 7

// monitorBuffer is how many bytes of events may wait: what a table of some ten
// thousand elements causes that is flushed.
const monitorBuffer = 4 << 20

// A Monitor is told of changes of rulesets, whoever makes them.
type Monitor struct {
	conn *netlink.Conn
	lock *os.File // inotify; nil: there is none
}

// Monitor starts to listen. What happens from now on is told by [Monitor.Run].
func (h *Handle) Monitor() (*Monitor, error) { return h.monitor(false) }

// MonitorAll is Monitor, and listens in the sandboxes as well that have an ID in
// the handle's namespace, for what happens to our tables there. It is told by
// [Monitor.RunAll].
func (h *Handle) MonitorAll() (*Monitor, error) { return h.monitor(true) }

func (h *Handle) monitor(sandboxes bool) (*Monitor, error) {
	cfg := &netlink.Config{}
	if h.ns != nil {
		cfg.NetNS = int(h.ns.Fd())
	}
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, cfg)
	if err != nil {
		return nil, failure("watch the firewall", err)
	}
	_ = c.SetReadBuffer(monitorBuffer)
	if sandboxes {
		err = c.SetOption(netlink.ListenAllNSID, true)
	}
	if err := errors.Join(err, c.JoinGroup(groupNFTables)); err != nil {
		c.Close()
		return nil, failure("watch the firewall", err)
	}
	m := &Monitor{conn: c}
	if m.lock, err = watchLegacy(); err != nil {
		c.Close()
		return nil, fmt.Errorf("watch legacy iptables: %w", err)
	}
	return m, nil
}

// Close ends the monitor.
func (m *Monitor) Close() error { return errors.Join(m.conn.Close(), m.lock.Close()) }

// Run calls changed after each change that may be for the worse, from one
// goroutine at a time, until ctx is done; that is no error. lost says that
// there were more than could be told.
func (m *Monitor) Run(ctx context.Context, changed func(lost bool)) error {
	return m.RunAll(ctx, func(_ int, lost bool) { changed(lost) })
}

// RunAll is Run, and says where it was: the ID of the sandbox, or -1 for the
// handle's own namespace and where much was lost.
func (m *Monitor) RunAll(ctx context.Context, changed func(sandbox int, lost bool)) error {
	stop := context.AfterFunc(ctx, func() {
		_ = m.conn.SetReadDeadline(time.Unix(1, 0)) // Close would wait for Receive
		m.lock.Close()
	})
	defer stop()
	type event struct {
		sandbox int
		lost    bool
	}
	told := make(chan event)
	done := make(chan error, 2)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tell := func(sandbox int, lost bool) {
		select {
		case told <- event{sandbox, lost}:
		case <-ctx.Done():
		}
	}
	go func() { done <- m.receive(ctx, tell) }()
	go func() { done <- m.readLegacy(func(lost bool) { tell(-1, lost) }) }()
	for {
		select {
		case e := <-told:
			changed(e.sandbox, e.lost)
		case err := <-done:
			if ctx.Err() != nil {
				return nil
			}
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

// receive reads events of nftables, which come by transaction: what it changed,
// and at its end who did it. Those of several namespaces come between each other.
func (m *Monitor) receive(ctx context.Context, tell func(sandbox int, lost bool)) error {
	raw, err := m.conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("watch the firewall: %w", err)
	}
	worse := map[int]bool{}
	buf, control := make([]byte, 64<<10), make([]byte, 64)
	for {
		var n, cn, flags int
		var rerr error
		err := raw.Read(func(fd uintptr) bool {
			n, cn, flags, _, rerr = unix.Recvmsg(int(fd), buf, control, 0)
			return !errors.Is(rerr, unix.EAGAIN)
		})
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(rerr, unix.ENOBUFS), flags&unix.MSG_TRUNC != 0:
			clear(worse)
			tell(-1, true)
		case errors.Is(rerr, unix.EINTR):
		case err != nil || rerr != nil:
			return fmt.Errorf("watch the firewall: %w", errors.Join(err, rerr))
		default:
			sandbox := sandboxOf(control[:cn])
			if transactions(buf[:n], sandbox, worse) {
				tell(sandbox, false)
			}
		}
	}
}

// transactions reads events of a namespace and reports whether one ends that may
// be for the worse. Whoever is in a sandbox can call itself as it likes, so there
// even what we do counts.
func transactions(b []byte, sandbox int, worse map[int]bool) (tell bool) {
	for len(b) >= unix.NLMSG_HDRLEN {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.NLMSG_HDRLEN || size > len(b) {
			return tell
		}
		kind, data := binary.NativeEndian.Uint16(b[4:])&0xff, b[unix.NLMSG_HDRLEN:size]
		switch {
		case kind == unix.NFT_MSG_NEWGEN:
			tell = tell || worse[sandbox] && (sandbox >= 0 || !byUs(data))
			delete(worse, sandbox)
		case worsens(kind, data) && (sandbox < 0 || text(data, 1) == Table):
			worse[sandbox] = true
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return tell
}

// sandboxOf returns the ID of the namespace that an event is from, -1 for the
// socket's own.
func sandboxOf(control []byte) int {
	ms, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return -1
	}
	for _, m := range ms {
		if m.Header.Level == unix.SOL_NETLINK && m.Header.Type == unix.NETLINK_LISTEN_ALL_NSID && len(m.Data) >= 4 {
			return int(int32(binary.NativeEndian.Uint32(m.Data)))
		}
	}
	return -1
}

// worsens reports whether the event may be for the worse: rules, chains and
// tables come and go with what others do, but of elements only the end of ours
// counts.
func worsens(kind uint16, data []byte) bool {
	switch kind {
	case unix.NFT_MSG_NEWTABLE, unix.NFT_MSG_DELTABLE, unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN,
		unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
		return true
	case unix.NFT_MSG_DELSET, unix.NFT_MSG_DELSETELEM: // the table is attribute 1 of both
		return text(data, 1) == Table
	}
	return false
}

// byUs reports whether one of our plugins made the transaction.
func byUs(data []byte) bool {
	const processName = 3 // NFTA_GEN_PROC_NAME
	return strings.HasPrefix(text(data, processName), "bowline-")
}

// text returns an attribute of the message.
func text(data []byte, kind uint16) string {
	if len(data) < 4 {
		return ""
	}
	ad, err := netlink.NewAttributeDecoder(data[4:])
	if err != nil {
		return ""
	}
	for ad.Next() {
		if ad.Type() == kind {
			return ad.String()
		}
	}
	return ""
}

// xtablesLock is the file that every run of a legacy iptables command takes a
// lock on. There is no other sign of a change in the legacy tables.
func xtablesLock() string {
	if path := os.Getenv("XTABLES_LOCKFILE"); path != "" {
		return path
	}
	return "/run/xtables.lock"
}

// watchLegacy watches the directory of the lock, for the file is made by the
// first who takes it.
func watchLegacy() (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(xtablesLock()), unix.IN_CLOSE|unix.IN_ONLYDIR); err != nil && err != unix.ENOENT {
		f.Close()
		return nil, err
	}
	return f, nil
}

// readLegacy tells of each run of a legacy command that has ended.
func (m *Monitor) readLegacy(tell func(lost bool)) error {
	name := filepath.Base(xtablesLock())
	buf := make([]byte, 16<<10)
	for {
		n, err := m.lock.Read(buf)
		if err != nil {
			return fmt.Errorf("watch legacy iptables: %w", err)
		}
		ran, lost := false, false
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
			if size > len(b) {
				break
			}
			lost = lost || binary.NativeEndian.Uint32(b[4:])&unix.IN_Q_OVERFLOW != 0
			ran = ran || unix.ByteSliceToString(b[unix.SizeofInotifyEvent:size]) == name
			b = b[size:]
		}
		if ran || lost {
			tell(lost)
		}
	}
}
