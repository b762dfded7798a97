// SPDX-License-Identifier: BSD-3-Clause
//! Stories of a VF that comes and goes under a port, with packets.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod stage;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stage::{App, MAC, Mailbox, Stage, Traffic, exchange, expect_answer, ip, wait_for};

const FAILSAFE: &str = "net_failsafe_vsc0";
const ONE: &str = "0000:01:00.0";
const TWO: &str = "0000:02:00.0";

/// The driver's safety net looks at everything once in this time.
const TICK: Duration = Duration::from_secs(5);

/// And so often at what is pending.
const PACE: Duration = Duration::from_secs(1);

/// A poll of failsafe's so rare that none happens in a story: what was posted stays in the mailbox.
const NO_POLL: &str = ",hotplug_poll=60000";

/// Starts an application with an instance that names eth1.
fn serve_eth1(more: &str) -> App {
    App::start(&[&format!("--vdev=net_vdev_netvsc0,iface=eth1,fallback=af_packet{more}")])
}

/// As [`serve_eth1`], and starts the port.
fn start_eth1(more: &str) -> App {
    let mut app = serve_eth1(more);
    app.ok(&format!("start {FAILSAFE}"));
    app
}

/// All of so many frames sent into a wire come back on it.
fn expect_all_back(wire: &str, mac: &str, count: u32) {
    assert_eq!(exchange(wire, mac, count, &[wire]), [count as usize], "frames by {wire}");
}

/// The VF `name` is attached, and frames go both ways by it.
fn expect_attached(app: &mut App, name: &str, address: &str) {
    app.expect_port(address);
    expect_answer(&format!("{name}p"), MAC);
    expect_all_back(&format!("{name}p"), MAC, 20);
}

/// The VF at `address` is no part of the port any more, and frames go both ways by the fallback.
fn expect_fallback(app: &mut App, address: &str) {
    app.expect_no_port(address);
    expect_all_back("eth1p", MAC, 20);
}

/// Holds `check` true for so long.
fn always_for(time: Duration, mut check: impl FnMut()) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        check();
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A VF that appears by now is attached: the driver has taken in everything that happened before.
fn prove_caught_up(stage: &mut Stage, app: &mut App) {
    stage.vf_appears("proof", "0000:0f:00.0", MAC);
    expect_attached(app, "proof", "0000:0f:00.0");
}

/// Writes a batch of `ip` commands, for [`ip`] with `-batch`.
fn batch(lines: impl Iterator<Item = String>) -> String {
    let path = "/run/batch";
    fs::write(path, lines.map(|line| line + "\n").collect::<String>()).unwrap();
    format!("-batch {path}")
}

/// Changes a link that has nothing to do with any port so often that no queue of events holds it.
fn overrun_events(app: &App) {
    ip("link add noise type veth peer name noisep");
    ip(&batch((0..6000).map(|i| format!("link set noise mtu {}", 1000 + i % 2))));
    let lost = listeners(app);
    assert!(!lost.is_empty() && lost.iter().all(|&drops| drops > 0), "no overrun: {lost:?}");
}

/// How many events each rtnetlink socket that hears of links has lost.
fn listeners(app: &App) -> Vec<u64> {
    let table = fs::read_to_string(format!("/proc/{}/net/netlink", app.pid())).unwrap();
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    // sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode
    rows.filter(|row| row[1] == "0" && row[3] == "00000111").map(|row| row[8].parse().unwrap()).collect()
}

/// Does something while the application cannot run.
fn while_stopped(app: &App, act: impl FnOnce()) {
    let pid = Pid::from_raw(app.pid() as i32);
    kill(pid, Signal::SIGSTOP).unwrap();
    act();
    kill(pid, Signal::SIGCONT).unwrap();
}

#[test]
fn a_vf_goes_and_comes_back_at_another_address() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_eth1("");
    expect_all_back("eth1p", MAC, 50);

    stage.vf_appears("vf0", ONE, MAC);
    expect_attached(&mut app, "vf0", ONE);
    stage.vf_goes("vf0", ONE);
    expect_fallback(&mut app, ONE);
    stage.vf_appears("vf1", TWO, MAC);
    expect_attached(&mut app, "vf1", TWO);
}

