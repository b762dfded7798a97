// SPDX-License-Identifier: BSD-3-Clause
//! Stories that play on both stages, from one text.

use crate::stage::{App, MAC, Place, exchange, expect_answer};

pub const FAILSAFE: &str = "net_failsafe_vsc0";
pub const ONE: &str = "0000:01:00.0";
pub const TWO: &str = "0000:02:00.0";

/// Starts an application with an instance that names eth1, and the port.
pub fn start_eth1(place: &impl Place, more: &str) -> App {
    let mut app = App::start(&[&format!("--vdev=net_vdev_netvsc0,iface=eth1{}{more}", place.arguments())]);
    app.ok(&format!("start {FAILSAFE}"));
    app
}

/// All of so many frames sent into a wire come back on it.
pub fn expect_all_back(wire: &str, mac: &str, count: u32) {
    assert_eq!(exchange(wire, mac, count, &[wire]), [count as usize], "frames by {wire}");
}

/// The VF `name` is attached, and frames go both ways by it.
pub fn expect_attached(app: &mut App, name: &str, address: &str) {
    app.expect_port(address);
    expect_answer(&format!("{name}p"), MAC);
    expect_all_back(&format!("{name}p"), MAC, 20);
}

/// The VF at `address` is no part of the port any more, and frames go both ways by the fallback.
pub fn expect_fallback(app: &mut App, address: &str) {
    app.expect_no_port(address);
    expect_all_back("eth1p", MAC, 20);
}

pub fn a_port_is_up_on_the_fallback(place: &mut impl Place) {
    place.netvsc_appears("eth1", MAC);
    let _app = start_eth1(place, "");
    expect_all_back("eth1p", MAC, 100);
}

pub fn a_vf_goes_and_comes_back_at_another_address(place: &mut impl Place) {
    place.netvsc_appears("eth1", MAC);
    let mut app = start_eth1(place, "");
    expect_all_back("eth1p", MAC, 50);

    place.vf_appears("vf0", ONE, MAC);
    expect_attached(&mut app, "vf0", ONE);
    place.vf_goes("vf0", ONE);
    expect_fallback(&mut app, ONE);
    place.vf_appears("vf1", TWO, MAC);
    expect_attached(&mut app, "vf1", TWO);
}
