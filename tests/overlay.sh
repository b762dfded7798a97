#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# usage: overlay.sh <DPDK tree> [folder]
#
# Is the driver a driver of this DPDK tree like any other? The tree is copied to
# <folder>, by default build/overlay/<its version> of this project, and given the
# driver (tools/overlay.sh). Then, with a small configuration:
#
# - all that ninja makes is made, once: not again when nothing changed, and of a Rust
#   source that changed nothing else is made but what follows from it;
# - clippy has nothing to say of what is for trees only;
# - the private structs are those of include/*_layout.h (tests/layout.c);
# - archive and plugin show no symbols but the driver's own;
# - dpdk-pmdinfo.py and libdpdk.pc name the driver, of an installation by DESTDIR;
# - dpdk-testpmd, linked with static libraries and then with shared ones and EAL's folder
#   of plugins, has a port by this driver, and frames go by it both ways;
# - the driver can be disabled, and is skipped with a reason where there is no Rust, or
#   one too old.
#
# What was built is kept, so that the next run only looks. Needs root, for namespaces.
set -eu

fail() {
	echo "overlay.sh: $*" >&2
	exit 1
}

# Runs a command with its output in a log, which is shown when the command fails.
logged() {
	log=$folder/$1.log
	shift
	"$@" >"$log" 2>&1 || {
		tail -n 40 "$log" >&2
		fail "failed, see $log: $*"
	}
}

# The installation is at its prefix, as EAL takes no plugins from below a folder that
# everybody can write to, and this folder may lie in one.
prefix=/mnt
address=192.0.2.2

# In namespaces of its own: testpmd serves eth1, and answers echo requests that come in at
# the other end of its wire.
if [ "${1:-}" = --stage ]; then
	folder=$2
	linked=$3
	mount --bind "$folder/installed$prefix" "$prefix"
	ip link add eth1 address 00:15:5d:00:00:01 type veth peer name wire
	ip link set eth1 up
	ip link set wire up
	ip address add 192.0.2.1/24 dev wire
	mount -t tmpfs stage /run
	mkfifo /run/commands
	LD_LIBRARY_PATH=$prefix/lib "$prefix/bin/dpdk-testpmd" --lcores 0@0,1@0 --no-huge -m 128 --no-shconf \
		--no-telemetry --no-pci --vdev=net_vdev_netvsc0,iface=eth1,force=1,fallback=af_packet \
		-- -i --auto-start --forward-mode=icmpecho --total-num-mbufs=4096 --no-mlockall \
		</run/commands >"$folder/$linked.log" 2>&1 &
	testpmd=$!
	exec 3>/run/commands
	trap 'kill "$testpmd" 2>/dev/null || true' EXIT
	tries=0
	until ping -q -c 1 -W 1 "$address" >"$folder/ping.log"; do
		tries=$((tries + 1))
		kill -0 "$testpmd" && [ "$tries" -lt 60 ] || break
	done
	# Until so many are answered; the machine may be too busy for one or the other.
	if ping -q -c 200 -i 0.005 -w 60 "$address" >"$folder/ping.log" &&
		cp "/proc/$testpmd/maps" "$folder/$linked.maps" &&
		printf 'show port summary all\nquit\n' >&3 && wait "$testpmd"; then
		exit
	fi
	cat "$folder/$linked.log" "$folder/ping.log" >&2
	fail "no port, or too few frames came back: $linked"
fi

