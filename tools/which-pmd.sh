#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# usage: which-pmd.sh [-w seconds] [-s sysfs] interface
#
# Says which of DPDK's drivers is to take a NetVSC interface on this host, and why: net_vdev_netvsc, or net_netvsc where
# the VFs are MANA's (docs/mana.md). An interface that uio_hv_generic has already is named by its VMBus device. Needs no
# root, and nothing of this project: copy it into an image. Installed, its name is vdev-netvsc-which-pmd.
#
#   -w  how long to wait for the VF of an interface that has none; by default not at all
#   -s  where sysfs is, by default /sys
#
# Exit status: 0 net_vdev_netvsc, 3 net_netvsc, 1 it cannot tell, 2 wrong usage.
set -u

fail() {
	echo "${0##*/}: $2" >&2
	exit "$1"
}

use() {
	echo "$2: $3"
	exit "$1"
}

sysfs=/sys
patience=0
usage="usage: ${0##*/} [-w seconds] [-s sysfs] interface"
while getopts s:w: option; do
	case $option in
	s) sysfs=$OPTARG ;;
	w) patience=$OPTARG ;;
	*) fail 2 "$usage" ;;
	esac
done
shift $((OPTIND - 1))
[ $# = 1 ] || fail 2 "$usage"
case $patience in
'' | *[!0-9]*) fail 2 "$patience is no number of seconds" ;;
esac
case $1 in
'' | */* | . | ..) fail 2 "$1 is no name of an interface" ;;
esac

# What a symbolic link ends in.
end_of() {
	link=$(readlink "$1") || return
	echo "${link##*/}"
}

read_file() {
	cat "$1" 2>/dev/null
}

# The interface.

iface=$1
device=$sysfs/bus/vmbus/devices/$iface
if [ -d "$device" ]; then
	[ "$(end_of "$device/driver")" != uio_hv_generic ] ||
		use 3 net_netvsc "uio_hv_generic has $iface already"
	for net in "$device"/net/*; do
		[ -e "$net" ] || fail 1 "$1 has no interface: bind it to hv_netvsc, or to uio_hv_generic"
		iface=${net##*/}
	done
fi
net=$sysfs/class/net/$iface
[ -e "$net/ifindex" ] ||
	fail 1 "there is no interface $iface; if uio_hv_generic has it, name its VMBus device (ls $sysfs/bus/vmbus/drivers/uio_hv_generic)"
[ "$(read_file "$net/device/class_id")" = "{f8615163-df3e-46c5-913f-f2d2f965ed0e}" ] ||
	fail 1 "$iface is not a NetVSC interface: name one whose driver is hv_netvsc, and not its VF"

# Its VF.

on_pci() {
	[ "$(end_of "$1/device/subsystem")" = pci ]
}

# Finds the VF as the driver does: the interface that has this one as its master, or else its address.
find_vf() {
	index=$(read_file "$net/ifindex")
	for link in "$sysfs"/class/net/*; do
		if on_pci "$link" && [ "$(read_file "$link/master/ifindex")" = "$index" ]; then
			echo "${link##*/}"
			return
		fi
	done
	address=$(read_file "$net/address")
	for link in "$sysfs"/class/net/*; do
		if on_pci "$link" && [ "$(read_file "$link/address")" = "$address" ]; then
			echo "${link##*/}"
			return
		fi
	done
}

# Finds a PCI function of MANA's: it is there some time before its interfaces.
find_mana() {
	for function in "$sysfs"/bus/pci/devices/*; do
		if [ "$(read_file "$function/vendor")/$(read_file "$function/device")" = 0x1414/0x00ba ] ||
			[ "$(end_of "$function/driver")" = mana ]; then
			echo "${function##*/}"
			return
		fi
	done
}

while :; do
	vf=$(find_vf)
	if [ -n "$vf" ]; then
		function=$(end_of "$sysfs/class/net/$vf/device")
		driver=$(end_of "$sysfs/bus/pci/devices/$function/driver")
		# None for a while as it goes, or it went meanwhile.
		if [ "$driver" = mana ]; then
			use 3 net_netvsc "$vf, the VF of $iface at $function, is MANA's"
		elif [ -n "$driver" ]; then
			use 0 net_vdev_netvsc "$vf, the VF of $iface at $function, is that of $driver"
		fi
	fi
	mana=$(find_mana)
	[ -z "$mana" ] || use 3 net_netvsc "this host has MANA, at $mana; $iface has no VF right now"
	[ "$patience" -gt 0 ] || use 0 net_vdev_netvsc "$iface has no VF right now, and this driver serves with any or none"
	patience=$((patience - 1))
	sleep 1
done
