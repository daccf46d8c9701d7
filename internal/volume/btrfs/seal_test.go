package btrfs

import (
	"encoding/binary"
	"hash/crc32"
)

// Seal makes the checksums of a stream's commands right again, as far as it can
// be told where they are.
func Seal(stream []byte) {
	s := reader{table: crc32.MakeTable(crc32.Castagnoli)}
	for b := stream[min(len(stream), len(streamMagic)+4):]; len(b) >= commandHead; {
		n := commandHead + int(binary.LittleEndian.Uint32(b))
		if n < commandHead || n > len(b) {
			return
		}
		clear(b[6:commandHead])
		binary.LittleEndian.PutUint32(b[6:], s.checksum(b[:n]))
		b = b[n:]
	}
}