#[test]
fn a_vf_that_eal_probed_at_start_is_taken_over() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    stage.vf_appears("vf0", ONE, MAC);
    let mut app = start_eth1("");
    assert!(app.ok("ports").contains(&format!("{ONE}:1")), "failsafe owns it");
    expect_attached(&mut app, "vf0", ONE);
    stage.vf_goes("vf0", ONE);
    expect_fallback(&mut app, ONE);
    stage.vf_appears("vf1", TWO, MAC);
    expect_attached(&mut app, "vf1", TWO);
}

#[test]
fn a_vf_blocked_from_eal_is_part_of_the_port_from_its_beginning() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    stage.vf_appears("vf0", ONE, MAC);
    // With this poll nothing but the creation of the port can attach it.
    let vdev = format!("--vdev=net_vdev_netvsc0,iface=eth1,fallback=af_packet{NO_POLL}");
    let mut app = App::start(&["-b", ONE, &vdev]);
    assert!(app.has_port(ONE));
    app.ok(&format!("start {FAILSAFE}"));
    expect_attached(&mut app, "vf0", ONE);

    // The fallback does not wait for failsafe's next poll.
    stage.vf_goes("vf0", ONE);
    expect_answer("eth1p", MAC);
    expect_all_back("eth1p", MAC, 50);
    assert!(app.has_port(ONE), "not let go yet");
}

#[test]
fn no_frame_is_lost_after_a_vf_was_let_go() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_eth1("");
    for round in 0..5 {
        stage.vf_appears("vf0", ONE, MAC);
        expect_attached(&mut app, "vf0", ONE);
        let traffic = Traffic::into("eth1p", MAC);
        traffic.goes_on_for(100);
        stage.vf_goes("vf0", ONE);
        app.expect_no_port(ONE);
        let first = traffic.sent();
        traffic.goes_on_for(400);
        assert_eq!(traffic.lost_since(first), [], "round {round}");
    }
}

#[test]
fn an_application_hears_that_the_link_of_the_vf_goes_down_and_up() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_eth1("");
    stage.vf_appears("vf0", ONE, MAC);
    expect_attached(&mut app, "vf0", ONE);
    for status in ["down", "up"] {
        app.ok("events");
        ip(&format!("link set vf0p {status}"));
        wait_for("the event of the link", || app.ok("events").contains(&format!("LSC:{FAILSAFE}")).then_some(()));
        assert!(app.ok(&format!("link {FAILSAFE}")).starts_with(status), "{status}");
    }
    expect_attached(&mut app, "vf0", ONE);
}

#[test]
fn a_link_that_changes_is_told_to_no_port_that_was_closed() {
    const OTHER: &str = "00:15:5d:00:00:02";
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    stage.netvsc_appears("eth2", OTHER);
    let mut app = App::start(&["--vdev=net_vdev_netvsc0,iface=eth1,iface=eth2,fallback=af_packet,queues=1"]);
    app.ok("start net_failsafe_vsc0");
    app.ok("start net_failsafe_vsc1");
    // Both VFs have a port of the same number, one after the other.
    stage.vf_appears("vf0", ONE, MAC);
    expect_answer("vf0p", MAC);
    stage.vf_goes("vf0", ONE);
    app.expect_no_port(ONE);
    stage.vf_appears("vf1", TWO, OTHER);
    expect_answer("vf1p", OTHER);
    app.ok("stop net_failsafe_vsc0");
    app.ok("close net_failsafe_vsc0");
    app.ok("events");
    for status in ["down", "up"] {
        ip(&format!("link set vf1p {status}"));
        wait_for("the event of the link", || app.ok("events").contains("LSC:net_failsafe_vsc1").then_some(()));
    }
    expect_answer("vf1p", OTHER);
}

