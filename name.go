package bowline

import (
	"crypto/sha256"
	"encoding/base32"
	"net"
	"strings"
)

// LinkName returns the kernel name of the thing that the IDs identify: prefix
// and 60 bits of their SHA-256 in base 32. It has 15 bytes, the longest name
// that the kernel takes, if prefix has 3.
func LinkName(prefix string, ids ...string) string {
	return prefix + strings.ToLower(base32.HexEncoding.EncodeToString(digest(ids)[:10]))[:12]
}

// MAC returns a locally administered unicast address derived from the IDs
// (IEEE 802-2014, 8.4: second least significant bit of the first octet).
func MAC(ids ...string) net.HardwareAddr {
	d := digest(append([]string{"mac"}, ids...))
	return net.HardwareAddr{d[0]&^1 | 2, d[1], d[2], d[3], d[4], d[5]}
}

// digest hashes ids so that no two different lists collide by concatenation.
func digest(ids []string) []byte {
	d := sha256.Sum256([]byte(strings.Join(ids, "\x00")))
	return d[:]
}
