#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# usage: applications.sh
#
# Plays all stories of tests/applications.rs and tests/examples.rs, those that "make check" leaves out too, and prints a
# table of what passed. Needs root, what "make with-tests" builds, and the network for Open vSwitch and the source of DPDK.
set -eu
cd "$(dirname "$0")/.."

log=build/applications.log
status=0
setpriv --pdeathsig KILL unshare --mount --propagation private --pid --mount-proc --fork --kill-child \
	cargo test --locked --no-fail-fast --test applications --test examples -- --include-ignored --test-threads=1 \
	>"$log" 2>&1 || status=$?
grep -q '^test ' "$log" || {
	cat "$log" >&2
	exit 1
}
[ "$status" = 0 ] || cat "$log" >&2
echo "DPDK $(pkg-config --modversion libdpdk), see $log"
awk '$1 == "test" && $2 != "result:" { story = $2; gsub("_", " ", story); printf "%-7s %s\n", $NF == "ok" ? "passed" : "failed", story }' "$log"
exit "$status"
