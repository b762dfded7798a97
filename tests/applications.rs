// SPDX-License-Identifier: BSD-3-Clause
//! The recipes of `docs/applications.md`, and more that happens to Open vSwitch.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]

mod stage;

use std::process::Command;

use nix::sys::signal::Signal;
use stage::recipe::{begin, blocks, namespaces};
use stage::{App, HugePages, MAC, OpenVswitch, Stage, exchange_flows, expect_answer};

fn end(mut testpmd: App) {
    testpmd.tell("");
    assert!(testpmd.ended().success());
}

fn expect_pings(ping: &str) {
    stage::wait_for("echoes", || {
        Command::new("sh").args(["-euc", ping]).output().unwrap().status.success().then_some(())
    });
}

#[test]
fn a_pair_of_veth_stands_in_for_a_netvsc_interface() {
    namespaces();
    let [testpmd, ping] = blocks("Without a NetVSC interface").try_into().unwrap();
    let testpmd = begin(&testpmd);
    expect_pings(&ping);
    end(testpmd);
}

#[test]
fn secondaries_look_and_capture() {
    namespaces();
    let pages = HugePages::mount();
    let [pair, ping] = blocks("Without a NetVSC interface").try_into().unwrap();
    let (pair, _) = pair.split_once("dpdk-testpmd").unwrap();
    stage::run("sh", &["-euc", pair]);
    let [testpmd, proc_info, pdump] = blocks("Secondary processes").try_into().unwrap();
    let testpmd = begin(&testpmd);
    expect_pings(&ping);
    for _ in 0..2 {
        let shown = stage::run("sh", &["-euc", &proc_info]);
        assert!(shown.contains("NIC statistics for port 0"), "{shown}");
        expect_pings(&ping);
    }
    let capture = begin(&pdump);
    stage::wait_for("pdump captures", || {
        expect_pings(&ping);
        std::fs::metadata("/run/received.pcap").is_ok_and(|file| file.len() > 300).then_some(())
    });
    // `timeout` tells how.
    assert_eq!(capture.ended().code(), Some(124));
    expect_pings(&ping);
    end(testpmd);
    drop(pages);
}

#[test]
fn openvswitch_has_the_port_in_a_bridge() {
    let folder = OpenVswitch::folder();
    namespaces();
    let [pair, setup, start, bridge, ping] = blocks("Open vSwitch").try_into().unwrap();
    assert!(start.ends_with("systemctl restart openvswitch-switch\n"), "{start}");
    stage::run("sh", &["-euc", &pair]);
    let switch = OpenVswitch::start(folder, &setup.replace("$PWD/", ""));
    switch.ok(&bridge);
    expect_pings(&ping);
}

const ONE: &str = "0000:01:00.0";
const TWO: &str = "0000:02:00.0";

/// Starts a switch with such options for EAL.
fn switch_with(folder: String, options: &str) -> OpenVswitch {
    let extra = format!(
        "--no-huge --legacy-mem -m 512 --no-telemetry -d {0}/tests/librte_net_test_vf.so \
         -d {0}/librte_net_vdev_netvsc.so {options}",
        stage::BUILD
    );
    let switch = OpenVswitch::start(
        folder,
        &format!(
            "ovs-vsctl --no-wait set Open_vSwitch . other_config:dpdk-init=true other_config:per-port-memory=true \
             other_config:dpdk-extra='\"{extra}\"'"
        ),
    );
    switch.ok("ovs-vsctl add-br br0 -- set bridge br0 datapath_type=netdev");
    switch
}

/// Adds the port to the bridge, which sends back what comes by it.
fn add_port(switch: &OpenVswitch) {
    switch.ok("ovs-vsctl add-port br0 vsc0 -- set Interface vsc0 type=dpdk options:dpdk-devargs=net_failsafe_vsc0 \
        ofport_request=1");
    assert_eq!(switch.ok("ovs-vsctl get Interface vsc0 error"), "[]");
}

fn send_back(switch: &OpenVswitch) {
    switch.ok(&format!(
        "ovs-ofctl del-flows br0
         ovs-ofctl add-flow br0 'in_port=1,actions=move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],mod_dl_src:{MAC},in_port'"
    ));
}

/// All frames of many flows sent into a wire come back on it, and the bridge has counted them.
fn expect_all_back(switch: &OpenVswitch, wire: &str) {
    const FLOWS: u16 = 64;
    const EACH: u32 = 2;
    expect_answer(wire, MAC);
    let before = switch.counted("vsc0");
    let all = u64::from(FLOWS) * u64::from(EACH);
    assert_eq!(exchange_flows(wire, MAC, FLOWS, EACH, 64) as u64, all, "frames by {wire}");
    let counted = switch.counted("vsc0");
    assert_eq!((counted.0 - before.0, counted.1 - before.1), (all, all), "frames by {wire}");
}

/// The bridge polls so many queues of the port.
fn expect_queues(switch: &OpenVswitch, count: usize) {
    let shown = switch.ok("ovs-appctl -t ovs-vswitchd dpif-netdev/pmd-rxq-show");
    assert_eq!(shown.matches("port: vsc0").count(), count, "{shown}");
}