#[test]
fn a_vf_comes_and_goes_twenty_times_at_one_address() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_eth1(",hotplug_poll=20");
    for _ in 0..20 {
        stage.vf_appears("vf0", ONE, MAC);
        expect_attached(&mut app, "vf0", ONE);
        stage.vf_goes("vf0", ONE);
        expect_fallback(&mut app, ONE);
    }
}

#[test]
fn a_vf_is_back_at_its_address_before_failsafe_has_let_go() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_eth1(",hotplug_poll=300");
    stage.vf_appears("vf0", ONE, MAC);
    expect_attached(&mut app, "vf0", ONE);
    for _ in 0..5 {
        app.ok("events");
        stage.vf_goes("vf0", ONE);
        stage.vf_appears("vf0", ONE, MAC);
        wait_for("failsafe lets go", || app.ok("events").contains("DESTROY").then_some(()));
        expect_attached(&mut app, "vf0", ONE);
    }
    stage.vf_goes("vf0", ONE);
    expect_fallback(&mut app, ONE);
}

#[test]
fn a_vf_is_at_another_address_before_failsafe_has_let_go() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_eth1(",hotplug_poll=300");
    stage.vf_appears("vf0", ONE, MAC);
    expect_attached(&mut app, "vf0", ONE);
    for (old, new) in [(ONE, TWO), (TWO, ONE)].repeat(3) {
        stage.vf_goes("vf0", old);
        stage.vf_appears("vf0", new, MAC);
        app.expect_no_port(old);
        expect_attached(&mut app, "vf0", new);
    }
    stage.vf_goes("vf0", ONE);
    expect_fallback(&mut app, ONE);
}

#[test]
fn a_vf_in_use_for_over_ten_seconds_is_posted_once() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_eth1("");
    let mailbox = Mailbox::of(&mut app, FAILSAFE);
    stage.vf_appears("vf0", ONE, MAC);
    expect_attached(&mut app, "vf0", ONE);
    always_for(Duration::from_millis(10_500), || assert_eq!(mailbox.peek(), "", "the VF is in use"));
    stage.vf_goes("vf0", ONE);
    expect_fallback(&mut app, ONE);
    assert_eq!(mailbox.peek(), "", "the VF is gone");
    stage.vf_appears("vf1", TWO, MAC);
    expect_attached(&mut app, "vf1", TWO);
    assert_eq!(app.logged("posted VF").len(), 2);
}

#[test]
fn the_mailbox_holds_the_address_of_the_vf_that_is_there_or_nothing() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = serve_eth1(NO_POLL);
    let mailbox = Mailbox::of(&mut app, FAILSAFE);
    assert_eq!(mailbox.peek(), "");
    for address in [ONE, TWO, ONE] {
        stage.vf_appears("vf0", address, MAC);
        mailbox.expect(&format!("{address}\n"));
        stage.vf_goes("vf0", address);
        mailbox.expect("");
    }
    // Two looks would post it twice more, if they did.
    stage.vf_appears("vf0", TWO, MAC);
    mailbox.expect(&format!("{TWO}\n"));
    always_for(PACE * 5 / 2, || assert_eq!(mailbox.peek(), format!("{TWO}\n")));
}

#[test]
fn more_changes_are_taken_in_than_there_are_looks() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = serve_eth1(NO_POLL);
    let mailbox = Mailbox::of(&mut app, FAILSAFE);
    let begin = Instant::now();
    for _ in 0..20 {
        stage.vf_appears("vf0", ONE, MAC);
        mailbox.expect(&format!("{ONE}\n"));
        stage.vf_goes("vf0", ONE);
        mailbox.expect("");
    }
    let looks = begin.elapsed().as_secs();
    assert!(looks < 20, "40 changes took {looks} looks: did events carry them?");
}

