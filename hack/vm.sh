#!/usr/bin/env bash
# Runs the tests that meet the kernel under the distribution's own, in a virtual
# machine: for what this machine's kernel lacks, VLAN filtering for one.
#
#   hack/vm.sh [FLAG...]    flags of the test binaries, such as -test.run=VLAN
#
# Debian on amd64. The kernel's package, some 70 MB, is unpacked below .cache,
# not installed. The machine is emulated and slow: a few minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
hack/setup.sh vm
cache=${BOWLINE_CACHE:-$PWD/.cache}
packages=(plugins/bridge plugins/macvlan plugins/host internal/link internal/nft internal/netns)

kernel=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/.*Depends: linux-image-//p')
[ -n "$kernel" ] || { echo "vm: apt knows no linux-image-amd64; want Debian on amd64" >&2; exit 1; }
k=$cache/vm/$kernel
if ! [ -e "$k/ready" ]; then
	echo "vm: fetching the kernel $kernel"
	rm -rf "$k" && mkdir -p "$k"
	(cd "$k" && apt-get download "linux-image-$kernel" >apt.log 2>&1 && dpkg-deb -x ./*.deb . && rm ./*.deb)
	busybox depmod -b "$k" "$kernel"
	touch "$k/ready"
fi

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{usr/bin,usr/sbin,usr/lib,usr/lib64,proc,sys,dev,run,tmp,tests,etc}
for d in bin sbin lib lib64; do ln -s usr/$d "$root/$d"; done

# copy FILE...: each to its own place in the machine, with the libraries it takes.
copy() {
	local f l
	for f in "$@"; do
		for l in "$f" $(ldd "$f" 2>/dev/null | grep -o '/[^ ]*' || true); do
			[ -e "$root$l" ] || install -D "$(realpath "$l")" "$root$l"
		done
	done
}

PATH=$PATH:/usr/sbin:/sbin
for c in ip bridge tc nft ping conntrack iptables-nft iptables-legacy ip6tables-nft ip6tables-legacy; do copy "$(command -v $c)"; done
for f in "$(ldconfig -p | sed -n 's,.* => \(/.*\)/libxtables.so.*,\1,p' | head -1)"/xtables/*.so; do copy "$f"; done
cp "$(command -v busybox)" "$root/bin/"
m=lib/modules/$kernel
mkdir -p "$root/$m/kernel"
cp "$k/$m"/modules.* "$root/$m/"
for d in net lib crypto drivers/net/veth.ko drivers/net/dummy.ko drivers/net/macvlan.ko drivers/net/ipvlan drivers/net/vxlan drivers/net/vrf.ko drivers/net/ifb.ko drivers/virtio drivers/net/virtio_net.ko drivers/net/net_failover.ko drivers/net/ethernet/intel/e1000; do
	(cd "$k/$m/kernel" && [ -e "$d" ] && cp -r --parents "$d" "$root/$m/kernel/")
done
for p in "${packages[@]}"; do
	CGO_ENABLED=0 nice go test -tags vm -c -o "$root/tests/${p//\//-}" "./$p"
done

cat >"$root/init" <<-E
	#!/bin/busybox sh
	/bin/busybox --install -s /sbin
	export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/ TMPDIR=/tmp BOWLINE_TEST_VM=1
	mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp
	ln -s /proc/self/fd /dev/fd; echo /sbin/modprobe >/proc/sys/kernel/modprobe; ip link set lo up
	failed=0
	modprobe -a virtio_pci virtio_net e1000 || true # NICs for plugins/host, with nobody at the other end
	modprobe -a bridge veth nf_tables # busybox loads the same module twice at once if asked to, and fails
	for t in /tests/*; do
		echo "=== \${t##*/}"
		\$t -test.timeout 30m -test.parallel 2 ${*@Q} || failed=1
	done
	echo "vm: failed=\$failed"
	poweroff -f
E
chmod 755 "$root/init"
(cd "$root" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$cache/vm/initrd"

echo "vm: Linux $kernel"
qemu-system-x86_64 -accel "${VM_ACCEL:-tcg,thread=multi}" -cpu max -m 2048 -smp 2 -nodefaults -no-reboot -display none -monitor none -serial stdio \
	-kernel "$k/boot/vmlinuz-$kernel" -initrd "$cache/vm/initrd" -append "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on" \
	-device virtio-rng-pci -device e1000 -device virtio-net-pci </dev/null | tr -d '\r' | tee "$cache/vm/log"
grep -q '^vm: failed=0' "$cache/vm/log"
