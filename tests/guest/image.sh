#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# usage: image.sh <build folder> [release]
#
# Makes <build folder>/guest/vmlinuz and image.cpio, what a guest of the tests
# boots: Debian's kernel, busybox, the DPDK that is installed, and what was
# built. The kernel's package is downloaded once and only unpacked. With the
# name of another release of Debian its kernel is taken, and the folder is
# <build folder>/guest-<release>; of the machine's own apt nothing changes.
set -eu

fail() {
	echo "image.sh: $*" >&2
	exit 1
}

[ $# = 1 ] || [ $# = 2 ] || fail "usage: image.sh <build folder> [release]"
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$1" && pwd) || fail "$1 is missing: run make with-tests first"
release=${2:-}
guest=$build/guest${release:+-$release}
mkdir -p "$guest"
[ "$(dpkg --print-architecture)" = amd64 ] || fail "the guest's NICs exist on amd64 only"

# What the tests use in the guest, and the modules behind it.
programs="dash dpdk-testpmd ip ping ss strace tc"
plugins="bus_pci bus_vdev mempool_ring net_af_packet net_failsafe net_tap net_vdev_netvsc"
modules="virtio_pci virtio_console virtio_net vmxnet3 tun sch_multiq sch_ingress cls_flower act_mirred act_skbedit act_gact"
# Those that a story asks for: bonding brings a netdevice along.
more_modules="8021q bonding ipvlan team vrf"

# For another release, the archives that this machine uses, under the other name.
apt_of_release() {
	[ -n "$release" ] || return 0
	mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
	"$here/../debian-sources.sh" "$release" >"$work/sources.list" || return 1
	cat >"$work/apt.conf" <<-EOF
		Dir::Etc::sourcelist "$work/sources.list";
		Dir::Etc::sourceparts "/dev/null";
		Dir::State::lists "$work/lists";
		Dir::Cache "$work/cache";
		Acquire::Check-Valid-Until "false";
	EOF
	export APT_CONFIG="$work/apt.conf"
	apt-get -qq -o APT::Sandbox::User=root update >&2
}

# The package that the name without a version stands for today.
kernel_package() {
	apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p'
}

download() {
	package=$(kernel_package)
	[ -n "$package" ] || return 1
	[ -d "$guest/$package" ] && return
	(cd "$work" && apt-get -qq -o APT::Sandbox::User=root download "$package" >&2)
}

work=$(mktemp -d "$guest/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

if [ -n "$release" ] && [ -e "$guest/image.cpio" ]; then
	# An old release's kernel does not change any more.
	package=$(cd "$guest" && echo linux-image-*)
else
	apt_of_release || fail "cannot fetch the index of $release"
	# Indexes may be missing, or name a version that is no longer there.
	download || { apt-get -qq update >&2 && download; } || fail "cannot download the kernel, linux-image-cloud-amd64"
fi
if [ ! -d "$guest/$package" ]; then
	dpkg-deb -x "$work/$package"_*.deb "$work/$package"
	for version in "$work/$package/lib/modules/"*; do
		busybox depmod -b "$work/$package" "${version##*/}"
	done
	mv -T "$work/$package" "$guest/$package"
fi
kernel=$guest/$package
version=$(ls "$kernel/lib/modules")

root=$work/root
mkdir -p "$root/dev" "$root/etc" "$root/mnt/tests" "$root/proc" "$root/run" "$root/sys" "$root/tmp" "$root/usr/bin" "$root/var"
ln -s /run "$root/var/run"
for name in bin lib lib64 sbin; do
	mkdir -p "$root/usr/$name"
	ln -s "usr/$name" "$root/$name"
done

# Copies a file with all the names by which it is reached: EAL takes two copies of a plugin for two plugins.
copy() {
	for file; do
		while :; do
			folder=$(realpath "$(dirname "$file")")
			mkdir -p "$root$folder"
			cp -P "$folder/${file##*/}" "$root$folder/"
			[ -h "$file" ] || break
			target=$(readlink "$file")
			case $target in
			/*) file=$target ;;
			*) file=$folder/$target ;;
			esac
		done
	done
}

libdir=$(pkg-config --variable=libdir libdpdk)
abi=$(readlink -f "$libdir/librte_eal.so")
pmds=$libdir/dpdk/pmds-${abi##*.so.}
# pthread_cancel loads libgcc_s.
files="/bin/busybox $(ldconfig -p | sed -n 's/.*libgcc_s.so.1 (.*x86-64.*=> //p')"
for program in $programs; do
	files="$files $(command -v "$program")" || fail "$program is missing"
done
for plugin in $plugins; do
	for file in "$pmds/librte_$plugin".so*; do
		files="$files $file"
	done
done
cp "$build/librte_net_vdev_netvsc.so" "$root/mnt/"
cp "$build/tests/app" "$build/tests/librte_net_test_vf.so" "$root/mnt/tests/"
# shellcheck disable=SC2086 # a list of files
libraries=$(ldd $files "$root/mnt/librte_net_vdev_netvsc.so" "$root/mnt/tests/"* 2>/dev/null |
	sed -n 's/^[^:]* \(\/[^ ]*\) (0x.*/\1/p' | sort -u)
# shellcheck disable=SC2086 # a list of files
copy $files /lib64/ld-linux-x86-64.so.2
for library in $libraries; do
	# Plugins that testpmd is linked with, and that EAL is not to load from its folder.
	case $library in
	"$pmds"/*) [ -e "$root$library" ] || cp "$library" "$root$libdir/" ;;
	*) copy "$library" ;;
	esac
done
cp "$here/init" "$root/init"
cp "$here/../azure.sh" "$root/mnt/tests/"
# shellcheck disable=SC2046 # a list of words
cc -shared -fPIC $(pkg-config --cflags libdpdk) -o "$root/mnt/tests/libhyperv.so" "$here/../hyperv.c"

# The modules, each with those that it needs.
for module in $modules $more_modules; do
	path=$(sed -n "s|^\([^:]*/$module\.ko[^:]*\):.*|\1|p" "$kernel/lib/modules/$version/modules.dep")
	[ -n "$path" ] || fail "$package has no module $module"
	sed -n "s|^$path: *||p" "$kernel/lib/modules/$version/modules.dep" | tr ' ' '\n'
	echo "$path"
done | sort -u >"$work/modules"
while read -r module; do
	[ -n "$module" ] || continue
	mkdir -p "$root/lib/modules/$version/${module%/*}"
	cp "$kernel/lib/modules/$version/$module" "$root/lib/modules/$version/$module"
done <"$work/modules"
if [ -z "$release" ]; then
	"$here/vmbus/build.sh" "$version" "$guest/vmbus"
	cp "$guest/vmbus/vmbus.ko" "$root/lib/modules/$version/"
fi
busybox depmod -b "$root" "$version"
echo "$modules" | tr " " "\n" >"$root/etc/modules"

(cd "$root" && find . | cpio --quiet -o -H newc -R 0:0) >"$work/image.cpio"
cp "$kernel/boot/vmlinuz-$version" "$work/vmlinuz"
mv "$work/vmlinuz" "$work/image.cpio" "$guest/"
