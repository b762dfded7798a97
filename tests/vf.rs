// SPDX-License-Identifier: BSD-3-Clause
//! Stories of a VF that comes and goes under a port, with packets.

mod stage;

use stage::{App, MAC, Stage, exchange};

const FAILSAFE: &str = "net_failsafe_vsc0";

#[test]
fn a_vf_goes_and_comes_back_at_another_address() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    let mut app = App::start(&["--vdev=net_vdev_netvsc0,iface=eth1,fallback=af_packet"]);
    app.ok(&format!("start {FAILSAFE}"));
    assert_eq!(exchange("eth1p", MAC, 50, &["eth1p"]), [50], "by the fallback");

    stage.vf_appears("vf0", "0000:01:00.0", MAC);
    app.expect_port("0000:01:00.0");
    stage::wait_for("frames by the VF", || (exchange("vf0p", MAC, 1, &["vf0p"]) == [1]).then_some(()));
    assert_eq!(exchange("vf0p", MAC, 50, &["vf0p"]), [50], "by the VF");

    stage.vf_goes("vf0", "0000:01:00.0");
    app.expect_no_port("0000:01:00.0");
    assert_eq!(exchange("eth1p", MAC, 50, &["eth1p"]), [50], "by the fallback again");

    stage.vf_appears("vf1", "0000:02:00.0", MAC);
    app.expect_port("0000:02:00.0");
    stage::wait_for("frames by the VF", || (exchange("vf1p", MAC, 1, &["vf1p"]) == [1]).then_some(()));
    assert_eq!(exchange("vf1p", MAC, 50, &["vf1p"]), [50], "by the VF at its new address");
}
