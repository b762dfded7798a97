#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# usage: openvswitch.sh
#
# Prints below which folder Debian's Open vSwitch with DPDK is: nothing, which is /, when it is installed, or else a folder
# below build/openvswitch, to which its packages are unpacked, once for each version of DPDK. They are not installed, as that
# starts a switch, now and whenever the machine starts.
set -eu

fail() {
	echo "openvswitch.sh: $*" >&2
	exit 1
}

[ ! -x /usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk ] || exit 0
folder=$(cd "$(dirname "$0")/.." && pwd)/build/openvswitch
unpacked=$folder/$(pkg-config --modversion libdpdk)
if [ -d "$unpacked" ]; then
	echo "$unpacked"
	exit
fi

download() {
	(cd "$work" && apt-get -qq -o APT::Sandbox::User=root download openvswitch-common openvswitch-switch openvswitch-switch-dpdk >&2)
}

mkdir -p "$folder"
work=$(mktemp -d "$folder/.unpacking.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
# Indexes may be missing, or name a version that is no longer there.
download || { apt-get -qq update >&2 && download; } || fail "cannot download openvswitch-switch-dpdk"
for package in "$work"/*.deb; do
	dpkg-deb -x "$package" "$work/root"
done
# Somebody else may have been faster: either copy will do.
mv -T "$work/root" "$unpacked" 2>/dev/null || [ -d "$unpacked" ] || fail "cannot make $unpacked"
echo "$unpacked"
