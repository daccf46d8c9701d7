#!/usr/bin/env bash
# Runs the fault tests in full, some twenty minutes of two processors, and puts
# what they counted into docs/reliability.md. BOWLINE_BIN holds the binaries.
set -euo pipefail
cd "$(dirname "$0")/.."
log=.cache/faults.log
run=()
[ "$(id -u)" = 0 ] || run=(-exec "sudo -E")
BOWLINE_FAULTS=long go test "${run[@]}" -count=1 -timeout 90m -v -run 'TestFaults$|TestDocker$/^faults$' ./test/e2e 2>&1 |
	tee "$log" | grep --line-buffered -E '^ *(---|[a-z_]+_test.go)'
# The tables of all tests become one.
awk '
/^ *\| what went wrong/ || /^ *\|---/ { next }
/^ *\| \*\*all/ { next }
/^ *\| / { sub(/^ */, ""); rows[++n] = $0; split($0, f, " [|] "); all += f[3] }
/^ *Meanwhile [0-9]+ streams/ { streams += $2; sent += $13; lost += $16 }
/ more were lost while / { more += $1 }
END {
	print "| what went wrong | what was done then | times |\n|---|---|---:|"
	for (i = 1; i <= n; i++) print rows[i]
	printf "| **all** | | **%d** |\n\n", all
	printf "Meanwhile %d streams of other containers sent %d packets. **Lost: %d.**\n", streams, sent, lost
	if (more > 0) printf "%d more were lost while the queue that all namespaces of the machine share overflowed: it was busy with something else.\n", more
}' "$log" >.cache/faults.md
sed -i -e '/faults: begin/r .cache/faults.md' -e '/faults: begin/,/faults: end/{/faults: /!d}' docs/reliability.md
