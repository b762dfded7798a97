#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# usage: fuzz.sh [minutes] [target ...]
#
# Has libFuzzer make up what the driver reads from outside, and histories for the model of its core, for so many minutes
# each, ten by default, from what fuzz/corpus has on. What it finds is in build/fuzz/found, and fails. What goes through
# code that the corpus does not is in build/fuzz/<target>. Installs cargo-fuzz below the build folder; needs a nightly
# toolchain.
set -eu
cd "$(dirname "$0")/.."

version=0.13.2
minutes=${1:-10}
[ $# = 0 ] || shift
[ $# != 0 ] || set -- arguments events model sysfs
rustc +nightly --version >/dev/null 2>&1 || {
	echo "fuzz.sh: not fuzzed, as there is no nightly toolchain: rustup toolchain install nightly" >&2
	exit 0
}
build=$PWD/build/fuzz
export CARGO_TARGET_DIR="$build/target"
"$build/bin/cargo-fuzz" --version 2>/dev/null | grep -qxF "cargo-fuzz $version" ||
	cargo +nightly install --quiet --locked --debug --root "$build" cargo-fuzz --version "$version"
PATH=$build/bin:$PATH
# Where the sysfs that is made up lies: nothing goes to a disk.
export TMPDIR=/dev/shm
mkdir -p "$build/found"
failed=0
for target; do
	mkdir -p "$build/$target"
	cargo +nightly fuzz run --fuzz-dir fuzz "$target" "$build/$target" "fuzz/corpus/$target" -- \
		-max_total_time=$((60 * minutes)) -artifact_prefix="$build/found/$target-" -max_len=1024 -timeout=10 \
		>"$build/$target.log" 2>&1 || {
		failed=1
		echo "$target: found something, see $build/$target.log"
		continue
	}
	echo "$target: $(sed -n 's/^Done \([0-9]*\) runs.*/\1/p' "$build/$target.log") inputs, nothing found"
done
exit $failed