[ $# -ge 1 ] && [ $# -le 2 ] || fail "usage: overlay.sh <DPDK tree> [folder]"
project=$(cd "$(dirname "$0")/.." && pwd)
source=$(realpath -e "$1" 2>/dev/null) || fail "no folder $1"
[ -f "$source/VERSION" ] || fail "$1 is no DPDK tree"
version=$(cat "$source/VERSION")
folder=${2:-$project/build/overlay/$version}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
tree=$folder/tree
build=$folder/build
# A script of DPDK's, run by meson, leaves a temporary file behind.
rm -rf "$folder/tmp"
mkdir "$folder/tmp"
export TMPDIR="$folder/tmp"
"$project/tools/packages.sh" check

# What is no tree, or too old, stays as it is.
refused=$folder/refused
rm -rf "$refused"
mkdir -p "$refused/drivers/net/vdev_netvsc"
for old in '' 21.11.9; do
	[ -z "$old" ] || echo "$old" >"$refused/VERSION"
	! "$project/tools/overlay.sh" "$refused" 2>"$folder/refused.log" || fail "tools/overlay.sh takes what it must not"
	[ "$(wc -l <"$folder/refused.log")" = 1 ] && [ -z "$(ls "$refused/drivers/net/vdev_netvsc")" ] ||
		fail "tools/overlay.sh has more to say than one line, see $folder/refused.log"
done

# One copy for each tree and release of meson, which does not take another one's folder.
stamp="$source $version $(meson --version)"
if [ "$(cat "$folder/stamp" 2>/dev/null)" != "$stamp" ]; then
	rm -rf "$tree" "$build" "$folder/stamp"
	mkdir "$tree"
	tar -C "$source" --exclude=.git -cf - . | tar -C "$tree" -xf -
	echo "$stamp" >"$folder/stamp"
fi
"$project/tools/overlay.sh" "$tree"

# DPDK's tools need Python's elftools, which Debian's Python has.
printf "[binaries]\npython = '/usr/bin/python3'\n" >"$folder/python.ini"
# As little as testpmd and the driver need. Where libraries cannot be left out, this is only said.
configure() {
	made=$1
	shift
	meson setup "$made" "$tree" --native-file "$folder/python.ini" --buildtype=plain -Dc_args=-O1 -Dplatform=generic \
		--prefix="$prefix" --libdir=lib -Dtests=false -Ddeveloper_mode=enabled -Denable_driver_sdk=true \
		-Denable_apps=test-pmd '-Ddisable_libs=*' "$@"
}
drivers=bus/pci,bus/vdev,mempool/ring,net/af_packet,net/failsafe
make_all() {
	logged "$1" nice ninja -C "$build"
}

if [ -f "$build/build.ninja" ]; then
	logged meson meson configure "$build" -Ddefault_library=static
else
	logged meson configure "$build" -Ddefault_library=static "-Denable_drivers=$drivers,net/vdev_netvsc"
fi
make_all ninja
make_all ninja-again
grep -q 'no work to do' "$folder/ninja-again.log" || fail "ninja makes again what is made, see $folder/ninja-again.log"
touch "$tree/drivers/net/vdev_netvsc/rust/src/lib.rs"
make_all ninja-touched
grep -q 'Generating.*vdev_netvsc' "$folder/ninja-touched.log" || fail "ninja does not see that a Rust source changed"
! grep 'Linking' "$folder/ninja-touched.log" >&2 || fail "ninja links anew what is the same"

# What of the crate is for a tree only.
headers=$build/meson-uninstalled
logged clippy env PKG_CONFIG_PATH="$headers" nice cargo clippy --quiet --locked --lib --features in-tree \
	--manifest-path "$project/Cargo.toml" --target-dir "$project/build/cargo" -- -D warnings

# shellcheck disable=SC2046 # A list of flags.
cc -Werror -D_GNU_SOURCE -DALLOW_EXPERIMENTAL_API -DALLOW_INTERNAL_API -I"$project/include" -I"$project/tests/vf" \
	-isystem "$tree/drivers/net/failsafe" \
	$(PKG_CONFIG_PATH=$headers pkg-config --cflags libdpdk-uninstalled) \
	-c "$project/tests/layout.c" -o "$folder/layout.o" || fail "include/*_layout.h is not what this tree has"

own='vdev_netvsc_(init|probe|remove)|net_vdev_netvsc_pmd_info|this_pmd_name.*|__net_vdev_netvsc_.*_export'
for file in librte_net_vdev_netvsc.a librte_net_vdev_netvsc.so; do
	case $file in
	*.a) option=--extern-only ;;
	*) option=--dynamic ;;
	esac
	nm "$option" --defined-only --format=posix "$build/drivers/$file" >"$folder/symbols"
	# The name of a version is absolute.
	! awk 'NF > 1 && $2 != "A" { print $1 }' "$folder/symbols" | grep -Exv "$own" >&2 ||
		fail "$file shows these symbols"
