// SPDX-License-Identifier: BSD-3-Clause
//! One plugin in releases that share a soname: it asks which one runs before it registers anything.
//!
//! Of 26.07 and what comes after it, `tests/release/eal.c` plays the part that a driver sees; beneath it is the installed
//! EAL.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]

mod stage;

use stage::{App, BUILD, MAC, Stage, exchange, expect_answer};

/// With a queue that is nobody else's: where net_af_packet has what it keeps of them is the release's that really runs.
const INSTANCE: &str = "--vdev=net_vdev_netvsc0,iface=eth1,fallback=af_packet,queues=1";
const FAILSAFE: &str = "net_failsafe_vsc0";
const VF: &str = "0000:01:00.0";

/// Starts an application in whose EAL this release seems to run.
fn start_in(release: &str, arguments: &[&str]) -> App {
    let mut command = App::command_with_plugin(&[], arguments);
    command.env("LD_PRELOAD", format!("{BUILD}/tests/librelease.so")).env("RELEASE", release);
    App::up(command)
}

fn expect_life_of_a_port(release: &str) -> App {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_in(release, &[INSTANCE]);
    app.expect_port(FAILSAFE);
    app.ok(&format!("start {FAILSAFE}"));
    assert_eq!(exchange("eth1p", MAC, 20, &["eth1p"]), [20]);
    stage.vf_appears("vf0", VF, MAC);
    app.expect_port(VF);
    expect_answer("vf0p", MAC);
    assert_eq!(exchange("vf0p", MAC, 20, &["vf0p"]), [20]);
    app.ok("detach net_vdev_netvsc0");
    app.expect_no_port(FAILSAFE);
    app.ok("attach net_vdev_netvsc0 iface=eth1,fallback=af_packet");
    app.expect_port(FAILSAFE);
    app
}

#[test]
fn from_26_07_on_the_driver_has_the_second_layout() {
    let app = expect_life_of_a_port("DPDK 26.07.0");
    assert_eq!(
        app.logged("release: "),
        [
            "release: registered net_vdev_netvsc, alias eth_vdev_netvsc",
            "release: probe returned 0",
            "release: remove returned 0",
            "release: probe returned 0",
        ]
    );
    assert!(app.cleanup().success());
}

#[test]
fn the_second_layout_reports_a_failed_probe() {
    let _stage = Stage::new();
    let mut app = start_in("DPDK 26.07.1", &[]);
    assert_eq!(app.fails("attach net_vdev_netvsc0 iface=eth1,force=2"), libc::EINVAL);
    app.ok("attach net_vdev_netvsc0 ignore=1");
    assert_eq!(app.logged("release: probe").len(), 2);
}

#[test]
fn before_26_07_the_driver_has_the_first_layout() {
    for release in ["DPDK 25.11.4", "DPDK 26.03.0"] {
        let app = expect_life_of_a_port(release);
        assert_eq!(app.logged("release: "), [""; 0]);
        assert!(app.cleanup().success());
    }
}

#[test]
fn in_a_release_that_it_does_not_know_the_driver_registers_nothing_and_says_so() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    // Without the C driver's plugin nobody else takes the name.
    stage.only_plugins(&["bus_vdev", "bus_pci", "net_failsafe", "net_af_packet", "mempool_ring"]);
    for release in ["DPDK 26.11.0-rc0", "DPDK 27.03.0", "DPDK 21.11.9", "DPDK"] {
        let mut app = start_in(release, &[]);
        assert_eq!(
            app.said(),
            [format!(
                "not registered: {release} is not among the releases 22.11 to 26.07 whose drivers it knows; take a \
                 newer version of it, or build it in the tree of that DPDK"
            )]
        );
        app.fails("attach net_vdev_netvsc0 iface=eth1,fallback=af_packet");
        assert_eq!(app.ports(), [""; 0]);
    }
}
