// SPDX-License-Identifier: BSD-3-Clause
//! Stories of instances that are made and removed, and of applications that end.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]

mod stage;

use std::fs;

use stage::{App, MAC, Place, Stage, exchange, expect_answer};

const INSTANCE: &str = "net_vdev_netvsc0";
const FAILSAFE: &str = "net_failsafe_vsc0";
const FALLBACK: &str = "net_af_packet_vsc0";
const VF: &str = "0000:01:00.0";
/// A packet socket takes the kernel some 40 ms, which a story of a thousand ports has not.
const ARGUMENTS: &str = "iface=eth1,fallback=af_packet,queues=1";
/// While it is there, tests/short/packets.c lets nobody have a packet socket.
const NO_PACKETS: &str = "/run/no-packets";
const START: &str = "--vdev=net_vdev_netvsc0,iface=eth1,fallback=af_packet";

/// What a removed instance must not leave behind.
#[derive(Debug, PartialEq)]
struct Traces {
    descriptors: usize,
    ports: usize,
    watched: usize,
}

impl Traces {
    fn of(app: &mut App) -> Self {
        let (descriptors, ports) = app.count();
        Self { descriptors, ports, watched: app.watched() }
    }
}

/// An application without an instance, and the traces of one that had and removed one: EAL itself keeps the timer of
/// its first alarm.
fn start_without_instance() -> (App, Traces) {
    let mut app = App::start(&["-b", VF]);
    app.ok(&format!("cycle 1 {INSTANCE} {ARGUMENTS}"));
    // On a busy machine the interrupt thread comes late to the alarm, and to the timer behind it.
    stage::wait_for("EAL watches its timer", || (app.watched() >= 2).then_some(()));
    app.expect_no_alarm();
    app.ok("events");
    let traces = Traces::of(&mut app);
    assert_eq!(traces.ports, 0);
    (app, traces)
}

/// Waits until an application has none but these traces, and no alarm.
fn expect_only(app: &mut App, traces: &Traces) {
    app.expect_no_alarm();
    // EAL makes its epoll anew after a source has gone.
    let settled = stage::wait_until(|| (Traces::of(app) == *traces).then_some(()));
    assert!(settled.is_some(), "not {traces:?}, but {:?}", Traces::of(app));
}

fn expect_frames(port: &str) {
    let wire = format!("{port}p");
    expect_answer(&wire, MAC);
    assert_eq!(exchange(&wire, MAC, 20, &[&wire]), [20], "by {port}");
}

#[test]
fn an_idle_port_wakes_the_interrupt_thread_for_its_tick_only_however_many_links_there_are() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let link = |n: u32| format!("link add a{n} type veth peer name b{n}\n");
    let links: String = (0..500).map(link).collect();
    stage::ip_batch(&links);
    // Failsafe's own poll is not ours.
    let app = App::start(&[&format!("{START},hotplug_poll=60000")]);
    stage::wait_for("eleven seconds with three ticks at most, and a few to spare", || {
        let before = app.wakeups();
        std::thread::sleep(std::time::Duration::from_secs(11));
        (app.wakeups() - before <= 6).then_some(())
    });
}

#[test]
fn a_thousand_cycles_of_one_name_leave_nothing() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let (mut app, before) = start_without_instance();
    for _ in 0..20 {
        app.ok(&format!("cycle 50 {INSTANCE} {ARGUMENTS}"));
    }
    expect_only(&mut app, &before);
    assert_eq!(app.logged("): closed").len(), 1001);
    assert_eq!(app.devargs(INSTANCE), None);
}

#[test]
fn cycles_with_a_vf_attach_it_each_time_and_leave_nothing() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let (mut app, before) = start_without_instance();
    stage.vf_appears("vf0", VF, MAC);
    app.ok(&format!("cycle 100 {INSTANCE} {ARGUMENTS}"));
    let events = app.ok("events");
    let came = format!("NEW:{VF}");
    assert_eq!(events.split(' ').filter(|event| *event == came).count(), 100, "{events}");
    expect_only(&mut app, &before);
}

#[test]
fn cycles_while_failsafe_hot_plugs_do_not_deadlock() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let (mut app, before) = start_without_instance();
    for _ in 0..10 {
        app.ok(&format!("cycle 20 {INSTANCE} iface=eth1,hotplug_poll=10"));
    }
    assert!(app.logged("net_tap_vsc0 did not come up").len() >= 200, "tap came up, and failsafe had nothing to do");
    expect_only(&mut app, &before);
}

