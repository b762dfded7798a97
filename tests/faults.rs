// SPDX-License-Identifier: BSD-3-Clause
//! Panics and allocations that fail, in a program in C that has the archive linked in.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]

mod stage;

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::OnceLock;

use stage::run;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");

/// How a program ended.
#[derive(Debug, PartialEq)]
enum End {
    Status(i32),
    Signal(i32),
}

/// Makes the archive with its faults, links it and the one that cargo made on the way, in which Rust's runtime has its
/// own functions, and returns the two programs.
fn programs() -> &'static [String; 2] {
    static PROGRAMS: OnceLock<[String; 2]> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let (archive, target) = (format!("{FOLDER}/faults.a"), format!("{}/cargo", stage::build()));
        run(&format!("{ROOT}/tools/archive.sh"), &[&archive, &target, "--features", "faults"]);
        [(archive, "ours"), (format!("{target}/release/libvdev_netvsc.a"), "runtime")].map(|(archive, name)| {
            let program = format!("{FOLDER}/faults-{name}");
            let libraries = run("pkg-config", &["--libs", "libdpdk"]);
            let source = format!("{ROOT}/tests/faults/main.c");
            let mut arguments = vec!["-O2", "-Wall", "-Werror", "-o", &program, &source, &archive];
            arguments.extend(libraries.split_whitespace());
            arguments.extend(["-lrte_bus_vdev", "-lrte_net", "-lpthread", "-ldl", "-lm"]);
            run("cc", &arguments);
            program
        })
    })
}

/// Has a fault happen in one of the programs, and returns what it wrote to its standard error as well.
fn fault(program: &str, number: u32) -> (End, Vec<String>) {
    let output = Command::new(program).arg(number.to_string()).env("RUST_BACKTRACE", "1").output().expect(program);
    let end = output.status.code().map_or_else(|| End::Signal(output.status.signal().unwrap()), End::Status);
    (end, String::from_utf8(output.stderr).unwrap().lines().map(str::to_owned).collect())
}

/// Has a fault happen where the driver's functions are in the places of the runtime's: one line, which begins and ends so.
fn expect_line(number: u32, end: &End, beginning: &str, ending: &str) {
    let (ended, lines) = fault(&programs()[0], number);
    assert!(
        ended == *end && lines.len() == 1 && lines[0].starts_with(beginning) && lines[0].ends_with(ending),
        "{ended:?} {lines:#?}"
    );
}

const STOPPED: End = End::Status(1);
const ABORTED: End = End::Signal(libc::SIGABRT);

#[test]
fn a_panic_is_stopped_and_logged_with_its_place() {
    let report = "net_vdev_netvsc: fault: internal error, please report it: thrown on purpose (";
    expect_line(1, &STOPPED, report, ")");
}

#[test]
fn a_destructor_that_throws_during_a_panic_ends_the_process_with_a_line() {
    let ending = "), during another panic: ending the process";
    expect_line(2, &ABORTED, "net_vdev_netvsc: panic (", ending);
}

#[test]
fn a_panic_that_may_not_unwind_ends_the_process_with_a_line() {
    let ending = "), during another panic: ending the process";
    expect_line(3, &ABORTED, "net_vdev_netvsc: panic in a function that cannot unwind (", ending);
}

#[test]
fn an_allocation_that_fails_is_stopped_and_logged() {
    expect_line(4, &STOPPED, "net_vdev_netvsc: fault: out of memory", "");
}

#[test]
fn an_allocation_that_fails_during_a_panic_ends_the_process_with_a_line() {
    expect_line(5, &ABORTED, "net_vdev_netvsc: out of memory, during a panic: ending the process", "");
}

#[test]
fn a_reserve_that_is_used_up_ends_the_process_with_a_line() {
    let line = "net_vdev_netvsc: out of memory, and the reserve is used up: ending the process";
    expect_line(6, &ABORTED, line, "");
}

#[test]
fn where_the_runtime_keeps_its_functions_a_panic_is_stopped_and_logged_and_it_prints_nothing() {
    let (end, lines) = fault(&programs()[1], 1);
    assert_eq!(end, STOPPED);
    assert_eq!(lines, ["net_vdev_netvsc: fault: internal error, please report it: thrown on purpose"]);
    for number in [2, 3] {
        let (end, lines) = fault(&programs()[1], number);
        assert!(end == ABORTED && !lines.is_empty(), "{end:?} {lines:#?}");
    }
}