#[test]
fn openvswitch_is_set_up_anew_while_the_vf_comes_and_goes() {
    let folder = OpenVswitch::folder();
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut switch = switch_with(folder, "--vdev=net_vdev_netvsc0,iface=eth1,fallback=af_packet");
    add_port(&switch);
    send_back(&switch);
    expect_all_back(&switch, "eth1p");
    let settings = [
        ("options:n_rxq=2", 2),
        ("options:n_rxq=4", 4),
        ("mtu_request=1400", 4),
        ("options:n_rxq_desc=512", 4),
        ("options:n_rxq=1", 1),
        ("mtu_request=1500", 1),
    ];
    for (number, (setting, queues)) in settings.into_iter().enumerate() {
        let address = [ONE, TWO][number % 2];
        let name = format!("vf{number}");
        let wire = format!("{name}p");
        switch.ok(&format!("ovs-vsctl set Interface vsc0 {setting}"));
        expect_queues(&switch, queues);
        expect_all_back(&switch, "eth1p");
        stage.vf_appears(&name, address, MAC);
        expect_all_back(&switch, &wire);
        // And back, with the VF there.
        switch.ok("ovs-vsctl set Interface vsc0 options:n_rxq=3");
        expect_queues(&switch, 3);
        expect_all_back(&switch, &wire);
        switch.ok(&format!("ovs-vsctl set Interface vsc0 options:n_rxq={queues}"));
        expect_all_back(&switch, &wire);
        stage.vf_goes(&name, address);
        expect_all_back(&switch, "eth1p");
    }
    assert!(switch.daemon().has_ended().is_none());
}

#[test]
fn openvswitch_takes_no_mtu_that_the_interface_has_not_and_goes_on_with_the_next() {
    let folder = OpenVswitch::folder();
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut switch = switch_with(folder, "--vdev=net_vdev_netvsc0,iface=eth1,fallback=af_packet");
    add_port(&switch);
    stage.vf_appears("vf0", ONE, MAC);
    for _ in 0..2 {
        switch.ok("ovs-vsctl set Interface vsc0 mtu_request=9000");
        switch.daemon().expect_log("MTU (9000) > device max MTU (1968)");
        switch.ok("ovs-vsctl set Interface vsc0 mtu_request=1500");
        send_back(&switch);
        expect_all_back(&switch, "vf0p");
    }
    stage.vf_goes("vf0", ONE);
    expect_all_back(&switch, "eth1p");
}

#[test]
fn openvswitch_takes_the_mtu_of_the_interface() {
    let folder = OpenVswitch::folder();
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    stage::ip_batch("link set eth1p mtu 9000\nlink set eth1 mtu 9000\n");
    let switch = switch_with(folder, "-m 1024 --vdev=net_vdev_netvsc0,iface=eth1,fallback=af_packet");
    add_port(&switch);
    send_back(&switch);
    for mtu in [9000, 1500] {
        switch.ok(&format!("ovs-vsctl set Interface vsc0 mtu_request={mtu}"));
        expect_answer("eth1p", MAC);
        assert_eq!(exchange_flows("eth1p", MAC, 16, 4, mtu + 14), 64, "{mtu}");
    }
}

#[test]
fn openvswitch_lets_go_of_the_port_takes_it_again_and_is_started_anew() {
    let folder = OpenVswitch::folder();
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    stage.vf_appears("vf0", ONE, MAC);
    let mut switch = switch_with(folder, "--vdev=net_vdev_netvsc0,iface=eth1,fallback=af_packet");
    add_port(&switch);
    send_back(&switch);
    expect_all_back(&switch, "vf0p");
    for (number, address) in [TWO, ONE].into_iter().enumerate() {
        let (old, new) = (format!("vf{number}"), format!("vf{}", number + 1));
        switch.ok("ovs-vsctl del-port vsc0");
        // The VF moves while nobody has the port.
        stage.vf_goes(&old, [ONE, TWO][number]);
        stage.vf_appears(&new, address, MAC);
        add_port(&switch);
        expect_all_back(&switch, &format!("{new}p"));
    }
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        switch.end(signal);
        switch.resume();
        send_back(&switch);
        expect_all_back(&switch, "vf2p");
    }
    stage.vf_goes("vf2", ONE);
    expect_all_back(&switch, "eth1p");
    switch.ok("ovs-appctl -t ovs-vswitchd exit");
}

#[test]
fn openvswitch_makes_an_instance_and_is_told_which_port_that_has() {
    let folder = OpenVswitch::folder();
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut switch = switch_with(folder, "");
    let error = switch
        .sh("ovs-vsctl add-port br0 vsc0 -- set Interface vsc0 type=dpdk ofport_request=1 \
             options:dpdk-devargs=net_vdev_netvsc1,iface=eth1,fallback=af_packet")
        .map(|_| switch.ok("ovs-vsctl get Interface vsc0 error"));
    assert!(error.unwrap().contains("Error attaching device"));
    switch.daemon().expect_log("net_failsafe_vsc0 (eth1");
    switch.ok("ovs-vsctl set Interface vsc0 options:dpdk-devargs=net_failsafe_vsc0");
    send_back(&switch);
    expect_all_back(&switch, "eth1p");
    stage.vf_appears("vf0", ONE, MAC);
    expect_all_back(&switch, "vf0p");
    switch.ok("ovs-vsctl del-port vsc0; ovs-appctl -t ovs-vswitchd netdev-dpdk/detach net_failsafe_vsc0");
}

#[test]
fn openvswitch_takes_the_port_of_the_instance_that_added_itself() {
    let folder = OpenVswitch::folder();
    let mut stage = Stage::new();
    stage.only_plugins(&["bus_pci", "bus_vdev", "mempool_ring", "net_af_packet", "net_failsafe", "net_tap"]);
    stage.netvsc_appears("eth1", MAC);
    stage.vf_appears("vf0", ONE, MAC);
    stage.vmbus_appears();
    let switch = switch_with(folder, "");
    add_port(&switch);
    send_back(&switch);
    expect_all_back(&switch, "vf0p");
}
