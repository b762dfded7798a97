// SPDX-License-Identifier: BSD-3-Clause
//! The C header of what the library exports.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]

use std::fs;
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const HEADER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/include/vdev_netvsc.h");

/// Makes the header anew, as text. Of the crate as a whole cbindgen would also take what it imports from DPDK.
fn generate() -> String {
    let config = cbindgen::Config::from_file(format!("{ROOT}/cbindgen.toml")).unwrap();
    let builder = cbindgen::Builder::new().with_config(config).with_src(format!("{ROOT}/src/driver.rs"));
    let mut text = Vec::new();
    builder.generate().unwrap().write(&mut text);
    String::from_utf8(text).unwrap()
}

#[test]
fn the_header_is_what_the_source_says() {
    let fresh = generate();
    if std::env::var_os("VDEV_NETVSC_RENEW").is_some() {
        fs::write(HEADER, &fresh).unwrap();
    }
    let committed = fs::read_to_string(HEADER).unwrap_or_default();
    assert!(
        committed == fresh,
        "include/vdev_netvsc.h is stale: renew it with VDEV_NETVSC_RENEW=1 cargo test --test header, and commit it.\n\
         It is to be:\n{fresh}"
    );
}

#[test]
fn the_header_compiles_alone_as_c_and_as_cpp() {
    for (compiler, language) in [("cc", "c"), ("c++", "c++")] {
        let strict = ["-Wall", "-Wextra", "-Werror", "-Wstrict-prototypes"];
        // C++ has no other prototypes than strict ones, and says so.
        let strict = strict.iter().filter(|option| language == "c" || **option != "-Wstrict-prototypes");
        let output = Command::new(compiler)
            .args(strict)
            .args(["-x", language, "-include", HEADER, "-fsyntax-only", "/dev/null"])
            .output()
            .expect(compiler);
        assert!(output.status.success(), "{compiler}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
