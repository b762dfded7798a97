// SPDX-License-Identifier: BSD-3-Clause
//! Device arguments, as an application and its user meet them.

// Outside of the functions marked as tests too, what fails here fails a test.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod stage;

use stage::{App, MAC, Stage};

const MAC2: &str = "00:15:5d:00:00:02";

#[test]
fn explore() {
    let mut stage = Stage::new();
    stage.netvsc_appears("eth1", MAC);
    stage.link_appears("lan1", MAC2);
    let mut app = App::start(&[]);
    for args in [
        "iface=",
        "iface=a(b",
        "iface=eth1,,",
        "iface",
        "=",
        "iface=none",
        "iface=lan1",
        "iface=none,iface=eth1,fallback=af_packet",
        "mac=00:15:5d:00:00:01",
        "",
    ] {
        eprintln!("### {args}: {:?}", app.count());
        eprintln!("{}", app.send(&format!("attach net_vdev_netvsc0 {args}")));
        eprintln!("{}", app.send("vdevs"));
        eprintln!("{}", app.send("ports"));
        eprintln!("{}", app.send("detach net_vdev_netvsc0"));
        eprintln!("{}", app.send("ports"));
    }
    eprintln!("{:?}", app.count());
    panic!("show");
}
