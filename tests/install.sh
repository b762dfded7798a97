#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# usage: install.sh
#
# What "meson install" does, "make uninstall" undoes: in the system, where the C driver's files are in the way, and below
# a DESTDIR. Nothing of it is really installed (throwaway.sh). Needs root, and a build with DPDK's prefix, as "make" has it.
set -eu

fail() {
	echo "install.sh: $story: $*" >&2
	exit 1
}

project=$(cd "$(dirname "$0")/.." && pwd)
build=$project/build
story=start
[ -f "$build/librte_net_vdev_netvsc.so" ] || fail "nothing is built: run make first"
[ "${1:-}" = inside ] || exec "$project/tests/throwaway.sh" "$0" inside

memory=/mnt
# This build folder may have installed in earnest.
rm -rf "$build"/installed*
unset DESTDIR

libdir=$(pkg-config --variable=libdir libdpdk)
includedir=$(pkg-config --variable=includedir libdpdk)
archive=$libdir/librte_net_vdev_netvsc.a
link=$libdir/librte_net_vdev_netvsc.so
plugin=$(readlink -f "$link")
pmds=$(basename "$(dirname "$plugin")")
for path in "$archive" "$plugin"; do
	[ -f "$path" ] || fail "the C driver is not installed: no $path"
done

# What there is to tell of a path: kind, mode, owner and, unless it is a folder, time and content.
describe() {
	if [ -L "$1" ]; then
		echo "$1 $(stat -c '%F %u:%g %y' "$1") $(readlink "$1")"
	elif [ -f "$1" ]; then
		echo "$1 $(stat -c '%F %a %u:%g %y' "$1") $(sha256sum <"$1")"
	else
		stat -c '%n %F %a %u:%g' "$1" 2>/dev/null || echo "$1 is not there"
	fi
}

describe_below() {
	find "$1" | sort | while read -r path; do describe "$path"; done
}

# All of /usr and /etc that has been written to, deleted or made since the start, as it is in $1/usr and $1/etc.
describe_changed() {
	for folder in usr etc; do
		(cd "$memory/$folder/changed" && find . -mindepth 1) | sort >"$memory/paths"
		while read -r path; do
			# The cache's content is compared by what it says.
			[ "$path" = ./ld.so.cache ] || (cd "$1/$folder" && describe "$path")
		done <"$memory/paths"
	done
}

expect_same() {
	printf '%s\n' "$1" >"$memory/was.txt"
	printf '%s\n' "$2" >"$memory/is.txt"
	diff "$memory/was.txt" "$memory/is.txt" >&2 || fail "is not as it was"
}

mkdir "$memory/root-was"
for folder in usr etc; do
	ln -s "../$folder/was" "$memory/root-was/$folder"
done
cached() {
	ldconfig -p | grep -F vdev_netvsc
}
cached=$(cached)

expect_system_as_it_was() {
	expect_same "$(describe_changed "$memory/root-was")" "$(describe_changed '')"
	expect_same "$cached" "$(cached)"
}

expect_ours() {
	cmp "$build/librte_net_vdev_netvsc.so" "$plugin" || fail "the plugin is not in its place"
	cmp "$build/librte_net_vdev_netvsc.a" "$archive" || fail "the archive is not in its place"
}

quietly() {
	"$@" >"$memory/log" 2>&1 || {
		cat "$memory/log" >&2
		fail "failed: $*"
	}
}

install() {
	quietly meson install --no-rebuild -C "$build"
}

uninstall() {
	quietly make --no-print-directory -C "$project" uninstall
}

# As a package manager does it: another file takes the place of the old one.
upgrade() {
	for path in "$@"; do
		(cat "$memory/root-was$path" && echo) >"$path.dpkg-new"
		mv "$path.dpkg-new" "$path"
	done
}

# Takes from the system as it was.
restore() {
	for path in "$@"; do
		cp -a "$memory/root-was$path" "$path"
	done
	ldconfig -X
}

begin() {
	story=$1
	echo "install.sh: $story"
}

begin "the C driver's files are in the way, and come back"
install
expect_ours
[ "$(pkg-config --variable=libdir librte_net_vdev_netvsc)" = "$libdir" ] || fail "the pkg-config file is not found"
cmp -s "$project/include/vdev_netvsc.h" "$includedir/vdev_netvsc.h" || fail "the header is not in $includedir"
tool=vdev-netvsc-which-pmd
status=0
said=$("$(pkg-config --variable=prefix libdpdk)/bin/$tool" lo 2>&1) || status=$?
case $status,$said in "1,$tool: "*) ;; *) fail "$tool ends with $status and says: $said" ;; esac
[ "$(find "$(dirname "$plugin")" -newer "$memory/root-was" -name '*netvsc*.so*' ! -name '*.replaced')" = "$plugin" ] ||
	fail "EAL finds something else beside the plugin"
