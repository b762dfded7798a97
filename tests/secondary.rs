// SPDX-License-Identifier: BSD-3-Clause
//! Stories of secondary processes: they start, look and leave, and the primary's port is as before. `docs/applications.md`
//! has the recipes that are tried here.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]

mod stage;

use std::process::{Command, Output};

use nix::sys::signal::Signal;
use stage::{App, HugePages, MAC, Stage, exchange, expect_answer};

const INSTANCE: &str = "net_vdev_netvsc0";
const FAILSAFE: &str = "net_failsafe_vsc0";
const FALLBACK: &str = "net_af_packet_vsc0";
const VF: &str = "0000:01:00.0";
const ARGUMENTS: &str = "iface=eth1,fallback=af_packet";
const START: &str = "--vdev=net_vdev_netvsc0,iface=eth1,fallback=af_packet";

fn plugin() -> String {
    format!("{}/librte_net_vdev_netvsc.so", stage::BUILD)
}

/// Starts an application of this kind, whose memory others share.
fn start_sharing(pages: &HugePages, kind: &str, more: &[&str]) -> App {
    let plugin = plugin();
    let mut arguments = vec!["-d", &plugin, "--proc-type", kind, "--huge-dir", pages.folder()];
    arguments.extend(more);
    let app = App::launch(&format!("{}/tests/app", stage::BUILD), &arguments, false);
    app.expect_reply("ready");
    app
}

/// Starts a primary with a port on eth1 that sends back what it receives.
fn start_primary(pages: &HugePages) -> App {
    let mut primary = start_sharing(pages, "primary", &["-m", "64", START]);
    primary.ok(&format!("start {FAILSAFE}"));
    primary
}

/// Waits until the primary's port has the VF, and all that is sent comes back by it.
fn expect_frames(port: &str) {
    let wire = format!("{port}p");
    expect_answer(&wire, MAC);
    assert_eq!(exchange(&wire, MAC, 50, &[&wire]), [50], "by {port}");
}

/// How a secondary leaves.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// It cleans up EAL and exits.
    Cleanup,
    /// As `dpdk-proc-info`: it closes the ports that nobody owns before.
    CloseAndCleanup,
    /// It exits.
    Exit,
    /// It aborts.
    Abort,
    /// It is killed while it looks at the port.
    Kill,
}

fn leave(mut secondary: App, way: Way) {
    match way {
        Way::Cleanup => assert!(secondary.cleanup().success()),
        Way::CloseAndCleanup => {
            secondary.ok("leave");
            assert!(secondary.cleanup().success());
        }
        Way::Exit => assert!(secondary.quit().success()),
        Way::Abort => {
            secondary.signal(Signal::SIGABRT);
            secondary.ended();
        }
        Way::Kill => {
            secondary.tell(&format!("look {} {FAILSAFE}", u32::MAX));
            std::thread::sleep(std::time::Duration::from_millis(20));
            secondary.kill();
        }
    }
}

/// What a port has counted: frames received, and sent.
fn counted(app: &mut App) -> (u64, u64) {
    let reply = app.ok(&format!("counted {FAILSAFE}"));
    let (received, sent) = reply.split_once(' ').unwrap();
    (received.parse().unwrap(), sent.parse().unwrap())
}

#[test]
fn a_secondary_leaves_everything_to_the_primary() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let pages = HugePages::mount();
    let mut primary = start_sharing(&pages, "primary", &["-m", "64", START]);
    primary.ok(&format!("start {FAILSAFE}"));
    let ports = [FALLBACK, FAILSAFE];
    // On a busy machine the interrupt thread comes late to its sources: EAL's timer, its pipe and the link events.
    stage::wait_for("EAL watches all", || (primary.watched() >= 3).then_some(()));
    let before = (primary.count(), primary.watched());

    // As EAL tells it of the primary's devices, with an instance of its own, and by hot-plug.
    for own in [None, Some("--vdev=net_vdev_netvsc5,iface=eth1,fallback=af_packet")] {
        let mut secondary = start_sharing(&pages, "secondary", own.as_slice());
        secondary.expect_log("net_vdev_netvsc0: probed");
        assert_eq!(secondary.ports(), ports);
        assert_eq!(secondary.logged("list of links"), [""; 0], "it asks the kernel nothing");
        assert!(!secondary.has_alarm());
        assert_eq!(primary.ports(), ports);
        expect_frames("eth1");
        assert!(secondary.quit().success());
    }
    assert_eq!(primary.ports(), ports);
    expect_frames("eth1");
    assert_eq!((primary.count(), primary.watched()), before);
    stage.vf_appears("vf0", VF, MAC);
    primary.expect_port(VF);
    expect_frames("vf0");
    stage.vf_goes("vf0", VF);
    primary.expect_no_port(VF);
    assert!(primary.cleanup().success());
}