#[test]
fn a_vf_that_went_before_the_port_was_configured_costs_no_more_than_the_fast_path() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = serve_eth1("");
    let mailbox = Mailbox::of(&mut app, FAILSAFE);
    stage.vf_appears("vf0", ONE, MAC);
    // Failsafe has taken it.
    app.expect_log("posted VF vf0");
    mailbox.expect("");
    app.expect_port(ONE);
    // Failsafe does not hear of the removal of a sub-device that it has not configured, and never lets go of it.
    stage.vf_goes("vf0", ONE);
    stage.vf_appears("vf1", TWO, MAC);
    app.expect_log("VF vf1 at 0000:02:00.0 waits: failsafe still holds the VF before it");
    assert_eq!(mailbox.peek(), "");
    app.ok(&format!("start {FAILSAFE}"));
    expect_answer("eth1p", MAC);
    expect_all_back("eth1p", MAC, 20);
    // A port that is made anew has both.
    app.ok("detach net_vdev_netvsc0");
    app.ok("attach net_vdev_netvsc0 iface=eth1,fallback=af_packet");
    app.ok(&format!("start {FAILSAFE}"));
    expect_attached(&mut app, "vf1", TWO);
    stage.vf_goes("vf1", TWO);
    expect_fallback(&mut app, TWO);
}

#[test]
fn a_vf_renamed_while_in_use_stays_attached() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_eth1("");
    stage.vf_appears("vf0", ONE, MAC);
    expect_attached(&mut app, "vf0", ONE);
    stage.rename_vf("vf0", "enP1s0", ONE);
    always_for(TICK * 3 / 2, || expect_answer("vf0p", MAC));
    assert_eq!(app.logged("VF vf0").len(), 2, "came, posted");
    stage.vf_goes("enP1s0", ONE);
    expect_fallback(&mut app, ONE);
}

#[test]
fn a_vf_renamed_as_it_appears_is_attached() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_eth1("");
    for _ in 0..5 {
        stage.vf_appears("eth5", ONE, MAC);
        stage.rename_vf("eth5", "enP1s0", ONE);
        app.expect_port(ONE);
        expect_answer("eth5p", MAC);
        stage.vf_goes("enP1s0", ONE);
        expect_fallback(&mut app, ONE);
    }
}

#[test]
fn a_port_follows_its_link_to_a_new_name() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_eth1("");
    stage.rename("eth1", "lan0");
    app.expect_log("renamed lan0");
    expect_answer("eth1p", MAC);
    stage.vf_appears("vf0", ONE, MAC);
    expect_attached(&mut app, "vf0", ONE);
    stage.vf_goes("vf0", ONE);
    expect_fallback(&mut app, ONE);
    assert_eq!(app.logged("made").len(), 1, "one port only");
}

#[test]
fn a_port_whose_link_has_a_new_mac_knows_a_vf_by_either() {
    const OTHER: &str = "00:15:5d:00:00:99";
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_eth1("");
    ip(&format!("link set eth1 address {OTHER}"));
    for (name, address, mac) in [("vf0", ONE, MAC), ("vf1", TWO, OTHER)] {
        stage.vf_appears(name, address, mac);
        app.expect_port(address);
        expect_answer(&format!("{name}p"), mac);
        stage.vf_goes(name, address);
        app.expect_no_port(address);
    }
}

#[test]
fn links_with_the_same_mac_that_sit_on_no_pci_device_are_no_vf() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_eth1("");
    stage.link_appears("veth0", MAC);
    stage.virtual_appears("macvlan0", &format!("link eth1p address {MAC} type macvlan"));
    // A VF of somebody else's.
    stage.vf_appears("other", TWO, "00:15:5d:00:00:42");
    prove_caught_up(&mut stage, &mut app);
    assert_eq!(app.logged(": VF ").len(), 1, "one came");
    assert_eq!(app.logged("posted VF").len(), 1);
}

#[test]
fn a_vf_with_another_mac_is_known_by_its_master() {
    const OTHER: &str = "00:15:5d:00:00:99";
    let mut stage = Stage::new();
    stage.virtual_appears("br0", &format!("address {MAC} type bridge"));
    let mut app = App::start(&["--vdev=net_vdev_netvsc0,iface=br0,force=1,fallback=af_packet"]);
    app.ok(&format!("start {FAILSAFE}"));
    stage.vf_appears("vf0", ONE, OTHER);
    ip("link set vf0 master br0");
    app.expect_port(ONE);
    expect_answer("vf0p", MAC);
    ip("link set vf0 nomaster");
    app.expect_log(&format!("VF vf0 at {ONE} went"));
    stage.vf_goes("vf0", ONE);
    app.expect_no_port(ONE);
}

