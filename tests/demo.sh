#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
#
# usage: demo.sh
#
# Builds what the demonstration needs, with words about it, and plays it. Needs root.
set -eu
cd "$(dirname "$0")/.."
. tools/steps.sh

begin demo 120
install demo
step "the driver, and a VF to play with" make --no-print-directory build-with-tests
step "the demonstration" cargo build --locked --manifest-path examples/demo/Cargo.toml
step "packets follow a VF that comes, goes and comes back elsewhere" env VDEV_NETVSC_BUILD="$PWD/build" build/cargo/debug/demo
finish
