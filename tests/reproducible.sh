#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# usage: reproducible.sh <build folder>
#
# Builds the same sources in another folder and compares the archive and the plugin with those of the build folder, byte
# by byte.
set -eu

build=$(realpath "$1")
cd "$(dirname "$0")/.."
other=$build/another/folder
rm -rf "${other%/*}"
trap 'rm -rf "${other%/*}"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$other"

# As the files are now, committed or not.
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents --target-directory="$other"
# The build folder was not set up with the same words; what they say of where to install is in none of the files.
(
	cd "$other"
	unset CARGO_TARGET_DIR
	meson setup build && ninja -C build
) >"$other/log" 2>&1 || {
	cat "$other/log" >&2
	exit 1
}

for file in librte_net_vdev_netvsc.a librte_net_vdev_netvsc.so; do
	if ! cmp "$build/$file" "$other/build/$file"; then
		echo "reproducible.sh: $file depends on the folder it was built in" >&2
		exit 1
	fi
done
echo "two builds in two folders: the same bytes"