#[test]
fn two_vfs_of_two_ports_go_their_own_ways() {
    const MAC2: &str = "00:15:5d:00:00:02";
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    stage.netvsc_appears("eth2", MAC2);
    let mut app = App::start(&["--vdev=net_vdev_netvsc0,iface=eth1,iface=eth2,fallback=af_packet"]);
    app.ok("start net_failsafe_vsc0");
    app.ok("start net_failsafe_vsc1");
    stage.vf_appears("vf1", ONE, MAC);
    stage.vf_appears("vf2", TWO, MAC2);
    app.expect_port(TWO);
    expect_answer("vf2p", MAC2);
    expect_attached(&mut app, "vf1", ONE);

    let traffic = Traffic::into("vf2p", MAC2);
    stage.vf_goes("vf1", ONE);
    expect_fallback(&mut app, ONE);
    stage.vf_appears("vf1", ONE, MAC);
    expect_attached(&mut app, "vf1", ONE);
    assert_eq!(traffic.lost_since(0), [], "by the other VF");
    stage.vf_goes("vf2", TWO);
    app.expect_no_port(TWO);
    expect_all_back("eth2p", MAC2, 20);
    expect_all_back("vf1p", MAC, 20);
}

/// A port whose link is deleted and made anew under an instance with these arguments.
fn a_link_is_deleted_and_made_anew(arguments: &str) {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = App::start(&[&format!("--vdev=net_vdev_netvsc0{arguments},fallback=af_packet")]);
    app.ok(&format!("start {FAILSAFE}"));
    stage.vf_appears("vf0", ONE, MAC);
    expect_attached(&mut app, "vf0", ONE);

    stage.link_goes("eth1");
    app.expect_log("the interface is gone");
    expect_all_back("vf0p", MAC, 50);
    assert!(app.has_port(FAILSAFE), "it is the application's");

    stage.netvsc_appears("eth1", MAC);
    app.expect_port("net_failsafe_vsc1");
    app.ok("start net_failsafe_vsc1");
    expect_answer("eth1p", MAC);
    expect_all_back("vf0p", MAC, 20);
    expect_all_back("eth1p", MAC, 20);

    app.ok(&format!("stop {FAILSAFE}"));
    app.ok(&format!("close {FAILSAFE}"));
    app.expect_no_port(FAILSAFE);
    // What the old port had is free for the new one.
    expect_attached(&mut app, "vf0", ONE);
    stage.vf_goes("vf0", ONE);
    expect_fallback(&mut app, ONE);
    assert_eq!(app.ports(), ["net_af_packet_vsc1", "net_failsafe_vsc1"]);
}

#[test]
fn a_link_made_anew_gets_a_new_port_when_it_was_named() {
    a_link_is_deleted_and_made_anew(",iface=eth1");
}

#[test]
fn a_link_made_anew_gets_a_new_port_when_its_mac_was_named() {
    a_link_is_deleted_and_made_anew(&format!(",mac={MAC}"));
}

#[test]
fn a_link_made_anew_gets_a_new_port_when_none_was_named() {
    a_link_is_deleted_and_made_anew("");
}

#[test]
fn the_vf_does_not_become_the_link_when_a_forced_one_is_deleted() {
    let mut stage = Stage::new();
    stage.link_appears("eth1", MAC);
    let mut app = App::start(&[&format!("--vdev=net_vdev_netvsc0,mac={MAC},force=1,fallback=af_packet")]);
    app.ok(&format!("start {FAILSAFE}"));
    stage.vf_appears("vf0", ONE, MAC);
    expect_attached(&mut app, "vf0", ONE);
    stage.link_goes("eth1");
    app.expect_log("the interface is gone");
    stage.link_appears("other", "00:15:5d:00:00:42");
    always_for(TICK * 3 / 2, || assert!(!app.log().contains("net_failsafe_vsc1"), "a port on the VF's netdevice"));
    stage.link_appears("eth1", MAC);
    app.expect_log("net_failsafe_vsc1 (eth1");
    app.expect_port("net_failsafe_vsc1");
}

