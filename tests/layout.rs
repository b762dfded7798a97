// SPDX-License-Identifier: BSD-3-Clause
//! The structs that we write down because distributions do not install their headers, against those headers: they come
//! with the source of the installed DPDK (`tests/dpdk-source.sh`).
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]

mod stage;

use std::path::PathBuf;
use std::process::Command;

use stage::run;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn the_private_structs_are_those_of_the_installed_dpdk() {
    let source = run(&format!("{ROOT}/tests/dpdk-source.sh"), &[]);
    let folders = [
        "drivers/bus/pci",
        "drivers/bus/vdev",
        "drivers/net/failsafe",
        "lib/eal/include",
        "lib/eal/linux/include",
        "lib/ethdev",
    ];
    let folders = folders.map(|folder| format!("-isystem{}/{folder}", source.trim_end()));
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("layout");
    // It does not even compile when one differs.
    let output = Command::new("cc")
        .args(["-Wall", "-Wextra", "-Werror", "-DALLOW_EXPERIMENTAL_API", "-DALLOW_INTERNAL_API"])
        .args([format!("-I{ROOT}/include"), format!("-I{ROOT}/tests/vf")])
        .args(&folders)
        .args(run("pkg-config", &["--cflags", "libdpdk"]).split_whitespace())
        .arg(format!("{ROOT}/tests/layout.c"))
        .arg("-o")
        .arg(&program)
        .output()
        .expect("cc");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = run(program.to_str().unwrap(), &[]);
    let compared: Vec<&str> = output.lines().collect();
    let count = compared.last().and_then(|line| line.strip_suffix(" compared"));
    assert_eq!(count, Some((compared.len() - 2).to_string().as_str()), "{output}");
    let output = Command::new("cc")
        .args(["-c", "-DALLOW_EXPERIMENTAL_API", "-DALLOW_INTERNAL_API", "-DRTE_LOG_DEFAULT_LOGTYPE=layout"])
        .arg(format!("-I{ROOT}/include"))
        .arg(format!("-I{}/drivers/net/af_packet", source.trim_end()))
        .args(&folders)
        .args(run("pkg-config", &["--cflags", "libdpdk"]).split_whitespace())
        .arg(format!("{ROOT}/tests/af_packet_layout.c"))
        .args(["-o", "/dev/null"])
        .output()
        .expect("cc");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
