// SPDX-License-Identifier: BSD-3-Clause
//! What the plugin shows to the linker, and the archive in a program in C.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]

mod stage;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use stage::{MAC, Stage, run};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The ports that our driver makes of [`ARGUMENTS`]; the C driver refuses these arguments.
const PORTS: &str = "net_failsafe_vsc0\nnet_af_packet_vsc0\n";
const ARGUMENTS: &str = "--vdev=net_vdev_netvsc0,iface=eth1,fallback=af_packet";

fn plugin() -> String {
    format!("{}/librte_net_vdev_netvsc.so", stage::build())
}

fn archive() -> String {
    format!("{}/librte_net_vdev_netvsc.a", stage::build())
}

/// Words of a dynamic section's entries of this kind.
fn dynamic(kind: &str) -> BTreeSet<String> {
    let text = run("readelf", &["--dynamic", "--wide", &plugin()]);
    let entries = text.lines().filter(|line| line.contains(kind));
    entries.filter_map(|line| line.split(['[', ']']).nth(1)).map(str::to_owned).collect()
}

/// The number in the soname of the DPDK that is installed.
fn abi_major() -> String {
    let libdir = run("pkg-config", &["--variable=libdir", "libdpdk"]);
    let path = format!("{}/librte_eal.so", libdir.trim());
    let file = std::fs::canonicalize(&path).expect(&path).to_string_lossy().into_owned();
    let version = file.rsplit_once(".so.").expect("librte_eal.so.<ABI>").1;
    version.split('.').next().unwrap().to_owned()
}

#[test]
fn the_plugin_exports_what_its_header_declares_and_nothing_else() {
    let header = std::fs::read_to_string(format!("{ROOT}/include/vdev_netvsc.h")).unwrap();
    let declared = header.lines().filter(|line| line.ends_with(");"));
    let declared: BTreeSet<&str> =
        declared.filter_map(|line| line.split('(').next()?.split([' ', '*']).next_back()).collect();
    let symbols = run("nm", &["--dynamic", "--defined-only", "--format=posix", &plugin()]);
    let exported: BTreeSet<&str> = symbols.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(exported, declared);
    assert_eq!(exported, BTreeSet::from(["vdev_netvsc_register"]));
}

#[test]
fn the_plugin_names_the_libraries_that_it_calls_and_no_others() {
    let needed = dynamic("NEEDED");
    let major = abi_major();
    // EAL loads plugins RTLD_LOCAL: what another one has loaded does not count.
    for library in ["rte_bus_vdev", "rte_eal", "rte_ethdev", "rte_kvargs", "rte_net"] {
        assert!(needed.contains(&format!("lib{library}.so.{major}")), "{library}: {needed:?}");
    }
    // rte_log is part of rte_eal before 23.11.
    let known = ["librte_bus_vdev", "librte_eal", "librte_ethdev", "librte_kvargs", "librte_log", "librte_net"];
    let system = ["ld-linux", "libc.so", "libgcc_s"];
    let strange: Vec<&String> = needed
        .iter()
        .filter(|name| !known.contains(&name.split('.').next().unwrap()))
        .filter(|name| !system.iter().any(|beginning| name.starts_with(beginning)))
        .collect();
    assert!(strange.is_empty(), "{strange:?}");
}

#[test]
fn the_soname_has_the_abi_of_the_installed_dpdk() {
    assert_eq!(dynamic("SONAME"), BTreeSet::from([format!("librte_net_vdev_netvsc.so.{}", abi_major())]));
}

#[test]
fn the_plugin_binds_all_symbols_at_once_and_runs_no_code_from_data() {
    assert!(run("readelf", &["--dynamic", "--wide", &plugin()]).contains("BIND_NOW"));
    let segments = run("readelf", &["--program-headers", "--wide", &plugin()]);
    let stack = segments.lines().find(|line| line.contains("GNU_STACK")).unwrap();
    assert!(stack.contains("RW ") && !stack.contains("RWE"), "{stack}");
}

#[test]
fn the_private_structs_are_those_of_the_installed_dpdk() {
    // It does not even compile when one differs.
    let output = run(&format!("{}/tests/layout", stage::build()), &[]);
    let compared: Vec<&str> = output.lines().collect();
    let count = compared.last().and_then(|line| line.strip_suffix(" compared"));
    assert_eq!(count, Some((compared.len() - 2).to_string().as_str()), "{output}");
}

/// Links tests/static/main.c with an archive and the installed DPDK, whose libraries are shared.
fn link(name: &str, compiler: &[&str], archive: &[&str]) -> PathBuf {
    let dpdk = |option| {
        let text = run("pkg-config", &[option, "libdpdk"]);
        text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    // What the archive needs comes after it; of the system nothing beyond what the compiler links anyway.
    let output = Command::new("cc")
        .args(["-Wall", "-Wextra", "-Werror", "-I", &format!("{ROOT}/include")])
        .args(compiler)
        .args(dpdk("--cflags"))
        .arg(format!("{ROOT}/tests/static/main.c"))
        .args(archive)
        .args(dpdk("--libs"))
        .args(["-lrte_bus_vdev", "-o"])
        .arg(&program)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}

/// Starts a program with an instance, and returns the ports that it sees.
fn ports_of(program: &Path) -> String {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let program = program.to_str().unwrap();
    let memory = ["--no-huge", "-m", "64", "--no-shconf", "--no-telemetry", "--no-pci", "--lcores", "0@0"];
    run(program, &[&memory[..], &[ARGUMENTS]].concat())
}

/// The archive that cargo makes on the way to this test, of many objects where the release has one.
fn debug_archive() -> String {
    let here = std::env::current_exe().unwrap();
    let files = std::fs::read_dir(here.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let archives = files.filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("libvdev_netvsc-") && name.ends_with(".a")
    });
    let newest = archives.max_by_key(|path| path.metadata().unwrap().modified().unwrap());
    newest.expect("libvdev_netvsc-*.a beside this test").to_string_lossy().into_owned()
}

#[test]
fn an_archive_linked_whole_registers_itself_before_the_plugins_of_dpdk() {
    for (name, level, archive) in
        [("whole-O0", "-O0", archive()), ("whole-O2", "-O2", archive()), ("whole-debug", "-O2", debug_archive())]
    {
        let program = link(name, &[level], &["-Wl,--whole-archive", &archive, "-Wl,--no-whole-archive"]);
        assert_eq!(ports_of(&program), PORTS, "{name}");
    }
}

#[test]
fn an_archive_is_linked_for_the_function_that_its_header_declares() {
    for (name, level, archive) in
        [("call-O0", "-O0", archive()), ("call-O2", "-O2", archive()), ("call-debug", "-O2", debug_archive())]
    {
        let program = link(name, &[level, "-DREGISTER"], &[&archive]);
        assert_eq!(ports_of(&program), PORTS, "{name}");
    }
}

#[test]
fn an_archive_that_nothing_refers_to_is_left_out() {
    // The C driver, from the folder of plugins, answers then: so the stories above tell one from the other.
    let program = link("left-out", &["-O2"], &[&archive()]);
    assert_eq!(ports_of(&program), "");
}
