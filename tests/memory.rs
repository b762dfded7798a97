// SPDX-License-Identifier: BSD-3-Clause
//! Stories under AddressSanitizer: DPDK, application and VF are compiled with it, and the driver is linked in
//! (`tests/asan.sh`, which says what is seen). Each ends in `rte_eal_cleanup`, after which leaks are looked for.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]

mod stage;

use std::process::Command;
use std::sync::OnceLock;

use stage::{App, MAC, Stage, expect_answer};

const INSTANCE: &str = "net_vdev_netvsc0";
const FAILSAFE: &str = "net_failsafe_vsc0";
const VF: &str = "0000:01:00.0";
const ARGUMENTS: &str = "iface=eth1,fallback=af_packet";

/// Links the application, once, and returns where it is seen on a stage. Called before the stage is made, as DPDK's
/// source may have to be downloaded.
fn application() -> &'static str {
    static APPLICATION: OnceLock<String> = OnceLock::new();
    APPLICATION.get_or_init(|| {
        let build = stage::build();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/asan.sh");
        stage::run(script, &[&format!("{build}/librte_net_vdev_netvsc.a"), &format!("{build}/asan")]);
        format!("{}/asan/app", stage::BUILD)
    })
}

/// Has `story` happen to an application with an instance on eth1, and lets it clean up EAL with what is left.
fn clean_up_after(story: impl FnOnce(&mut Stage, &mut App)) {
    let application = application();
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    // The sanitizer wants its place in the address space, which much randomization may take.
    let mut command = Command::new("setarch");
    command.args(["--addr-no-randomize", application, "--lcores", "0@0", "--no-telemetry", "--no-huge", "-m", "128"]);
    command.args(["--no-shconf", "-b", VF, "--vdev", &format!("{INSTANCE},{ARGUMENTS}")]);
    command.env("ASAN_OPTIONS", "detect_leaks=1:detect_stack_use_after_return=1:exitcode=99");
    // failsafe forgets the arguments of a VF that went when it reads the next address: a byte each, as they are empty. It
    // has them of the address that it read, or of the device that it took over.
    std::fs::write("/run/leaks", "leak:fs_parse_device\nleak:fs_bus_init\n").unwrap();
    command.env("LSAN_OPTIONS", "suppressions=/run/leaks:print_suppressions=0");
    let mut app = App::up(command);
    story(&mut stage, &mut app);
    let (status, log) = app.cleanup_and_log();
    assert!(status.success() && !log.contains("Sanitizer"), "{status}");
}

fn start(app: &mut App) {
    app.ok(&format!("start {FAILSAFE}"));
}

fn close(app: &mut App) {
    app.ok(&format!("stop {FAILSAFE}"));
    app.ok(&format!("close {FAILSAFE}"));
}

fn vf_comes(stage: &mut Stage, app: &mut App) {
    stage.vf_appears("vf0", VF, MAC);
    app.expect_port(VF);
}

fn vf_goes(stage: &mut Stage, app: &mut App) {
    stage.vf_goes("vf0", VF);
    app.expect_no_port(VF);
}

#[test]
fn a_port_never_started() {
    clean_up_after(|_, app| assert!(app.has_port(FAILSAFE)));
}

#[test]
fn a_port_never_started_and_closed() {
    clean_up_after(|_, app| close(app));
}

#[test]
fn a_started_port() {
    clean_up_after(|_, app| {
        start(app);
        expect_answer("eth1p", MAC);
    });
}

#[test]
fn a_started_port_closed() {
    clean_up_after(|_, app| {
        start(app);
        expect_answer("eth1p", MAC);
        close(app);
    });
}

#[test]
fn a_started_port_with_a_vf() {
    clean_up_after(|stage, app| {
        start(app);
        vf_comes(stage, app);
        expect_answer("vf0p", MAC);
    });
}

#[test]
fn a_port_never_started_with_a_vf() {
    clean_up_after(vf_comes);
}

#[test]
fn a_started_port_with_a_vf_closed() {
    clean_up_after(|stage, app| {
        start(app);
        vf_comes(stage, app);
        expect_answer("vf0p", MAC);
        close(app);
    });
}

#[test]
fn an_instance_that_is_removed_with_its_vf() {
    clean_up_after(|stage, app| {
        start(app);
        vf_comes(stage, app);
        expect_answer("vf0p", MAC);
        app.ok(&format!("detach {INSTANCE}"));
    });
}

#[test]
fn an_instance_that_is_removed_and_made_a_hundred_times() {
    clean_up_after(|_, app| {
        app.ok(&format!("detach {INSTANCE}"));
        app.ok(&format!("cycle 100 {INSTANCE} {ARGUMENTS},queues=1"));
        app.ok(&format!("attach {INSTANCE} {ARGUMENTS}"));
    });
}

#[test]
fn a_vf_that_comes_and_goes_ten_times() {
    clean_up_after(|stage, app| {
        start(app);
        for _ in 0..10 {
            vf_comes(stage, app);
            expect_answer("vf0p", MAC);
            vf_goes(stage, app);
            expect_answer("eth1p", MAC);
        }
    });
}

#[test]
fn a_fallback_that_never_comes_up() {
    clean_up_after(|_, app| {
        app.ok(&format!("detach {INSTANCE}"));
        app.ok(&format!("cycle 20 {INSTANCE} iface=eth1,hotplug_poll=10"));
        app.ok(&format!("attach {INSTANCE} iface=eth1,hotplug_poll=10"));
    });
}
