#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# usage: azure.sh [-d plugin] [-a address/length] [-p peer] [interface] [-- EAL options]
#
# The stories of the end-to-end tests on a VM on Azure or Hyper-V, as far as it can play them without the host: Debian's
# or Ubuntu's own dpdk-testpmd with the driver on a NetVSC interface, by default eth1, and the default fallback. Its VF
# is taken away and brought back from inside, testpmd is killed and started anew, and all the while the kernel talks
# through the port with a peer. What was changed is undone at the end, also after an interruption.
#
#   -d  the plugin; by default the one that "make" built
#   -a  the interface's IPv4 address; by default the one that it has
#   -p  a VM of the same subnet that answers ping; without it the subnet's first address, the gateway, is asked by ARP
#
# As root. Needs dpdk-testpmd, iproute2 and ping, or arping without -p.
set -eu

fail() {
	echo "azure.sh: $*" >&2
	exit 1
}

# Arguments.

plugin=$(cd "$(dirname "$0")/.." && pwd)/build/librte_net_vdev_netvsc.so
address=
peer=
while getopts a:d:p: option; do
	case $option in
	a) address=$OPTARG ;;
	d) plugin=$OPTARG ;;
	p) peer=$OPTARG ;;
	*) fail "usage: azure.sh [-d plugin] [-a address/length] [-p peer] [interface] [-- EAL options]" ;;
	esac
done
shift $((OPTIND - 1))
iface=eth1
case ${1:--} in
-*) ;;
*)
	iface=$1
	shift
	;;
esac
[ "${1:-}" != -- ] || shift

# What must not be touched.

net=/sys/class/net/$iface
[ "$iface" != eth0 ] || fail "eth0 is left alone: an Azure VM is reached by it; name another interface"
[ -e "$net/ifindex" ] || fail "there is no interface $iface"
for family in 4 6; do
	[ -z "$(ip "-$family" route show table all dev "$iface" default 2>/dev/null)" ] ||
		fail "$iface carries a default route: name another interface, or take the route off"
done
# A session that came by IPv4 to a socket of IPv6 shows as [::ffff:192.0.2.1].
sessions=$(ss -Htn state established | awk '{ print $3 }' | sed -e 's/:[0-9]*$//' -e 's/^\[\(::ffff:\)\{0,1\}//' -e 's/[]%].*//')
for local in $(ip -o address show dev "$iface" | awk '{ sub("/.*", "", $4); print $4 }'); do
	case "
$sessions
" in
	*"
$local
"*) fail "$iface carries TCP connections to its address $local, as that of a session: name another interface, or end them" ;;
	esac
done
[ "$(cat "$net/device/class_id" 2>/dev/null)" = "{f8615163-df3e-46c5-913f-f2d2f965ed0e}" ] ||
	fail "$iface is not a NetVSC interface: name one whose driver is hv_netvsc, and not its VF"
# net_tap takes the place of all of them, and brings none back.
! tc qdisc show dev "$iface" | grep -qv '^qdisc [a-z_]* 0:' ||
	fail "$iface has queueing disciplines that somebody set up, which would be lost: take them off first"

# What is needed.

[ "$(id -u)" = 0 ] || fail "root is needed"
[ -e "$plugin" ] || fail "$plugin is missing: run make, or name the plugin with -d"
for tool in dpdk-testpmd ss tc; do
	command -v $tool >/dev/null || fail "$tool is missing: install dpdk-dev (dpdk on Ubuntu) and iproute2"
done
[ -n "$address" ] || address=$(ip -o -4 address show dev "$iface" | awk '{ print $4; exit }')
[ -n "$address" ] || fail "$iface has no IPv4 address: give it with -a, as 10.1.0.4/24"
case $address in
*.*.*.*/*) ;;
*) fail "$address is not an IPv4 address with its prefix's length: give it as 10.1.0.4/24" ;;
esac
tool=ping
if [ -z "$peer" ]; then
	tool=arping
	peer=$(echo "$address" | awk -F '[./]' '{
		number = (($1 * 256 + $2) * 256 + $3) * 256 + $4
		size = 1
		for (bits = $5; bits < 32; bits++) size *= 2
		first = number - number % size + 1
		printf "%d.%d.%d.%d", first / 16777216, first / 65536 % 256, first / 256 % 256, first % 256
	}')
fi
command -v $tool >/dev/null || fail "$tool is missing: install iputils-$tool"
case " $* " in
*" --no-huge "*) ;;
*)
	free=$(awk '/^HugePages_Free/ { pages = $2 } /^Hugepagesize/ { print int(pages * $2 / 1024) }' /proc/meminfo)
	[ "$free" -ge 256 ] ||
		fail "$free MiB of huge pages are free, 256 are needed: echo 128 >/proc/sys/vm/nr_hugepages"
	;;
esac
modprobe -a tun sch_multiq sch_ingress cls_flower act_mirred act_skbedit ||
	fail "the kernel lacks what the default fallback needs (linux-modules-extra on Ubuntu)"

# The VF.

netvsc=$(cat "$net/ifindex")
mac=$(cat "$net/address")

# Finds the VF by its master, as the kernel pairs them: its PCI device's folder.
find_vf() {
	for link in /sys/class/net/*/master; do
		[ "$(cat "$link/ifindex" 2>/dev/null)" = "$netvsc" ] || continue
		device=$(readlink -f "${link%/master}/device")
		[ "$(basename "$(readlink "$device/subsystem")")" != pci ] || echo "$device"
	done | head -n 1
}

