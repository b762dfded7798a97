// SPDX-License-Identifier: BSD-3-Clause
//! What the plugin shows to the linker, and the archive in a program in C.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]

mod stage;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use stage::{App, MAC, Stage, exchange, run};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The C driver refuses these arguments.
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
    for library in ["rte_bus_vdev", "rte_eal", "rte_ethdev", "rte_kvargs", "rte_net", "rte_telemetry"] {
        assert!(needed.contains(&format!("lib{library}.so.{major}")), "{library}: {needed:?}");
    }
    // rte_log is part of rte_eal before 23.11.
    let known = [
        "librte_bus_vdev",
        "librte_eal",
        "librte_ethdev",
        "librte_kvargs",
        "librte_log",
        "librte_net",
        "librte_telemetry",
    ];
    let system = ["ld-linux", "libc.so", "libgcc_s"];
    let strange: Vec<&String> = needed
        .iter()
        .filter(|name| !known.contains(&name.split('.').next().unwrap()))
        .filter(|name| !system.iter().any(|beginning| name.starts_with(beginning)))
        .collect();
    assert!(strange.is_empty(), "{strange:?}");
}

#[test]
fn the_plugin_is_small() {
    // The C driver's has 27 KiB; Rust's library for panics, text and memory comes on top. Rust 1.85 makes 6 % more of the
    // same.
    let version = run("rustc", &["--version"]);
    let minor: u32 = version.split('.').nth(1).and_then(|minor| minor.parse().ok()).expect("the version of rustc");
    assert_at_most(&plugin(), if minor < 95 { 500 } else { 452 } * 1024);
    assert!(run("readelf", &["--sections", "--wide", &plugin()]).lines().all(|line| !line.contains(".symtab")));
}

fn assert_at_most(path: &str, bytes: u64) {
    let found = std::fs::metadata(path).expect(path).len();
    assert!(found <= bytes, "{path} has {found} bytes, more than {bytes}");
}

