// SPDX-License-Identifier: BSD-3-Clause
//! Stories on Hyper-V, as far as a guest that is not on it can tell them: NetVSC netdevices on a bus named `vmbus`, to
//! which the guest's kernel enslaves VFs. No `force=1`. `make guest` plays them.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod stage;
#[allow(dead_code, reason = "the others play in examples/guest.rs")]
mod stories;

use stage::{App, BUILD, Driver, Hyperv, MAC, Place, exchange, expect_answer};
use stories::{FAILSAFE, ONE, TWO};

const OTHER_MAC: &str = "00:15:5d:00:00:02";

/// A guest with the NetVSC interface eth1.
fn hyperv() -> Hyperv {
    let mut hyperv = Hyperv::boot(Driver::Ours);
    hyperv.netvsc_appears("eth1", MAC);
    hyperv
}

/// The instances that EAL knows.
fn instances(app: &mut App) -> Vec<String> {
    let vdevs = app.ok("vdevs");
    vdevs.split_whitespace().filter(|vdev| vdev.contains("vdev_netvsc")).map(str::to_owned).collect()
}

/// All of some frames sent into a wire come back on it.
fn expect_all_back(wire: &str) {
    assert_eq!(exchange(wire, MAC, 50, &[wire]), [50], "frames by {wire}");
}

/// The VF is attached, and frames go both ways by it.
fn expect_attached(app: &mut App, name: &str, address: &str) {
    app.expect_port(address);
    expect_answer(&format!("{name}p"), MAC);
    expect_all_back(&format!("{name}p"));
}

/// The VF is no part of the port any more, and frames go both ways by eth1.
fn expect_fallback(app: &mut App, address: &str) {
    app.expect_no_port(address);
    expect_all_back("eth1p");
}

/// The port carries frames by eth1, by a VF, by eth1 again, and by the VF in another slot.
fn expect_a_life(hyperv: &mut Hyperv, app: &mut App) {
    app.ok(&format!("start {FAILSAFE}"));
    expect_all_back("eth1p");
    for (name, address) in [("vf0", ONE), ("vf1", TWO)] {
        hyperv.vf_appears(name, address, MAC);
        hyperv.expect_enslaved(address, "eth1");
        expect_attached(app, name, address);
        hyperv.vf_goes(name, address);
        expect_fallback(app, address);
    }
}

#[test]
#[ignore = "make guest plays it"]
fn an_enslaved_vf_comes_goes_and_comes_back_in_another_slot_under_a_named_interface() {
    let mut hyperv = hyperv();
    let mut app = App::start(&["--vdev=net_vdev_netvsc0,iface=eth1"]);
    expect_a_life(&mut hyperv, &mut app);
}

#[test]
#[ignore = "make guest plays it"]
fn the_vmbus_brings_an_instance_by_itself() {
    let mut hyperv = hyperv();
    let mut app = App::start(&[]);
    assert_eq!(instances(&mut app), ["net_vdev_netvsc"]);
    assert_eq!(app.served(), ["eth1"]);
    expect_a_life(&mut hyperv, &mut app);
}

#[test]
#[ignore = "make guest plays it"]
fn no_frame_is_lost_as_an_enslaved_vf_comes_to_another_slot() {
    stories::a_vf_comes_at_another_address_after_it_was_in_use(&mut Hyperv::boot(Driver::Ours));
    for note in stories::take_notes() {
        println!("{note}");
    }
}

#[test]
#[ignore = "make guest plays it"]
fn an_enslaved_vf_is_there_before_the_application() {
    let mut hyperv = hyperv();
    hyperv.vf_appears("vf0", ONE, MAC);
    hyperv.expect_enslaved(ONE, "eth1");
    let mut app = App::start(&[]);
    app.ok(&format!("start {FAILSAFE}"));
    expect_attached(&mut app, "vf0", ONE);
    hyperv.vf_goes("vf0", ONE);
    expect_fallback(&mut app, ONE);
}

#[test]
#[ignore = "make guest plays it"]
fn what_an_instance_takes_without_a_name_with_one_and_when_told_to_ignore() {
    let mut hyperv = hyperv();
    hyperv.netvsc_appears("eth2", OTHER_MAC);
    hyperv.vf_appears("vf0", ONE, MAC);
    hyperv.expect_enslaved(ONE, "eth1");
    hyperv.0.shell("ip addr add 10.1.0.4/24 dev eth2");
    let mac = format!("net_vdev_netvsc0,mac={MAC}");
    let table: [(&str, &[&str]); 5] = [
        // eth2 is configured.
        ("net_vdev_netvsc0", &["eth1"]),
        ("net_vdev_netvsc0,iface=eth2", &["eth2"]),
        // The host's NIC, the NetVSC interface and the VF have it.
        (&mac, &["eth1"]),
        ("net_vdev_netvsc0,ignore=1", &[]),
        // The host's NIC.
        ("net_vdev_netvsc0,iface=host4", &[]),
    ];
    for (vdev, served) in table {
        let mut app = App::start(&[&format!("--vdev={vdev}")]);
        assert_eq!(app.served(), served, "{vdev}");
        app.quit();
    }
}

#[test]
#[ignore = "make guest plays it"]
fn cpuid_alone_brings_an_instance_and_neither_brings_none() {
    let mut hyperv = hyperv();
    // The bus is hidden; its devices are not.
    hyperv.0.shell("mount -t tmpfs none /sys/bus/vmbus");
    let mut app = App::start(&[]);
    assert!(instances(&mut app).is_empty() && app.ports().is_empty(), "{:?}", app.ports());
    app.quit();
    let mut command = App::command_with_plugin(&[], &[]);
    command.env("LD_PRELOAD", format!("{BUILD}/tests/libhyperv.so"));
    let mut app = App::up(command);
    assert_eq!(instances(&mut app), ["net_vdev_netvsc"]);
    assert_eq!(app.served(), ["eth1"]);
    expect_a_life(&mut hyperv, &mut app);
}
