// SPDX-License-Identifier: BSD-3-Clause
//! Stories of VFs that cannot be attached, not yet or not at all, and of what the port does meanwhile.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]

mod stage;

use std::fs;
use std::time::{Duration, Instant};

use stage::{
    App, Churn, MAC, Mailbox, PCI, Place as _, Random, Stage, Traffic, exchange, expect_answer, ip, ip_batch, wait_for,
};

const FAILSAFE: &str = "net_failsafe_vsc0";
const INSTANCE: &str = "net_vdev_netvsc0";
const ONE: &str = "0000:01:00.0";
const TWO: &str = "0000:02:00.0";
const THREE: &str = "0000:03:00.0";
const OTHER_MAC: &str = "00:15:5d:00:00:99";

/// A poll of failsafe's so rare that none happens in a story: what was posted stays in the mailbox.
const NO_POLL: &str = ",hotplug_poll=60000";

/// How long a hindrance is watched. What fails is tried at 0, 1, 3 and 7 s, and in the rest of the first minute at 15
/// and 31 s only.
const WATCHED: Duration = Duration::from_secs(14);

/// What was tried again is tried again so often at least.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The arguments of an instance that names eth1.
fn eth1(more: &str) -> String {
    format!("--vdev={INSTANCE},iface=eth1,fallback=af_packet{more}")
}

/// Starts an application with an instance that names eth1, whose log has no lines of level debug, and starts the port.
fn start_eth1(eal: &[&str], more: &str) -> App {
    let eth1 = eth1(more);
    let arguments: Vec<&str> = eal.iter().copied().chain([eth1.as_str()]).collect();
    let mut app = App::start_saying("info", &arguments);
    app.ok(&format!("start {FAILSAFE}"));
    app
}

fn expect_all_back(wire: &str) {
    assert_eq!(exchange(wire, MAC, 20, &[wire]), [20], "frames by {wire}");
}

/// The VF `name` is attached as the port `port`, and frames go both ways by it.
fn expect_attached(app: &mut App, name: &str, port: &str) {
    app.expect_port(port);
    expect_answer(&format!("{name}p"), MAC);
    expect_all_back(&format!("{name}p"));
}

/// The VF is no part of the port any more, and frames go both ways by the fallback.
fn expect_fallback(app: &mut App, port: &str) {
    app.expect_no_port(port);
    expect_answer("eth1p", MAC);
    expect_all_back("eth1p");
}

/// What failsafe and the driver have logged.
fn told(app: &App) -> Vec<String> {
    let ours = |line: &&str| line.starts_with("net_failsafe: ") || line.starts_with("net_vdev_netvsc: ");
    app.log().lines().filter(ours).map(str::to_owned).collect()
}

/// A VF that came cannot be attached: while it is watched the port serves on its fallback, one line says why, and there
/// are few others.
fn expect_hindered(app: &App, why: &str, act: impl FnOnce()) {
    let (before, all) = (told(app).len(), app.log().lines().count());
    let traffic = Traffic::each(Duration::from_millis(5), "eth1p", MAC);
    act();
    std::thread::sleep(WATCHED);
    assert_eq!(traffic.lost_since(0).len(), 0, "on the fallback");
    let told = &told(app)[before..];
    let reasons = told.iter().filter(|line| line.contains("VF") && !line.contains("came at"));
    let reasons: Vec<&String> = reasons.collect();
    assert!(matches!(reasons[..], [reason] if reason.contains(why)), "not told once, with {why:?}: {told:?}");
    // Ten in a minute: it has tries as these once more at most, and half as many.
    assert!(told.len() <= 6, "{} lines: {told:?}", told.len());
    let more = app.log().lines().count() - all;
    assert!(more <= 24, "{more} lines of the whole process");
}

/// The interrupt thread has nothing to do but its tick.
fn expect_rest(app: &App) {
    wait_for("six seconds with two ticks at most, and a few to spare", || {
        let before = app.wakeups();
        std::thread::sleep(Duration::from_secs(6));
        (app.wakeups() - before <= 5).then_some(())
    });
}

#[test]
fn a_process_without_pci_devices_serves_on_the_fallback() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_eth1(&["--no-pci"], "");
    expect_hindered(&app, "--no-pci", || _ = stage.vf_appears("vf0", ONE, MAC));
    expect_fallback(&mut app, ONE);
}