#[test]
fn a_secondary_asks_the_primary_for_an_instance() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let pages = HugePages::mount();
    let mut primary = start_sharing(&pages, "primary", &["-m", "64"]);
    let mut secondary = start_sharing(&pages, "secondary", &[]);
    for _ in 0..3 {
        // The primary carries it out on its interrupt thread, and tells the secondary of the devices that it makes.
        secondary.ok(&format!("attach {INSTANCE} {ARGUMENTS}"));
        assert_eq!(primary.ports(), [FALLBACK, FAILSAFE]);
        assert_eq!(secondary.ports(), [FALLBACK, FAILSAFE]);
        primary.ok(&format!("start {FAILSAFE}"));
        expect_frames("eth1");
        primary.ok(&format!("stop {FAILSAFE}"));
        secondary.ok(&format!("detach {INSTANCE}"));
        assert_eq!(primary.ports(), [""; 0]);
    }
    assert!(secondary.quit().success());
    primary.expect_no_alarm();
}

#[test]
fn a_port_that_was_made_while_a_secondary_is_there_is_left_to_the_primary_too() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let pages = HugePages::mount();
    let mut primary = start_sharing(&pages, "primary", &["-m", "64"]);
    for way in [Way::Cleanup, Way::CloseAndCleanup, Way::Kill] {
        let mut secondary = start_sharing(&pages, "secondary", &[]);
        primary.ok(&format!("attach {INSTANCE} {ARGUMENTS}"));
        primary.ok(&format!("start {FAILSAFE}"));
        expect_frames("eth1");
        assert_eq!(counted(&mut secondary), counted(&mut primary), "{way:?}");
        leave(secondary, way);
        expect_frames("eth1");
        primary.ok(&format!("detach {INSTANCE}"));
    }
    assert!(primary.cleanup().success());
}

/// Secondaries start, look and leave this way while there is no VF, while it comes, and while it goes.
fn leave_while_a_vf_comes_and_goes(way: Way) {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let pages = HugePages::mount();
    let mut primary = start_primary(&pages);
    expect_frames("eth1");
    for _ in 0..2 {
        let mut secondary = start_sharing(&pages, "secondary", &[]);
        assert_eq!(secondary.ports(), [FALLBACK, FAILSAFE]);
        assert_eq!(counted(&mut secondary), counted(&mut primary));
        expect_frames("eth1");
        leave(secondary, way);
        expect_frames("eth1");

        let mut secondary = start_sharing(&pages, "secondary", &[]);
        stage.vf_appears("vf0", VF, MAC);
        expect_frames("vf0");
        assert!(secondary.has_port(VF));
        assert_eq!(counted(&mut secondary), counted(&mut primary));
        leave(secondary, way);
        expect_frames("vf0");

        let mut secondary = start_sharing(&pages, "secondary", &[]);
        assert!(secondary.has_port(VF));
        expect_frames("vf0");
        stage.vf_goes("vf0", VF);
        expect_frames("eth1");
        primary.expect_no_port(VF);
        assert_eq!(counted(&mut secondary), counted(&mut primary));
        leave(secondary, way);
        expect_frames("eth1");
    }
    let asked = primary.logged("Cannot find device");
    assert_eq!(asked, [""; 0], "no secondary has the primary look for a VF that went");
    // A secondary that leaves as it is told of a VF does not answer, and DPDK waits for it on the interrupt thread: five
    // seconds, in which the primary is not to clean up.
    stage::wait_for("an instance is removed", || {
        let reply = primary.send(&format!("detach {INSTANCE}"));
        reply.starts_with("ok").then_some(())
    });
    assert!(primary.cleanup().success());
}