/// The plugin that makes hot-plugs slow.
fn slow_scan() -> String {
    stage::compile("tests/slow/scan.c", &["-shared", "-fPIC", "-lrte_bus_vdev"])
}

/// Starts an application in which [`run_short`] has the plugin find no memory.
fn start_where_memory_runs_short(arguments: &[&str]) -> App {
    App::up(App::command_with_preload("tests/short/memory.c", &[], arguments))
}

/// Has the plugin find no memory for blocks of so many bytes, at least and at most: from now on of these the first and
/// the last that fails.
fn run_short(bytes: &str, blocks: &str) {
    // Another file, with which counting begins anew.
    let _ = fs::remove_file("/run/short");
    fs::write("/run/short", format!("{bytes} {blocks}")).unwrap();
}

/// What the driver keeps a reserve for.
const SMALL: &str = "0 1024";

/// A VF comes and goes while of the plugin's small blocks the n-th is not to be had, nor those after it up to `last`.
fn expect_a_vf_without_small_blocks(last: impl Fn(u32) -> u32) {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_where_memory_runs_short(&[START]);
    app.ok(&format!("start {FAILSAFE}"));
    for n in 1..=20 {
        run_short(SMALL, &format!("{n} {}", last(n)));
        stage.vf_appears("vf0", VF, MAC);
        app.expect_port(VF);
        expect_answer("vf0p", MAC);
        stage.vf_goes("vf0", VF);
        app.expect_no_port(VF);
        expect_answer("eth1p", MAC);
        fs::remove_file("/run/short").unwrap();
        assert!(app.logged("out of memory").len() <= 1, "more than one rescan was lost, block {n}");
    }
    assert!(app.cleanup().success());
}

#[test]
fn a_small_block_that_is_not_to_be_had_costs_a_rescan_at_most() {
    expect_a_vf_without_small_blocks(|n| n);
}

#[test]
fn a_vf_comes_and_goes_while_no_small_block_is_to_be_had() {
    expect_a_vf_without_small_blocks(|_| u32::MAX);
}

#[test]
fn an_instance_that_finds_no_memory_fails_and_nothing_else_does() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = start_where_memory_runs_short(&[]);
    app.ok(&format!("cycle 1 {INSTANCE} {ARGUMENTS}"));
    app.expect_no_alarm();
    let before = Traces::of(&mut app);
    // The buffers of the driver's netlink sockets: the first, and the next.
    for n in 1..=2 {
        run_short("32768 32768", &format!("{n} 1000"));
        assert_eq!(app.fails(&format!("attach {INSTANCE} iface=eth1,fallback=af_packet")), libc::ENOMEM);
        assert_eq!(app.logged("out of memory").len(), n, "{:?}", app.said());
        fs::remove_file("/run/short").unwrap();
        expect_only(&mut app, &before);
    }
    app.ok(&format!("attach {INSTANCE} iface=eth1,fallback=af_packet"));
    app.ok(&format!("start {FAILSAFE}"));
    expect_frames("eth1");
    app.ok(&format!("detach {INSTANCE}"));
}

#[test]
fn an_instance_goes_while_failsafe_hot_plugs_its_fallback() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    // A hot-plug that is on its way to the lock of the list meets the removal, which holds it: EAL walks the list of
    // device arguments without a lock, and waits for the other one at each, also at those of the instance that goes.
    let mut app = App::start(&["-d", &slow_scan()]);
    app.ok(&format!("cycle 1 {INSTANCE} {ARGUMENTS}"));
    // On a busy machine the interrupt thread comes late to the alarm, and to the timer behind it.
    stage::wait_for("EAL watches its timer", || (app.watched() >= 2).then_some(()));
    app.expect_no_alarm();
    let before = Traces::of(&mut app);
    for round in 1..=3 {
        app.ok(&format!("attach {INSTANCE} iface=eth1,hotplug_poll=10"));
        // Not before the last one is closed, which the interrupt thread is to do when it is through.
        stage::wait_for("a port", || (app.logged("): made").len() == 1 + round).then_some(()));
        let scans = |app: &App| app.logged("slow scan begins").len();
        let known = scans(&app);
        stage::wait_for("failsafe's next try", || (scans(&app) > known).then_some(()));
        app.ok(&format!("detach {INSTANCE}"));
    }
    assert!(
        !app.logged("not removed, as EAL's interrupt thread is hot-plugging").is_empty(),
        "no removal met a hot-plug"
    );
    expect_only(&mut app, &before);
}

