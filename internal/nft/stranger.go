package nft

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/bowline-net/bowline"
	"github.com/google/nftables"
)

// Somebody else may have a table of our name. We put nothing into it, and take
// nothing from it.

// ownedTable reports whether only the process may change the table that made it
// (NFT_TABLE_F_OWNER). The library takes the kernel's flags, which are in network
// byte order, for a number of the machine.
func ownedTable(t *nftables.Table) bool {
	return binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, t.Flags))&0x2 != 0
}

// notOurs says why the table cannot be ours, or "". A new one, with nothing in
// it, can.
func notOurs(c *nftables.Conn, t *nftables.Table) (why string, err error) {
	if ownedTable(t) {
		return "belongs to a process that lets nobody else change it", nil
	}
	if t.Use == 0 {
		return "", nil
	}
	sets, err := c.GetSets(t)
	if err != nil {
		return "", err
	}
	for _, s := range sets {
		switch s.Name {
		case "pair", "into", "guarded", "allowed", shimPeersName:
			return "", nil
		}
		if strings.HasPrefix(s.Name, "port") || strings.HasPrefix(s.Name, "policy-") || strings.HasPrefix(s.Name, tunnelSet) {
			return "", nil
		}
	}
	return "holds nothing of ours", nil
}

// familiesOf returns those of the tables that the elements go into.
func familiesOf(elements []element) (fs []nftables.TableFamily) {
	for _, e := range elements {
		if !slices.Contains(fs, e.set.Table.Family) {
			fs = append(fs, e.set.Table.Family)
		}
	}
	return fs
}

// unowned returns nil if all tables of the families are ours, or not there yet;
// else an error that wraps [bowline.ErrConflict] and names one.
func unowned(c *nftables.Conn, families ...nftables.TableFamily) error {
	all, err := c.ListTables()
	if err != nil {
		return err
	}
	for _, t := range all {
		if t.Name != Table || !slices.Contains(families, t.Family) {
			continue
		}
		why, err := notOurs(c, t)
		if err != nil {
			return err
		}
		if why != "" {
			name := "table " + familyName(t.Family) + " " + t.Name
			return fmt.Errorf("%w: %s is somebody else's, for it %s; want it renamed or deleted", bowline.ErrConflict, name, why)
		}
	}
	return nil
}

// ourTables returns the families in which we have a table.
func ourTables(c *nftables.Conn) (map[nftables.TableFamily]bool, error) {
	all, err := c.ListTables()
	if err != nil {
		return nil, err
	}
	ours := map[nftables.TableFamily]bool{}
	for _, t := range all {
		if t.Name != Table || t.Use == 0 {
			continue
		}
		why, err := notOurs(c, t)
		if err != nil {
			return nil, err
		}
		ours[t.Family] = why == ""
	}
	return ours, nil
}
