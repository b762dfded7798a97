// SPDX-License-Identifier: BSD-3-Clause
//! What must hold after each move, and what must have become right once nothing happens for a while.

use std::collections::BTreeSet;
use std::time::Duration;

use super::driver::{Model, Shared, TICK};
use super::failsafe::Level;
use super::moves::{finish_application, wait};
use super::world::{OTHER, Owner, Pmd, World};
use crate::args::{Args, DevargsSafe};
use crate::link::{KernelDriver, Link, LinkTable};
use crate::pairing::{self, Pair};
use crate::port::Phase;

use super::super::state::{Order, PortView, Selected, State};

/// What needs no second try is done by then.
const SOON: Duration = Duration::from_secs(3);
/// And what does, by then.
const LATE: Duration = Duration::from_secs(70);

/// What holds at any time.
pub(super) fn always(model: &Model) {
    let (state, world) = (model.state.borrow(), model.world.borrow());
    let ports = state.view();
    let idle = model.interrupt.borrow().is_none() && model.application.borrow().is_none();

    let serials: BTreeSet<_> = ports.iter().map(|port| port.serial).collect();
    if serials.len() != ports.len() {
        model.breaks("two ports have one serial".to_owned());
    }
    let mut links = BTreeSet::new();
    for port in ports.iter().filter(|port| !port.orphaned) {
        if !links.insert(port.side.index) {
            model.breaks(format!("link {} has two ports", port.side.index));
        }
    }

    let mut posted = BTreeSet::new();
    for port in ports.iter().filter(|port| !port.mailbox.is_empty()) {
        let (id, text) = (port.id, port.mailbox.trim_end());
        let Some(address) = port.mailbox.strip_suffix('\n').and_then(|line| line.parse().ok()) else {
            model.breaks(format!("no address lies in the mailbox of port {id}: {text}"));
            continue;
        };
        if !posted.insert(address) {
            model.breaks(format!("{address} is posted to two ports"));
        }
        let Some(function) = world.functions.get(&address) else { continue };
        if function.port().is_some_and(|port| port.mac == OTHER) {
            model.breaks(format!("{address} is posted to port {id}, and another NIC's port is the first there"));
        }
        if function.meddled {
            continue;
        }
        // It has kept the address since an application took the port away from it, and has not read this one.
        let kept = world.failsafes.get(&id).is_some_and(|failsafe| failsafe.address == Some(address));
        match function.port().map(|port| port.owner) {
            Some(Owner::Nobody) => {}
            Some(Owner::Failsafe(holder)) if kept && holder == id => {}
            Some(Owner::Ours) if !idle => {}
            other => model.breaks(format!("{address} lies in the mailbox of port {id}, and its port is {other:?}")),
        }
    }

    if idle {
        let offered: BTreeSet<_> = state.offered().into_iter().map(|(_, function)| function).collect();
        for (address, function) in &world.functions {
            let ours = function.port().is_some_and(|port| port.owner == Owner::Ours);
            if ours && !function.taken && !function.hidden && !offered.contains(address) && !state.is_leaving(*address)
            {
                model.breaks(format!("{address} is ours, and nobody minds it"));
            }
        }
    }
    for (id, failsafe) in &world.failsafes {
        let Some(function) = failsafe.address.and_then(|at| world.functions.get(&at)) else { continue };
        if failsafe.sub == Level::Parsed && function.port().is_none() && !function.meddled && !failsafe.robbed {
            model.breaks(format!("failsafe {id} tries for ever to attach {:?}", failsafe.address));
        }
    }
}

