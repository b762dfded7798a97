#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# usage: asan.sh driver.a [folder]
#
# Links the test application with a DPDK that is built with AddressSanitizer, and prints
# where it is: <folder>/app, by default build/asan/app of this project. In it: the
# application (tests/app/app.c), the stand-in VF PMD (tests/vf/vf.c), the driver archive
# of the command line, whole, and what of DPDK these need: net_failsafe, net_tap,
# net_af_packet, the PCI and the vdev bus, static. No plugin is loaded at run time.
#
# DPDK comes from the source package of the installed version (tests/dpdk-source.sh) and
# is compiled once, in <folder>/dpdk: 50 s on two cores. The next run compiles the two
# files above and links, 2 s, unless DPDK's version, the options or the compiler changed.
#
# Running it:
#
#   ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1:exitcode=99 \
#           app --no-huge --no-shconf -m 128 --no-pci --no-telemetry ...
#
# - A report ends the process with status 99. Leaks are looked for at exit, after
#   rte_eal_cleanup(): an application that is killed, or that ends by _exit(), is not
#   checked for any. Where ptrace is not allowed LeakSanitizer gives up with "has
#   encountered a fatal error": detect_leaks=0.
# - DPDK 22.11 up to 26.03: stop and close the failsafe ports before rte_eal_cleanup().
#   failsafe's remove() hot-removes its sub-devices, and vdev_cleanup() goes on to the next
#   device of its list, which was one of them and is freed (heap-use-after-free in
#   vdev_cleanup, drivers/bus/vdev/vdev.c). That report is DPDK's, not the driver's.
# - Memory: --no-huge as above, or --in-memory with free hugepages. Not both: EAL takes
#   --no-huge for --legacy-mem and refuses ("--legacy-mem is not compatible with
#   --in-memory"). ASan's shadow lies where EAL would like its memory (0x100000000); EAL
#   goes elsewhere by itself. --base-virtaddr=0x200000000000 suits both.
# - "Shadow memory range interleaves with an existing memory mapping" or an endless
#   DEADLYSIGNAL at start is a compiler older than the kernel's 32 bits of address
#   randomization: run it under setarch --addr-no-randomize.
#
# What is seen:
#
# - DPDK, the application and the VF PMD: compiled with ASan, each access is checked.
# - rte_malloc() memory: on 64-bit Linux DPDK itself marks what is free and the edges of
#   what is not (RTE_MALLOC_ASAN, lib/eal/common/malloc_elem.h). A report calls it a
#   "wild pointer", as ASan does not know who allocated it. Leaks of it are not reported,
#   and what only it points to counts as leaked.
# - The driver's own code: not instrumented, stable Rust has no -Zsanitizer. Its allocator
#   calls malloc and free, which are ASan's: a double or invalid free, a leak, and freed or
#   outside memory read or written by C or in a libc function are reported. What Rust code
#   itself reads or writes is not.
set -eu

fail() {
	echo "asan.sh: $*" >&2
	exit 1
}

# Runs a command with its output in a log, which is shown when the command fails.
logged() {
	log=$1
	shift
	"$@" >"$log" 2>&1 || {
		tail -n 40 "$log" >&2
		fail "failed, see $log: $*"
	}
}

