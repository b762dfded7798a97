// SPDX-License-Identifier: BSD-3-Clause
//! Stories of ports with several queues, on the fallback and by the VF.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]

mod stage;

use stage::{App, MAC, Stage, exchange_flows, expect_answer, ip, run};

const FAILSAFE: &str = "net_failsafe_vsc0";
const ONE: &str = "0000:01:00.0";
const TWO: &str = "0000:02:00.0";
const INSTANCE: &str = "--vdev=net_vdev_netvsc0,iface=eth1,fallback=af_packet";

/// Ethernet headers.
const HEADER: usize = 14;

const FLOWS: u16 = 256;
const EACH: u32 = 4;

/// What the application has received by each of its queues.
fn received(app: &mut App) -> Vec<u64> {
    app.ok(&format!("queues {FAILSAFE}")).split_whitespace().map(|count| count.parse().unwrap()).collect()
}

/// Many flows come back by a wire, and each queue has received some.
fn expect_spread(app: &mut App, wire: &str, queues: usize, size: usize) {
    expect_answer(wire, MAC);
    let before = received(app);
    assert_eq!(before.len(), queues);
    let all = usize::from(FLOWS) * EACH as usize;
    assert_eq!(exchange_flows(wire, MAC, FLOWS, EACH, size), all, "{queues} queues, {size} bytes by {wire}");
    let by_queue: Vec<u64> = received(app).iter().zip(before).map(|(after, before)| after - before).collect();
    assert!(by_queue.iter().all(|&count| count > 0), "{queues} queues by {wire}: {by_queue:?}");
}

#[test]
fn flows_are_spread_over_as_many_queues_as_the_application_takes() {
    for queues in [4, 1, 16] {
        let mut stage = Stage::new();
        stage.netvsc_appears("eth1", MAC);
        let mut app = App::start(&[INSTANCE]);
        app.ok(&format!("setup {FAILSAFE} {queues} 256 0"));
        expect_spread(&mut app, "eth1p", queues, 64);
        for (name, address) in [("vf0", ONE), ("vf1", TWO)] {
            stage.vf_appears(name, address, MAC);
            app.expect_port(address);
            expect_spread(&mut app, &format!("{name}p"), queues, 64);
            stage.vf_goes(name, address);
            app.expect_no_port(address);
            expect_spread(&mut app, "eth1p", queues, 64);
        }
        assert!(app.cleanup().success());
    }
}

/// A NetVSC interface with this MTU.
fn eth1(stage: &mut Stage, mtu: usize) {
    stage.netvsc_appears("eth1", MAC);
    set_mtu("eth1", mtu);
}

/// Sets the MTU of both ends of a wire.
fn set_mtu(name: &str, mtu: usize) {
    ip(&format!("link set {name}p mtu {mtu}"));
    ip(&format!("link set {name} mtu {mtu}"));
}

fn vf(stage: &mut Stage, app: &mut App, name: &str, address: &str, mtu: usize) {
    stage.vf_appears(name, address, MAC);
    set_mtu(name, mtu);
    app.expect_port(address);
    expect_answer(&format!("{name}p"), MAC);
}

/// Packets of this size come back by a wire.
fn expect_packets(wire: &str, size: usize) {
    expect_answer(wire, MAC);
    assert_eq!(exchange_flows(wire, MAC, 16, 20, HEADER + size), 320, "packets of {size} bytes by {wire}");
}

#[test]
fn packets_are_as_long_as_the_mtu_of_the_interface_allows() {
    for queues in [1, 4, 16] {
        let mut stage = Stage::new();
        eth1(&mut stage, 9000);
        let mut app = App::start(&[INSTANCE]);
        app.ok(&format!("setup {FAILSAFE} {queues} 256 9000"));
        for size in [1500, 9000] {
            expect_packets("eth1p", size);
        }
        for (name, address) in [("vf0", ONE), ("vf1", TWO)] {
            vf(&mut stage, &mut app, name, address, 9000);
            assert_eq!(app.ok(&format!("mtu_of {address}")), "9000");
            for size in [1500, 9000] {
                expect_packets(&format!("{name}p"), size);
            }
            stage.vf_goes(name, address);
            app.expect_no_port(address);
            for size in [1500, 9000] {
                expect_packets("eth1p", size);
            }
        }
        assert!(app.cleanup().success());
    }
}