#[test]
fn a_vf_whose_pmd_is_not_in_this_build_waits_and_one_that_has_a_pmd_is_attached() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_eth1(&[], "");
    expect_hindered(&app, "no PMD of this build", || {
        stage.function_appears(ONE, "other");
        // Of no PMD.
        fs::write(format!("{PCI}/{ONE}/vendor"), "0x1234\n").unwrap();
        stage.vf_appears("vf0", ONE, MAC);
    });
    stage.vf_goes("vf0", ONE);
    stage.vf_appears("vf1", TWO, MAC);
    expect_attached(&mut app, "vf1", TWO);
}

#[test]
fn a_vf_blocked_by_a_short_address_waits_and_one_at_another_address_is_attached() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_eth1(&["-b", "01:00.0"], "");
    expect_hindered(&app, "-b", || _ = stage.vf_appears("vf0", ONE, MAC));
    stage.vf_goes("vf0", ONE);
    stage.vf_appears("vf1", TWO, MAC);
    expect_attached(&mut app, "vf1", TWO);
}

#[test]
fn a_vf_blocked_by_its_address_is_attached() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    stage.vf_appears("vf0", ONE, MAC);
    let mut app = start_eth1(&["-b", ONE], "");
    expect_attached(&mut app, "vf0", ONE);
    stage.vf_goes("vf0", ONE);
    expect_fallback(&mut app, ONE);
}

#[test]
fn a_vf_whose_pmd_refuses_it_twice_is_attached_at_the_third_try() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_eth1(&[], "");
    let (before, begin) = (told(&app).len(), Instant::now());
    stage.function_appears(ONE, "test_vf");
    stage.spoil(ONE, "refuse", "2\n");
    stage.vf_appears("vf0", ONE, MAC);
    app.expect_log("cannot be attached");
    expect_all_back("eth1p");
    expect_attached(&mut app, "vf0", ONE);
    assert!(begin.elapsed() >= Duration::from_secs(3), "at 0, 1 and 3 s");
    assert_eq!(app.logged("net_test_vf: 0000:01:00.0: no ibverbs device").len(), 2);
    assert_eq!(app.logged("cannot be attached").len(), 1);
    let told = &told(&app)[before..];
    assert!(told.len() <= 6, "{told:?}");
}

#[test]
fn a_vf_whose_pmd_makes_no_port_waits_and_is_attached_when_it_makes_one() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_eth1(&[], "");
    expect_hindered(&app, "made no port", || {
        stage.function_appears(ONE, "test_vf");
        stage.spoil(ONE, "portless", "");
        stage.vf_appears("vf0", ONE, MAC);
    });
    stage.mend(ONE, "portless");
    expect_attached(&mut app, "vf0", ONE);
    stage.vf_goes("vf0", ONE);
    expect_fallback(&mut app, ONE);
}

/// VFs live for 0 to 240 ms at two addresses, each followed by one that stays for a while at a third: an address
/// that failsafe is stuck on would be of use again once a VF is back there.
fn short_lives(more: &str, lives: usize, seed: u64) {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_eth1(&[], more);
    let before = told(&app).len();
    let mut numbers = Random(seed);
    let mut random = |below: u64| numbers.next() % below;
    for life in 0..lives {
        let address = if random(2) == 0 { ONE } else { TWO };
        stage.vf_appears("vf0", address, MAC);
        std::thread::sleep(Duration::from_millis(random(240)));
        // A host asks the guest, or does not.
        if random(2) == 0 {
            stage.vf_goes("vf0", address);
        } else {
            stage.vf_vanishes("vf0", address);
        }
        stage.vf_appears("vf1", THREE, MAC);
        let begin = Instant::now();
        app.expect_port(THREE);
        let took = begin.elapsed();
        assert!(took < Duration::from_secs(3), "life {life} of seed {seed:#x}: {took:?}");
        expect_answer("vf1p", MAC);
        stage.vf_goes("vf1", THREE);
        app.expect_no_port(THREE);
    }
    stage.vf_appears("vf1", THREE, MAC);
    expect_attached(&mut app, "vf1", THREE);
    assert_eq!((app.has_port(ONE), app.has_port(TWO)), (false, false), "let go");
    // Of each: it came, was posted, and went; failsafe takes it and lets go.
    let told = &told(&app)[before..];
    assert!(told.len() <= (lives + 1) * 10, "{} lines: {told:?}", told.len());
}

#[test]
fn vfs_that_live_shortly_do_not_keep_the_port_from_one_that_stays() {
    short_lives("", 40, 0x5eed_0001);
}

#[test]
fn vfs_that_live_shortly_do_not_keep_a_port_that_is_looked_at_often_from_one_that_stays() {
    short_lives(",hotplug_poll=20", 40, 0x5eed_0002);
}

