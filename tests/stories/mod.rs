// SPDX-License-Identifier: BSD-3-Clause
//! Stories with one text for both stages: `tests/both.rs` plays them in namespaces, `examples/guest.rs` in a guest.
//!
//! Numbered frames go all the time into the NetVSC interface's wire, and are counted where they come out. A change of the
//! path is noted with the time until frames came by the new one, and with how many were lost: only the removal of a VF,
//! or setting it down, may lose any, those that were given to it.

use std::cell::RefCell;
use std::time::Instant;

use crate::stage::{App, MAC, Place, Traffic, exchange, expect_answer};

pub const FAILSAFE: &str = "net_failsafe_vsc0";
pub const ONE: &str = "0000:01:00.0";
pub const TWO: &str = "0000:02:00.0";

/// So many frames show that a path works.
const ENOUGH: u32 = 100;

/// Calls a macro with the names of all stories.
#[macro_export]
macro_rules! for_each_story {
    ($call:ident) => {
        $call! {
            a_port_is_up_on_the_fallback
            a_vf_comes_at_another_address_after_it_was_in_use
            a_vf_comes_at_another_address_under_testpmd
            a_vf_vanishes_and_comes_back
            a_vf_moves_before_failsafe_has_let_go
            a_vf_is_there_before_the_application
            a_vf_is_renamed_while_it_is_in_use
            a_vf_comes_and_goes_ten_times
            the_netvsc_interface_is_renamed
            another_netvsc_nic_comes_after_the_application
            the_netvsc_nic_is_unplugged_and_plugged_in_again
            an_application_is_killed_and_started_anew
            an_application_ends_while_a_vf_is_in_use
        }
    };
}