#[test]
fn an_application_with_small_buffers_gets_what_fits_of_an_interface_with_a_large_mtu() {
    let mut stage = Stage::new();
    eth1(&mut stage, 9000);
    let mut app = App::start(&[INSTANCE]);
    app.ok(&format!("setup {FAILSAFE} 4 256 0"));
    app.expect_log("and the application buffers of 2048: what is longer is dropped; give it larger ones");
    assert_eq!(app.logged("what is longer is dropped").len(), 1);
    expect_packets("eth1p", 1500);
    expect_packets("eth1p", 2034);
    assert_eq!(exchange_flows("eth1p", MAC, 16, 4, HEADER + 2035), 0);
    expect_packets("eth1p", 1500);
}

#[test]
fn a_packet_that_is_longer_than_a_frame_is_dropped_and_not_cut() {
    let mut stage = Stage::new();
    eth1(&mut stage, 1500);
    let mut app = App::start(&[INSTANCE]);
    app.ok(&format!("setup {FAILSAFE} 4 256 0"));
    // Later than its fallback was made.
    set_mtu("eth1", 9000);
    expect_packets("eth1p", 1968);
    assert_eq!(exchange_flows("eth1p", MAC, 16, 4, HEADER + 1969), 0);
    assert_eq!(exchange_flows("eth1p", MAC, 16, 4, HEADER + 9000), 0);
    expect_packets("eth1p", 1500);
}

#[test]
fn an_mtu_that_is_set_is_that_of_a_vf_that_comes() {
    let mut stage = Stage::new();
    eth1(&mut stage, 9000);
    let mut app = App::start(&[INSTANCE]);
    app.ok(&format!("start {FAILSAFE}"));
    for (mtu, taken) in [(1400, true), (9000, true), (1600, true), (16_305, false), (9700, true)] {
        if taken {
            app.ok(&format!("mtu {FAILSAFE} {mtu}"));
            assert_eq!(ip("link show eth1").split("mtu ").nth(1).unwrap().split(' ').next().unwrap(), mtu.to_string());
        } else {
            assert_eq!(app.fails(&format!("mtu {FAILSAFE} {mtu}")), libc::EINVAL);
        }
    }
    vf(&mut stage, &mut app, "vf0", ONE, 9700);
    assert_eq!(app.ok(&format!("mtu_of {ONE}")), "9700");
    // More than the VF has.
    assert_eq!(app.fails(&format!("mtu {FAILSAFE} 9711")), libc::EINVAL);
    app.ok(&format!("mtu {FAILSAFE} 3000"));
    assert_eq!(app.ok(&format!("mtu_of {ONE}")), "3000");
    stage.vf_goes("vf0", ONE);
    app.expect_no_port(ONE);
    vf(&mut stage, &mut app, "vf1", TWO, 9700);
    assert_eq!(app.ok(&format!("mtu_of {TWO}")), "3000");
    assert_eq!(app.ok(&format!("mtu_of {FAILSAFE}")), "3000");
}

#[test]
fn a_port_has_as_many_queues_as_there_is_room_for() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    stage.netvsc_appears("eth2", "00:15:5d:00:00:02");
    let mut app = App::start_saying("warning", &["--vdev=net_vdev_netvsc0,iface=eth2,fallback=af_packet,queues=2"]);
    assert_eq!(app.ok(&format!("most_queues {FAILSAFE}")), "2 2");
    // For a pipe, the socket that the fallback begins with, and five packet sockets.
    let limit = app.count().0 + 2 + 1 + 5;
    run("prlimit", &["--pid", &app.pid().to_string(), &format!("--nofile={limit}:")]);
    app.ok("attach net_vdev_netvsc1 iface=eth1,fallback=af_packet");
    app.expect_port("net_af_packet_vsc1");
    let said = app.said();
    assert!(
        said.len() == 1 && said[0].contains("net_af_packet_vsc1 has 4 queues each way, and not 16 as asked for"),
        "{said:?}"
    );
    // From the first moment on.
    assert_eq!(app.ok("mac net_failsafe_vsc1").to_lowercase(), MAC);
    assert_eq!(app.ok("most_queues net_failsafe_vsc1"), "4 4");
    run("prlimit", &["--pid", &app.pid().to_string(), "--nofile=1024:"]);
    app.ok("setup net_failsafe_vsc1 4 256 0");
    expect_packets("eth1p", 1500);
}
