#!/usr/bin/env bash
# Runs the tests with Docker's generation of today, which distributions do not
# have yet: dockerd and docker are built from their Go modules into
# .cache/docker29, once, and containerd and runc as hack/containerd2.sh does it.
# That takes ten minutes of two cores.
#
#   hack/docker29.sh [ARGS of go test...]    default: all tests with Docker
#   hack/docker29.sh build                   build only
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${BOWLINE_CACHE:-$PWD/.cache}
dir=$cache/docker29

moby=github.com/moby/moby/v2@v2.0.0-beta.24
cli=github.com/docker/cli@v29.9.1+incompatible

say() { echo "docker29: $*"; }
die() { echo "docker29: $*" >&2; exit 1; }

# made NAME MODULE COMMAND...: runs COMMAND unless NAME is there in the version
# of MODULE.
made() {
	local name=$1 module=$2 stamp=$dir/.$1@${2##*@}
	shift 2
	[ -x "$dir/$name" ] && [ -e "$stamp" ] && return
	say "building $name of $module"
	GOBIN=$dir GOFLAGS="-buildvcs=false -trimpath" nice "$@" >"$dir/$name.log" 2>&1 ||
		die "$name could not be built, see $dir/$name.log"
	rm -f "$dir/.$name@"*
	touch "$stamp"
}

# package MODULE PATH: the package with that path in the module.
package() { echo "${1%@*}/$2@${1##*@}"; }

# client builds docker, whose module keeps its requirements in a file of another
# name.
client() {
	local src
	src=$(go mod download -json "$cli" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
	rm -rf "$dir/src" && cp -r "$src" "$dir/src" && chmod -R u+w "$dir/src"
	rm -rf "$dir/src/vendor"
	mv "$dir/src/vendor.mod" "$dir/src/go.mod"
	mv "$dir/src/vendor.sum" "$dir/src/go.sum"
	(cd "$dir/src" && CGO_ENABLED=0 go build -mod=mod -ldflags "-X github.com/docker/cli/cli/version.Version=29" -o "$dir/docker" ./cmd/docker)
	rm -rf "$dir/src"
}

hack/setup.sh test
mkdir -p "$dir"
made dockerd $moby env CGO_ENABLED=1 go install -tags "exclude_graphdriver_btrfs no_systemd netgo osusergo" \
	-ldflags "-X github.com/moby/moby/v2/dockerversion.Version=29.0.0" "$(package $moby cmd/dockerd)"
made docker-proxy $moby env CGO_ENABLED=0 go install "$(package $moby cmd/docker-proxy)"
hack/containerd2.sh
for f in "$cache"/containerd2/*; do ln -sf "$(realpath "$f")" "$dir/"; done
export -f client
export cli dir
made docker $cli bash -ec client
[ "${1:-}" != build ] || exit 0

make -s build
[ $# -gt 0 ] || set -- -run '^TestDocker' -v
sudo=()
[ "$(id -u)" = 0 ] || sudo=(sudo -E env "PATH=$PATH")
export BOWLINE_E2E_DOCKER=$dir BOWLINE_NO_SKIP=1 BOWLINE_BIN=$PWD/bin BOWLINE_REFERENCE_CNI=$cache/ref
go test -count=1 -timeout 15m ${sudo:+-exec "${sudo[*]}"} "$@" ./test/e2e
