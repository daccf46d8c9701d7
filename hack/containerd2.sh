#!/usr/bin/env bash
# Builds containerd 2 and the runc that goes with it from their Go modules: no
# distribution that the tests run on has them.
#
#   hack/containerd2.sh [DIR]    into DIR, by default .cache/containerd2
#
# About two minutes of one core, once; then nothing until a version changes.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=${1:-${BOWLINE_CACHE:-$PWD/.cache}/containerd2}

containerd=v2.4.2
runc=v1.3.4

stamp=$dir/.containerd-$containerd-runc-$runc
[ -e "$stamp" ] && exit
echo "setup: building containerd $containerd and runc $runc"
mkdir -p "$dir"
rm -f "$dir"/.containerd-*
export GOBIN=$dir GOFLAGS="-p=1 -trimpath -buildvcs=false"
p=github.com/containerd/containerd/v2/cmd
# Without the storage drivers that want libraries in C.
CGO_ENABLED=0 nice go install -tags "no_btrfs no_zfs no_devmapper" $p/{containerd,containerd-shim-runc-v2,ctr}@$containerd
CGO_ENABLED=1 nice go install github.com/opencontainers/runc@$runc # it has a part in C, by which it enters namespaces
touch "$stamp"