#[test]
fn vfs_that_live_shortly_do_not_keep_a_port_with_failsafes_own_poll_from_one_that_stays() {
    short_lives(",hotplug_poll=2000", 8, 0x5eed_0003);
}

#[test]
fn a_vf_whose_port_an_application_owns_waits_until_it_is_given_up() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    stage.vf_appears("vf0", ONE, MAC);
    let mut app = App::start(&[]);
    app.ok(&format!("own {ONE}"));
    let begin = Instant::now();
    app.ok(&format!("attach {INSTANCE} iface=eth1,fallback=af_packet{NO_POLL}"));
    app.ok(&format!("start {FAILSAFE}"));
    let mailbox = Mailbox::of(&mut app, FAILSAFE);
    let why = "its port belongs to app: give that up";
    app.expect_log(why);
    assert!(begin.elapsed() >= Duration::from_secs(10), "it may be given up at once");
    expect_rest(&app);
    assert_eq!(app.logged("not attached").len(), 1, "{why}");
    expect_all_back("eth1p");
    assert_eq!(mailbox.peek(), "");
    app.ok(&format!("disown {ONE}"));
    mailbox.expect(&format!("{ONE}\n"));
}

/// A VF that is attached and that failsafe cannot use.
fn a_vf_that_is_of_no_use(what: &str) {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_eth1(&[], "");
    let before = told(&app).len();
    stage.function_appears(ONE, "test_vf");
    stage.spoil(ONE, what, "");
    let traffic = Traffic::each(Duration::from_millis(5), "eth1p", MAC);
    stage.vf_appears("vf0", ONE, MAC);
    std::thread::sleep(WATCHED);
    let complaint = format!("net_test_vf: {ONE}: cannot be ");
    let tries = app.logged(&complaint).len();
    assert!((1..=6).contains(&tries), "{tries} tries, ever later: {}", app.log());
    assert_eq!(traffic.lost_since(0).len(), 0, "on the fallback");
    let told_now = &told(&app)[before..];
    let warnings =
        told_now.iter().filter(|line| line.contains(&format!("VF vf0 at {ONE} ")) && line.contains("trying"));
    assert_eq!(warnings.count(), 1, "{told_now:?}");
    stage.mend(ONE, what);
    expect_attached(&mut app, "vf0", ONE);
    stage.vf_goes("vf0", ONE);
    expect_fallback(&mut app, ONE);
    assert!(app.cleanup().success());
}

#[test]
fn a_vf_that_cannot_be_configured_is_let_go_and_attached_when_it_can() {
    a_vf_that_is_of_no_use("unconfigurable");
}

#[test]
fn a_vf_that_cannot_be_started_is_let_go_and_attached_when_it_can() {
    a_vf_that_is_of_no_use("unstartable");
}

/// An application looks all the time for ports that nobody owns, while a VF comes and goes. Returns what it was told.
fn look_for_free_ports(stage: &mut Stage, app: &mut App, poll: Duration) -> String {
    app.ok("free");
    app.ok("events");
    for _ in 0..10 {
        stage.vf_appears("vf0", ONE, MAC);
        expect_attached(app, "vf0", ONE);
        stage.vf_goes("vf0", ONE);
        expect_fallback(app, ONE);
    }
    let found = app.ok("free");
    let longest = found.split(' ').filter_map(|port| port.rsplit_once(':')).find(|(name, _)| *name == ONE);
    let longest = longest.map_or(0, |(_, time)| time.parse().unwrap());
    // A machine that is busy may be late.
    assert!(Duration::from_micros(longest) <= poll + poll / 2, "{found}");
    assert!(found.contains(FAILSAFE), "it looks: {found}");
    let events = app.ok("events");
    assert!(events.contains(&format!("NEW:{ONE}")), "{events}");
    assert!(!events.contains(&format!("FOUND:{ONE}")), "{events}");
    events
}

#[test]
fn an_application_that_looks_for_free_ports_does_not_find_that_of_a_vf_for_long() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_eth1(&[], ",hotplug_poll=200");
    let events = look_for_free_ports(&mut stage, &mut app, Duration::from_millis(200));
    assert!(!events.contains(&format!("FREE:{ONE}")), "owned before it hears of it: {events}");
}

