package nft

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Whoever is in a sandbox can take a lock on its namespace, and keep it; so there
// is none. Instead the kernel is told what number of changes we have looked at,
// and takes the table away only if there has been no other since. What is still
// in use of the rest it does not take away.

// tries bounds how often a look is taken again because of changes by others.
const tries = 100

// takeOut removes the elements of endpoints whose comment starts with prefix,
// with their hooks, what no other endpoint needs, and the table if that is all of
// it.
func (h *Handle) takeOut(c *nftables.Conn, prefix string) error {
	return h.again(func() (done bool, err error) {
		generation, err := h.generation()
		if err != nil {
			return false, err
		}
		ours, err := ourTables(c)
		if err != nil || !ours[nftables.TableFamilyNetdev] {
			return true, err
		}
		mine, others, err := inSandbox().endpointsOf(c, prefix)
		if err != nil {
			return false, err
		}
		_, alone, err := inSandbox().policyObjects(c)
		if err != nil {
			return false, err
		}
		if !others && alone {
			return true, h.deleteTable(c, generation)
		}
		if len(mine) > 0 {
			for _, ch := range hooksOf(mine, "") {
				c.FlushChain(ch)
				c.DelChain(ch)
			}
			// Others may go meanwhile, which makes us the last: look again.
			return h.dry != nil, flush(c, mine, (*nftables.Conn).SetDeleteElements)
		}
		return true, h.pruneUnused(c)
	})
}

// tidy removes the plans that no endpoint has, after at least one got another.
func (h *Handle) tidy(c *nftables.Conn) error {
	return h.again(func() (bool, error) { return true, h.pruneUnused(c) })
}

// again calls f until it is done. What others did meanwhile is no error.
func (h *Handle) again(f func() (done bool, err error)) error {
	for try := 0; ; try++ {
		done, err := f()
		meanwhile := errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ERESTART)
		if err != nil && (!meanwhile || try == tries) || err == nil && done {
			return err
		}
	}
}

// endpointsOf returns the elements of the endpoints whose comment starts with
// prefix, and whether there are others.
func (t site) endpointsOf(c *nftables.Conn, prefix string) (mine []element, others bool, err error) {
	all, err := t.policyElementsOf(c, "")
	if err != nil {
		return nil, false, err
	}
	for _, e := range all {
		if strings.HasPrefix(e.Comment, prefix) {
			mine = append(mine, e)
		} else {
			others = true
		}
	}
	return mine, others, nil
}

// hooksOf returns the chains that are hooked to the links of these elements, but
// for the one of that name.
func hooksOf(elements []element, but string) []*nftables.Chain {
	var links []string
	for _, e := range elements {
		link := unix.ByteSliceToString(e.Key)
		if link != but && !slices.Contains(links, link) {
			links = append(links, link)
		}
	}
	var hooks []*nftables.Chain
	for _, l := range links {
		for _, ch := range inSandbox().hooks(l) {
			hooks = append(hooks, ch.Chain)
		}
	}
	return hooks
}

// generation returns a number that each change of any table raises.
func (h *Handle) generation() (uint32, error) {
	answer, err := h.question(unix.NFT_MSG_GETGEN, netdevTable())
	if err != nil {
		return 0, err
	}
	return readFields(answer).u32(unix.NFTA_GEN_ID), nil
}

// deleteTable removes the table of policies. In a sandbox it fails with ERESTART
// if there was a change since that generation.
func (h *Handle) deleteTable(c *nftables.Conn, generation uint32) error {
	t := h.site().table
	if h.dry != nil || !h.sandbox {
		c.DelTable(t)
		return c.Flush()
	}
	const batchGeneration = 1 // NFNL_BATCH_GENID
	head := func(family nftables.TableFamily, resource byte) []byte {
		return []byte{byte(family), unix.NFNETLINK_V0, 0, resource}
	}
	_, err := h.exchange(
		message(unix.NFNL_MSG_BATCH_BEGIN, 0, head(0, unix.NFNL_SUBSYS_NFTABLES), attribute(batchGeneration, binary.BigEndian.AppendUint32(nil, generation))),
		message(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_DELTABLE, unix.NLM_F_ACK, head(t.Family, 0), attribute(unix.NFTA_TABLE_NAME, []byte(t.Name+"\x00"))),
		message(unix.NFNL_MSG_BATCH_END, 0, head(0, unix.NFNL_SUBSYS_NFTABLES)),
	)
	return err
}
