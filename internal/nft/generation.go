package nft

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// compare says how the tables differ from w. What differs while somebody else
// changes the tables may be true of no moment: the kernel lists rules that come
// beside those that they replace, and a look is made of several answers. So
// differences are looked at again, until that was at a time without a change.
func (s *Snapshot) compare(w wants) (comparison, error) {
	c, err := s.compareOnce(w)
	for try := 0; err == nil && len(c.found) > 0 && try < 100; try++ {
		// The number is raised early in a change: one that has raised it before
		// we ask has ended when settle returns, and one after that shows.
		var before, after uint32
		if before, err = s.generation(); err != nil {
			return c, err
		}
		if err = s.settle(); err != nil {
			return c, err
		}
		clear(s.rules)
		clear(s.sets)
		if c, err = s.compareOnce(w); err != nil {
			return c, err
		}
		if after, err = s.generation(); err == nil && before == after {
			break
		}
	}
	return c, err
}

// generation returns a number that each change of any table raises.
func (s *Snapshot) generation() (uint32, error) {
	answers, err := s.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, Flags: netlink.Request},
		Data:   []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0},
	})
	if err != nil {
		return 0, fmt.Errorf("read the generation of rules: %w", err)
	}
	for _, a := range answers {
		if len(a.Data) < 4 {
			continue
		}
		ad, err := netlink.NewAttributeDecoder(a.Data[4:])
		if err != nil {
			return 0, err
		}
		ad.ByteOrder = binary.BigEndian
		for ad.Next() {
			if ad.Type() == unix.NFTA_GEN_ID {
				return ad.Uint32(), ad.Err()
			}
		}
	}
	return 0, errors.New("read the generation of rules: the answer holds none")
}

// settle waits for the end of a change that is under way: an empty transaction
// takes its turn after it, and the kernel is done with it when it has been sent.
func (s *Snapshot) settle() error {
	edge := func(kind netlink.HeaderType) netlink.Message {
		return netlink.Message{
			Header: netlink.Header{Type: kind, Flags: netlink.Request},
			Data:   []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES},
		}
	}
	if _, err := s.conn.SendMessages([]netlink.Message{edge(unix.NFNL_MSG_BATCH_BEGIN), edge(unix.NFNL_MSG_BATCH_END)}); err != nil {
		return fmt.Errorf("wait for changes of rules: %w", err)
	}
	return nil
}
