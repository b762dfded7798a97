// SPDX-License-Identifier: BSD-3-Clause
//! Whatever an application calls, its port and its process live on: each call of ethdev that failsafe passes on, on a
//! started and on a stopped port, before a VF came, with it, and after it went. `docs/fallbacks.md` is the table of them.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod stage;

use std::fs;

use stage::{App, MAC, Stage, exchange, expect_answer, run};

const FAILSAFE: &str = "net_failsafe_vsc0";
const ONE: &str = "0000:01:00.0";

const FINE: i32 = 0;
const UNKNOWN: i32 = libc::ENOSYS;
const LACKING: i32 = libc::ENOTSUP;

/// Each call, and what comes of it on a port over `net_af_packet`: 0 or an errno, for a started and for a stopped port.
const CALLS: [(&str, i32, i32); 36] = [
    ("allmulticast_enable", FINE, FINE),
    ("allmulticast_disable", FINE, FINE),
    ("promiscuous_enable", FINE, FINE),
    ("promiscuous_disable", FINE, FINE),
    ("link_get", FINE, FINE),
    ("set_link_down", LACKING, LACKING),
    ("set_link_up", LACKING, LACKING),
    ("stats_get", FINE, FINE),
    ("stats_reset", FINE, FINE),
    ("xstats_get", FINE, FINE),
    ("xstats_get_names", FINE, FINE),
    ("xstats_reset", FINE, FINE),
    ("infos_get", FINE, FINE),
    ("ptypes_get", FINE, FINE),
    ("mac_addr_set", FINE, FINE),
    ("mac_addr_add", libc::ENOSPC, libc::ENOSPC),
    ("mac_addr_remove", FINE, FINE),
    ("mc_addr_list_set", LACKING, LACKING),
    ("vlan_filter", UNKNOWN, UNKNOWN),
    ("vlan_strip", LACKING, LACKING),
    ("flow_ctrl_get", LACKING, LACKING),
    ("flow_ctrl_set", LACKING, LACKING),
    ("rss_hash_update", LACKING, LACKING),
    ("rx_intr_enable", libc::EAGAIN, libc::EAGAIN),
    ("rx_intr_disable", LACKING, LACKING),
    ("flow_create", UNKNOWN, UNKNOWN),
    ("flow_flush", UNKNOWN, UNKNOWN),
    ("flow_isolate", UNKNOWN, UNKNOWN),
    ("rx_queue_setup", libc::EBUSY, FINE),
    ("tx_queue_setup", libc::EBUSY, FINE),
    ("configure", libc::EBUSY, FINE),
    ("mtu_set", FINE, FINE),
    ("rx_queue_stop", LACKING, FINE),
    ("rx_queue_start", LACKING, libc::EINVAL),
    ("tx_queue_stop", LACKING, FINE),
    ("tx_queue_start", LACKING, libc::EINVAL),
];

/// Calls everything, on the port as it is, stopped, and started again.
fn call_all(app: &mut App, when: &str) {
    let mut wrong = Vec::new();
    for stopped in [false, true] {
        if stopped {
            app.ok(&format!("stop {FAILSAFE}"));
        }
        for (call, started_want, stopped_want) in CALLS {
            let reply = app.send(&format!("call {call} {FAILSAFE}"));
            let errno = reply.strip_prefix("error ").and_then(|rest| rest.split(' ').next()?.parse().ok());
            let want = if stopped { stopped_want } else { started_want };
            if errno.unwrap_or(FINE) != want {
                wrong.push(format!("{call}, {when}, stopped {stopped}: {reply} and not {want}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    app.ok(&format!("setup {FAILSAFE} 1 256 0"));
}

fn expect_all_back(wire: &str) {
    expect_answer(wire, MAC);
    assert_eq!(exchange(wire, MAC, 20, &[wire]), [20], "frames by {wire}");
}

#[test]
fn no_call_reaches_a_function_that_is_not_there() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = App::start(&["--vdev=net_vdev_netvsc0,iface=eth1,fallback=af_packet"]);
    app.ok(&format!("start {FAILSAFE}"));
    call_all(&mut app, "no VF yet");
    expect_all_back("eth1p");
    stage.vf_appears("vf0", ONE, MAC);
    app.expect_port(ONE);
    expect_all_back("vf0p");
    call_all(&mut app, "with the VF");
    expect_all_back("vf0p");
    stage.vf_goes("vf0", ONE);
    app.expect_no_port(ONE);
    call_all(&mut app, "the VF went");
    expect_all_back("eth1p");
    assert!(app.cleanup().success());
}

#[test]
fn a_port_is_set_up_again_with_other_queues_and_descriptors() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = App::start(&["--vdev=net_vdev_netvsc0,iface=eth1,fallback=af_packet"]);
    app.ok(&format!("start {FAILSAFE}"));
    for descriptors in [256, 512, 128] {
        app.ok(&format!("setup {FAILSAFE} 1 {descriptors} 0"));
        expect_all_back("eth1p");
    }
    stage.vf_appears("vf0", ONE, MAC);
    app.expect_port(ONE);
    app.ok(&format!("setup {FAILSAFE} 1 512 0"));
    expect_all_back("vf0p");
    stage.vf_goes("vf0", ONE);
    app.expect_no_port(ONE);
    app.ok(&format!("setup {FAILSAFE} 1 256 0"));
    expect_all_back("eth1p");
    assert!(app.cleanup().success());
}

/// Lets the application open so many descriptors.
fn limit_descriptors(app: &App, limit: usize) {
    run("prlimit", &["--pid", &app.pid().to_string(), &format!("--nofile={limit}:")]);
}

#[test]
fn a_fallback_that_could_not_be_made_at_first_is_completed_when_it_can() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    stage.netvsc_appears("eth2", "00:15:5d:00:00:02");
    // With the first instance, what the driver itself needs is open.
    let mut app = App::start(&["--vdev=net_vdev_netvsc0,iface=eth2,fallback=af_packet"]);
    // A pipe, and nothing for a packet socket.
    let open = app.count().0;
    limit_descriptors(&app, open + 2);
    app.ok("attach net_vdev_netvsc1 iface=eth1,fallback=af_packet");
    app.expect_log("net_af_packet_vsc1 did not come up on eth1");
    assert!(!app.has_port("net_af_packet_vsc1"));
    limit_descriptors(&app, 1024);
    app.expect_port("net_af_packet_vsc1");
    app.ok("start net_failsafe_vsc1");
    app.ok("setup net_failsafe_vsc1 1 512 0");
    expect_all_back("eth1p");
}

#[test]
fn testpmd_sets_a_port_up_again() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    // Its ports are started before it reads this.
    fs::write("/run/commands", "port stop all\nport config all txd 256\nport start all\nstart\n").unwrap();
    let mut command = App::command_of_testpmd(&["--vdev=net_vdev_netvsc0,iface=eth1,fallback=af_packet"]);
    command.args(["--interactive", "--cmdline-file=/run/commands"]);
    let mut testpmd = App::spawn(command);
    expect_all_back("eth1p");
    testpmd.tell("quit");
    assert!(testpmd.ended().success());
}
