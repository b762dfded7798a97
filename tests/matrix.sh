#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# usage: matrix.sh [--part] [suite ...]
#
# Builds the driver and tests it with the DPDK of releases of Debian: bookworm (22.11), trixie (24.11) and sid (25.11), or
# those that are named. With --part, only the tests whose outcome depends on DPDK most; what is left out is told at the
# end. Needs root, and 3 GB of disk a suite.
#
# Each has a root file system in build/matrix/<suite>/root, made by mmdebstrap once and kept: to have newer packages,
# remove it. In it this working tree is seen, read-only, with a build folder of its own. Rust is the suite's; in bookworm,
# whose is too old, this machine's. All runs in namespaces, which end with this script, however that ends.
#
# Mirrors, proxies and keys are those of this machine's apt, which need not know the suite.
set -eu

fail() {
	echo "matrix.sh: $*" >&2
	exit 1
}

project=$(cd "$(dirname "$0")/.." && pwd)
matrix=$project/build/matrix
row='%-8s  %-8s  %-7s  %-12s %s\n'

# Runs this script with other arguments in namespaces, of which nothing is left when it ends or its caller is killed.
contained() {
	setpriv --pdeathsig KILL unshare --mount --propagation private --pid --mount-proc --fork --kill-child \
		"$project/tests/matrix.sh" "$@"
}

# Runs a command in a root file system: <suite> <root> <rw or ro> <command>
inside() {
	contained --inside "$@"
}

# As the first process of the namespaces.
enter() {
	suite=$1 root=$2 access=$3 command=$4
	mount --bind "$root" "$root"
	mkdir -p "$root/src" "$root/opt/cargo" "$root/opt/rust"
	[ "$access" = rw ] || mount -o remount,bind,ro "$root"
	mount -t proc proc "$root/proc"
	mount --rbind /sys "$root/sys"
	mount --rbind /dev "$root/dev"
	mount -t tmpfs -o mode=755 memory "$root/run"
	mount -t tmpfs -o mode=1777 memory "$root/tmp"
	mount --bind "$project" "$root/src"
	mount -o remount,bind,ro "$root/src"
	mkdir -p "$matrix/$suite/build"
	mount --bind "$matrix/$suite/build" "$root/src/build"
	# What cargo has downloaded, and its settings.
	cargo=${CARGO_HOME:-$HOME/.cargo}
	mkdir -p "$cargo"
	mount --bind "$cargo" "$root/opt/cargo"
	path=/usr/sbin:/usr/bin:/sbin:/bin
	if [ "$suite" = bookworm ]; then
		mount --bind "$(rustc --print sysroot)" "$root/opt/rust"
		mount -o remount,bind,ro "$root/opt/rust"
		path=/opt/rust/bin:$path
	fi
	for file in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt; do
		[ ! -e "$file" ] || [ ! -e "$root$file" ] || mount --bind "$file" "$root$file"
	done
	exec chroot "$root" env -i PATH="$path" HOME=/root TERM=dumb CARGO_HOME=/opt/cargo CARGO_TARGET_DIR=/src/build/cargo \
		http_proxy="${http_proxy:-}" https_proxy="${https_proxy:-}" no_proxy="${no_proxy:-}" \
		sh -euc "cd /src; $command"
}

# Makes the root file system of a suite, unless there is one with the packages that are wanted.
make_root() {
	root=$matrix/$1/root
	list=$("$project/tests/debian-sources.sh" "$1")
	wanted="$list
$(cat "$project/tools/packages.sh")"
	[ "$(cat "$root/wanted" 2>/dev/null)" != "$wanted" ] || return 0
	mkdir -p "$matrix/$1"
	rm -rf "$root" "$root.part"
	apt-config dump | grep -E '^Acquire::(Check-|ForceIP|Retries|ftp|https?)' >"$root.conf" || true
	echo "$list" | mmdebstrap --variant=apt --include=ca-certificates,make --aptopt="$root.conf" \
		--dpkgopt=force-unsafe-io "$1" "$root.part" -
	inside "$1" "$root.part" rw "tools/packages.sh check"
	echo "$wanted" >"$root.part/wanted"
	mv "$root.part" "$root"
}

