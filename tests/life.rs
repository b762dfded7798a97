// SPDX-License-Identifier: BSD-3-Clause
//! Stories of instances that are made and removed, and of applications that end.

mod stage;

use stage::{App, MAC, Stage, exchange};

const INSTANCE: &str = "net_vdev_netvsc0";
const FAILSAFE: &str = "net_failsafe_vsc0";
const VF: &str = "0000:01:00.0";
const PACKET: &str = "iface=eth1,fallback=af_packet";

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

/// Waits until an application has none but these traces and no alarm.
fn expect_only(app: &mut App, traces: &Traces) {
    app.expect_no_alarm();
    assert_eq!(Traces::of(app), *traces);
}

#[test]
fn a_thousand_cycles_of_one_name_leave_nothing() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = App::start(&[]);
    let before = Traces::of(&mut app);
    app.ok(&format!("cycle 1000 {INSTANCE} {PACKET}"));
    expect_only(&mut app, &before);
    assert!(app.logged("warning").is_empty(), "{:?}", app.logged("warning"));
    assert_eq!(app.logged("closed").len(), 1000);
}

#[test]
fn cycles_with_a_vf_attach_it_each_time_and_leave_nothing() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    stage.vf_appears("vf0", VF, MAC);
    let mut app = App::start(&["-b", VF]);
    let before = Traces::of(&mut app);
    app.ok(&format!("cycle 100 {INSTANCE} {PACKET}"));
    let came = format!("NEW:{VF}");
    let events = app.ok("events");
    assert_eq!(events.split(' ').filter(|event| *event == came).count(), 100, "{events}");
    expect_only(&mut app, &before);
}

#[test]
fn cycles_while_failsafe_hot_plugs_do_not_deadlock() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = App::start(&[]);
    let before = Traces::of(&mut app);
    app.ok(&format!("cycle 200 {INSTANCE} iface=eth1,hotplug_poll=10"));
    expect_only(&mut app, &before);
}