/// Nothing more happens, and what failed once fails no more.
pub(super) fn rest(model: &Shared) {
    finish_application(model);
    {
        let mut world = model.world.borrow_mut();
        (world.refuses, world.keeps_shell, world.sysfs_fails, world.socket_fails) = (0, 0, 0, 0);
        for function in world.functions.values_mut().filter(|function| function.pmd == Pmd::FailsOnce) {
            function.pmd = Pmd::Makes;
        }
    }
    wait(model, SOON);
    // A VF that is down is given three seconds to come up.
    let up = model.world.borrow().links().all(|link| link.up);
    if model.calm.get() && up {
        model.count("right soon");
        right(model, "soon");
    }
    wait(model, LATE - SOON);
    let at_rest = right(model, "late");
    model.calm.set(at_rest);
    model.count(if at_rest { "right at rest" } else { "excused at rest" });
    let before = model.driver.borrow().rescans;
    let rests = model.state.borrow().is_at_rest(model.now());
    wait(model, 4 * TICK);
    let state = model.state.borrow();
    let rescans = model.driver.borrow().rescans - before;
    // A place that is tried again is looked at each second when its time comes.
    if at_rest && !state.is_idle() && state.view_open().is_empty() {
        if !rests {
            model.breaks("all is right, and it does not rest".to_owned());
        }
        if rescans > 5 {
            model.breaks(format!("{rescans} rescans in {:?} of rest", 4 * TICK));
        }
    }
    let driver = model.driver.borrow();
    if state.is_idle() && (driver.ear_open || !model.is_off() || driver.kick.is_some() || driver.tick.is_some()) {
        model.breaks(format!("idle, and not off: {driver:?}"));
    }
}

/// Whether all is as it should be. Breaks when it is not and nothing excuses it; `false` when something does.
fn right(model: &Model, when: &str) -> bool {
    let (state, world) = (model.state.borrow(), model.world.borrow());
    let truth = world.truth();
    let mut all = true;
    for port in state.view().iter().filter(|port| !port.orphaned) {
        match port_is_right(model, port, &world, &truth) {
            Ok(right) => all &= right,
            Err(wrong) => model.breaks(format!("{when}, port {}: {wrong}", port.id)),
        }
    }
    for id in world.failsafes.keys().filter(|&&id| state.view().iter().all(|port| port.id != id)) {
        model.breaks(format!("failsafe {id} is nobody's"));
    }
    if let Err(wrong) = places_are_right(&state, &world, &truth, when == "soon") {
        model.breaks(format!("{when}: {wrong}"));
    }
    all && !world.unsteady
        && world
            .functions
            .values()
            .all(|function| matches!(function.pmd, Pmd::Makes | Pmd::Two) && function.verbs && !function.meddled)
}

fn port_is_right(model: &Model, port: &PortView, world: &World, truth: &LinkTable) -> Result<bool, String> {
    if port.phase != Phase::Live {
        return Err(format!("still {:?}", port.phase));
    }
    let Some(failsafe) = world.failsafes.get(&port.id) else { return Err("its failsafe port is gone".to_owned()) };
    // That a link is gone is not seen in a list that is not exact.
    let Some(link) = truth.get(port.side.index) else {
        return if world.unsteady { Ok(false) } else { Err("its link is gone".to_owned()) };
    };
    if link.mac != port.side.mac {
        // Nor is that it has changed, by a list that leaves it out.
        let wrong = format!("its link has the MAC {:?}, not {:?}", link.mac, port.side.mac);
        return if world.unsteady { Ok(false) } else { Err(wrong) };
    }
    let holds = failsafe.address.and_then(|at| world.functions.get(&at));
    let vf = pairing::vf_of(truth, &port.side);
    let address = vf.map(|vf| (vf.index, vf.address));
    if world.unsteady && port.vf.is_some() && port.vf != address {
        return Ok(false);
    }
    if port.vf != address {
        return Err(format!("its VF is {address:?}, not {:?}", port.vf));
    }
    let Some(vf) = vf else {
        if !port.mailbox.is_empty() {
            return Err(format!("there is no VF, and {} is posted", port.mailbox.trim_end()));
        }
        return Ok(failsafe.address.is_none());
    };
    let Some(function) = world.functions.get(&vf.address) else { return Ok(false) };
    if function.driver == KernelDriver::Mana {
        model.count("a VF left to the kernel at rest");
        let wrong = "a VF of MANA's is posted".to_owned();
        return if port.mailbox.is_empty() { Ok(true) } else { Err(wrong) };
    }
    if failsafe.address == Some(vf.address) && failsafe.sub == failsafe.level && !function.gone && !failsafe.remove {
        model.count("a VF held at rest");
        let left = format!("failsafe has its VF, and {} lies in the mailbox", port.mailbox.trim_end());
        return if port.mailbox.is_empty() { Ok(true) } else { Err(left) };
    }
    // Failsafe holds another, or one that is gone and of which it does not hear, or is in a burst.
    let held = failsafe.sub >= Level::Probed || failsafe.busy || holds.is_some_and(|function| function.meddled);
    let mac = |mac| {
        let vf = truth.get(vf.index);
        vf.is_some_and(|vf| [vf.mac, link.mac, port.side.first_mac].contains(&Some(mac)))
    };
    let fits = match function.device.as_deref() {
        None => mac(function.mac),
        Some([first, others @ ..]) => {
            // One that is gone, which is not seen in a list that is not exact, may have been attached there.
            let owned = first.owner == Owner::Nobody || first.owner == Owner::Ours && !world.unsteady;
            let free = others.iter().all(|port| matches!(port.owner, Owner::Nobody | Owner::Ours));
            mac(first.mac) && owned && free
        }
        Some([]) => false,
    };
    // Of two links with one MAC the other may have it, in a mailbox that its failsafe does not read.
    let others = |other: &PortView| other.id != port.id && other.mailbox.trim_end() == vf.address.to_string();
    let elsewhere = model.state.borrow().view().iter().any(others);
    if held || !fits || !function.can_be_attached() || function.meddled || elsewhere {
        return Ok(false);
    }
    Err(format!("{} should be attached, and failsafe has {failsafe:?}; {function:?}", vf.address))
}