#[test]
fn link_events_during_removals_do_no_harm() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    stage.link_appears("other", "00:15:5d:00:00:99");
    let (mut app, before) = start_without_instance();
    let change = |n: u32| format!("link set other mtu {}\n", 1400 + n % 2);
    let changes: String = (0..1000).map(change).collect();
    fs::write("/run/changes", changes).unwrap();
    std::thread::scope(|scope| {
        let cycles = scope.spawn(|| app.ok(&format!("cycle 50 {INSTANCE} {ARGUMENTS}")));
        while !cycles.is_finished() {
            stage::ip("-batch /run/changes");
        }
        cycles.join().unwrap();
    });
    expect_only(&mut app, &before);
}

/// Two instances, removed in the order of `first`, then the other. Each port lives as long as its own instance.
fn remove_two_instances(first: &str, last: &str) {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    stage.netvsc_appears("eth2", "00:15:5d:00:00:02");
    let (mut app, before) = start_without_instance();
    for n in ["1", "2"] {
        app.ok(&format!("attach net_vdev_netvsc{n} iface=eth{n},fallback=af_packet"));
    }
    let port_of = |n: &str| if n == "1" { "net_failsafe_vsc0" } else { "net_failsafe_vsc1" };
    app.ok(&format!("detach net_vdev_netvsc{first}"));
    assert!(!app.has_port(port_of(first)) && app.has_port(port_of(last)), "{:?}", app.ports());
    let mac = app.ok(&format!("mac {}", port_of(last)));
    app.ok(&format!("start {}", port_of(last)));
    let wire = format!("eth{last}p");
    assert_eq!(exchange(&wire, &mac, 20, &[&wire]), [20], "by the port that stays");
    stage.vf_appears("vf0", VF, &mac);
    app.expect_port(VF);
    app.ok(&format!("detach net_vdev_netvsc{last}"));
    expect_only(&mut app, &before);
}

#[test]
fn of_two_instances_the_first_goes_first() {
    remove_two_instances("1", "2");
}

#[test]
fn of_two_instances_the_second_goes_first() {
    remove_two_instances("2", "1");
}

#[test]
fn an_ignored_instance_that_is_removed_leaves_the_port_of_the_other() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let (mut app, before) = start_without_instance();
    app.ok(&format!("attach {INSTANCE} {ARGUMENTS}"));
    app.ok(&format!("start {FAILSAFE}"));
    app.ok("attach net_vdev_netvsc1 iface=eth1,ignore=1");
    app.ok("detach net_vdev_netvsc1");
    expect_frames("eth1");
    stage.vf_appears("vf0", VF, MAC);
    app.expect_port(VF);
    expect_frames("vf0");
    app.ok(&format!("detach {INSTANCE}"));
    expect_only(&mut app, &before);
}

#[test]
fn an_ignored_instance_alone_comes_and_goes() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let (mut app, before) = start_without_instance();
    app.ok(&format!("cycle 3 {INSTANCE} iface=eth1,ignore=1"));
    expect_only(&mut app, &before);
    // The C driver counts one that it never counted in.
    app.ok(&format!("attach {INSTANCE} {ARGUMENTS}"));
    assert!(app.has_port(FAILSAFE));
    app.ok(&format!("detach {INSTANCE}"));
    expect_only(&mut app, &before);
}

#[test]
fn an_instance_goes_with_its_vf_while_frames_flow() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let (mut app, before) = start_without_instance();
    for round in 0..10 {
        app.ok(&format!("attach {INSTANCE} {ARGUMENTS}"));
        app.ok(&format!("start {FAILSAFE}"));
        if round == 0 {
            // The pool of frames is the application's, and stays.
            app.ok("events");
        }
        stage.vf_appears("vf0", VF, MAC);
        app.expect_port(VF);
        expect_frames("vf0");
        // How many of these come back is a matter of chance.
        std::thread::scope(|scope| {
            scope.spawn(|| exchange("vf0p", MAC, 200, &["vf0p"]));
            app.ok(&format!("detach {INSTANCE}"));
        });
        assert_eq!(app.ports(), [""; 0]);
        stage.vf_goes("vf0", VF);
    }
    expect_only(&mut app, &before);
}

#[test]
fn an_instance_made_again_serves_the_next_vf() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = App::start(&[START]);
    for (name, address) in [("vf0", "0000:01:00.0"), ("vf1", "0000:02:00.0"), ("vf2", "0000:01:00.0")] {
        app.ok(&format!("start {FAILSAFE}"));
        expect_frames("eth1");
        stage.vf_appears(name, address, MAC);
        app.expect_port(address);
        expect_frames(name);
        app.ok(&format!("detach {INSTANCE}"));
        assert_eq!(app.ports(), [""; 0]);
        stage.vf_goes(name, address);
        app.ok(&format!("attach {INSTANCE} {ARGUMENTS}"));
    }
    assert_eq!(app.ports(), [FALLBACK, FAILSAFE]);
}

