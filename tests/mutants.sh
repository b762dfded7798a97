#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# usage: mutants.sh [argument of cargo-mutants ...]
#
# Makes one small change after the other to the rooms that .cargo/mutants.toml names, as a condition turned round or a
# result made up, and runs the unit tests on each. Fails when they do not notice one; which, is in
# build/mutants/mutants.out. Installs cargo-mutants below the build folder.
set -eu
cd "$(dirname "$0")/.."

version=27.1.0
build=$PWD/build/mutants
# Not that of other tests: cargo would take what was changed for theirs.
export CARGO_TARGET_DIR="$build/target"
"$build/bin/cargo-mutants" mutants --version 2>/dev/null | grep -qxF "cargo-mutants $version" ||
	cargo install --quiet --locked --debug --root "$build" cargo-mutants --version "$version"

# What git knows of: the build folder may hold whole root file systems.
rm -rf "$build/source"
mkdir -p "$build/source"
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents --target-directory="$build/source"
cd "$build/source"
# Random histories of the model would find some: here it is for the tests of a room to do. A few are left to them.
export MODEL_STEPS=2000
exec "$build/bin/cargo-mutants" mutants --in-place --output "$build" --colors never "$@"
