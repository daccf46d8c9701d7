#!/usr/bin/env bash
# Runs all checks and tests. One line per stage on the screen, everything else
# below .cache/test; the last line says "N passed, N failed".
#
#   hack/test.sh [STAGE...]    lint, unit, e2e; all of them without arguments
#
# Tests that need what this machine cannot give are skipped with a reason; with
# BOWLINE_NO_SKIP=1 a skip is a failure.
set -uo pipefail
cd "$(dirname "$0")/.."
stages=("$@")
[ $# -gt 0 ] || stages=(setup build lint unit e2e)

log=$PWD/.cache/test
rm -rf "$log" && mkdir -p "$log" || exit 1
sudo=()
[ "$(id -u)" = 0 ] || sudo=(sudo -E env "PATH=$PATH")

# All that tests make is below TMPDIR or in processes that carry this mark, so
# that nothing stays behind, whatever ends this run.
TMPDIR=$(mktemp -d /tmp/bowline-test.XXXXXX) || exit 1
export TMPDIR BOWLINE_TEST_RUN=$TMPDIR
export BOWLINE_REFERENCE_CNI=${BOWLINE_CACHE:-$PWD/.cache}/ref
export BOWLINE_E2E_CONTAINERD=${BOWLINE_CACHE:-$PWD/.cache}/containerd2

# leftovers prints the ids of the processes that carry the mark.
leftovers() {
	local environ pid
	for environ in $("${sudo[@]}" env -u BOWLINE_TEST_RUN grep -lzsxF "BOWLINE_TEST_RUN=$TMPDIR" /proc/[0-9]*/environ 2>/dev/null); do
		pid=${environ#/proc/}
		echo "${pid%/environ}"
	done
}

cleanup() {
	trap '' INT TERM
	trap - EXIT
	local pids
	for _ in 1 2 3 4 5; do
		pids=$(leftovers)
		[ -n "$pids" ] || break
		"${sudo[@]}" kill -9 $pids 2>/dev/null
	done
	wait
	# Control groups of hosts with engines, named after their directories.
	for dir in "$TMPDIR"/d[0-9]*; do
		[ -d "$dir" ] || continue
		for _ in 1 2 3 4 5; do # until what was killed has left them
			"${sudo[@]}" find /sys/fs/cgroup -depth -type d -path "*/bowline-e2e-${dir##*/}*" -exec rmdir {} + 2>/dev/null
			[ -n "$(find /sys/fs/cgroup -maxdepth 2 -name "bowline-e2e-${dir##*/}")" ] || break
			sleep 1
		done
	done
	awk -v dir="$TMPDIR/" 'index($2, dir) == 1 {print $2}' /proc/self/mounts | tac | while read -r m; do
		"${sudo[@]}" umount -l "$m"
	done
	"${sudo[@]}" rm -rf "$TMPDIR"
}
trap 'echo; echo "interrupted, cleaning up"; cleanup; exit 130' INT TERM
trap cleanup EXIT

# found prints what this machine has that tests might add to.
found() {
	ip -o link | sed 's/^[0-9]*: \([^:@]*\).*/link \1/'
	"${sudo[@]}" nft list tables
	ls -d /run/bowline /var/lib/bowline /run/docker/plugins/bowline* 2>/dev/null
	awk -v dir="$TMPDIR/" 'index($2, dir) != 1 {print "mount", $2}' /proc/self/mounts
	find /sys/fs/cgroup -maxdepth 2 -name 'bowline*'
}

failed=0

# stage NAME COMMAND...: runs it and prints one line; on failure also what it said.
stage() {
	local name=$1 start=$SECONDS
	shift
	"$@" >"$log/$name.log" 2>&1 &
	wait $! # a trap runs during wait, not during a foreground command
	local rc=$?
	if [ $rc = 0 ]; then
		printf 'ok    %-12s %4ds\n' "$name" $((SECONDS - start))
	else
		failed=1
		printf 'FAIL  %-12s %4ds  %s\n' "$name" $((SECONDS - start)) "$log/$name.log"
		tail -n 60 "$log/$name.log" | cut -c 1-400
	fi
	return $rc
}

# tests NAME ARGS...: go test with args, full output in NAME.json.
tests() {
	local name=$1
	shift
	local run=()
	[ ${#sudo[@]} -eq 0 ] || run=(-exec "${sudo[*]}")
	go test -json "${run[@]}" "$@" 2>&1 | tee "$log/$name.json" | .cache/bin/testsum -counts "$log/counts"
}

formatted() {
	local bad
	bad=$(git ls-files -z --cached --others --exclude-standard '*.go' | xargs -0r gofmt -l)
	[ -z "$bad" ] || { echo "not formatted with gofmt:"; echo "$bad"; return 1; }
}

# vulnerable runs govulncheck where that can be: its database is on the
# network. Where it cannot, this says so and is no failure.
vulnerable() {
	if ! command -v govulncheck >/dev/null; then
		echo "note  govulncheck is not installed: not run"
		return
	fi
	govulncheck ./... >"$log/govulncheck.log" 2>&1
	case $? in
	0) echo "ok    govulncheck" ;;
	3) failed=1; echo "FAIL  govulncheck         $log/govulncheck.log" ;;
	*) echo "note  govulncheck could not run: $(tail -n 1 "$log/govulncheck.log")" ;;
	esac
}

before=
for s in "${stages[@]}"; do
	[ "$s" = setup ] || [ -n "$before" ] || before=$(found)
	case $s in
	setup) hack/setup.sh test || exit 1 ;;
	build) stage build make -s build || exit 1 ;;
	lint)
		stage gofmt formatted
		stage vet go vet ./...
		stage golangci-lint .cache/bin/golangci-lint run ./...
		vulnerable
		;;
	unit | e2e)
		mkdir -p .cache/bin && go build -o .cache/bin/testsum ./hack/testsum || exit 1
		if [ "$s" = unit ]; then
			# The race detector needs cgo; what is shipped is built without.
			CGO_ENABLED=1 stage unit tests unit -race -timeout 8m $(go list ./... | grep -v /test/e2e)
		else
			# Most of them wait, for engines and clocks: more run at once than there are processors.
			BOWLINE_BIN=$PWD/bin stage e2e tests e2e -count=1 -parallel $(($(nproc) + 3)) -timeout 20m ./test/e2e/...
		fi
		;;
	*) echo "stage $s: want setup, build, lint, unit or e2e" >&2; exit 2 ;;
	esac
done

pids=$(leftovers)
if [ -n "$pids" ]; then
	failed=1
	echo "FAIL  processes that tests left behind:"
	ps -o pid,args -p "$(echo $pids | tr ' ' ,)"
fi
if ! [ "$before" = "$(found)" ]; then
	failed=1
	echo "FAIL  this machine is not as it was before the tests:"
	diff <(echo "$before") <(found)
fi
if [ -e "$log/counts" ]; then
	read -r p f <"$log/counts"
	[ "$failed" = 0 ] || [ "$f" -gt 0 ] || f=1 # a check other than a test
	[ "$f" = 0 ] || failed=1
	echo "$p passed, $f failed"
fi
exit $failed
