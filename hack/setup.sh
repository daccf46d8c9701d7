#!/usr/bin/env bash
# Installs what this repository needs and this machine lacks, and says so.
#
#   hack/setup.sh build        for `make build`: nothing but Go, git and make
#   hack/setup.sh demo         for `make demo`: iproute2 and nftables, to compare the host
#   hack/setup.sh test         for `make test` and `make bench`: packages of the distribution, Go tools
#                              into .cache/bin, the reference plugins into .cache/ref, containerd 2
#                              into .cache/containerd2
#   hack/setup.sh vm           for `make test-vm`: qemu, and commands that the tests use
#
# Debian 12 and Ubuntu 24.04, as root or with sudo. Runs in under a second and
# touches no network when everything is there.
set -euo pipefail
cd "$(dirname "$0")/.."
level=${1:-test}
cache=${BOWLINE_CACHE:-$PWD/.cache}

golangci=github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
reference=v1.9.1 # of github.com/containernetworking/plugins
references="main/bridge main/macvlan main/host-device main/loopback ipam/host-local ipam/static ipam/dhcp meta/portmap meta/firewall meta/bandwidth meta/tuning"

say() { echo "setup: $*"; }
die() { echo "setup: $*" >&2; exit 1; }

# want COMMAND PACKAGE: PACKAGE goes on the list if COMMAND is not there.
missing=()
want() {
	PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null 2>&1 || missing+=("$2")
}

root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

privileged() { [ "$(id -u)" = 0 ] || command -v sudo >/dev/null || die "want root or sudo"; }

packages() {
	[ ${#missing[@]} -eq 0 ] && return
	command -v apt-get >/dev/null || die "install these by hand, there is no apt-get here: ${missing[*]}"
	say "installing packages: ${missing[*]}"
	local log=$cache/setup-apt.log
	if ! apt-cache show "${missing[@]}" >/dev/null 2>&1; then
		root apt-get update >>"$log" 2>&1 || { tail -5 "$log" >&2; die "apt-get update went wrong, see $log"; }
	fi
	# The tests start daemons of their own; installing must not start any
	# on this machine. policy-rc.d is how Debian is told.
	local policy=/usr/sbin/policy-rc.d
	if ! [ -e $policy ]; then
		trap 'root rm -f /usr/sbin/policy-rc.d' EXIT
		printf '#!/bin/sh\nexit 101\n' | root tee $policy >/dev/null
		root chmod 755 $policy
	fi
	install_packages || { root apt-get update >>"$log" 2>&1 && install_packages; } || { tail -5 "$log" >&2; die "apt-get install went wrong, see $log"; }
	local unit
	for unit in firewalld ufw docker.service docker.socket containerd podman.service podman.socket \
		podman-restart.service podman-auto-update.service podman-auto-update.timer; do
		# Or they would be at work on this machine from its next start on.
		case " ${missing[*]} " in *" ${unit%%[.-]*} "* | *" ${unit%.*}.io "*)
			! command -v systemctl >/dev/null || root systemctl disable --quiet "$unit" ||
				say "$unit stays enabled at boot; systemctl disable $unit changes that"
			;;
		esac
	done
}

install_packages() {
	root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}" >>"$cache/setup-apt.log" 2>&1
}

# tool NAME MODULE@VERSION: a Go tool in .cache/bin, made again when VERSION changes.
tool() {
	local stamp=$cache/bin/.$1-${2##*@}
	[ -x "$cache/bin/$1" ] && [ -e "$stamp" ] && return
	say "building $2"
	GOBIN=$cache/bin GOFLAGS= nice go install "$2" >"$cache/setup-$1.log" 2>&1 || return
	rm -f "$cache/bin/.$1-"*
	touch "$stamp"
}

command -v go >/dev/null || die "go is not in PATH; want Go $(sed -n 's/^go //p' go.mod) or later"
mkdir -p "$cache/bin"

case $level in
build) ;;
demo)
	privileged
	want ip iproute2
	want nft nftables
	packages
	;;
test)
	privileged
	want ip iproute2
	want nft nftables
	want iptables iptables
	want busybox busybox-static
	want conntrack conntrack
	want dnsmasq dnsmasq-base
	want ping iputils-ping
	want ps procps
	want nsenter util-linux
	want gcc gcc # for the race detector
	[ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
	want dockerd docker.io
	want dbus-daemon dbus-daemon
	want firewalld firewalld
	want ufw ufw
	want containerd containerd
	want podman podman
	want crun crun
	want mkfs.btrfs btrfs-progs
	want mkfs.xfs xfsprogs
	[ -e /usr/lib/cni/loopback ] || missing+=(containernetworking-plugins)
	packages
	# It holds staticcheck; about a minute of two cores, once.
	tool golangci-lint "$golangci" || die "golangci-lint could not be built, see $cache/setup-golangci-lint.log"
	;;
vm)
	privileged
	want ip iproute2
	want nft nftables
	want conntrack conntrack
	want iptables iptables
	want busybox busybox-static
	want ping iputils-ping
	want qemu-system-x86_64 qemu-system-x86
	packages
	;;
*) die "level $level: want build, demo, test or vm" ;;
esac

# The reference plugins: tests delegate to them, benchmarks run them in turns
# with ours. From source, because what distributions have is old.
stamp=$cache/ref/.$reference-$(echo "$references" | cksum | cut -d ' ' -f 1)
if [ "$level" = test ] && ! [ -e "$stamp" ]; then
	say "building the reference plugins $reference"
	p=github.com/containernetworking/plugins/plugins
	GOBIN=$cache/ref GOFLAGS= CGO_ENABLED=0 nice go install -trimpath -ldflags "-s -w" \
		$(printf " $p/%s@$reference" $references) >"$cache/setup-reference.log" 2>&1 ||
		die "the reference plugins could not be built, see $cache/setup-reference.log"
	touch "$stamp"
fi
if [ "$level" = test ]; then
	hack/containerd2.sh 2>"$cache/setup-containerd2.log" 2>&1 || die "containerd 2 could not be built, see $cache/setup-containerd2.log"
fi
say "ready for $level"
