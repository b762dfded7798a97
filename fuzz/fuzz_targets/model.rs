// SPDX-License-Identifier: BSD-3-Clause
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vdev_netvsc::follow(data));