# Runs a step of the suite: its name and a command. What that says is shown when it fails.
step() {
	name=$1
	shift
	log=$matrix/$suite/$name.log
	begin=$(date +%s)
	if "$@" >"$log" 2>&1; then
		printf '%-8s  %-5s  %4d s\n' "$suite" "$name" $(($(date +%s) - begin))
	else
		cat "$log" >&2
		fail "$suite: $name failed, see $log"
	fi
}

# Tells whether the suite runs a file of tests.
wanted() {
	case $part:$suite:$1 in
	--part:*:arguments | --part:*:release | --part:*:selection | --part:*:vf) ;;
	--part:*) return 1 ;;
	# Its kernel is the machine's own matter.
	*:guest*) return 1 ;;
	*:bookworm:*) ;;
	# Needs DPDK's source, which few mirrors have of these; builds it, and knows 22.11.
	*:layout | *:memory) return 1 ;;
	esac
}

# All steps of a suite. Ends with its row of the table, in a file.
run_suite() {
	suite=$1 root=$matrix/$1/root
	run=$([ -n "$part" ] || echo --lib)
	left_out=
	for file in "$project"/tests/*.rs; do
		name=$(basename "$file" .rs)
		if wanted "$name"; then run="$run --test $name"; else left_out="$left_out $name"; fi
	done
	step root contained --root "$suite"
	step build inside "$suite" "$root" ro "make with-tests"
	[ -n "$part" ] || step demo inside "$suite" "$root" ro "make demo"
	step tests inside "$suite" "$root" ro "cargo test --locked --no-fail-fast $run"
	passed=$(awk '/^test result: ok/ { sum += $4 } END { print sum }' "$matrix/$suite/tests.log")
	# shellcheck disable=SC2016 # To be said inside.
	versions=$(inside "$suite" "$root" ro 'echo "$(pkg-config --modversion libdpdk) $(rustc --version | cut -d" " -f2)"')
	# shellcheck disable=SC2059,SC2086 # One format for all rows; two words.
	printf "$row" "$suite" $versions "$passed" "$left_out" >"$matrix/$suite/row"
}

part=
case ${1:-} in
--inside)
	shift
	enter "$@"
	;;
--root)
	make_root "$2"
	exit
	;;
--suite)
	part=$3
	run_suite "$2"
	exit
	;;
--part)
	part=--part
	shift
	;;
esac

[ $# -gt 0 ] || set -- bookworm trixie sid
[ "$(id -u)" = 0 ] || fail "needs root"
for suite; do
	case $suite in bookworm | trixie | sid) ;; *) fail "no suite $suite: bookworm, trixie or sid" ;; esac
	mkdir -p "$matrix/$suite"
	rm -f "$matrix/$suite/row"
done
if ! command -v mmdebstrap >/dev/null; then
	echo "installing mmdebstrap"
	{ apt-get update && apt-get install --yes --no-install-recommends mmdebstrap; } >"$matrix/log" 2>&1 || {
		cat "$matrix/log" >&2
		fail "cannot install mmdebstrap"
	}
fi
# Two runs would use the same folders.
exec 9>"$matrix/lock"
flock 9

status=0
for suite; do
	# A process of its own: in a condition, "set -e" would not hold.
	contained --suite "$suite" "$part" || status=1
done

echo
# shellcheck disable=SC2059 # One format for all rows.
printf "$row" suite DPDK rustc "tests passed" " left out"
for suite; do
	# shellcheck disable=SC2059
	cat "$matrix/$suite/row" 2>/dev/null || printf "$row" "$suite" - - failed ''
done
exit "$status"
