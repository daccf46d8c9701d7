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
func (h *Handle) Monitor() (*Monitor, error) {
	cfg := &netlink.Config{}
	if h.ns != nil {
		cfg.NetNS = int(h.ns.Fd())
	}
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, cfg)
	if err != nil {
		return nil, failure("watch the firewall", err)
	}
	_ = c.SetReadBuffer(monitorBuffer)
	if err := c.JoinGroup(groupNFTables); err != nil {
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
	stop := context.AfterFunc(ctx, func() {
		_ = m.conn.SetReadDeadline(time.Unix(1, 0)) // Close would wait for Receive
		m.lock.Close()
	})
	defer stop()
	told := make(chan bool)
	done := make(chan error, 2)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tell := func(lost bool) {
		select {
		case told <- lost:
		case <-ctx.Done():
		}
	}
	go func() { done <- m.receive(ctx, tell) }()
	go func() { done <- m.readLegacy(tell) }()
	for {
		select {
		case lost := <-told:
			changed(lost)
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
// and at its end who did it.
func (m *Monitor) receive(ctx context.Context, tell func(lost bool)) error {
	worse := false
	for {
		msgs, err := m.conn.Receive()
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, unix.ENOBUFS) {
			worse = false
			tell(true)
			continue
		}
		if err != nil {
			return fmt.Errorf("watch the firewall: %w", err)
		}
		for _, msg := range msgs {
			if kind := uint16(msg.Header.Type) & 0xff; kind != unix.NFT_MSG_NEWGEN {
				worse = worse || worsens(kind, msg.Data)
				continue
			}
			if worse && !byUs(msg.Data) {
				tell(false)
			}
			worse = false
		}
	}
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
