#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# usage: archive.sh <output.a or output.o> <cargo's target folder> [options of cargo build ...]
#
# Makes the driver as one relocatable object, or an archive of that one object. Cargo's own archive is no use to a linker
# that sees a second Rust archive, as both define the symbols of Rust's runtime; and 30 MB of it are not needed. So it is
# linked once already, as far as that goes without DPDK and libc: what nothing refers to is left out, and no symbol is to
# be seen from outside but the driver's own, vdev_netvsc_*.
#
# On the way two functions of Rust's runtime give way to the driver's: the one that takes a panic, and the one that takes
# a failed allocation. src/eal/panic.rs says why.
#
# All that it was made of, the crate's sources and DPDK's headers, is written to <output>.d, for ninja.
#
# The same sources and the same tools give the same bytes, wherever they lie.
set -eu

fail() {
	echo "archive.sh: $*" >&2
	exit 1
}

[ $# -ge 2 ] || fail "usage: archive.sh <output.a or output.o> <cargo's target folder> [options of cargo build ...]"
named=$1
output=$(realpath "$1")
target=$(realpath -m "$2")
shift 2
cd "$(dirname "$0")/.."

# Panics name the source file. Flags are parted by the unit separator here, so that a path may have spaces.
flags=$(printf '%s' "${RUSTFLAGS-}" | tr -s ' ' '\037')
for place in "$PWD=." "${CARGO_HOME:-$HOME/.cargo}/registry/src=registry" "$target=target"; do
	flags=${flags:+$flags$(printf '\037')}--remap-path-prefix=$place
done
CARGO_ENCODED_RUSTFLAGS=$flags cargo build --release --locked --lib --features plugin --target-dir "$target" "$@"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

archive=$target/release/libvdev_netvsc.a
readelf --symbols --wide "$archive" 2>/dev/null |
	awk '$4 == "FUNC" && $5 == "GLOBAL" && $7 != "UND" { print $8 }' >"$work/functions"

set -- --relocatable --strip-debug --gc-sections --force-group-allocation
for function in $(grep '^vdev_netvsc_' "$work/functions"); do
	set -- "$@" "--undefined=$function"
done
# Newer releases of Rust put a crate's name before these names. A release that has others keeps its own functions.
for pair in rust_begin_unwind=netvsc_panic __rust_alloc_error_handler=netvsc_out_of_memory; do
	runtime=$(grep "${pair%=*}\$" "$work/functions" || true)
	case $runtime in
	'' | *[[:space:]]*) echo "archive.sh: this Rust has no ${pair%=*} of its own, the driver gets larger" >&2 ;;
	*) set -- "$@" "--undefined=${pair#*=}" "--wrap=$runtime" "--defsym=__wrap_$runtime=${pair#*=}" ;;
	esac
done
ld "$@" -o "$work/linked.o" "$archive"

object=$work/vdev_netvsc.o
# Rust's own objects bring along what they were made of, for optimisation at link time.
objcopy --strip-unneeded --remove-section=.llvmbc --remove-section=.llvmcmd \
	--wildcard --keep-global-symbol='vdev_netvsc_*' "$work/linked.o" "$object"
case $output in
*.a)
	rm -f "$work/vdev_netvsc.a"
	ar rcsD "$work/vdev_netvsc.a" "$object"
	object=$work/vdev_netvsc.a
	;;
esac
# What has not changed keeps its time, so that nothing that is made of it is made again.
cmp -s "$object" "$output" || cp "$object" "$output"
sed -e "s|^[^:]*:|$named:|" -e "s| $target/[^ ]*||g" "$target/release/libvdev_netvsc.d" >"$output.d"
