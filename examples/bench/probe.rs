// SPDX-License-Identifier: BSD-3-Clause
//! How long `rte_eal_hotplug_add` of an instance takes.

use std::fmt::Write;

use crate::field::{BOTH, Driver, Failsafe, Field, Turns};
use crate::stage::{App, ip_batch};
use crate::stats::{Row, median, ratios};
use crate::{Effort, Figure};

const ROUTES: u32 = 200_000;
const FEW_ROUTES: u32 = 10;
const AUTOMATIC: &str = "automatic";
const WALK: &str = "the kernel walks all routes to find those over one interface, whatever it is asked; the C driver does \
                    not see that an interface has a route such as 200.0.0.0/8, and takes it";
/// What counts as no slower, as the ratio differs by chance where both do the same.
const NEVER_SLOWER: f64 = 0.95;

/// Which of its links an instance takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Choice {
    Named,
    Automatic,
}

/// Attaches an instance with each driver in turn, and returns how long that took, in milliseconds.
fn attach(field: &Field, effort: Effort, failsafe: Failsafe, choice: Choice) -> Turns {
    let mut turns = Turns::new();
    for _ in 0..effort.pairs {
        for driver in BOTH {
            let device = match (choice, driver) {
                (Choice::Named, _) => field.devices(driver, 2000).remove(0),
                (Choice::Automatic, Driver::Ours) => "net_vdev_netvsc0,hotplug_poll=2000".to_owned(),
                (Choice::Automatic, _) => "net_vdev_netvsc0".to_owned(),
            };
            let mut app = App::up(field.bare_command(driver, failsafe));
            let took = app.time_attach(&device.replacen(',', " ", 1));
            assert!(app.has_port("net_failsafe_vsc0"), "{driver:?} makes no port of {device}");
            turns.entry(driver).or_default().push(took.as_secs_f64() * 1e3);
        }
    }
    turns
}

fn row(what: String, turns: &Turns) -> Row {
    let (ours, c) = (&turns[&Driver::Ours], &turns[&Driver::C]);
    let faster = median(&ratios(ours, c, 0.0)) >= NEVER_SLOWER;
    Row::new(what, "ms")
        .ours(ours)
        .c(c)
        .ratio(ours, c, 0.0)
        .goal(format!("never slower than C: ≥ {NEVER_SLOWER}"), faster)
}

pub fn probe(effort: Effort) -> Figure {
    // With few links, what failsafe and net_af_packet take varies by more than the drivers differ, and it is soon done.
    let close = Effort { pairs: 12 * effort.pairs, ..effort };
    let mut rows = Vec::new();
    for (links, effort) in [(1, close), (1000, effort), (4000, effort)] {
        let field = Field::new(1, links);
        rows.push(row(format!("probe, {links} links"), &attach(&field, effort, Failsafe::Real, Choice::Named)).done());
        let alone = attach(&field, effort, Failsafe::StandIn, Choice::Named);
        let what = format!("probe, {links} links, without failsafe's part");
        let note = "this driver writes two lines of log meanwhile: the port is made, and the stand-in has no fallback";
        rows.push(row(what, &alone).note(note).done());
    }
    let field = Field::new(1, 2);
    let few = with_routes(&field, close, 0..FEW_ROUTES);
    let many = with_routes(&field, close, FEW_ROUTES..ROUTES);
    for ((name, few), (_, many)) in few.iter().zip(&many) {
        rows.push(row(format!("probe, {name}, {FEW_ROUTES} routes"), few).done());
        rows.push(row(format!("probe, {name}, {ROUTES} routes"), many).done());
        let [ours, c] = BOTH.map(|driver| ratios(&few[&driver], &many[&driver], 0.0));
        let row = Row::new(format!("probe, {name}, {ROUTES} routes to {FEW_ROUTES}"), "×").ours(&ours).c(&c);
        let row = row.goal("≤ 1.2", median(&ours) <= 1.2);
        rows.push(if *name == AUTOMATIC { row.note(WALK) } else { row }.done());
    }
    let text = "Around rte_eal_hotplug_add of an instance that makes one port, in a fresh application, with DPDK's failsafe \
                and net_af_packet, or with a stand-in for failsafe that takes no time. The routes are on another interface; \
                an instance that names its interface takes it whatever its routes are, an automatic one has to look."
        .to_owned();
    Figure { text, rows, series: Vec::new() }
}

/// Adds routes to an interface that is not the port's, and attaches instances of either kind.
fn with_routes(field: &Field, effort: Effort, numbers: std::ops::Range<u32>) -> [(&'static str, Turns); 2] {
    let routes = numbers.fold(String::new(), |mut text, number| {
        let [_, high, mid, low] = number.to_be_bytes();
        writeln!(text, "route add 10.{high}.{mid}.{low}/32 dev o0").unwrap();
        text
    });
    ip_batch(&routes);
    [("iface=", Choice::Named), (AUTOMATIC, Choice::Automatic)]
        .map(|(name, choice)| (name, attach(field, effort, Failsafe::Real, choice)))
}