/// What a probe is told, while nothing changes: the links that there are.
pub(super) fn probe_is_right(model: &Model, args: &Args, selected: &Selected) {
    let world = model.world.borrow();
    let truth = world.truth();
    let none = args.selectors.is_empty() && selected.chosen.is_empty();
    if none && pairing::netvsc_links(&truth).next().is_some() {
        model.breaks("a probe finds no NetVSC link, and there is one".to_owned());
    }
    for (selector, miss) in &selected.misses {
        if pairing::choose(&truth, selector, world.alternative(selector), args.force).is_ok() {
            model.breaks(format!("a probe is told that {selector} is {miss:?}, and it is there"));
        }
    }
}

/// What is ordered follows from what is known to be true.
pub(super) fn orders(model: &Model, orders: &[Order]) {
    let state = model.state.borrow();
    for order in orders {
        if let Order::Attach(_, function) | Order::HandOver(_, function) = order {
            let world = model.world.borrow();
            let is_manas = world.functions.get(function).is_some_and(|known| known.driver == KernelDriver::Mana);
            // Not one that went meanwhile.
            let is_there = |port: &PortView| {
                port.vf.is_some_and(|(link, at)| at == *function && world.links().any(|known| known.index == link))
            };
            if is_manas && state.view().iter().any(is_there) {
                model.breaks(format!("{order:?}, and that is MANA's"));
            }
        }
        let Order::HandOver(id, function) = order else { continue };
        if !state.is_sure_of_vf(*id) {
            model.breaks(format!("{function} is posted, and events of its link may have been lost"));
        }
    }
}

fn places_are_right(state: &State, world: &World, truth: &LinkTable, soon: bool) -> Result<(), String> {
    // A list that is not exact may leave out the one that is wanted, and another that is gone be taken for it.
    if world.unsteady && !state.knows_all(truth) {
        return Ok(());
    }
    // That a VF on which something is configured has become another link's is seen when the time comes.
    let enslaved = soon && truth.iter().any(|link| link.is_on_pci() && link.master.is_some());
    for place in state.view_open().into_iter().filter(|place| place.named || !place.put_off || !enslaved) {
        let Ok(index) = pairing::choose(truth, &place.selector, world.alternative(&place.selector), place.force) else {
            continue;
        };
        let served = state.view().iter().any(|port| port.side.index == index && !port.orphaned);
        let Some(link) = truth.get(index) else { continue };
        let pair = Pair::of(truth, link);
        let mut both = [Some(link), pair.vf].into_iter().flatten();
        let used = pair.used(truth).is_some() || both.any(|link| world.configured.contains(&link.index));
        // That what uses it is gone is not seen in a list that is not exact.
        let in_use = !place.named && (used || world.unsteady);
        let moved = link.is_on_pci() && place.pci == Some(false);
        if !served && !in_use && !moved && DevargsSafe::new(link.name).is_some() {
            return Err(format!("{} is there, and has no port on {}", place.selector, name(link)));
        }
    }
    Ok(())
}

fn name(link: &Link) -> String {
    link.name.to_string()
}
