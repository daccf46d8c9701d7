package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A Snapshot is what the tables hold, each chain's rules and each set read once,
// when somebody first asks: comparing a thousand endpoints costs little more
// than one. It is for one goroutine. Close it.
type Snapshot struct {
	h    *Handle
	conn *netlink.Conn
	// Comments of rules, by chain, by family.
	rules map[nftables.TableFamily]map[string][]string
	sets  map[setName]map[string]held // nil: there is no such set
	doors map[ruleset]view            // of other owners' rulesets without any door
	seen  map[string]bool             // what several endpoints need and one was asked about
}

type setName struct {
	family nftables.TableFamily
	name   string
}

// held is an element of a set, but for its key.
type held struct {
	end, value []byte
	comment    string
}

// Snapshot returns a look at the tables of the handle's namespace.
func (h *Handle) Snapshot(ctx context.Context) (*Snapshot, error) {
	const what = "read the firewall"
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	cfg := &netlink.Config{}
	if h.ns != nil {
		cfg.NetNS = int(h.ns.Fd())
	}
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, cfg)
	if err != nil {
		return nil, failure(what, err)
	}
	return &Snapshot{h: h, conn: c, rules: map[nftables.TableFamily]map[string][]string{},
		sets: map[setName]map[string]held{}, doors: map[ruleset]view{}, seen: map[string]bool{}}, nil
}

// Close ends the look.
func (s *Snapshot) Close() { _ = s.conn.Close() }

// forget makes the next question about the tables a new one, after a change.
func (s *Snapshot) forget() {
	clear(s.rules)
	clear(s.sets)
	clear(s.doors)
	clear(s.seen)
}

// dump asks for all of a kind. The answer is asked for again if somebody
// changed the tables meanwhile.
func (s *Snapshot) dump(kind uint16, family nftables.TableFamily, attrs []netlink.Attribute, f func(*netlink.AttributeDecoder) error) error {
	data, err := netlink.MarshalAttributes(attrs)
	if err != nil {
		return err
	}
	m := netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: netlink.Request | netlink.Dump},
		Data:   append([]byte{byte(family), unix.NFNETLINK_V0, 0, 0}, data...),
	}
	for try := 0; ; try++ {
		answers, err := s.conn.Execute(m)
		if errors.Is(err, unix.EINTR) && try < 100 {
			continue
		}
		if err != nil {
			return err
		}
		if try < 100 && interrupted(answers) {
			continue
		}
		for _, a := range answers {
			if len(a.Data) < 4 {
				continue
			}
			ad, err := netlink.NewAttributeDecoder(a.Data[4:])
			if err != nil {
				return err
			}
			ad.ByteOrder = binary.BigEndian
			if err := f(ad); err != nil {
				return err
			}
		}
		return nil
	}
}

func interrupted(answers []netlink.Message) bool {
	for _, a := range answers {
		if a.Header.Flags&netlink.DumpInterrupted != 0 {
			return true
		}
	}
	return false
}

// rulesOf returns the comments of the chain's rules.
func (s *Snapshot) rulesOf(ch *nftables.Chain) ([]string, error) {
	family := ch.Table.Family
	if s.rules[family] != nil {
		return s.rules[family][ch.Name], nil
	}
	chains := map[string][]string{}
	err := s.dump(unix.NFT_MSG_GETRULE, family, []netlink.Attribute{{Type: unix.NFTA_RULE_TABLE, Data: []byte(Table + "\x00")}},
		func(ad *netlink.AttributeDecoder) error {
			var table, chain, text string
			for ad.Next() {
				switch ad.Type() {
				case unix.NFTA_RULE_TABLE:
					table = ad.String()
				case unix.NFTA_RULE_CHAIN:
					chain = ad.String()
				case unix.NFTA_RULE_USERDATA:
					text, _ = userdata.GetString(ad.Bytes(), userdata.TypeComment)
				}
			}
			if table == Table {
				chains[chain] = append(chains[chain], text)
			}
			return ad.Err()
		})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("read the rules of table %s %s: %w", familyName(family), Table, err)
	}
	s.rules[family] = chains
	return chains[ch.Name], nil
}

// elementsOf returns the set's elements by key, nil if there is no such set.
func (s *Snapshot) elementsOf(set *nftables.Set) (map[string]held, error) {
	name := setName{set.Table.Family, set.Name}
	if es, read := s.sets[name]; read {
		return es, nil
	}
	es := map[string]held{}
	err := s.dump(unix.NFT_MSG_GETSETELEM, set.Table.Family, []netlink.Attribute{
		{Type: unix.NFTA_SET_ELEM_LIST_TABLE, Data: []byte(set.Table.Name + "\x00")},
		{Type: unix.NFTA_SET_ELEM_LIST_SET, Data: []byte(set.Name + "\x00")},
	}, func(ad *netlink.AttributeDecoder) error {
		for ad.Next() {
			if ad.Type() == unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				ad.Nested(func(list *netlink.AttributeDecoder) error {
					for list.Next() {
						list.Nested(func(ad *netlink.AttributeDecoder) error { return readElement(ad, es) })
					}
					return list.Err()
				})
			}
		}
		return ad.Err()
	})
	if errors.Is(err, unix.ENOENT) {
		es, err = nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", where(set), err)
	}
	s.sets[name] = es
	return es, nil
}

func readElement(ad *netlink.AttributeDecoder, es map[string]held) error {
	var key []byte
	var e held
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_SET_ELEM_KEY:
			ad.Nested(readValue(&key))
		case nftables.NFTA_SET_ELEM_KEY_END:
			ad.Nested(readValue(&e.end))
		case unix.NFTA_SET_ELEM_DATA:
			ad.Nested(readValue(&e.value))
		case unix.NFTA_SET_ELEM_FLAGS:
			if ad.Uint32()&unix.NFT_SET_ELEM_INTERVAL_END != 0 {
				return nil
			}
		case unix.NFTA_SET_ELEM_USERDATA:
			e.comment, _ = userdata.GetString(ad.Bytes(), userdata.NFTNL_UDATA_SET_ELEM_COMMENT)
		}
	}
	es[string(key)] = e
	return ad.Err()
}

// readValue reads a key or a value, and nothing of a verdict: the element's
// comment says that.
func readValue(v *[]byte) func(*netlink.AttributeDecoder) error {
	return func(ad *netlink.AttributeDecoder) error {
		for ad.Next() {
			if ad.Type() == unix.NFTA_DATA_VALUE {
				*v = ad.Bytes()
			}
		}
		return ad.Err()
	}
}

// where says which set, or map, it is.
func where(s *nftables.Set) string {
	kind := "set"
	if s.IsMap {
		kind = "map"
	}
	return fmt.Sprintf("%s %s of table %s %s", kind, s.Name, familyName(s.Table.Family), s.Table.Name)
}