/// Global symbols of a file that are defined in it, or are not.
fn symbols(path: &str, which: &str) -> Vec<String> {
    let text = run("nm", &["--extern-only", which, "--format=posix", path]);
    text.lines().filter_map(|line| line.split_once(' ')).map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn the_archive_is_one_object_that_shows_only_the_symbols_of_the_driver() {
    assert_at_most(&archive(), 1536 * 1024);
    assert_eq!(run("ar", &["t", &archive()]), "vdev_netvsc.o\n");
    assert_eq!(symbols(&archive(), "--defined-only"), ["vdev_netvsc_register"]);
    // Nothing of Rust is wanted from outside: the rest are DPDK's functions, and the C library's.
    let wanted = symbols(&archive(), "--undefined-only");
    assert!(wanted.iter().any(|name| name == "rte_vdev_register"), "{wanted:?}");
    assert!(wanted.iter().all(|name| !name.starts_with("_R") && !name.contains("rust")), "{wanted:?}");
}

#[test]
fn panics_do_not_go_to_the_runtime() {
    // Its own function would read this variable, and bring along all that prints a backtrace.
    let variable = b"RUST_BACKTRACE";
    let code = std::fs::read(archive()).unwrap();
    assert!(!code.windows(variable.len()).any(|bytes| bytes == variable));
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

/// A program with the driver linked in.
struct Linked {
    program: PathBuf,
}

impl Linked {
    /// Compiles tests/app/app.c and links it: `compiler` is a compiler with its options, `libraries` what comes last.
    fn by(compiler: &str, libraries: &[String]) -> Self {
        let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(compiler.replace([' ', '/'], "_"));
        let mut words = compiler.split(' ');
        let output = Command::new(words.next().unwrap())
            .args(["-O2", "-D_GNU_SOURCE", "-Wall", "-Wno-missing-field-initializers"])
            .args(words)
            .args(pkg_config(&["--cflags", "libdpdk", "librte_net_vdev_netvsc"]))
            .arg(format!("{ROOT}/tests/app/app.c"))
            .args(["-x", "none"])
            .args(libraries)
            .arg("-o")
            .arg(&program)
            .output()
            .expect(compiler);
        assert!(output.status.success(), "{compiler}: {}", String::from_utf8_lossy(&output.stderr));
        Self { program }
    }

    fn start(&self) -> App {
        let mut command = Command::new(&self.program);
        command.args(["--no-huge", "-m", "64", "--no-shconf", "--no-telemetry", "--no-pci", "--lcores", "0@0"]);
        command.arg(ARGUMENTS);
        App::up(command)
    }

    /// Starts it with an instance, and has frames go through the port.
    fn expect_frames_through_our_port(&self) -> App {
        let mut stage = Stage::new();
        stage.netvsc_appears("eth1", MAC);
        let mut app = self.start();
        assert_eq!(app.ports(), ["net_af_packet_vsc0", "net_failsafe_vsc0"], "{:?}", self.program);
        app.ok("start net_failsafe_vsc0");
        assert_eq!(exchange("eth1p", MAC, 20, &["eth1p"]), [20], "{:?}", self.program);
        app
    }
}

/// Asks pkg-config, which finds the driver's file as if this build were installed.
fn pkg_config(arguments: &[&str]) -> Vec<String> {
    let folder = format!("{}/installed-{:?}", env!("CARGO_TARGET_TMPDIR"), std::thread::current().id());
    std::fs::create_dir_all(&folder).unwrap();
    let made = std::fs::read_to_string(format!("{}/librte_net_vdev_netvsc.pc", stage::build())).unwrap();
    let moved = made.lines().map(|line| match line.split_once('=') {
        Some(("libdir", _)) => format!("libdir={}\n", stage::build()),
        Some(("includedir", _)) => format!("includedir={ROOT}/include\n"),
        _ => format!("{line}\n"),
    });
    std::fs::write(format!("{folder}/librte_net_vdev_netvsc.pc"), moved.collect::<String>()).unwrap();
    let output = Command::new("pkg-config").args(arguments).env("PKG_CONFIG_PATH", &folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

#[test]
fn an_archive_linked_whole_registers_itself_before_the_plugins_of_dpdk() {
    let archive = words(&format!("-Wl,--whole-archive {} -Wl,--no-whole-archive", archive()));
    let rest = words("-lrte_bus_vdev -lrte_net");
    let program = Linked::by("gcc -O0", &[archive, pkg_config(&["--libs", "libdpdk"]), rest].concat());
    program.expect_frames_through_our_port();
}

#[test]
fn an_archive_is_linked_for_the_function_that_its_header_declares() {
    let libraries = [vec![archive()], pkg_config(&["--libs", "libdpdk"]), words("-lrte_bus_vdev -lrte_net")].concat();
    Linked::by("gcc -DREGISTER -DSHARED", &libraries).expect_frames_through_our_port();
}

#[test]
fn the_pkg_config_file_links_the_archive_with_shared_libraries() {
    let libraries = pkg_config(&["--libs", "libdpdk", "librte_net_vdev_netvsc"]);
    Linked::by("gcc -DUNNAMED", &libraries).expect_frames_through_our_port();
}

#[test]
fn an_archive_that_nothing_refers_to_is_left_out() {
    // The C driver, from the folder of plugins, answers then: so the stories above tell one from the other.
    let libraries = [vec![archive()], pkg_config(&["--libs", "libdpdk"])].concat();
    let program = Linked::by("gcc", &libraries);
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = program.start();
    assert_eq!(app.ports(), [""; 0]);
}

/// Links with the static libraries of DPDK, among them the C driver, and with another library in Rust.
fn expect_static(compiler: &str) {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{:?}", std::thread::current().id()));
    std::fs::create_dir_all(&folder).unwrap();
    let second = folder.join("libsecond.a").to_string_lossy().into_owned();
    run("rustc", &["--edition", "2024", "-O", "-o", &second, &format!("{ROOT}/tests/second/second.rs")]);
    // One after the other, as the documentation says.
    let libraries = [
        pkg_config(&["--static", "--libs", "libdpdk"]),
        pkg_config(&["--static", "--libs", "librte_net_vdev_netvsc"]),
        words(&format!("-Wl,--whole-archive {second} -Wl,--no-whole-archive")),
        // Debian's net_sfc of 25.11 calls it, and its libdpdk.pc does not say so; gcc adds it by itself.
        words("-Wl,--as-needed -latomic"),
    ];
    let program = Linked::by(&format!("{compiler} -DSECOND"), &libraries.concat());
    let linked = run("readelf", &["--dynamic", "--wide", program.program.to_str().unwrap()]);
    assert!(!linked.contains("librte_"), "{linked}");
    let mut app = program.expect_frames_through_our_port();
    assert_eq!(app.ok("second"), "42");
}

#[test]
fn a_static_program_in_c_by_gcc() {
    expect_static("gcc");
}

#[test]
fn a_static_program_in_c_by_gcc_with_lto() {
    expect_static("gcc -flto -DREGISTER");
}

#[test]
fn a_static_program_in_cpp_by_gcc() {
    expect_static("g++ -x c++ -std=gnu++20 -DREGISTER");
}

#[test]
fn a_static_program_in_cpp_by_gcc_with_lto() {
    expect_static("g++ -x c++ -std=gnu++20 -flto");
}

#[test]
fn a_static_program_in_c_by_clang_and_lld() {
    expect_static("clang -fuse-ld=lld -DREGISTER");
}

#[test]
fn a_static_program_in_c_by_clang_and_lld_with_lto() {
    expect_static("clang -fuse-ld=lld -flto");
}

#[test]
fn a_static_program_in_cpp_by_clang_and_lld() {
    expect_static("clang++ -fuse-ld=lld -x c++ -std=gnu++20");
}

#[test]
fn a_static_program_in_cpp_by_clang_and_lld_with_lto() {
    expect_static("clang++ -fuse-ld=lld -x c++ -std=gnu++20 -flto -DREGISTER");
}