#[test]
fn a_secondary_that_cleans_up_leaves_the_port_as_it_was() {
    leave_while_a_vf_comes_and_goes(Way::Cleanup);
}

#[test]
fn a_secondary_that_closes_the_port_leaves_it_as_it_was() {
    leave_while_a_vf_comes_and_goes(Way::CloseAndCleanup);
}

#[test]
fn a_secondary_that_exits_leaves_the_port_as_it_was() {
    leave_while_a_vf_comes_and_goes(Way::Exit);
}

#[test]
fn a_secondary_that_aborts_leaves_the_port_as_it_was() {
    leave_while_a_vf_comes_and_goes(Way::Abort);
}

#[test]
fn a_secondary_that_is_killed_leaves_the_port_as_it_was() {
    leave_while_a_vf_comes_and_goes(Way::Kill);
}

#[test]
fn a_secondary_that_does_not_answer_as_a_vf_goes_costs_no_later_vf() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let pages = HugePages::mount();
    let primary = start_primary(&pages);
    let secondary = start_sharing(&pages, "secondary", &[]);
    stage.vf_appears("vf0", VF, MAC);
    expect_frames("vf0");
    secondary.signal(Signal::SIGSTOP);
    stage.vf_goes("vf0", VF);
    expect_frames("eth1");
    // DPDK waits for five seconds, twice.
    primary.expect_log("cannot remove the device of a VF that went");
    secondary.kill();
    stage.vf_appears("vf0", VF, MAC);
    expect_frames("vf0");
    assert!(primary.cleanup().success());
}

#[test]
fn primary_and_secondary_look_at_the_port_at_once() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let pages = HugePages::mount();
    let mut primary = start_primary(&pages);
    let mut secondary = start_sharing(&pages, "secondary", &[]);
    let look = format!("look 2000000 {FAILSAFE}");
    secondary.tell(&look);
    primary.ok(&look);
    secondary.expect_reply("ok");
    assert!(secondary.cleanup().success());
    assert!(primary.cleanup().success());
}

/// The calls of ethdev that change a port, or that failsafe makes under its lock.
const CALLS: [&str; 26] = [
    "allmulticast_enable",
    "promiscuous_enable",
    "set_link_down",
    "stats_reset",
    "xstats_get",
    "xstats_get_names",
    "xstats_reset",
    "infos_get",
    "ptypes_get",
    "mac_addr_set",
    "mac_addr_add",
    "mac_addr_remove",
    "mc_addr_list_set",
    "vlan_filter",
    "vlan_strip",
    "flow_ctrl_set",
    "rss_hash_update",
    "rx_intr_enable",
    "flow_create",
    "flow_flush",
    "flow_isolate",
    "rx_queue_setup",
    "configure",
    "mtu_set",
    "rx_queue_stop",
    "tx_queue_stop",
];

#[test]
fn what_a_secondary_calls_changes_nothing() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let pages = HugePages::mount();
    let mut primary = start_primary(&pages);
    for name in ["eth1", "vf0"] {
        if name == "vf0" {
            stage.vf_appears(name, VF, MAC);
        }
        expect_frames(name);
        let before = counted(&mut primary);
        let mut secondary = start_sharing(&pages, "secondary", &[]);
        for call in CALLS {
            secondary.send(&format!("call {call} {FAILSAFE}"));
        }
        assert_eq!(secondary.fails(&format!("stop {FAILSAFE}")), libc::ENOTSUP);
        assert_eq!(counted(&mut primary), before);
        assert!(primary.ok(&format!("mac {FAILSAFE}")).eq_ignore_ascii_case(MAC));
        expect_frames(name);
        assert!(secondary.cleanup().success());
        expect_frames(name);
    }
    assert!(primary.cleanup().success());
}