#[test]
fn an_application_that_hears_of_ports_before_the_driver_does_not_find_that_of_a_vf_for_long() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = App::start(&[]);
    app.ok(&format!("attach {INSTANCE} iface=eth1,fallback=af_packet,hotplug_poll=200"));
    app.ok(&format!("start {FAILSAFE}"));
    look_for_free_ports(&mut stage, &mut app, Duration::from_millis(200));
}

/// Starts an application whose port has a VF that is attached and that failsafe has not read.
fn attached_and_not_read(stage: &mut Stage, start: impl FnOnce(&[&str]) -> App) -> App {
    stage.netvsc_appears("eth1", MAC);
    let mut app = start(&[&eth1(NO_POLL)]);
    app.ok(&format!("start {FAILSAFE}"));
    let mailbox = Mailbox::of(&mut app, FAILSAFE);
    stage.vf_appears("vf0", ONE, MAC);
    app.expect_port(ONE);
    mailbox.expect(&format!("{ONE}\n"));
    app
}

#[test]
fn a_vf_that_is_attached_and_not_read_goes_with_a_port_that_is_closed() {
    let mut stage = Stage::new();
    let mut app = attached_and_not_read(&mut stage, App::start);
    app.ok(&format!("stop {FAILSAFE}"));
    app.ok(&format!("close {FAILSAFE}"));
    app.expect_no_port(ONE);
    assert_eq!(app.ports(), [""; 0]);
    app.ok(&format!("detach {INSTANCE}"));
    app.expect_no_alarm();
    // And is there for the next.
    app.ok(&format!("attach {INSTANCE} iface=eth1,fallback=af_packet"));
    app.ok(&format!("start {FAILSAFE}"));
    expect_attached(&mut app, "vf0", ONE);
    assert!(app.cleanup().success());
}

#[test]
fn a_vf_that_is_attached_and_not_read_goes_with_its_instance() {
    let mut stage = Stage::new();
    let mut app = attached_and_not_read(&mut stage, App::start);
    app.ok(&format!("detach {INSTANCE}"));
    assert_eq!(app.ports(), [""; 0], "at once: the caller may be about to clean up");
    app.expect_no_alarm();
    app.ok(&format!("attach {INSTANCE} iface=eth1,fallback=af_packet"));
    app.ok(&format!("start {FAILSAFE}"));
    expect_attached(&mut app, "vf0", ONE);
}

#[test]
fn instances_that_come_and_go_with_a_vf_that_is_not_read_leave_nothing() {
    let mut stage = Stage::new();
    let mut app = attached_and_not_read(&mut stage, App::start);
    app.ok(&format!("detach {INSTANCE}"));
    app.expect_no_alarm();
    let before = app.count();
    for _ in 0..10 {
        app.ok(&format!("attach {INSTANCE} iface=eth1,fallback=af_packet{NO_POLL}"));
        app.expect_port(ONE);
        app.ok(&format!("detach {INSTANCE}"));
        assert_eq!(app.ports(), [""; 0]);
    }
    app.expect_no_alarm();
    wait_for("as many descriptors as before", || (app.count() == before).then_some(()));
}

#[test]
fn a_vf_that_is_attached_and_not_read_is_cleaned_up() {
    // Whose bus is first is cleaned first.
    for first in ["librte_bus_vdev.so", "librte_bus_pci.so"] {
        let mut stage = Stage::new();
        let app = attached_and_not_read(&mut stage, |arguments| App::start_behind(first, arguments));
        assert!(app.cleanup().success(), "{first}");
    }
}

#[test]
fn a_port_whose_name_is_not_that_of_its_function_goes_with_it() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_eth1(&[], NO_POLL);
    let port = format!("{ONE}_port1");
    for _ in 0..3 {
        stage.function_appears(ONE, "mlx4_core");
        stage.verbs_appear(ONE);
        stage.vf_appears("vf0", ONE, MAC);
        app.expect_port(&port);
        stage.vf_goes("vf0", ONE);
        app.expect_no_port(&port);
    }
    stage.vf_appears("vf1", TWO, MAC);
    app.expect_port(TWO);
    app.ok(&format!("detach {INSTANCE}"));
    assert_eq!(app.ports(), [""; 0]);
}

#[test]
fn a_vf_that_is_attached_and_not_read_goes_by_itself() {
    let mut stage = Stage::new();
    let mut app = attached_and_not_read(&mut stage, App::start);
    for _ in 0..5 {
        stage.vf_goes("vf0", ONE);
        app.expect_no_port(ONE);
        stage.vf_appears("vf0", ONE, MAC);
        app.expect_port(ONE);
    }
    assert!(app.cleanup().success());
}