thread_local! {
    static NOTES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Notes what a story has seen, for whoever plays it.
pub fn note(text: String) {
    NOTES.with_borrow_mut(|notes| notes.push(text));
}

/// What was noted on this thread.
pub fn take_notes() -> Vec<String> {
    NOTES.take()
}

/// Does something, until frames come by `wire` again.
fn change(traffic: &Traffic, what: &str, wire: &str, act: impl FnOnce()) {
    let (begin, first) = (Instant::now(), traffic.sent());
    act();
    let took = traffic.expect_back_by(wire, begin);
    let through = traffic.sent();
    traffic.goes_on_for(ENOUGH);
    let lost = traffic.lost(first..through).len();
    let (milliseconds, of) = (took.as_millis(), through - first);
    note(format!("{what:48} {milliseconds:6} ms   {lost:4} of {of:4} frames lost"));
    assert_eq!(traffic.lost(through..through + ENOUGH).len(), 0, "frames lost after: {what}");
}

/// Which frames these are, and which came back after them.
fn told(traffic: &Traffic, lost: &[u32]) -> String {
    let (Some(&first), Some(&last)) = (lost.first(), lost.last()) else { return "none".to_owned() };
    let frames = traffic.frames();
    let took = frames[last as usize].sent - frames[first as usize].sent;
    let back = |number: u32| frames.get(number as usize).map(|frame| frame.back_by);
    let (before, after) = (first.checked_sub(1).and_then(back), back(last + 1));
    format!("{} from {first} to {last}, in {took:?}, the one before back by {before:?}, after by {after:?}", lost.len())
}

/// A VF comes, and takes the packets over without loss.
fn vf_comes(place: &mut dyn Place, traffic: &Traffic, name: &str, address: &str) {
    let (first, wire) = (traffic.sent(), format!("{name}p"));
    change(traffic, &format!("VF {name} comes at {address}"), &wire, || {
        place.vf_appears(name, address, MAC);
        traffic.also_from(&wire);
    });
    place.expect_driven(address);
    let lost = traffic.lost(first..traffic.sent());
    assert!(lost.is_empty(), "frames lost as a VF came: {}; {:?}", told(traffic, &lost), take_notes());
    // What the host sends by the VF arrives as well.
    expect_answer(&wire, MAC);
    expect_all_back(&wire, 20);
}

/// A VF goes, and the fallback takes the packets over.
fn vf_goes(place: &mut dyn Place, traffic: &Traffic, name: &str, address: &str) {
    change(traffic, &format!("VF {name} at {address} goes"), "eth1p", || place.vf_goes(name, address));
}

/// The driver's arguments here for eth1.
pub fn eth1(place: &dyn Place) -> String {
    format!("--vdev=net_vdev_netvsc0,iface=eth1{}", place.arguments())
}

/// Starts an application, and its port.
fn start(arguments: &[&str]) -> App {
    let mut app = App::start(arguments);
    app.ok(&format!("start {FAILSAFE}"));
    expect_answer("eth1p", MAC);
    app
}

/// All of so many frames sent into a wire come back on it.
fn expect_all_back(wire: &str, count: u32) {
    assert_eq!(exchange(wire, MAC, count, &[wire]), [count as usize], "frames by {wire}");
}

pub fn a_port_is_up_on_the_fallback(place: &mut dyn Place) {
    place.netvsc_appears("eth1", MAC);
    let _app = start(&[&eth1(place)]);
    expect_all_back("eth1p", ENOUGH);
}

fn a_vf_moves(place: &mut dyn Place) {
    let traffic = Traffic::into("eth1p", MAC);
    vf_comes(place, &traffic, "vf0", ONE);
    vf_goes(place, &traffic, "vf0", ONE);
    vf_comes(place, &traffic, "vf1", TWO);
    vf_goes(place, &traffic, "vf1", TWO);
}

pub fn a_vf_comes_at_another_address_after_it_was_in_use(place: &mut dyn Place) {
    place.netvsc_appears("eth1", MAC);
    let _app = start(&[&eth1(place)]);
    a_vf_moves(place);
}

pub fn a_vf_comes_at_another_address_under_testpmd(place: &mut dyn Place) {
    place.netvsc_appears("eth1", MAC);
    let _testpmd = App::testpmd(&[&eth1(place)]);
    expect_answer("eth1p", MAC);
    a_vf_moves(place);
}

pub fn a_vf_vanishes_and_comes_back(place: &mut dyn Place) {
    place.netvsc_appears("eth1", MAC);
    let _app = start(&[&eth1(place)]);
    let traffic = Traffic::into("eth1p", MAC);
    vf_comes(place, &traffic, "vf0", ONE);
    change(&traffic, "VF vf0 vanishes", "eth1p", || place.vf_vanishes("vf0", ONE));
    vf_comes(place, &traffic, "vf1", TWO);
}

pub fn a_vf_moves_before_failsafe_has_let_go(place: &mut dyn Place) {
    place.netvsc_appears("eth1", MAC);
    let mut app = start(&[&eth1(place)]);
    let traffic = Traffic::into("eth1p", MAC);
    vf_comes(place, &traffic, "vf0", ONE);
    for (old, new) in [(ONE, TWO), (TWO, ONE)] {
        change(&traffic, &format!("the VF moves from {old} to {new}"), "vf0p", || {
            place.vf_goes("vf0", old);
            place.vf_appears("vf0", new, MAC);
            traffic.also_from("vf0p");
            app.expect_port(new);
        });
    }
}

pub fn a_vf_is_there_before_the_application(place: &mut dyn Place) {
    place.netvsc_appears("eth1", MAC);
    place.vf_appears("vf0", ONE, MAC);
    // EAL has probed it by itself.
    let mut app = App::start(&[&eth1(place)]);
    app.ok(&format!("start {FAILSAFE}"));
    expect_answer("vf0p", MAC);
    expect_all_back("vf0p", ENOUGH);
    let traffic = Traffic::into("eth1p", MAC);
    vf_goes(place, &traffic, "vf0", ONE);
    vf_comes(place, &traffic, "vf1", TWO);
}

pub fn a_vf_is_renamed_while_it_is_in_use(place: &mut dyn Place) {
    place.netvsc_appears("eth1", MAC);
    let _app = start(&[&eth1(place)]);
    let traffic = Traffic::into("eth1p", MAC);
    vf_comes(place, &traffic, "vf0", ONE);
    // For that it is set down, which costs frames, and up again.
    change(&traffic, "it is renamed enP1s0", "vf0p", || place.rename("vf0", "enP1s0", Some(ONE)));
    change(&traffic, "it goes", "eth1p", || place.vf_goes("enP1s0", ONE));
    vf_comes(place, &traffic, "vf1", TWO);
}

pub fn a_vf_comes_and_goes_ten_times(place: &mut dyn Place) {
    place.netvsc_appears("eth1", MAC);
    let _app = start(&[&eth1(place)]);
    let traffic = Traffic::into("eth1p", MAC);
    for _ in 0..10 {
        vf_comes(place, &traffic, "vf0", ONE);
        vf_goes(place, &traffic, "vf0", ONE);
    }
}

pub fn the_netvsc_interface_is_renamed(place: &mut dyn Place) {
    place.netvsc_appears("eth1", MAC);
    let _app = start(&[&eth1(place)]);
    place.rename("eth1", "lan0", None);
    expect_answer("eth1p", MAC);
    let traffic = Traffic::into("eth1p", MAC);
    vf_comes(place, &traffic, "vf0", ONE);
    vf_goes(place, &traffic, "vf0", ONE);
}

pub fn another_netvsc_nic_comes_after_the_application(place: &mut dyn Place) {
    const MAC2: &str = "00:15:5d:00:00:02";
    place.netvsc_appears("eth1", MAC);
    let mut app = start(&[&format!("{},iface=eth2", eth1(place))]);
    // In a guest it has another name first.
    place.netvsc_appears("eth2", MAC2);
    app.expect_port("net_failsafe_vsc1");
    app.ok("start net_failsafe_vsc1");
    expect_answer("eth2p", MAC2);
    assert_eq!(exchange("eth2p", MAC2, ENOUGH, &["eth2p"]), [ENOUGH as usize]);
    expect_all_back("eth1p", ENOUGH);
}

pub fn the_netvsc_nic_is_unplugged_and_plugged_in_again(place: &mut dyn Place) {
    place.netvsc_appears("eth1", MAC);
    let mut app = start(&[&eth1(place)]);
    place.netvsc_goes("eth1");
    place.netvsc_appears("eth1", MAC);
    // The old port is the application's to close.
    app.expect_port("net_failsafe_vsc1");
    app.ok("start net_failsafe_vsc1");
    expect_answer("eth1p", MAC);
    expect_all_back("eth1p", ENOUGH);
    app.ok(&format!("stop {FAILSAFE}"));
    app.ok(&format!("close {FAILSAFE}"));
    let traffic = Traffic::into("eth1p", MAC);
    vf_comes(place, &traffic, "vf0", ONE);
    vf_goes(place, &traffic, "vf0", ONE);
}

pub fn an_application_is_killed_and_started_anew(place: &mut dyn Place) {
    place.netvsc_appears("eth1", MAC);
    for (name, address) in [("vf0", ONE), ("vf1", TWO)] {
        let app = start(&[&eth1(place)]);
        let traffic = Traffic::into("eth1p", MAC);
        vf_comes(place, &traffic, name, address);
        app.kill();
        drop(traffic);
        place.vf_goes(name, address);
    }
    let _app = start(&[&eth1(place)]);
    expect_all_back("eth1p", ENOUGH);
}

pub fn an_application_ends_while_a_vf_is_in_use(place: &mut dyn Place) {
    place.netvsc_appears("eth1", MAC);
    let app = start(&[&eth1(place)]);
    let traffic = Traffic::into("eth1p", MAC);
    vf_comes(place, &traffic, "vf0", ONE);
    drop(traffic);
    assert!(app.cleanup().success(), "rte_eal_cleanup ends badly");
}
