#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# usage: packages.sh [build | demo | deb | check | guest | bench | matrix ...]
#
# Installs the Debian packages that are missing to build the driver and, with an argument, to watch it, to make a package
# of it, to test it, to test it in a guest as well, to compare it with the C driver, or to make root file systems of other
# releases. All at once or none: on another release or distribution, or without root, it names them and what each is for.
#
# Rust is among them where there is none; one that is there is used.
set -eu

fail() {
	echo "$*" >&2
	exit 1
}

# By set: the package, something by which it is known where there is no dpkg, and what it is for.
list() {
	cat <<-END
		build clang clang reading DPDK's headers (bindgen)
		build gcc cc linking, and the tests' C
		build libdpdk-dev libdpdk.pc DPDK, its headers and libraries
		build meson meson the build
		build ninja-build ninja the build
		build pkg-config pkg-config finding DPDK
		build $cargo cargo compiling the driver
		build $rustc rustc compiling the driver
		demo dpdk-dev dpdk-testpmd dpdk-testpmd, the application of demo and tests
		demo iproute2 ip netdevices of demo and tests
		deb debhelper dh making the Debian package
		deb dpkg-dev dpkg-buildpackage making the Debian package
		check $clippy cargo-clippy lints
		check $rustfmt cargo-fmt the format of the sources
		check binutils readelf symbols of plugin and archive
		check dpdk dpdk-devbind.py dpdk-pmdinfo.py
		check g++ c++ linking the driver in a C++ program
		check git git which files belong to the sources
		check iputils-ping ping packets through a port
		check libsystemd-dev libsystemd.pc linking with a static DPDK
		check libunbound8 - Open vSwitch, which is not installed
		check libxdp1 - Open vSwitch, which is not installed
		check lintian lintian checking the Debian package
		check lld ld.lld linking with another linker
		check mount mount file systems of the tests
		check python3-pyelftools dpdk-pmdinfo.py dpdk-pmdinfo.py
		check util-linux unshare namespaces of the tests
		check valgrind valgrind counting instructions
		guest busybox-static busybox the guest's system
		guest cpio cpio the guest's system
		guest qemu-system-x86 qemu-system-x86_64 the guest
		guest strace strace counting system calls
		bench python3-matplotlib - drawing the figures
		bench strace strace counting system calls
		matrix debian-archive-keyring - root file systems of other releases
		matrix mmdebstrap mmdebstrap root file systems of other releases
	END
}

sets=
[ $# -gt 0 ] || set -- build
for set; do
	case $set in
	build | matrix) sets="$sets $set" ;;
	demo | deb) sets="$sets build $set" ;;
	check) sets="$sets build demo deb check" ;;
	guest | bench) sets="$sets build demo deb check $set" ;;
	*) fail "packages.sh: no set $set" ;;
	esac
done

# Debian sid says no number, and testing is called as sid is.
release=$(
	# shellcheck disable=SC1091 # Not of this project.
	[ ! -e /etc/os-release ] || . /etc/os-release
	echo "${ID:-another system} ${VERSION_ID-sid}"
)
cargo=cargo rustc=rustc clippy=rust-clippy rustfmt=rustfmt
if [ "$release" = "debian 12" ]; then
	cargo=cargo-web rustc=rustc-web clippy=rust-web-clippy rustfmt=rustfmt-web
fi

# The toolchain that is there.
oldest=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml")
there=
if command -v cargo >/dev/null && command -v rustc >/dev/null; then
	version=$(rustc --version | cut -d ' ' -f 2)
	[ "$(printf '%s\n' "$oldest" "$version" | sort --version-sort | head -n 1)" = "$oldest" ] ||
		fail "Rust $version ($(command -v rustc)) is too old: the driver needs $oldest or later, which is installed where there is none"
	there="$cargo $rustc"
	if cargo clippy --version >/dev/null 2>&1; then there="$there $clippy"; fi
	if cargo fmt --version >/dev/null 2>&1; then there="$there $rustfmt"; fi
	# Of another toolchain than this release's, Debian's parts are no use.
	case "$sets $there " in
	*" check "*" $clippy $rustfmt "*) ;;
	*" check "*)
		dpkg-query --search "$(realpath "$(command -v cargo)")" >/dev/null 2>&1 ||
			fail "rustfmt or clippy is missing: rustup component add rustfmt clippy"
		;;
	esac
fi

is_there() {
	case " $there " in *" $1 "*) return 0 ;; esac
	if command -v dpkg-query >/dev/null; then
		# shellcheck disable=SC2016 # The format is dpkg-query's.
		[ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
		return
	fi
	case $2 in
	-) return 0 ;;
	*.pc) pkg-config --exists "${2%.pc}" ;;
	*) command -v "$2" >/dev/null ;;
	esac
}

missing=
table=
while read -r set package sign purpose; do
	case " $sets " in *" $set "*) ;; *) continue ;; esac
	case "$missing " in *" $package "*) continue ;; esac
	is_there "$package" "$sign" && continue
	missing="$missing $package"
	table="$table$(printf '\n  %-18s %s' "$package" "$purpose")"
done <<END
$(list)
END
[ -n "$missing" ] || exit 0

case $release in
"debian 12" | "debian 13" | "debian sid") ;;
*) fail "not Debian 12, 13 or sid, so nothing was installed. Missing are, by their names in Debian:$table" ;;
esac
[ "$(id -u)" = 0 ] || fail "install these, or run this as root, missing are:$table"

echo "installing$missing"
export DEBIAN_FRONTEND=noninteractive
# All is there before the first is unpacked, and from then on nothing interrupts.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 1' HUP INT TERM
quietly() {
	"$@" >"$log" 2>&1 && return
	cat "$log" >&2
	fail "packages could not be installed"
}
quietly apt-get update
# shellcheck disable=SC2086 # a list of words
quietly apt-get install --yes --no-install-recommends --download-only $missing
trap '' HUP INT TERM
# In a session of its own, as apt-get has dpkg heed the terminal's signals again.
# shellcheck disable=SC2086
quietly setsid --wait apt-get install --yes --no-install-recommends $missing </dev/null
