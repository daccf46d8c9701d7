package ipam

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
)

// nameKey stands for a name where it must be short; 0 is no name.
func nameKey(name string) uint64 {
	if name == "" {
		return 0
	}
	d := sha256.Sum256([]byte(name))
	return binary.BigEndian.Uint64(d[:]) | 1
}

func nameLink(key uint64) string { return namesDir + "/" + nameFile(key) }
func nameFile(key uint64) string { return fmt.Sprintf("%016x", key) }

// remember notes which addresses a name had. Failing to is no reason to fail.
func (l *session) remember(rec record) {
	texts := make([]string, len(rec.Addrs))
	for i, h := range rec.Addrs {
		texts[i] = h.Addr.Addr().String()
	}
	_ = l.replaceLink(namesDir, strings.Join(texts, ","), nameFile(nameKey(rec.Name)))
}

// remembered returns the addresses that the name had last.
func (l *session) remembered(name string) ([]netip.Addr, error) {
	target, err := l.readLink(nameLink(nameKey(name)))
	if err != nil || target == "" {
		return nil, err
	}
	var addrs []netip.Addr
	for text := range strings.SplitSeq(target, ",") {
		if a, err := netip.ParseAddr(text); err == nil {
			addrs = append(addrs, a)
		}
	}
	return addrs, nil
}
