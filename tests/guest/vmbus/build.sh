#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# usage: build.sh <kernel> <folder>
#
# Makes <folder>/vmbus.ko for Debian's kernel package linux-image-<kernel>. The
# packages of its headers are downloaded once and only unpacked.
set -eu

fail() {
	echo "build.sh: $*" >&2
	exit 1
}

[ $# = 2 ] || fail "usage: build.sh <kernel> <folder>"
here=$(cd "$(dirname "$0")" && pwd)
kernel=$1
mkdir -p "$2"
folder=$(cd "$2" && pwd)
headers=$folder/headers-$kernel

# The headers name the parts that all flavours share, and the programs of the kernel's build.
packages() {
	echo "linux-headers-$kernel"
	apt-cache depends "linux-headers-$kernel" |
		sed -n 's/.*Depends: \(linux-headers-.*-common\|linux-kbuild-.*\)/\1/p'
}

download() {
	# shellcheck disable=SC2046 # a list of words
	(cd "$work" && apt-get -qq -o APT::Sandbox::User=root download $(packages) >&2)
}

if [ ! -d "$headers" ]; then
	work=$(mktemp -d "$folder/.work.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	trap 'exit 1' HUP INT TERM
	# Indexes may be missing, or name a version that is no longer there.
	download || { apt-get -qq update >&2 && download; } || fail "cannot download linux-headers-$kernel"
	for package in "$work"/*.deb; do
		dpkg-deb -x "$package" "$work/unpacked"
	done
	mv -T "$work/unpacked" "$headers"
fi

common=$(echo "$headers"/usr/src/linux-headers-*-common)
[ -e "$common/Makefile" ] || fail "$headers has no common part: remove it, and try again"
# The sources may lie where nothing is to be written.
cp "$here/vmbus.c" "$here/Kbuild" "$folder/"
# The headers' own Makefile looks for the common part where the package would be installed, and for the compiler of the
# kernel, where any recent one will do.
make --silent -C "$headers/usr/src/linux-headers-$kernel" -f "$common/Makefile" M="$folder" CC=gcc modules >"$folder/log" 2>&1 || {
	cat "$folder/log" >&2
	fail "cannot build the module vmbus for $kernel"
}