#[test]
fn a_port_that_the_application_closes_is_not_missed_when_its_instance_goes() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let (mut app, before) = start_without_instance();
    for started in [true, false] {
        for let_go in [true, false] {
            app.ok(&format!("attach {INSTANCE} {ARGUMENTS}"));
            if started {
                app.ok(&format!("start {FAILSAFE}"));
                app.ok(&format!("stop {FAILSAFE}"));
            }
            app.ok(&format!("close {FAILSAFE}"));
            if let_go {
                // By itself; the instance has nothing to do then.
                expect_only(&mut app, &before);
            }
            app.ok(&format!("detach {INSTANCE}"));
            expect_only(&mut app, &before);
        }
    }
}

#[test]
fn ports_that_the_application_keeps_use_up_all_there_are_and_the_log_says_what_to_do() {
    const MADE: &str = "): made";
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = App::start(&[START]);
    // Each has two ports, itself and its fallback.
    for round in 2..=16 {
        stage.link_goes("eth1");
        stage.netvsc_appears("eth1", MAC);
        stage::wait_for("a port", || (app.logged(MADE).len() == round).then_some(()));
    }
    stage.link_goes("eth1");
    stage.netvsc_appears("eth1", MAC);
    app.expect_log("all 32 ports that this DPDK has room for (RTE_MAX_ETHPORTS) are taken; close those");
    app.ok(&format!("close {FAILSAFE}"));
    stage::wait_for("a port", || (app.logged(MADE).len() == 17).then_some(()));
    assert!(app.cleanup().success());
}

/// Starts an application with a port, has `story` happen to it, and lets it clean up EAL with what is left.
fn clean_up_after(story: impl FnOnce(&mut Stage, &mut App)) {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = App::start(&[START]);
    story(&mut stage, &mut app);
    assert!(app.cleanup().success());
}

#[test]
fn cleanup_with_a_port_never_started() {
    clean_up_after(|_, app| assert!(app.has_port(FAILSAFE)));
}

#[test]
fn cleanup_with_a_started_port() {
    clean_up_after(|_, app| {
        app.ok(&format!("start {FAILSAFE}"));
        expect_frames("eth1");
    });
}

#[test]
fn cleanup_with_a_stopped_port() {
    clean_up_after(|_, app| {
        app.ok(&format!("start {FAILSAFE}"));
        app.ok(&format!("stop {FAILSAFE}"));
    });
}

#[test]
fn cleanup_with_a_port_closed_first() {
    clean_up_after(|_, app| {
        app.ok(&format!("start {FAILSAFE}"));
        app.ok(&format!("stop {FAILSAFE}"));
        app.ok(&format!("close {FAILSAFE}"));
    });
}

#[test]
fn cleanup_after_the_instance_was_removed() {
    clean_up_after(|_, app| {
        app.ok(&format!("detach {INSTANCE}"));
    });
}

#[test]
fn cleanup_with_a_vf_that_came_and_went() {
    clean_up_after(|stage, app| {
        app.ok(&format!("start {FAILSAFE}"));
        stage.vf_appears("vf0", VF, MAC);
        app.expect_port(VF);
        stage.vf_goes("vf0", VF);
        app.expect_no_port(VF);
    });
}

#[test]
fn cleanup_right_after_a_vf_went_leaves_its_device_to_no_other_thread() {
    // What is to be seen needs the threads to meet within a millisecond.
    for _ in 0..5 {
        let mut stage = Stage::new();
        stage.netvsc_appears("eth1", MAC);
        let mut app = App::up(App::command_with_preload("tests/slow/remove.c", &[], &[START]));
        app.ok(&format!("start {FAILSAFE}"));
        stage.vf_appears("vf0", VF, MAC);
        expect_frames("vf0");
        // Its port is gone then, its device not yet.
        assert!(app.cleanup_when_gone(VF, || stage.vf_goes("vf0", VF)).success());
    }
}

/// A port whose fallback could not be made at first, as there were no packet sockets.
fn start_without_packet_sockets(poll: &str) -> (Stage, App) {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    fs::write(NO_PACKETS, "").unwrap();
    let start = format!("{START},queues=1,hotplug_poll={poll}");
    let mut app = App::up(App::command_with_preload("tests/short/packets.c", &[], &[&start]));
    app.expect_port(FAILSAFE);
    assert_eq!(app.ports(), [FAILSAFE]);
    (stage, app)
}