done

for linked in static shared; do
	if [ "$linked" = shared ]; then
		logged meson meson configure "$build" -Ddefault_library=shared
		make_all ninja
	fi
	logged install env DESTDIR="$folder/installed" meson install -C "$build" --no-rebuild
	unshare --mount --net "$0" --stage "$folder" "$linked"
	grep -q 'net_failsafe_vsc0 *net_failsafe *up' "$folder/$linked.log" ||
		fail "net_failsafe_vsc0 is not among the ports, see $folder/$linked.log"
	case $linked-$(grep -c "$prefix/lib/dpdk/pmds-.*/librte_net_vdev_netvsc\.so" "$folder/$linked.maps") in
	static-0 | shared-[1-9]*) ;;
	*) fail "testpmd does not have the driver where it is to be ($linked), see $folder/$linked.maps" ;;
	esac
	echo "DPDK $version, $linked libraries: of $(sed -n 's/ packets transmitted//; s/ received,.*/ came back/p' "$folder/ping.log")"
done

grep -q -- '-l:librte_net_vdev_netvsc\.a' "$folder/installed$prefix/lib/pkgconfig/libdpdk.pc" ||
	fail "libdpdk.pc does not name the driver"
/usr/bin/python3 "$tree/usertools/dpdk-pmdinfo.py" "$folder/installed$prefix"/lib/dpdk/pmds-*/librte_net_vdev_netvsc.so \
	>"$folder/pmdinfo" || fail "dpdk-pmdinfo.py fails"
grep -q '"name": "net_vdev_netvsc"' "$folder/pmdinfo" && grep -q 'fallback=tap|af_packet' "$folder/pmdinfo" ||
	fail "dpdk-pmdinfo.py does not know the driver, see $folder/pmdinfo"

# Of what does not build the driver it is enough to see what meson says.
skipped() {
	name=$1
	reason=$2
	shift 2
	rm -rf "${folder:?}/$name"
	logged "$name" configure "$folder/$name" "$@"
	grep -q "net/vdev_netvsc:.*$reason" "$folder/$name.log" || fail "no reason \"$reason\" in $folder/$name.log"
	! grep -q librte_net_vdev_netvsc "$folder/$name/build.ninja" || fail "the driver is built all the same: $name"
}
skipped disabled 'explicitly disabled' "-Denable_drivers=$drivers,net/vdev_*" -Ddisable_drivers=net/vdev_netvsc

# All that there is but Rust; then one that is too old. No driver is asked for by its name here: since 23.11 it is an
# error when one of these cannot be built.
tools=$folder/tools
rm -rf "$tools"
mkdir "$tools"
(
	IFS=:
	for place in $PATH; do
		for tool in "$place"/*; do
			[ -e "$tools/${tool##*/}" ] || ln -s "$tool" "$tools/"
		done
	done
)
rm -f "$tools/cargo" "$tools/rustc"
PATH=$tools skipped no-rust 'missing dependency, "cargo"' "-Denable_drivers=$drivers,net/vdev_*"
ln -s "$(command -v cargo)" "$tools/cargo"
printf '#!/bin/sh\necho rustc 1.84.1\n' >"$tools/rustc"
chmod +x "$tools/rustc"
PATH=$tools skipped old-rust 'missing dependency, .*"rustc" 1.85' "-Denable_drivers=$drivers,net/vdev_*"
