package e2e

import (
	"encoding/binary"
	"hash/crc32"
)

// sctpInit is a packet that begins an association (RFC 9260, 3.1 and 3.3.2).
func sctpInit(from, to uint16) []byte {
	b := binary.BigEndian.AppendUint16(nil, from)
	b = binary.BigEndian.AppendUint16(b, to)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0) // no verification tag yet; checksum
	b = append(b, 1, 0, 0, 20)            // INIT, without flags, of 20 bytes
	b = append(b, 1, 2, 3, 4, 0, 1, 0, 0) // initiate tag, window
	b = append(b, 0, 1, 0, 1, 0, 0, 0, 1) // streams out and in, first sequence number
	sum := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
	binary.LittleEndian.PutUint32(b[8:], sum)
	return b
}
