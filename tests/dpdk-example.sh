#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# usage: dpdk-example.sh <name>
#
# Compiles one of the example applications of DPDK's source (dpdk-source.sh), such as l3fwd or multi_process/symmetric_mp,
# and prints where the program is, below build/examples.
set -eu

fail() {
	echo "dpdk-example.sh: $*" >&2
	exit 1
}

[ $# = 1 ] || fail "usage: dpdk-example.sh <name>"
project=$(cd "$(dirname "$0")/.." && pwd)
source=$("$project/tests/dpdk-source.sh")
[ -f "$source/examples/$1/Makefile" ] || fail "no example $1 in $source"
# What is compiled is for the DPDK that is installed, and a tree may change.
examples=$project/build/examples/$(pkg-config --modversion libdpdk)
# One after another: they share a folder.
mkdir -p "$examples"
exec 9>"$examples/.lock"
flock 9
for part in common "$1"; do
	mkdir -p "$examples/$part"
	cp -r -u "$source/examples/$part/." "$examples/$part"
done
# It asks for checksums by the NIC, which net_af_packet does not have.
if grep -q RTE_ETH_RX_OFFLOAD_CHECKSUM "$examples/l3fwd/main.c" 2>/dev/null; then
	sed -i 's/RTE_ETH_RX_OFFLOAD_CHECKSUM/0/' "$examples/l3fwd/main.c"
fi
make --silent -C "$examples/$1" >&2
echo "$examples/$1/build/$(basename "$1")"
