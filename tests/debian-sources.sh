#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# usage: debian-sources.sh <release>
#
# Prints apt's sources of a release of Debian, by its code name: where this machine has its own release from.
set -eu

fail() {
	echo "debian-sources.sh: $*" >&2
	exit 1
}

[ $# = 1 ] || fail "usage: debian-sources.sh <release>"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e "$keyring" ] || fail "no $keyring: install debian-archive-keyring"

archives() {
	# shellcheck disable=SC2016 # The format is apt's.
	apt-get indextargets --format '$(ORIGIN) $(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
		sed -n 's/^Debian //p' | sort -u
}

# An image may come without any index.
[ -n "$(archives)" ] || apt-get -qq update >&2
own=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
sources=$(archives | while read -r uri codename; do
	case $codename in
	"$own") echo "deb [signed-by=$keyring] $uri $1 main" ;;
	"$own-updates" | "$own-security")
		# Only releases have these.
		[ "$1" = sid ] || echo "deb [signed-by=$keyring] $uri $1${codename#"$own"} main"
		;;
	esac
done)
[ -n "$sources" ] || fail "this machine's apt has no archive of Debian"
echo "$sources"
