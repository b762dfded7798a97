// SPDX-License-Identifier: BSD-3-Clause
#![no_main]

#[path = "../checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::events(data));