#[test]
fn a_vf_comes_again_after_the_link_is_gone_and_back() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_eth1("");
    let old = Mailbox::of(&mut app, FAILSAFE);
    stage.vf_appears("vf0", ONE, MAC);
    expect_attached(&mut app, "vf0", ONE);
    stage.link_goes("eth1");
    app.expect_log("the interface is gone");
    stage.vf_goes("vf0", ONE);
    app.expect_no_port(ONE);
    stage.netvsc_appears("eth1", MAC);
    app.expect_port("net_failsafe_vsc1");
    app.ok("start net_failsafe_vsc1");
    expect_answer("eth1p", MAC);
    stage.vf_appears("vf1", TWO, MAC);
    expect_attached(&mut app, "vf1", TWO);
    assert_eq!(old.peek(), "", "the old port is not told");
    stage.vf_goes("vf1", TWO);
    expect_fallback(&mut app, TWO);
}

#[test]
fn a_link_that_nobody_named_is_not_taken_when_it_appears() {
    for arguments in [",iface=eth1", ""] {
        let mut stage = Stage::new();
        stage.netvsc_appears("eth1", MAC);
        let mut app = App::start(&[&format!("--vdev=net_vdev_netvsc0{arguments},fallback=af_packet")]);
        app.ok(&format!("start {FAILSAFE}"));
        stage.netvsc_appears("eth2", "00:15:5d:00:00:02");
        prove_caught_up(&mut stage, &mut app);
        always_for(TICK * 3 / 2, || assert_eq!(app.logged(": made").len(), 1));
    }
}

#[test]
fn a_link_that_was_named_gets_its_port_when_it_appears() {
    const MAC2: &str = "00:15:5d:00:00:02";
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_eth1(",iface=eth2");
    app.expect_log("iface=eth2: no such interface");
    stage.vf_appears("vf2", TWO, MAC2);
    stage.netvsc_appears("eth2", MAC2);
    app.expect_port("net_failsafe_vsc1");
    app.expect_port(TWO);
    app.ok("start net_failsafe_vsc1");
    expect_answer("vf2p", MAC2);
}

#[test]
fn a_port_that_the_application_closes_is_let_go() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    stage.netvsc_appears("eth2", "00:15:5d:00:00:02");
    // At each poll failsafe has one descriptor more for a moment.
    let mut app = App::start(&[&format!("--vdev=net_vdev_netvsc0,iface=eth2,fallback=af_packet{NO_POLL}")]);
    let before = app.count();
    // Once first, as DPDK opens some things for good.
    for _ in 0..2 {
        stage.vf_appears("vf0", ONE, MAC);
        app.ok(&format!("attach net_vdev_netvsc1 iface=eth1,fallback=af_packet{NO_POLL}"));
        app.ok("start net_failsafe_vsc1");
        expect_attached(&mut app, "vf0", ONE);
        app.ok("stop net_failsafe_vsc1");
        app.ok("close net_failsafe_vsc1");
        app.expect_log("net_failsafe_vsc1 (eth1, ifindex 101): closed by the application, let go");
        wait_for("its descriptors are closed", || (app.count() == before).then_some(()));

        // Nothing that happens to its link or VF is its concern any more.
        let told = app.logged("net_failsafe_vsc1").len();
        stage.vf_goes("vf0", ONE);
        stage.vf_appears("vf0", ONE, MAC);
        stage.rename("eth1", "lan0");
        stage.rename("lan0", "eth1");
        always_for(TICK * 3 / 2, || assert_eq!(app.count(), before));
        assert_eq!(app.logged("net_failsafe_vsc1").len(), told);
        app.ok("detach net_vdev_netvsc1");
        stage.vf_goes("vf0", ONE);
    }
    app.ok("attach net_vdev_netvsc2 iface=eth1,fallback=af_packet");
    app.ok("start net_failsafe_vsc1");
    expect_all_back("eth1p", MAC, 20);
}

