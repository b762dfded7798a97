#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# usage: check.sh [part ...]
#
# Format, lints and every test; the parts that are named are left out: guest, matrix. What cannot be done here is left
# out too, and told at the end. The tests that need DPDK's source take it from the folder DPDK, when that is set, or
# download it. Needs root.
set -eu
cd "$(dirname "$0")/.."
. tools/steps.sh

without() {
	case " $parts " in *" $1 "*) return 0 ;; *) return 1 ;; esac
}

parts=$*
begin check 1800
without guest || [ "$(uname --machine)" = x86_64 ] || parts="$parts guest"
sets=check
without guest || sets="$sets guest"
without matrix || sets="$sets matrix"
# shellcheck disable=SC2086 # A list of words.
install $sets
step "the driver, and what the tests need" make --no-print-directory build-with-tests
step "format" cargo fmt --check
step "lints" cargo clippy --quiet --locked --all-targets --features plugin,faults -- -D warnings
step "format of the fuzz targets" cargo fmt --check --manifest-path fuzz/Cargo.toml
step "format and lints of the demonstration" sh -euc '
	cargo fmt --check --manifest-path examples/demo/Cargo.toml
	cargo clippy --quiet --locked --manifest-path examples/demo/Cargo.toml -- -D warnings'
step "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --quiet --locked --no-deps --document-private-items
step "instructions, counted" cargo run --quiet --locked --release --example instructions
step "the same bytes from two folders" tests/reproducible.sh build
step "install and uninstall" tests/install.sh
step "the Debian package" tests/deb.sh
step "the demonstration" make --no-print-directory demo

# Without the source, or with another release's, what needs that of the installed release is left out.
# shellcheck disable=SC2016 # The inner shell expands.
step "the source of DPDK" sh -c 'tests/dpdk-source.sh >build/source || [ -z "${DPDK:-}" ]'
source=$(cat build/source)
installed=$(pkg-config --modversion libdpdk)
tests=$(for file in tests/*.rs; do basename "$file" .rs; done)
if [ -z "$source" ]; then
	unsourced="the source package of DPDK $installed cannot be had (DPDK=<tree> names one)"
elif [ "$(cut -d . -f 1,2 "$source/VERSION")" != "$(echo "$installed" | cut -d . -f 1,2)" ]; then
	unsourced="$source is DPDK $(cat "$source/VERSION"), and $installed is installed"
else
	unsourced=
fi
if [ -n "$unsourced" ]; then
	tests=$(echo "$tests" | grep -vx -e examples -e layout -e memory)
	leave_out "tests/examples.rs, tests/layout.rs, tests/memory.rs: $unsourced"
fi
if [ -n "$source" ]; then
	step "a driver of DPDK's own tree" tests/overlay.sh "$source"
else
	skip "tests/overlay.sh: $unsourced"
fi
step "Open vSwitch" tests/openvswitch.sh
# shellcheck disable=SC2046 # A list of words.
step "tests" cargo test --locked --lib $(echo "$tests" | sed 's/^/--test /')

leave_out "all failures but one of each call, as a VF comes and goes (make faults)"

if without guest; then
	skip "make guest"
else
	step "two stories in a guest" sh -euc 'tests/guest/image.sh build && exec cargo run --quiet --locked --example guest'
	leave_out "all but two stories of make guest"
fi
if without matrix; then
	skip "make matrix"
else
	step "a part of the tests with Debian 13" tests/matrix.sh --part trixie
	leave_out "Debian sid, and the rest of the tests with Debian 12 and 13 from bare systems (make matrix)"
fi
finish
