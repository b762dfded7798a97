#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# usage: deb.sh
#
# Makes the Debian package and, on a throwaway copy of this system (throwaway.sh), has apt put it in the place of the
# package with the C driver and back. Needs root and the network; the system's packages of DPDK have to be Debian's newest.
set -eu

fail() {
	echo "deb.sh: $*" >&2
	exit 1
}

# Runs a command with its output in a log, which is shown when the command fails.
quietly() {
	"$@" >"$log" 2>&1 || {
		cat "$log" >&2
		fail "failed: $*"
	}
}

project=$(cd "$(dirname "$0")/.." && pwd)
cd "$project"
if [ "${1:-}" != inside ]; then
	log=$(mktemp)
	trap 'rm -f "$log"' EXIT
	quietly make deb
	tests/throwaway.sh tests/deb.sh inside
	exit
fi

log=/mnt/log
export DEBIAN_FRONTEND=noninteractive
ours=librte-net-vdev-netvsc-rust
package=$(find build/deb -name "${ours}_*.deb")
libdir=$(pkg-config --variable=libdir libdpdk)
abi=$(readlink -f "$libdir/librte_eal.so" | sed 's/.*\.so\.//')
debians=librte-net-vdev-netvsc${abi%%.*}
plugin=$libdir/dpdk/pmds-$abi/librte_net_vdev_netvsc.so.$abi
dpdk=$(dpkg-query --show --showformat='${Version}' libdpdk-dev)

# All packages that are installed, but for those of the arguments.
others() {
	# shellcheck disable=SC2016 # The format is dpkg-query's.
	dpkg-query --show --showformat='${db:Status-Abbrev}${binary:Package} ${Version}\n' |
		grep '^i' | grep -v -e "$ours" -e "$debians"
}

installed() {
	[ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# One of the two packages is installed, nothing else has changed, and dpkg and apt find nothing to complain of.
expect_only() {
	installed "$1" || fail "$1 is not installed"
	! installed "$2" || fail "$2 is still installed"
	others >/mnt/others
	diff /mnt/others-before /mnt/others >&2 || fail "apt has changed other packages"
	quietly apt-get check
	[ -z "$(dpkg --audit; dpkg --verify "$1" libdpdk-dev)" ] || fail "$(dpkg --audit; dpkg --verify "$1" libdpdk-dev)"
	[ "$(dpkg-query --search "$plugin" | cut -d : -f 1)" = "$1" ] || fail "$plugin is not of $1"
}

# Runs dpdk-testpmd, with no plugin named, where it is to send packets by a netdevice. The C driver refuses the argument
# "fallback". Prints how many ports it has, the names of ours, how many packets it has sent, and how many of them have
# reached the other end of the wire.
testpmd() {
	# shellcheck disable=SC2016 # The inner shell expands.
	quietly unshare --net --mount sh -eu -c '
		mount -t sysfs sysfs /sys
		mount -t tmpfs run /run
		# The kernel has nothing to send of its own.
		echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
		ip link add eth1 type veth peer name wire
		ip link set eth1 up
		ip link set wire up
		printf "%s\n" "show port summary all" start stop quit | timeout 60 \
			dpdk-testpmd --lcores 0@0,1@0 --no-huge -m 128 --no-shconf --no-telemetry --no-pci \
			--vdev=net_vdev_netvsc0,iface=eth1,force=1,fallback=af_packet \
			-- -i --total-num-mbufs=2048 --forward-mode=txonly
		echo "Packets at the other end: $(cat /sys/class/net/wire/statistics/rx_packets)"
	'
	awk '
		/^Number of available ports:/ { ports = $NF }
		$3 ~ /^net_failsafe_vsc/ { names = names " " $3 }
		/Accumulated forward statistics/ { total = 1 }
		total && $1 == "TX-packets:" { sent = $2 }
		/^Packets at the other end:/ { came = $NF }
		END { print ports names, sent, came }
	' "$log"
}

# Each answers once more with testpmd, as an application of the user does.
expect_c_driver() {
	expect_only "$debians" "$ours"
	[ "$(sha256sum <"$plugin")" = "$c_driver" ] || fail "$plugin is not what it was"
	result=$(testpmd)
	[ "$result" = "0 0 0" ] || { cat "$log" >&2; fail "the C driver does not answer: $result"; }
}

expect_our_driver() {
	expect_only "$ours" "$debians"
	result=$(testpmd)
	sent=${result##* }
	if [ "$result" != "1 net_failsafe_vsc0 $sent $sent" ] || [ "$sent" = 0 ]; then
		cat "$log" >&2
		fail "our driver does not answer: $result"
	fi
}

quietly apt-get update
candidate=$(apt-cache policy "$debians" | sed -n 's/.*Candidate: //p')
[ "$candidate" = "$dpdk" ] || fail "DPDK is $dpdk here, and $candidate in the archive: upgrade it first"
# The package may be on this system in earnest.
quietly apt-get install --yes --no-install-recommends "$debians"
others >/mnt/others-before
c_driver=$(sha256sum <"$plugin")

echo "deb.sh: $package"
# It leaves a temporary file behind.
quietly env TMPDIR=/mnt lintian --fail-on error,warning --allow-root build/deb/*.changes
[ "$(dpkg-deb --field "$package" Version)" = "$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)+dpdk$dpdk" ] ||
	fail "the version is $(dpkg-deb --field "$package" Version)"
cargo tree --locked --edges normal,no-proc-macro --prefix none --format '{p} {l}' | sort -u |
	while read -r crate _ licence; do
		case $crate,$licence in
		vdev_netvsc,*) ;;
		*MIT*) grep -q "crates/$crate\$" debian/copyright || fail "debian/copyright does not name the crate $crate" ;;
		*) fail "debian/copyright says nothing of the licence of $crate, $licence" ;;
		esac
	done

echo "deb.sh: Debian's package stands, and the C driver answers"
expect_c_driver

echo "deb.sh: ours takes its place, and our driver answers"
quietly apt-get install --yes --no-install-recommends "./$package"
expect_our_driver

tool=vdev-netvsc-which-pmd
[ "$(dpkg-query --search "$(command -v $tool)" | cut -d : -f 1)" = "$ours" ] || fail "$tool is not of $ours"
status=0
$tool lo >"$log" 2>&1 || status=$?
{ [ $status = 1 ] && grep -q "^$tool: " "$log"; } || fail "$tool ends with $status and says: $(cat "$log")"

echo "deb.sh: Debian's package is asked for, and the C driver answers"
quietly apt-get install --yes --no-install-recommends "$debians"
expect_c_driver

echo "deb.sh: ours once more"
quietly apt-get install --yes --no-install-recommends "./$package"
expect_our_driver

# Older releases of apt then remove what depends on the one or the other as well; newer ones install Debian's at once.
echo "deb.sh: ours is removed, Debian's is installed, and the C driver answers"
quietly apt-get remove --yes "$ours"
! installed "$ours" || fail "$ours is still installed"
others >/mnt/others
# shellcheck disable=SC2046 # a list of words
quietly apt-get install --yes --no-install-recommends "$debians" \
	$(sort /mnt/others /mnt/others-before | uniq -u | sed 's/^i. *//; s/ .*//')
expect_c_driver