#[test]
fn link_events_that_cannot_be_read_cost_next_to_nothing_and_are_followed_again_afterwards() {
    const DEAF: &str = "/run/deaf";
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let eth1 = eth1(",hotplug_poll=1000");
    let info = ["--log-level=pmd.net.vdev_netvsc:info"];
    let mut app = App::up(App::command_with_preload("tests/short/events.c", &info, &[&eth1]));
    app.ok(&format!("start {FAILSAFE}"));
    fs::write(DEAF, "").unwrap();
    // Nobody hears of it, and it stays to be read.
    stage.vf_appears("vf0", ONE, MAC);
    std::thread::sleep(Duration::from_secs(1));
    let before = app.interrupt_time();
    std::thread::sleep(Duration::from_secs(3));
    let busy = app.interrupt_time() - before;
    assert!(busy < Duration::from_millis(150), "busy for {busy:?} of 3 s");
    // Two ticks more.
    std::thread::sleep(Duration::from_secs(8));
    let lines: Vec<String> = app.said().into_iter().filter(|line| line.contains("annot")).collect();
    assert!(lines.len() == 1 && lines[0].contains("VFs are followed again once it ends"), "{lines:?}");
    expect_all_back("eth1p");
    fs::remove_file(DEAF).unwrap();
    let begin = Instant::now();
    expect_attached(&mut app, "vf0", ONE);
    assert!(begin.elapsed() < LONGEST_PAUSE, "{:?}", begin.elapsed());
    stage.vf_goes("vf0", ONE);
    expect_fallback(&mut app, ONE);
    stage.vf_appears("vf1", TWO, MAC);
    expect_attached(&mut app, "vf1", TWO);
}

#[test]
fn no_probe_is_refused_while_links_come_and_go() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let crowd: String = (0..1000).map(|n| format!("link add a{n} type veth peer name b{n}\n")).collect();
    ip_batch(&crowd);
    let mut app = App::start_saying("info", &[]);
    let _churn = Churn::begin();
    // Each takes a second: three lists, for each part of which the kernel waits until nobody changes a link.
    for _ in 0..30 {
        app.ok(&format!("cycle 1 {INSTANCE} iface=eth1,fallback=af_packet"));
    }
}

#[test]
fn a_probe_behind_many_events_sees_the_link_that_is_there() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    stage.link_appears("noise", OTHER_MAC);
    let noise: String = (0..300).map(|n| format!("link set noise mtu {}\n", 1400 + n % 2)).collect();
    fs::write("/run/noise", noise).unwrap();
    let mut app = App::start(&[&eth1(NO_POLL)]);
    for round in 0..5 {
        // The interrupt thread is in a callback of the application's, and reads nothing.
        app.ok("hold 1000");
        let begin = Instant::now();
        ip("-batch /run/noise");
        let name = format!("eth{}", 10 + round);
        stage.netvsc_appears(&name, &format!("00:15:5d:00:01:{round:02x}"));
        assert!(
            begin.elapsed() < Duration::from_millis(800),
            "this machine is too slow: the thread is held for a second"
        );
        // It hears the kernel at once, and makes the port when the interrupt thread can be had.
        app.ok(&format!("attach net_vdev_netvsc9 iface={name},fallback=af_packet{NO_POLL}"));
        assert!(app.has_port("net_failsafe_vsc1"), "round {round}");
        app.ok("detach net_vdev_netvsc9");
    }
}

#[test]
fn a_vf_whose_port_an_application_has_started_waits_until_it_is_stopped() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    stage.vf_appears("vf0", ONE, MAC);
    let mut app = App::start_saying("warning", &[]);
    app.ok(&format!("start {ONE}"));
    app.ok(&format!("attach {INSTANCE} iface=eth1,fallback=af_packet"));
    app.ok(&format!("start {FAILSAFE}"));
    let line = format!(
        "{FAILSAFE} (eth1, ifindex 101): VF vf0 at {ONE} is not attached: the application has started its port 0: stop \
         that, as failsafe cannot take it then; the fallback serves until it is"
    );
    wait_for("a warning", || (app.said() == [line.clone()]).then_some(()));
    expect_all_back("eth1p");
    assert!(app.logged("err -16").is_empty() && app.ports().contains(&FAILSAFE.to_owned()));
    app.ok(&format!("stop {ONE}"));
    let owned = format!(":{ONE}:1");
    wait_for("failsafe has the VF", || app.ok("ports").contains(&owned).then_some(()));
    expect_answer("vf0p", MAC);
    assert_eq!(app.said(), [line]);
}
