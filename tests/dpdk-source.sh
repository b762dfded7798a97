#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# usage: dpdk-source.sh [folder]
#
# Prints where the source of the installed DPDK is: the folder that DPDK names in the
# environment or, when that is not set, where it is unpacked: <folder>/<version>,
# by default build/dpdk-source/<version> of this project. It is downloaded from
# the Debian mirrors this machine uses, once. Of the machine's own apt nothing
# changes, but that indexes are fetched where there are none: the source lists,
# their indexes and caches are of our own.
set -eu

fail() {
	echo "dpdk-source.sh: $*" >&2
	exit 1
}

# The machine's list entries that are for one of the URIs $debian, read from
# stdin, with deb turned into deb-src. Options and signing keys stay as they are.
one_line_entries() {
	awk -v uris="$debian" '
		BEGIN { n = split(uris, list); for (i = 1; i <= n; i++) known[list[i]] }
		$1 == "deb" {
			for (i = 2; i <= NF; i++) {
				uri = $i
				sub("/*$", "/", uri)
				if (uri in known) { sub("deb", "deb-src"); print; next }
			}
		}'
}

deb822_stanzas() {
	# A comment may stand anywhere, also between stanzas: only an empty line parts them.
	sed -e '/^#/d' -e 's/^[[:space:]]*$//' | awk -v uris="$debian" '
		BEGIN {
			RS = ""; FS = "\n"
			n = split(uris, list, "[ \n]+"); for (i = 1; i <= n; i++) known[list[i]]
		}
		{
			ours = 0
			n = split($0, words, "[ \t\n]+")
			for (i = 1; i <= n; i++) {
				sub("/*$", "/", words[i])
				if (words[i] in known) ours = 1
			}
			if (!ours) next
			for (i = 1; i <= NF; i++)
				print tolower($i) ~ /^types:/ ? "Types: deb-src" : $i
			print ""
		}'
}

if [ -n "${DPDK:-}" ]; then
	source=$(realpath -m "$DPDK")
	[ -f "$source/VERSION" ] || fail "DPDK=$DPDK is no DPDK tree"
	echo "$source"
	exit
fi
project=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$project/build/dpdk-source}

# shellcheck disable=SC2016 # The format is dpkg-query's.
installed=$(dpkg-query --show --showformat '${source:Package} ${source:Version}' libdpdk-dev \
	2>/dev/null) || fail "libdpdk-dev is not installed"
package=${installed% *}
version=${installed#* }

mkdir -p "$folder" || fail "cannot make $folder"
folder=$(cd "$folder" && pwd)
source=$folder/$version
if [ -d "$source" ]; then
	echo "$source"
	exit
fi

# Debian's own archives are those that say so in the (signed) indexes apt holds.
archives() {
	# shellcheck disable=SC2016 # The format is apt's.
	apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' 'Created-By: Packages' |
		sed -n 's/^Debian //p' | sort -u
}
debian=$(archives)
if [ -z "$debian" ]; then
	# An image may come without any index.
	apt-get -qq update >&2 || fail "apt-get update fails"
	debian=$(archives)
fi
[ -n "$debian" ] || fail "apt knows no archive of Debian"

work=$(mktemp -d "$folder/.unpacking.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$work/sources" "$work/lists/partial" "$work/cache/archives/partial"

eval "$(apt-config shell list Dir::Etc::sourcelist/f lists Dir::Etc::sourceparts/d)"
# shellcheck disable=SC2154 # list and lists come from apt-config.
for file in "$list" "$lists"/*.list; do
	[ ! -r "$file" ] || one_line_entries <"$file"
done >"$work/sources/debian.list"
for file in "$lists"/*.sources; do
	[ ! -r "$file" ] || deb822_stanzas <"$file"
done >"$work/sources/debian.sources"

# An exact version is asked for, so an old index (a snapshot archive) does no harm.
apt() {
	apt-get -qq -o APT::Sandbox::User=root -o Acquire::Check-Valid-Until=false \
		-o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/sources" \
		-o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" "$@" >&2
}

if ! command -v dpkg-source >/dev/null; then
	DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends dpkg-dev >&2 ||
		fail "dpkg-source is missing and dpkg-dev cannot be installed"
fi
apt update --error-on=any || fail "cannot fetch the source indexes of $(echo "$debian" | tr '\n' ' ')"
cd "$work"
apt source --only-source --download-only "$package=$version" ||
	fail "cannot download the source package $package $version"
dpkg-source --no-check -x ./*.dsc source >&2 || fail "cannot unpack $package $version"

# Somebody else may have been faster: either copy will do.
mv -T source "$source" 2>/dev/null || [ -d "$source" ] || fail "cannot make $source"
echo "$source"
