// SPDX-License-Identifier: BSD-3-Clause
//! Stories of virtio's standby, as users on KVM meet it: QEMU's failover pair, of which the guest's kernel makes three
//! netdevices with one address. `make guest` plays them.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod stage;

use stage::{App, Driver, Kvm, MAC, exchange, expect_answer};

const FAILSAFE: &str = "net_failsafe_vsc0";
const ONE: &str = "0000:01:00.0";
const TWO: &str = "0000:02:00.0";

/// All of some frames sent into a wire come back on it.
fn expect_all_back(wire: &str) {
    assert_eq!(exchange(wire, MAC, 50, &[wire]), [50], "frames by {wire}");
}

/// The instance that `selector` makes serves `name`, and the VF is found as it comes, goes and comes in another slot.
fn expect_a_life(kvm: &mut Kvm, selector: &str, name: &str) {
    let mut app = App::start(&[&format!("--vdev=net_vdev_netvsc0,{selector},force=1")]);
    assert_eq!(app.served(), [name], "{selector}");
    app.ok(&format!("start {FAILSAFE}"));
    expect_all_back("pairp");
    for address in [ONE, TWO] {
        kvm.primary_appears(address, MAC);
        app.expect_port(address);
        expect_answer("primaryp", MAC);
        expect_all_back("primaryp");
        kvm.primary_goes();
        app.expect_no_port(address);
        expect_all_back("pairp");
    }
    app.quit();
}

#[test]
#[ignore = "make guest plays it"]
fn the_master_is_named() {
    let (mut kvm, master, _) = Kvm::boot(Driver::Ours, MAC);
    expect_a_life(&mut kvm, &format!("iface={master}"), &master);
}

#[test]
#[ignore = "make guest plays it"]
fn the_standby_is_named() {
    let (mut kvm, _, standby) = Kvm::boot(Driver::Ours, MAC);
    expect_a_life(&mut kvm, &format!("iface={standby}"), &standby);
}

#[test]
#[ignore = "make guest plays it"]
fn an_address_names_the_master() {
    let (mut kvm, master, _) = Kvm::boot(Driver::Ours, MAC);
    expect_a_life(&mut kvm, &format!("mac={MAC}"), &master);
}
