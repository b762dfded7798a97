// SPDX-License-Identifier: BSD-3-Clause
//! What the fuzzer has kept: inputs that between them go through all of the code that reads from outside.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]

#[path = "../fuzz/checks.rs"]
mod checks;

use std::fs;

fn each(target: &str, check: fn(&[u8])) {
    let files: Vec<_> = fs::read_dir(format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"))).unwrap().collect();
    assert!(!files.is_empty());
    files.into_iter().for_each(|file| check(&fs::read(file.unwrap().path()).unwrap()));
}

#[test]
fn datagrams() {
    each("events", checks::events);
}

#[test]
fn arguments() {
    each("arguments", checks::arguments);
}

#[test]
fn texts_of_sysfs() {
    each("sysfs", checks::sysfs);
}