#[test]
fn a_vf_whose_pmd_needs_ibverbs_is_posted_when_they_are_there() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_eth1("");
    let mailbox = Mailbox::of(&mut app, FAILSAFE);
    stage.function_appears(ONE, "mlx5_core");
    stage.vf_appears("vf0", ONE, MAC);
    app.expect_log(&format!("VF vf0 came at {ONE}"));
    always_for(PACE * 3 / 2, || assert_eq!(mailbox.peek(), ""));
    assert_eq!(app.logged("posted VF"), [""; 0]);
    stage.verbs_appear(ONE);
    expect_attached(&mut app, "vf0", ONE);
    // One that goes before its ibverbs device came was never posted.
    stage.vf_goes("vf0", ONE);
    expect_fallback(&mut app, ONE);
    stage.function_appears(TWO, "mlx5_core");
    stage.vf_appears("vf1", TWO, MAC);
    app.expect_log(&format!("VF vf1 came at {TWO}"));
    stage.vf_goes("vf1", TWO);
    app.expect_log(&format!("VF vf1 at {TWO} went"));
    prove_caught_up(&mut stage, &mut app);
    assert_eq!(app.logged("posted VF").len(), 2);
}

#[test]
fn a_vf_that_appears_among_two_thousand_links_is_attached() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_eth1("");
    let crowd = batch((0..2000).map(|i| format!("link add name x{i} index {} type ifb", 10_000 + i)));
    let mut ip = Command::new("ip").args(crowd.split(' ')).spawn().unwrap();
    wait_for("half of the links are there", || fs::exists("/proc/sys/net/ipv4/conf/x1000").unwrap().then_some(()));
    stage.vf_appears("vf0", ONE, MAC);
    assert!(ip.wait().unwrap().success());
    expect_attached(&mut app, "vf0", ONE);
    stage.vf_goes("vf0", ONE);
    expect_fallback(&mut app, ONE);
}

#[test]
fn a_vf_whose_appearance_was_lost_in_an_overrun_is_attached() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_eth1("");
    while_stopped(&app, || {
        overrun_events(&app);
        stage.vf_appears("vf0", ONE, MAC);
    });
    expect_attached(&mut app, "vf0", ONE);
}

#[test]
fn a_vf_that_moved_unheard_in_an_overrun_is_attached_where_it_is() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_eth1("");
    stage.vf_appears("vf0", ONE, MAC);
    expect_attached(&mut app, "vf0", ONE);
    while_stopped(&app, || {
        overrun_events(&app);
        stage.vf_goes("vf0", ONE);
        stage.vf_appears("vf1", TWO, MAC);
    });
    expect_attached(&mut app, "vf1", TWO);
    app.expect_no_port(ONE);
    stage.vf_goes("vf1", TWO);
    expect_fallback(&mut app, TWO);
}

#[test]
fn a_vf_that_moved_while_nobody_looked_is_attached_where_it_is() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_eth1("");
    stage.vf_appears("vf0", ONE, MAC);
    expect_attached(&mut app, "vf0", ONE);
    while_stopped(&app, || {
        stage.vf_goes("vf0", ONE);
        stage.vf_appears("vf1", TWO, MAC);
    });
    expect_attached(&mut app, "vf1", TWO);
    stage.vf_goes("vf1", TWO);
    expect_fallback(&mut app, TWO);
}

#[test]
fn fifty_vfs_leave_no_descriptor_behind() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_eth1(",hotplug_poll=10");
    let before = app.count();
    for round in 0..50 {
        let address = if round % 2 == 0 { ONE } else { TWO };
        stage.vf_appears("vf0", address, MAC);
        app.expect_port(address);
        expect_answer("vf0p", MAC);
        stage.vf_goes("vf0", address);
        app.expect_no_port(address);
    }
    wait_for("as many descriptors as before", || (app.count() == before).then_some(()));
}
