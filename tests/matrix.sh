#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# usage: matrix.sh [--part] [suite ...]
#
# Runs "make check", but for the guest and this, in bare root file systems of releases of Debian: bookworm (DPDK 22.11),
# trixie (24.11) and sid (25.11), or those that are named. In them are make, git and CA certificates, and a copy of this
# working tree; all else, Rust too, has "make check" install. What it leaves out is told at the end. With --part, only the
# tests whose outcome depends on DPDK most, in a root file system that has the packages already. Needs root, and 4 GB of
# disk a suite.
#
# Root file systems are made by mmdebstrap once and kept in build/matrix/<suite>: bare, and root with packages. To have
# newer packages, remove them. All runs in namespaces, which end with this script, however that ends.
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

# Runs a command in a root file system: <suite> <root> <rw, ro, or own when it has sources and build of its own> <command>
inside() {
	contained --inside "$@"
}

# As the first process of the namespaces.
enter() {
	suite=$1 root=$2 access=$3 command=$4
	mount --bind "$root" "$root"
	mkdir -p "$root/src" "$root/opt/cargo"
	[ "$access" != ro ] || mount -o remount,bind,ro "$root"
	mount -t proc proc "$root/proc"
	mount --rbind /sys "$root/sys"
	mount --rbind /dev "$root/dev"
	mount -t tmpfs -o mode=755 memory "$root/run"
	mount -t tmpfs -o mode=1777 memory "$root/tmp"
	if [ "$access" != own ]; then
		mount --bind "$project" "$root/src"
		mount -o remount,bind,ro "$root/src"
		mkdir -p "$matrix/$suite/build"
		mount --bind "$matrix/$suite/build" "$root/src/build"
	fi
	# What cargo has downloaded, and its settings. Its commands are of another toolchain.
	cargo=${CARGO_HOME:-$HOME/.cargo}
	mkdir -p "$cargo/registry"
	mount -t tmpfs -o mode=755 memory "$root/opt/cargo"
	mkdir "$root/opt/cargo/registry"
	mount --bind "$cargo/registry" "$root/opt/cargo/registry"
	[ ! -e "$cargo/config.toml" ] || cp "$cargo/config.toml" "$root/opt/cargo/"
	for file in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt; do
		[ ! -e "$file" ] || [ ! -e "$root$file" ] || mount --bind "$file" "$root$file"
	done
	exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb CARGO_HOME=/opt/cargo CARGO_TARGET_DIR=/src/build/cargo \
		http_proxy="${http_proxy:-}" https_proxy="${https_proxy:-}" no_proxy="${no_proxy:-}" \
		sh -euc "cd /src; $command"
}

# Makes a bare root file system of a suite, unless there is one.
make_bare() {
	bare=$matrix/$1/bare
	wanted=$("$project/tests/debian-sources.sh" "$1")
	[ "$(cat "$bare.wanted" 2>/dev/null)" != "$wanted" ] || return 0
	rm -rf "$bare" "$bare.wanted"
	apt-config dump | grep -E '^Acquire::(Check-|ForceIP|Retries|ftp|https?)' >"$bare.conf" || true
	echo "$wanted" | mmdebstrap --variant=apt --include=ca-certificates,git,make --aptopt="$bare.conf" \
		--dpkgopt=force-unsafe-io "$1" "$bare" -
	echo "$wanted" >"$bare.wanted"
}

# Makes one with packages, unless there is one with those that are wanted.
make_root() {
	make_bare "$1"
	root=$matrix/$1/root
	wanted="$(cat "$bare.wanted")
$(cat "$project/tools/packages.sh")"
	[ "$(cat "$root/wanted" 2>/dev/null)" != "$wanted" ] || return 0
	rm -rf "$root" "$root.part"
	cp -a "$bare" "$root.part"
	inside "$1" "$root.part" rw "tools/packages.sh check"
	echo "$wanted" >"$root.part/wanted"
	mv "$root.part" "$root"
}

# Makes a copy of the bare one, with the files of the working tree as they are now.
make_fresh() {
	make_bare "$1"
	fresh=$matrix/$1/fresh
	rm -rf "$fresh"
	cp -a "$bare" "$fresh"
	mkdir "$fresh/src"
	cd "$project"
	git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents --target-directory="$fresh/src"
	git -C "$fresh/src" init --quiet
	git -C "$fresh/src" add --all
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

# All steps of a suite. Ends with its row of the table, in a file.
run_suite() {
	suite=$1
	if [ -n "$part" ]; then
		root=$matrix/$suite/root access=ro log=$matrix/$suite/tests.log
		step root contained --root "$suite"
		step build inside "$suite" "$root" ro "make build-with-tests"
		run=
		for name in arguments in_use release secondary selection vf; do run="$run --test $name"; done
		step tests inside "$suite" "$root" ro "cargo test --locked --no-fail-fast $run"
		left_out="all tests but$(echo "$run" | sed 's/--test //g')"
	else
		root=$matrix/$suite/fresh access=own log=$matrix/$suite/check.log
		step fresh contained --fresh "$suite"
		step check inside "$suite" "$root" own "make check WITHOUT='guest matrix'"
		left_out=$(sed -n 's/^left out: \([^:]*\).*/\1/p' "$log" | sort -u | paste -s -d ,)
	fi
	passed=$(awk '/^test result: ok/ { sum += $4 } END { print sum }' "$log")
	# shellcheck disable=SC2016 # To be said inside.
	versions=$(inside "$suite" "$root" "$access" \
		'echo "$(pkg-config --modversion libdpdk) $(rustc --version | cut -d" " -f2)"')
	# shellcheck disable=SC2059,SC2086 # One format for all rows; two words.
	printf "$row" "$suite" $versions "$passed" "$left_out" >"$matrix/$suite/row"
	[ -n "$part" ] || rm -rf "$root"
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
--fresh)
	make_fresh "$2"
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
"$project/tools/packages.sh" matrix
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