[ $# -ge 1 ] && [ $# -le 2 ] || fail "usage: asan.sh driver.a [folder]"
project=$(cd "$(dirname "$0")/.." && pwd)
driver=$(realpath -e "$1" 2>/dev/null) || fail "no driver archive $1"
folder=${2:-$project/build/asan}
mkdir -p "$folder" || fail "cannot make $folder"
folder=$(cd "$folder" && pwd)
# A script of DPDK's, run by meson, leaves a temporary file behind.
rm -rf "$folder/tmp"
mkdir "$folder/tmp"
export TMPDIR="$folder/tmp"
build=$folder/dpdk
cc=${CC:-cc}

for tool in "$cc" meson ninja pkg-config; do
	command -v "$tool" >/dev/null || fail "$tool is missing"
done

source=$("$project/tests/dpdk-source.sh")

# Drivers, and libraries they need. A name the release does not have is skipped: log came
# with 23.11, argparse with 24.03.
drivers="bus/pci bus/vdev mempool/ring net/af_packet net/failsafe net/tap"
libraries="log argparse kvargs telemetry eal ring rcu mempool mbuf net meter ethdev pci hash gso"

# -O1 -g: quick to compile, and stacks with lines. Applications, examples and most
# libraries are configured but never compiled: only archives asked for below are.
options="--buildtype=plain -Db_sanitize=address -Db_lundef=false -Ddefault_library=static
	-Dplatform=generic -Dtests=false -Ddeveloper_mode=disabled
	-Denable_docs=false -Denable_kmods=false -Ddisable_apps=*
	-Denable_drivers=$(echo "$drivers" | tr ' ' ',')"
c_args="-O1 -g"

# One at a time: two runs would overwrite each other's files.
exec 9>"$folder/lock"
flock 9

stamp=$folder/dpdk.stamp
wanted="$source
$options -Dc_args=$c_args
$libraries
$("$cc" --version | head -n 1)"
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
	rm -rf "$build" "$stamp"
	set -f # The * is for meson.
	# shellcheck disable=SC2086 # The options are a list.
	CC=$cc logged "$folder/meson.log" nice meson setup "$build" "$source" $options "-Dc_args=$c_args"
	set +f

	# The drivers' tmp archives are the whole drivers, without the text for dpdk-pmdinfo.py
	# (whose generator needs Python's elftools).
	ninja -C "$build" -t targets all >"$folder/targets"
	archives=
	for name in $drivers; do
		archive=drivers/libtmp_rte_$(echo "$name" | tr / _).a
		grep -q "^$archive:" "$folder/targets" || fail "this DPDK cannot build $name, see $folder/meson.log"
		archives="$archives $archive"
	done
	for name in $libraries; do
		archive=lib/librte_$name.a
		if grep -q "^$archive:" "$folder/targets"; then
			archives="$archives $archive"
		fi
	done
	# shellcheck disable=SC2086 # The archives are a list.
	logged "$folder/ninja.log" nice ninja -C "$build" -j "$(nproc)" $archives
	echo "$archives" >"$folder/archives"
	echo "$wanted" >"$stamp"
fi

# The way DPDK's own drivers are compiled.
cflags="$(PKG_CONFIG_PATH=$build/meson-uninstalled pkg-config --cflags libdpdk)
	$c_args -fsanitize=address -fno-omit-frame-pointer -D_GNU_SOURCE
	-DALLOW_EXPERIMENTAL_API -DALLOW_INTERNAL_API -Wall -Wextra -I$project/include"
for file in app/app.c vf/vf.c; do
	# shellcheck disable=SC2086 # The flags are a list.
	"$cc" $cflags -c "$project/tests/$file" -o "$folder/$(basename "$file" .c).o" ||
		fail "cannot compile tests/$file"
done

# What DPDK's configuration uses when it finds it.
system=
for name in archive bpf bsd fdt numa; do
	if "$cc" -shared "-l$name" -o "$folder/probe.so" 2>/dev/null; then
		system="$system -l$name"
	fi
done
rm -f "$folder/probe.so"

# Whole archives: buses, drivers, mempool handlers and log types register themselves in
# constructors that nothing refers to. So does our driver.
cd "$build"
# shellcheck disable=SC2046,SC2086 # The archives and libraries are lists.
"$cc" -fsanitize=address "$folder/app.o" "$folder/vf.o" \
	-Wl,--whole-archive "$driver" $(cat "$folder/archives") -Wl,--no-whole-archive \
	-Wl,--as-needed $system -pthread -lm -ldl -o "$folder/app.new" >&2 || fail "cannot link the application"
mv "$folder/app.new" "$folder/app"
echo "$folder/app"
