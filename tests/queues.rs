// SPDX-License-Identifier: BSD-3-Clause
//! Stories of ports with several queues, on the fallback and by the VF.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test ends so")]

mod stage;

use stage::{App, MAC, Stage, exchange_flows, expect_answer};

const FAILSAFE: &str = "net_failsafe_vsc0";
const ONE: &str = "0000:01:00.0";
const TWO: &str = "0000:02:00.0";
const FLOWS: u16 = 256;
const EACH: u32 = 4;

/// What the application has received by each of its queues.
fn received(app: &mut App) -> Vec<u64> {
    app.ok(&format!("queues {FAILSAFE}")).split_whitespace().map(|count| count.parse().unwrap()).collect()
}

/// Many flows come back by a wire, and each queue has received some.
fn expect_spread(app: &mut App, wire: &str, queues: usize, size: usize) {
    expect_answer(wire, MAC);
    let before = received(app);
    assert_eq!(before.len(), queues);
    let all = usize::from(FLOWS) * EACH as usize;
    assert_eq!(exchange_flows(wire, MAC, FLOWS, EACH, size), all, "{queues} queues, {size} bytes by {wire}");
    let by_queue: Vec<u64> = received(app).iter().zip(before).map(|(after, before)| after - before).collect();
    assert!(by_queue.iter().all(|&count| count > 0), "{queues} queues by {wire}: {by_queue:?}");
}

#[test]
fn flows_are_spread_over_as_many_queues_as_the_application_takes() {
    for queues in [4, 1, 16] {
        let mut stage = Stage::new();
        stage.netvsc_appears("eth1", MAC);
        let mut app = App::start(&["--vdev=net_vdev_netvsc0,iface=eth1,fallback=af_packet"]);
        app.ok(&format!("setup {FAILSAFE} {queues} 256 0"));
        expect_spread(&mut app, "eth1p", queues, 64);
        for (name, address) in [("vf0", ONE), ("vf1", TWO)] {
            stage.vf_appears(name, address, MAC);
            app.expect_port(address);
            expect_spread(&mut app, &format!("{name}p"), queues, 64);
            stage.vf_goes(name, address);
            app.expect_no_port(address);
            expect_spread(&mut app, "eth1p", queues, 64);
        }
        assert!(app.cleanup().success());
    }
}
