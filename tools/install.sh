#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# usage, by "meson install" (see meson.build), which sets DESTDIR and MESON_*:
#     install.sh file <source> <place>
#     install.sh program <source> <place>
#     install.sh link <target> <place>
#     install.sh cache
# usage, by "make uninstall", which may set DESTDIR:
#     install.sh undo <build folder>
#
# Places files so that "undo" leaves things as they were. The driver's names are those of the C driver, whose files lie
# in the way where DPDK is. Meson itself would overwrite them, so it installs by this script and nothing else.
#
# - What is in the way is kept beside, as .<name>.replaced: EAL loads by its folder of plugins what ends in .so or
#   .so.<ABI>, and ldconfig looks at what begins with lib. What is there already just as it would be placed is let be.
# - A list in the build folder says what was made. "undo" touches only what still is as it was placed: where a package
#   manager has put a file of its own since, that stays and the kept one, which is older, goes.
#
# dpkg-divert would also outlive an upgrade of Debian's package, but knows no DESTDIR and is Debian's alone. There,
# "make deb" makes a package that is better at it.
set -eu

fail() {
	echo "install.sh: $*" >&2
	exit 1
}

# One list for each DESTDIR. As meson does, a relative one is taken from the build folder.
find_list() {
	build=$1
	DESTDIR=${DESTDIR:-}
	case $DESTDIR in /* | '') ;; *) DESTDIR=$build/$DESTDIR ;; esac
	DESTDIR=${DESTDIR%/}
	list=$build/installed$DESTDIR.list
}

# Each line is a word and a path. The word is "folder" for a folder that was made, "replaced" for a file whose
# predecessor is kept, and what print() says of a file or link that was placed.
record() {
	echo "$1 $2" >>"$list"
}

recorded() {
	[ -f "$list" ] && grep -qxF -e "$1 $2" "$list"
}

print() {
	if [ -L "$1" ]; then
		echo "link:$(readlink "$1")"
	else
		sha256sum <"$1" | cut -d ' ' -f 1
	fi
}

exists() {
	[ -e "$1" ] || [ -L "$1" ]
}

ours() {
	exists "$1" && recorded "$(print "$1")" "$1"
}

kept() {
	echo "$(dirname "$1")/.$(basename "$1").replaced"
}

make_folder() {
	[ ! -d "$1" ] || return 0
	make_folder "$(dirname "$1")"
	record folder "$1"
	mkdir -m 755 "$1"
}

# Each step is in the list before it is done, and nothing is ever absent from its place: an installation that breaks off
# can be undone as well.
place() {
	kind=$1 from=$2 to=$3
	case $to in
	/*) to=$DESTDIR$to ;;
	*) to=$MESON_INSTALL_DESTDIR_PREFIX/$to ;;
	esac
	# A source is named as it is seen from there.
	cd "$build"
	mkdir -p "$(dirname "$list")"
	make_folder "$(dirname "$to")"

	new=$(dirname "$to")/.$(basename "$to").new
	if [ "$kind" = link ]; then
		ln -sf "$from" "$new"
	elif [ "$kind" = program ]; then
		install -m 755 "$from" "$new"
	else
		install -m 644 "$from" "$new"
	fi
	trap 'rm -f "$new"' EXIT

	if exists "$to" && ! ours "$to"; then
		if [ "$(print "$new")" = "$(print "$to")" ]; then
			return
		fi
		kept=$(kept "$to")
		if exists "$kept" && ! recorded replaced "$to"; then
			fail "$kept is of an installation from another build folder: undo that first, with \"make uninstall\" there"
		fi
		record replaced "$to"
		rm -f "$kept"
		ln "$to" "$kept"
	fi
	record "$(print "$new")" "$to"
	mv -f "$new" "$to"
	[ -n "${MESON_INSTALL_QUIET:-}" ] || echo "Installing $to"
}

undo() {
	[ -f "$list" ] || fail "nothing is installed${DESTDIR:+ in $DESTDIR} from $build"
	tac "$list" | while read -r word path; do
		kept=$(kept "$path")
		case $word in
		folder) [ ! -d "$path" ] || rmdir --ignore-fail-on-non-empty "$path" ;;
		replaced) rm -f "$kept" ;;
		*)
			if ! ours "$path"; then
				continue
			elif recorded replaced "$path" && exists "$kept"; then
				mv -f "$kept" "$path"
			else
				rm -f "$path"
			fi
			echo "Uninstalling $path"
			;;
		esac
	done
	rm "$list"
	rmdir -p --ignore-fail-on-non-empty "$(dirname "$list")"
}

# The dynamic linker finds libraries of the system by a cache.
refresh_cache() {
	PATH=$PATH:/usr/sbin:/sbin
	if [ -z "$DESTDIR" ] && [ "$(id -u)" = 0 ] && command -v ldconfig >/dev/null; then
		ldconfig -X
	fi
}

case $#,${1:-} in
3,file | 3,program | 3,link)
	find_list "$MESON_BUILD_ROOT"
	place "$@"
	;;
1,cache)
	find_list "$MESON_BUILD_ROOT"
	refresh_cache
	;;
2,undo)
	find_list "$(cd "$2" && pwd)"
	undo
	refresh_cache
	;;
*) fail "usage: see its first lines" ;;
esac
