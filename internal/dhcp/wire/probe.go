package wire

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// How often and for how long a probe asks. RFC 5227 has 3 probes and up to 7 s,
// for networks of all kinds; a server that gives an address has mostly asked
// for itself, and a neighbour that has it answers within milliseconds.
const (
	probes     = 2
	probeEvery = 150 * time.Millisecond
)

// probe asks whether somebody on the link has the address. The error wraps
// [ErrInUse] and says who.
func (l Link) probe(ctx context.Context, addr netip.Addr) error {
	c, err := l.dial(unix.ETH_P_ARP, nil)
	if err != nil {
		return err
	}
	defer c.close()
	var other []byte
	for range probes {
		if err := c.send(arpProbe(l.MAC, addr)); err != nil {
			return err
		}
		used, err := c.receive(ctx, time.Now().Add(probeEvery), func(frame []byte) bool {
			a, ok := parseARP(frame)
			if !ok || bytes.Equal(a.mac, l.MAC) {
				return false
			}
			other = bytes.Clone(a.mac)
			// Who has it, and who is about to take it (RFC 5227, 2.1.1).
			return a.sender == addr || a.request && a.sender.IsUnspecified() && a.target == addr
		})
		if err != nil {
			return err
		}
		if used {
			return fmt.Errorf("%w: %s is in use by %s", ErrInUse, addr, net.HardwareAddr(other))
		}
	}
	return nil
}

// Announce tells the link that the address is this MAC's now (RFC 5227, 2.3).
func (l Link) Announce(addr netip.Addr) error {
	c, err := l.dial(unix.ETH_P_ARP, nil)
	if err != nil {
		return err
	}
	defer c.close()
	frame := arpProbe(l.MAC, addr)
	copy(frame[ethLen+14:], addr.AsSlice()) // the sender has it
	return c.send(frame)
}
