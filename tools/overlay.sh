#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# usage: overlay.sh <DPDK tree>
#
# Puts the driver in the place of the C driver in a DPDK tree: the files of
# drivers/net/vdev_netvsc, and the crate in rust/ beside them. What is the same
# there already is not touched, so that nothing of it is built again.
set -eu

fail() {
	echo "overlay.sh: $*" >&2
	exit 1
}

[ $# = 1 ] && [ -n "$1" ] || fail "usage: overlay.sh <DPDK tree>"
tree=$(realpath "$1" 2>/dev/null) || fail "no folder $1"
driver=$tree/drivers/net/vdev_netvsc
if [ ! -f "$tree/VERSION" ] || [ ! -d "$driver" ]; then
	fail "$1 is no DPDK tree: it has no VERSION or no drivers/net/vdev_netvsc"
fi
version=$(cat "$tree/VERSION")
oldest=$(printf '22.11\n%s\n' "$version" | sort --version-sort | head -n 1)
[ "$oldest" = 22.11 ] || fail "$1 is DPDK $version: the driver needs 22.11 or later"

cd "$(dirname "$0")/.."
for file in drivers/net/vdev_netvsc/*; do
	cmp -s "$file" "$tree/$file" || cp "$file" "$driver"
done

new=$driver/rust.new
rm -rf "$new"
mkdir "$new"
cp -r --parents Cargo.toml Cargo.lock build.rs include src tools/archive.sh "$new"
if diff -r "$new" "$driver/rust" >/dev/null 2>&1; then
	rm -rf "$new"
else
	rm -rf "$driver/rust"
	mv "$new" "$driver/rust"
fi