uninstall
expect_system_as_it_was

begin "installed twice"
install
install
expect_ours
uninstall
expect_system_as_it_was

begin "make clean keeps what uninstall needs"
mkdir -p "$memory/clean/installed" "$memory/clean/cargo"
touch "$memory/clean/build.ninja" "$memory/clean/installed.list"
quietly make -C "$project" BUILD="$memory/clean" clean
expect_same "$(printf 'installed\ninstalled.list')" "$(ls "$memory/clean")"

begin "a link that was not there, and another that pointed elsewhere"
rm "$link"
ln -sf elsewhere "$link.${pmds##*-}"
before=$(describe_changed '')
install
uninstall
expect_same "$before" "$(describe_changed '')"
restore "$link" "$link.${pmds##*-}"

begin "the packages of the C driver were upgraded in between"
install
upgrade "$plugin" "$archive"
before=$(describe "$plugin"; describe "$archive")
uninstall
expect_same "$before" "$(describe "$plugin"; describe "$archive")"
restore "$plugin" "$archive"
expect_system_as_it_was

begin "they were upgraded between two installations"
install
upgrade "$plugin"
before=$(describe "$plugin")
install
expect_ours
uninstall
expect_same "$before" "$(describe "$plugin")"
restore "$plugin"
expect_system_as_it_was

begin "the packages of the C driver were removed in between"
install
rm "$plugin" "$archive" "$link"
uninstall
for path in "$plugin" "$archive" "$link"; do
	[ ! -e "$path" ] || fail "$path is back"
done
restore "$plugin" "$archive" "$link"
expect_system_as_it_was

begin "an installation that breaks off"
mount --bind "$libdir/pkgconfig" "$libdir/pkgconfig"
mount -o remount,bind,ro "$libdir/pkgconfig"
! meson install --no-rebuild -C "$build" >"$memory/log" 2>&1 || fail "it does not"
umount "$libdir/pkgconfig"
expect_ours
uninstall
expect_system_as_it_was

begin "a second build folder does not overwrite what the first keeps"
install
mv "$build/installed.list" "$memory/"
echo "other build" >>"$build/librte_net_vdev_netvsc.so"
! meson install --no-rebuild -C "$build" >"$memory/log" 2>&1 || fail "it does"
grep -q 'another build folder' "$memory/log" || fail "it does not say why: $(cat "$memory/log")"
mv "$memory/installed.list" "$build/"
uninstall
expect_system_as_it_was
! make -C "$project" uninstall >"$memory/log" 2>&1 || fail "there is something left to uninstall"

# Below a DESTDIR, with prefix, libdir as they are configured and where the libraries then are; in each the C driver
# and, of the folders, some.
stage() {
	export DESTDIR="$1"
	root=$2 prefix=$3 libraries=$5
	begin "DESTDIR=$DESTDIR, prefix=$prefix, libdir=$4"
	quietly meson configure "$build" -Dprefix="$prefix" -Dlibdir="$4"
	quietly meson setup --reconfigure "$build"
	mkdir -p "$root$prefix/include" "$root$libraries/dpdk/$pmds"
	chmod 700 "$root$prefix/include"
	at=$root$libraries/dpdk/$pmds/$(basename "$plugin")
	echo "C driver" >"$at"
	before=$(describe_below "$root")
	install
	cmp -s "$build/librte_net_vdev_netvsc.so" "$at" || fail "the plugin is not $at"
	for name in librte_net_vdev_netvsc.so librte_net_vdev_netvsc.a pkgconfig/librte_net_vdev_netvsc.pc; do
		[ -f "$root$libraries/$name" ] || fail "no $root$libraries/$name"
	done
	[ -x "$root$prefix/bin/$tool" ] || fail "no $tool in $root$prefix/bin"
	[ -f "$root$prefix/share/man/man1/$tool.1" ] || fail "no manual page of $tool"
	named=$(PKG_CONFIG_PATH="$root$libraries/pkgconfig" pkg-config --variable=libdir librte_net_vdev_netvsc)
	[ "$named" = "$libraries" ] || fail "the pkg-config file says $named"
	[ -f "$root$prefix${includedir#"$(pkg-config --variable=prefix libdpdk)"}/vdev_netvsc.h" ] || fail "no header"
	uninstall
	expect_same "$before" "$(describe_below "$root")"
	expect_system_as_it_was
}
stage "$memory/one" "$memory/one" /usr lib/some-linux-gnu /usr/lib/some-linux-gnu
stage "$memory/two words/" "$memory/two words" /opt/driver lib64 /opt/driver/lib64
stage "$memory/three" "$memory/three" /opt/driver /srv/lib /srv/lib
stage relative "$build/relative" /usr/local lib /usr/local/lib