# The VMBus device through which Hyper-V passes a PCI function, if it does.
passed_by() {
	folder=$1
	while [ "$folder" != / ]; do
		if [ "$(readlink "$folder/driver" | sed 's|.*/||')" = hv_pci ]; then
			basename "$folder"
			return
		fi
		folder=$(dirname "$folder")
	done
}

vf=$(find_vf)
pci=${vf##*/}
hv_pci=/sys/bus/vmbus/drivers/hv_pci
channel=
if [ -n "$vf" ]; then
	channel=$(passed_by "$vf")
	if [ "$(readlink "$vf/driver" | sed 's|.*/||')" = mana ]; then
		echo "the VF at $pci is MANA's: the port goes by the kernel (docs/mana.md), and the VF stays plugged in"
		pci=
		vf=
	# That of the session would go as well.
	elif [ "$(find "$vf/net" -mindepth 1 -maxdepth 1 | wc -l)" -gt 1 ]; then
		echo "the VF at $pci has other interfaces as well, so it stays plugged in"
		vf=
	fi
else
	echo "$iface has no VF: accelerated networking is off, or the VF's kernel driver is missing"
fi
# Without any -a EAL would take the VFs of all interfaces.
set -- -a "${pci:-0000:00:00.0}" "$@"
plugged=yes

vf_goes() {
	plugged=
	if [ -n "$channel" ]; then
		echo "$channel" >"$hv_pci/unbind"
	else
		echo 1 >"$vf/remove"
	fi
}

vf_comes() {
	if [ -n "$channel" ]; then
		echo "$channel" >"$hv_pci/bind"
	else
		echo 1 >/sys/bus/pci/rescan
	fi
	plugged=yes
}

# What is undone.

work=$(mktemp -d)
log=$work/log
tap=vsctest0
app=
talk=
flags=$(cat "$net/flags")
mtu=$(cat "$net/mtu")

end() {
	[ -z "$1" ] || ! kill "-$2" "$1" 2>/dev/null || wait "$1" 2>/dev/null || true
}

undo() {
	trap '' HUP INT TERM
	end "$talk" KILL
	end "$app" TERM
	[ -n "$plugged" ] || vf_comes || echo "azure.sh: the VF of $iface did not come back" >&2
	# net_tap leaves it behind.
	tc qdisc del dev "$iface" ingress 2>/dev/null || true
	[ $((flags & 0x100)) != 0 ] || ip link set "$iface" promisc off
	[ $((flags & 0x200)) != 0 ] || ip link set "$iface" allmulticast off
	[ "$(cat "$net/mtu")" = "$mtu" ] || ip link set "$iface" mtu "$mtu"
	[ $((flags & 1)) != 0 ] || ip link set "$iface" down
	ip address restore <"$work/addresses" 2>/dev/null || echo "azure.sh: $iface lacks addresses that it had" >&2
	for family in 4 6; do
		ip "-$family" route restore <"$work/routes$family" 2>/dev/null || echo "azure.sh: $iface lacks routes that it had" >&2
	done
	rm -rf "$work"
}

ip address save dev "$iface" >"$work/addresses"
for family in 4 6; do
	ip "-$family" route save table all dev "$iface" >"$work/routes$family"
done
trap undo EXIT
trap 'exit 1' HUP INT TERM

# Stories.

# Hundredths of a second since the machine was started.
now() {
	sed 's/\.\([0-9]*\) .*/\1/' /proc/uptime
}

# Waits until a command succeeds, and fails when it does not in time.
until_true() {
	what=$1
	shift
	deadline=$(($(now) + 6000))
	until "$@"; do
		if [ "$(now)" -ge $deadline ] || ! kill -0 "$app" 2>/dev/null; then
			tail -n 40 "$log" >&2
			fail "$what: not within 60 s, or dpdk-testpmd has ended; its log is above"
		fi
		sleep 0.01
	done
}

# How often failsafe has begun to send by a sub-device.
switches() {
	grep -c 'Switching tx_dev' "$log" || true
}

switched_since() {
	[ "$(switches)" -gt "$1" ]
}

there() {
	[ -e "$1" ]
}

vf_is_up() {
	vf=$(find_vf)
	[ -n "$vf" ]
}

answered() {
	if [ $tool = ping ]; then
		ping -c 1 -W 1 -I $tap "$peer" >/dev/null 2>&1
	else
		arping -c 1 -w 1 -I $tap "$peer" >/dev/null 2>&1
	fi
}

# Starts testpmd, which passes frames between the port and a tap of the kernel's that has the interface's address.
start() {
	: >"$log"
	dpdk-testpmd -d "$plugin" --no-telemetry "$@" --log-level=pmd.net.failsafe:debug \
		--log-level=pmd.net.vdev_netvsc:debug --vdev=net_vdev_netvsc0,iface="$iface" \
		--vdev=net_tap_azure,iface=$tap,mac="$mac" -- --total-num-mbufs=8192 --forward-mode=io \
		<"$work/input" >"$log" 2>&1 &
	app=$!
	until_true "the port is made" grep -q 'net_failsafe_vsc0 .*: made' "$log"
	until_true "the tap is made" there /sys/class/net/$tap
	# The fallback's tap, which net_tap names dtap<number>.
	dtap=$(grep -lFx "$mac" /sys/class/net/dtap*/address | sed 's|.*/\(.*\)/address|\1|')
	ipv6=/proc/sys/net/ipv6/conf/$tap/disable_ipv6
	[ ! -e $ipv6 ] || echo 1 >$ipv6
	# Answers come here though another interface may have a route to where they come from.
	echo 2 >/proc/sys/net/ipv4/conf/$tap/rp_filter
	ip address add "$address" dev $tap
	ip link set $tap up
	until_true "$peer answers" answered
}

packets() {
	cat "/sys/class/net/$1/statistics/${2}_packets"
}

# Begins to talk with the peer, for some ten seconds.
talk_begins() {
	fallback=$(packets "$dtap" rx)
	if [ $tool = ping ]; then
		ping -c 100 -i 0.1 -I $tap "$peer" >"$work/talk" 2>&1 &
	else
		arping -c 10 -I $tap "$peer" >"$work/talk" 2>&1 &
	fi
	talk=$!
}

# Waits for the end of that, and adds a line to the table: what happened, how long it took, whether it may cost frames.
talk_ends() {
	wait "$talk" || true
	talk=
	# "52 packets transmitted, 52 received" or "Sent 6 probes … Received 6 response(s)", with a word more in busybox.
	sent=$(sed -n 's/^\([0-9]*\) packets transmitted.*/\1/p; s/^Sent \([0-9]*\) probe.*/\1/p' "$work/talk")
	back=$(sed -n 's/.*transmitted, \([0-9]*\) .*/\1/p; s/^Received \([0-9]*\) \(response\|reply\|replies\).*/\1/p' "$work/talk")
	[ -n "$sent$back" ] || fail "$tool did not say what it counted: $(cat "$work/talk")"
	by_fallback=$(($(packets "$dtap" rx) - fallback))
	[ $by_fallback -le "$sent" ] || by_fallback=$sent
	lost=$((sent - back))
	[ $lost = 0 ] || [ "$3" = removal ] || failed=yes
	printf '%-48s %6d %12d %6d %6d %7s\n' "$1" "$sent" "$by_fallback" "$((sent - by_fallback))" $lost "$2" >>"$work/table"
}

# Hundredths of a second as seconds.
seconds() {
	printf '%d.%02d s' $(($1 / 100)) $(($1 % 100))
}

# Has the VF come or go while the kernel talks through the port.
change() {
	talk_begins
	sleep 1
	before=$(switches)
	began=$(now)
	$2
	until_true "$1" switched_since "$before"
	took=$(($(now) - began))
	talk_ends "$1" "$(seconds $took)" "$3"
}

comes() {
	change "$1" vf_comes addition
	until_true "the VF is back" vf_is_up
}

goes() {
	change "$1" vf_goes removal
}

failed=
mkfifo "$work/input"
# Both ends, so that testpmd's input neither blocks nor ends.
exec 3<>"$work/input"
ip link set "$iface" up
ip -4 address flush dev "$iface"
ip -6 address flush dev "$iface" scope global 2>/dev/null || true

[ -z "$vf" ] || vf_goes
began=$(now)
start "$@"
took=$(($(now) - began))
talk_begins
talk_ends "port up on the fallback" "$(seconds $took)" addition
if [ -n "$vf" ]; then
	comes "VF plugged"
	goes "VF unplugged"
	comes "VF plugged again"
fi
end "$app" KILL
began=$(now)
start "$@"
took=$(($(now) - began))
talk_begins
talk_ends "testpmd killed and started anew${vf:+, VF there}" "$(seconds $took)" addition
end "$app" TERM
app=

printf '\n%-48s %6s %12s %6s %6s %7s\n' "$iface, $peer answers $tool" sent "by fallback" "by VF" lost took
cat "$work/table"
[ -z "$failed" ] || fail "frames were lost where nothing was removed"