fn expect_frames_and_a_good_end(mut app: App) {
    app.ok(&format!("start {FAILSAFE}"));
    expect_frames("eth1");
    assert!(app.cleanup().success());
}

#[test]
fn an_application_ends_well_whose_fallback_was_made_late() {
    let (_stage, mut app) = start_without_packet_sockets("100");
    fs::remove_file(NO_PACKETS).unwrap();
    app.expect_port(FALLBACK);
    expect_frames_and_a_good_end(app);
}

#[test]
fn an_application_ends_well_whose_fallback_was_made_for_another_port_of_its_number() {
    let (mut stage, mut app) = start_without_packet_sockets("60000");
    stage.netvsc_goes("eth1");
    app.ok(&format!("close {FAILSAFE}"));
    fs::remove_file(NO_PACKETS).unwrap();
    stage.netvsc_appears("eth1", MAC);
    app.expect_port(FALLBACK);
    app.expect_port(FAILSAFE);
    expect_frames_and_a_good_end(app);
}

#[test]
fn an_application_ends_well_whose_fallback_was_made_late_for_another_port_of_its_number() {
    let (mut stage, mut app) = start_without_packet_sockets("100");
    stage.netvsc_goes("eth1");
    app.ok(&format!("close {FAILSAFE}"));
    stage.netvsc_appears("eth1", MAC);
    app.expect_port(FAILSAFE);
    fs::remove_file(NO_PACKETS).unwrap();
    app.expect_port(FALLBACK);
    expect_frames_and_a_good_end(app);
}

#[test]
fn a_vf_that_comes_and_goes_waits_for_an_application_that_hot_plugs() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    stage.netvsc_appears("eth2", "00:15:5d:00:00:02");
    let mut app = App::up(App::command_with_preload("tests/slow/arguments.c", &[], &[START]));
    app.ok(&format!("start {FAILSAFE}"));
    let before = app.logged("two threads").len();
    for _ in 0..6 {
        app.tell("cycle 4 net_vdev_netvsc1 iface=eth2,fallback=af_packet,queues=1");
        stage.vf_appears("vf0", VF, MAC);
        app.expect_reply("ok 4");
        app.expect_port(VF);
        expect_frames("vf0");
        app.tell("cycle 4 net_vdev_netvsc1 iface=eth2,fallback=af_packet,queues=1");
        stage.vf_goes("vf0", VF);
        app.expect_reply("ok 4");
        app.expect_no_port(VF);
    }
    assert_eq!(app.logged("two threads").len(), before, "at once");
    assert!(app.cleanup().success());
}

#[test]
fn cleanup_while_failsafe_hot_plugs() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let app = App::start(&["--vdev=net_vdev_netvsc0,iface=eth1,hotplug_poll=10"]);
    app.expect_log("net_tap_vsc0 did not come up");
    assert!(app.cleanup().success());
}

/// Cleans up with the VF attached. `start` says which bus EAL has first, and so cleans first.
fn clean_up_with_a_vf(start: fn(&[&str]) -> App) {
    for started in [false, true] {
        let mut stage = Stage::new();
        stage.netvsc_appears("eth1", MAC);
        stage.vf_appears("vf0", VF, MAC);
        let mut app = start(&["-b", VF, START]);
        app.expect_port(VF);
        if started {
            app.ok(&format!("start {FAILSAFE}"));
            expect_frames("vf0");
        }
        assert!(app.cleanup().success(), "started: {started}");
    }
}

#[test]
fn cleanup_with_a_vf_when_virtual_devices_are_first() {
    clean_up_with_a_vf(|arguments| App::start_behind("librte_bus_vdev.so", arguments));
}

#[test]
fn cleanup_with_a_vf_when_pci_devices_are_first() {
    clean_up_with_a_vf(|arguments| App::start_behind("librte_bus_pci.so", arguments));
}

#[test]
fn the_order_of_the_buses_changes_while_eal_starts_and_at_no_other_time() {
    for (first, changes) in [("librte_bus_vdev.so", 0), ("librte_bus_pci.so", 1)] {
        let mut stage = Stage::new();
        stage.netvsc_appears("eth1", MAC);
        let mut app = App::start_behind(first, &["--log-level=lib.eal:debug"]);
        let changed = |app: &App| app.logged("Unregistered [vdev] bus").len();
        assert_eq!(changed(&app), changes, "{first}");
        app.ok(&format!("cycle 2 {INSTANCE} {ARGUMENTS}"));
        assert_eq!(changed(&app), changes, "{first}, at run time");
    }
}
