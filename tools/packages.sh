#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Installs the Debian packages that are missing to build the driver and, with an argument, to test it ("check"), to test it
# in a guest as well ("guest"; demo and matrix do without QEMU), to compare it with the C driver ("bench") or to make a
# package of it ("deb"). Rust is among them where there is none, but not on Debian 12: the driver needs 1.85, which came
# with 13.
set -eu

build="clang gcc libc6-dev libclang-dev libdpdk-dev meson ninja-build pkg-config"
deb="debhelper dpkg-dev"
check="$deb binutils dpdk dpdk-dev g++ gcc iproute2 iputils-ping libsystemd-dev lintian lld mount python3-pyelftools
	util-linux valgrind"
guest="$check busybox-static cpio qemu-system-x86 strace"

case ${1:-} in
check) wanted="$build $check" ;;
guest) wanted="$build $guest" ;;
bench) wanted="$build $check python3-matplotlib strace" ;;
deb) wanted="$build $deb" ;;
*) wanted=$build ;;
esac
command -v cargo >/dev/null || grep -qs '^VERSION_ID="12"' /etc/os-release || wanted="$wanted cargo"

missing=
for package in $wanted; do
	state=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
	[ "$state" = installed ] || missing="$missing $package"
done

if [ -n "$missing" ]; then
	if [ "$(id -u)" != 0 ]; then
		echo "missing packages:$missing: install them, or run this as root" >&2
		exit 1
	fi
	echo "installing$missing"
	log=$(mktemp)
	trap 'rm -f "$log"' EXIT
	trap 'exit 1' HUP INT TERM
	export DEBIAN_FRONTEND=noninteractive
	# shellcheck disable=SC2086 # a list of words
	if ! { apt-get update && apt-get install --yes --no-install-recommends $missing; } >"$log" 2>&1; then
		cat "$log" >&2
		exit 1
	fi
fi

if ! command -v cargo >/dev/null; then
	echo "cargo is missing: install Rust 1.85 or later" >&2
	exit 1
fi