/// One of DPDK's own applications for secondary processes, with the plugins before its own arguments.
fn tool(name: &str, arguments: &[&str]) -> Command {
    let vf = format!("{}/tests/librte_net_test_vf.so", stage::BUILD);
    let mut command = Command::new(name);
    command.args(["-d", &plugin(), "-d", &vf, "--"]).args(arguments).env("SYSFS_PCI_DEVICES", stage::PCI);
    command
}

fn text(output: &Output) -> String {
    format!("{}{}{}", output.status, String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn proc_info_looks_at_the_port_as_often_as_it_likes() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let pages = HugePages::mount();
    let mut primary = start_primary(&pages);
    for (name, what) in [("eth1", "--stats"), ("eth1", "--show-port"), ("vf0", "--xstats"), ("vf0", "--stats")] {
        if name == "vf0" && !primary.has_port(VF) {
            stage.vf_appears(name, VF, MAC);
        }
        expect_frames(name);
        let shown = tool("dpdk-proc-info", &[what]).output().unwrap();
        assert!(shown.status.success(), "{what}: {}", text(&shown));
        if what == "--stats" {
            let (received, sent) = counted(&mut primary);
            let shown = text(&shown);
            assert!(shown.contains(&format!("RX-packets: {received} ")), "{received}: {shown}");
            assert!(shown.contains(&format!("TX-packets: {sent} ")), "{sent}: {shown}");
        }
        expect_frames(name);
    }
    assert!(primary.cleanup().success());
}

/// How many packets a file of captured ones has.
fn captured(path: &str) -> usize {
    let file = std::fs::read(path).unwrap_or_default();
    let (mut count, mut at) = (0, 24);
    while let Some(size) = file.get(at + 8..at + 12) {
        at += 16 + u32::from_ne_bytes(size.try_into().unwrap()) as usize;
        count += 1;
    }
    count
}

#[test]
fn pdump_captures_what_the_port_receives() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let pages = HugePages::mount();
    let mut primary = start_primary(&pages);
    primary.ok("capture");
    for signal in [Signal::SIGINT, Signal::SIGINT, Signal::SIGKILL] {
        expect_frames("eth1");
        let to = format!("device_id={FAILSAFE},queue=*,rx-dev=/run/captured,total-num-mbufs=2047,ring-size=1024");
        let _ = std::fs::remove_file("/run/captured");
        let pdump = App::spawn(tool("dpdk-pdump", &["--pdump", &to]));
        stage::wait_for("pdump captures", || {
            exchange("eth1p", MAC, 50, &["eth1p"]);
            (captured("/run/captured") >= 50).then_some(())
        });
        stage.vf_appears("vf0", VF, MAC);
        expect_frames("vf0");
        pdump.signal(signal);
        let status = pdump.ended();
        assert!(signal == Signal::SIGKILL || status.success(), "{status}");
        expect_frames("vf0");
        stage.vf_goes("vf0", VF);
        expect_frames("eth1");
    }
    assert!(primary.cleanup().success());
}

#[test]
fn dumpcap_captures_what_the_port_receives_with_the_driver_among_eals_own() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    // It takes no options for EAL: the driver has to be where EAL looks by itself.
    stage.only_plugins(&["bus_pci", "bus_vdev", "mempool_ring", "net_af_packet", "net_failsafe"]);
    stage.add_plugin(&plugin());
    let pages = HugePages::mount();
    let mut primary = start_primary(&pages);
    primary.ok("capture");
    for _ in 0..2 {
        let mut command = Command::new("dpdk-dumpcap");
        command.args(["-i", FAILSAFE, "-w", "/run/captured", "-g", "-c", "50"]);
        let mut dumpcap = App::spawn(command);
        let status = stage::wait_for("dumpcap captures", || {
            expect_frames("eth1");
            dumpcap.has_ended()
        });
        assert!(status.success(), "{status}");
        assert!(std::fs::metadata("/run/captured").unwrap().len() > 50 * 64);
        expect_frames("eth1");
    }
    assert!(primary.cleanup().success());
}
