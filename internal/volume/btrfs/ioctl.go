package btrfs

import (
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline/internal/volume"
)

// The ioctls of linux/btrfs.h. The numbers hold the sizes of their structs,
// which are the same on all 64-bit machines.
const (
	iocTreeSearch   = 0xd0009411
	iocSnapCreate   = 0x50009417
	iocSubvolCreate = 0x50009418
	iocGetFlags     = 0x80089419
	iocSetFlags     = 0x4008941a
	iocSetReceived  = 0xc0c89425
	iocSend         = 0x40489426
	iocQuotaCtl     = 0xc0109428
	iocQgroupLimit  = 0x8030942b
	iocQuotaWait    = 0x942e
	iocSubvolInfo   = 0x81f8943c
	iocSnapDestroy  = 0x5000943f
	iocEncodedWrite = 0x40809440
)

const readOnly = 1 << 1 // of a subvolume, and of a snapshot to make

// ioctl passes a pointer; arg must hold no pointers that the collector moves.
func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	for {
		_, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(arg))
		runtime.KeepAlive(f)
		if e == 0 {
			return nil
		}
		if e != unix.EINTR {
			return e
		}
	}
}

// openDir opens a directory, not a link to one.
func openDir(path string) (*os.File, error) {
	return os.OpenFile(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// volArgs is struct btrfs_ioctl_vol_args_v2.
type volArgs struct {
	fd      int64
	transID uint64
	flags   uint64
	unused  [4]uint64
	name    [4040]byte
}

// inParent calls an ioctl on the parent directory of path, about its last part.
func inParent(what string, request uintptr, path string, a *volArgs) error {
	dir, err := openDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	copy(a.name[:len(a.name)-1], filepath.Base(path))
	if err := ioctl(dir, request, unsafe.Pointer(a)); err != nil {
		return &os.PathError{Op: what, Path: path, Err: err}
	}
	return nil
}

// createSubvolume makes an empty one.
func createSubvolume(path string) error {
	return inParent("create subvolume", iocSubvolCreate, path, new(volArgs))
}

// createSnapshot makes path a snapshot of the subvolume that f is the root of.
func createSnapshot(f *os.File, path string, flags uint64) error {
	err := inParent("create snapshot", iocSnapCreate, path, &volArgs{fd: int64(f.Fd()), flags: flags})
	runtime.KeepAlive(f)
	return err
}

// destroy removes a subvolume with all that is in it.
func destroy(path string) error {
	return inParent("delete subvolume", iocSnapDestroy, path, new(volArgs))
}

// setReadOnly makes a subvolume read-only.
func setReadOnly(f *os.File) error {
	var flags uint64
	if err := ioctl(f, iocGetFlags, unsafe.Pointer(&flags)); err != nil {
		return &os.PathError{Op: "get flags of subvolume", Path: f.Name(), Err: err}
	}
	flags |= readOnly
	if err := ioctl(f, iocSetFlags, unsafe.Pointer(&flags)); err != nil {
		return &os.PathError{Op: "set flags of subvolume", Path: f.Name(), Err: err}
	}
	return nil
}

type timespec struct {
	sec  uint64
	nsec uint32
	_    uint32
}

// subvolInfo is struct btrfs_ioctl_get_subvol_info_args.
type subvolInfo struct {
	treeID       uint64
	name         [256]byte
	parentID     uint64
	dirID        uint64
	generation   uint64
	flags        uint64
	uuid         [16]byte
	parentUUID   [16]byte
	receivedUUID [16]byte
	ctransID     uint64
	otransID     uint64
	stransID     uint64
	rtransID     uint64
	ctime        timespec
	otime        timespec
	stime        timespec
	rtime        timespec
	reserved     [8]uint64
}

// id is that of the snapshot, wherever it was taken. The kernel names it by the
// same one in what it sends.
func (s *subvolInfo) id() volume.ID {
	u := s.uuid
	if s.receivedUUID != [16]byte{} {
		u = s.receivedUUID
	}
	return volume.ID(hex.EncodeToString(u[:]))
}

func info(f *os.File) (*subvolInfo, error) {
	s := new(subvolInfo)
	if err := ioctl(f, iocSubvolInfo, unsafe.Pointer(s)); err != nil {
		return nil, &os.PathError{Op: "ask about subvolume", Path: f.Name(), Err: err}
	}
	return s, nil
}

// setReceived notes whose copy a subvolume is.
func setReceived(f *os.File, uuid [16]byte, transID uint64) error {
	// struct btrfs_ioctl_received_subvol_args
	a := struct {
		uuid               [16]byte
		stransID, rtransID uint64
		stime, rtime       timespec
		flags              uint64
		reserved           [16]uint64
	}{uuid: uuid, stransID: transID}
	if err := ioctl(f, iocSetReceived, unsafe.Pointer(&a)); err != nil {
		return &os.PathError{Op: "set received subvolume", Path: f.Name(), Err: err}
	}
	return nil
}

// Flags of send.
const (
	sendVersion    = 0x8
	sendCompressed = 0x10
)

// send writes the stream of a read-only subvolume to the pipe w; base 0: all of
// it. Version 1 is understood by every kernel.
func send(f, w *os.File, base uint64, version uint32) error {
	// struct btrfs_ioctl_send_args
	a := struct {
		fd         int64
		count      uint64
		sources    *uint64
		parentRoot uint64
		flags      uint64
		version    uint32
		reserved   [28]byte
	}{fd: int64(w.Fd()), parentRoot: base}
	if version > 1 {
		a.flags, a.version = sendVersion|sendCompressed, version
	}
	var pin runtime.Pinner
	defer pin.Unpin()
	if base != 0 {
		a.count, a.sources = 1, &base
		pin.Pin(a.sources)
	}
	err := ioctl(f, iocSend, unsafe.Pointer(&a))
	runtime.KeepAlive(w)
	return err
}

// encoded is what the kernel is told of an extent that stays compressed.
type encoded struct {
	offset                                 int64
	fileLen, unencodedLen, unencodedOffset uint64
	compression, encryption                uint32
}

// encodedWrite writes data that is compressed already.
func encodedWrite(f *os.File, e encoded, data []byte) error {
	if len(data) == 0 {
		return unix.EINVAL
	}
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&data[0])
	iov := &unix.Iovec{Base: &data[0]}
	iov.SetLen(len(data))
	pin.Pin(iov)
	// struct btrfs_ioctl_encoded_io_args
	a := struct {
		iov                                *unix.Iovec
		count                              uint64
		offset                             int64
		flags                              uint64
		len, unencodedLen, unencodedOffset uint64
		compression, encryption            uint32
		reserved                           [64]byte
	}{iov: iov, count: 1, offset: e.offset, len: e.fileLen, unencodedLen: e.unencodedLen, unencodedOffset: e.unencodedOffset, compression: e.compression, encryption: e.encryption}
	return ioctl(f, iocEncodedWrite, unsafe.Pointer(&a))
}

// enableQuota turns on what limits are kept by, and waits until all is counted.
// It succeeds if that is on.
func enableQuota(f *os.File) error {
	a := struct{ cmd, status uint64 }{cmd: 1}
	if err := ioctl(f, iocQuotaCtl, unsafe.Pointer(&a)); err != nil {
		return &os.PathError{Op: "enable quota", Path: f.Name(), Err: err}
	}
	if err := ioctl(f, iocQuotaWait, nil); err != nil {
		return &os.PathError{Op: "wait for quota", Path: f.Name(), Err: err}
	}
	return nil
}

// setLimit bounds what the subvolume of that tree may refer to; 0: nothing does.
func setLimit(f *os.File, treeID, size uint64) error {
	// struct btrfs_ioctl_qgroup_limit_args
	a := struct {
		qgroup                                    uint64
		flags, maxRfer, maxExcl, rsvRfer, rsvExcl uint64
	}{qgroup: treeID, flags: 1, maxRfer: size}
	if size == 0 {
		a.maxRfer = ^uint64(0) // takes the limit away
	}
	if err := ioctl(f, iocQgroupLimit, unsafe.Pointer(&a)); err != nil {
		return &os.PathError{Op: "limit subvolume", Path: f.Name(), Err: err}
	}
	return nil
}

// Keys of the quota tree.
const (
	quotaTree   = 8
	qgroupInfo  = 242
	qgroupLimit = 244
)

// quota reads what the subvolume of that tree refers to, and its limit; unix.ENOENT
// if nobody counts.
func quota(f *os.File, treeID uint64) (used, limit uint64, err error) {
	info, err := item(f, quotaTree, qgroupInfo, treeID)
	if err != nil {
		return 0, 0, err
	}
	lim, err := item(f, quotaTree, qgroupLimit, treeID)
	if err != nil && err != unix.ENOENT {
		return 0, 0, err
	}
	if len(info) < 16 {
		return 0, 0, unix.EIO
	}
	used = binary.LittleEndian.Uint64(info[8:])
	if len(lim) >= 16 && binary.LittleEndian.Uint64(lim)&1 != 0 {
		if limit = binary.LittleEndian.Uint64(lim[8:]); limit == ^uint64(0) {
			limit = 0
		}
	}
	return used, limit, nil
}

// item reads one item (0, kind, offset) of a tree.
func item(f *os.File, tree uint64, kind uint32, offset uint64) ([]byte, error) {
	// struct btrfs_ioctl_search_args
	var a struct {
		tree                   uint64
		minObject, maxObject   uint64
		minOffset, maxOffset   uint64
		minTransID, maxTransID uint64
		minType, maxType       uint32
		items, _               uint32
		_                      [4]uint64
		buf                    [3992]byte
	}
	a.tree, a.minOffset, a.maxOffset, a.maxTransID = tree, offset, offset, ^uint64(0)
	a.minType, a.maxType, a.items = kind, kind, 1
	if err := ioctl(f, iocTreeSearch, unsafe.Pointer(&a)); err != nil {
		return nil, err
	}
	if a.items == 0 {
		return nil, unix.ENOENT
	}
	// transid, objectid, offset (8 each), type, len (4 each), then the item
	n := binary.NativeEndian.Uint32(a.buf[28:])
	if int(n) > len(a.buf)-32 {
		return nil, unix.EIO
	}
	return a.buf[32 : 32+n], nil
}
