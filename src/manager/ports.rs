// SPDX-License-Identifier: BSD-3-Clause
//! What DPDK has to do for a port: to make and close it, to attach its VF and hand it over. The state is not held here.

use std::time::{Duration, Instant};

use log::{debug, error, info, warn};

use super::alarms::{KICK, kick, pace};
use super::rescan::{self, Attend};
use super::state::{self, Order, Recipe, Scope, Serial};
use super::{MANAGER, board, lock};
use crate::address::PciAddr;
use crate::eal::alarm::{self, Parked};
use crate::eal::ethdev::{self, Owner};
use crate::eal::log::NOTICE;
use crate::eal::{Errno, guard, pci, vdev};
use crate::port::PortId;

/// How long another thread waits for the interrupt thread, which may be hot-plugging: not for ever, as that one may wait
/// for a lock that the other thread holds.
pub(super) const PARKING_PATIENCE: Duration = Duration::from_secs(1);

/// Keeps the interrupt thread out of hot-plug until what is returned ends; `None` when it is busy in there.
pub(super) fn alone() -> Option<Parked> {
    let parked = alarm::park_interrupt_thread(PARKING_PATIENCE);
    if parked.is_none() {
        debug!("the interrupt thread is busy");
    }
    parked
}

/// Does what the state ordered. Returns whether a VF was attached or detached: what comes of that is worth another look.
pub(super) fn execute(orders: Vec<Order>) -> bool {
    let mut again = false;
    for order in orders {
        match order {
            Order::Make(id) => {
                make(id);
                // What came while it was being made.
                kick(KICK);
            }
            Order::Close(id) => close(id),
            Order::Attach(serial, function) => {
                let outcome = guard("attaching of a VF", Err(Errno(libc::EFAULT)), || attach(serial, function));
                lock().attached(serial, function, outcome, Instant::now());
                again = true;
            }
            Order::HandOver(id, function) => hand_over(id, function),
            Order::TakeBack(function) => take_back(function),
            Order::Detach(function) => {
                detach(function);
                again = true;
            }
        }
    }
    again
}

/// Attaches a VF, and sees whether it can be configured as failsafe is about to. One that cannot must not get to
/// failsafe, which releases its port twice then, and no mend helps: it has not closed the port before
/// (`fs_dev_remove`, `DEV_PROBED`).
fn attach(serial: Serial, function: PciAddr) -> Result<(), Errno> {
    debug!("attaching {function}");
    pci::attach(function)?;
    let live = lock().live();
    let id = live.into_iter().find(|&(known, _)| known == serial).map(|(_, id)| id);
    let failsafe = id.and_then(|id| ethdev::find(&id.failsafe_name()));
    let Some((failsafe, port)) = failsafe.zip(ethdev::first_on(function)) else { return Ok(()) };
    ethdev::configure_like(port, failsafe).inspect_err(|_| detach(function))
}

/// Lets failsafe have the port of a VF whose address was posted: it takes over none that somebody owns. Any others of the
/// function are other NICs', and stay ours, so that they look free to nobody.
fn hand_over(id: PortId, function: PciAddr) {
    MANAGER.mends.lend(function, &id.failsafe_name());
    let Some(port) = ethdev::first_on(function) else { return };
    lock().handed_over(id, port);
    let Ok(owner) = Owner::ours() else { return };
    if owner.holds(port) {
        if let Err(error) = owner.release(port) {
            debug!("port {port} of {function} is not released: {error}");
        }
    }
}

/// Owns the port of a VF again that was handed over and failsafe has not taken.
fn take_back(function: PciAddr) {
    let Ok(owner) = Owner::ours() else { return };
    for port in ethdev::ports_on(function).into_iter().filter(|&port| !owner.holds(port)) {
        if let Err(error) = owner.take(port) {
            debug!("port {port} of {function} is not taken back: {error}");
        }
    }
}

/// Takes away a VF that we attached, if nobody has it.
fn detach(function: PciAddr) {
    take_back(function);
    if let Err(error) = pci::detach(function) {
        debug!("{function} is not detached: {error}");
    }
    lock().detached(function);
}

/// Takes away the VFs that were attached for ports that are gone. The interrupt thread is kept [`alone`].
pub(super) fn detach_left() {
    // The state is released before each is detached.
    let functions = lock().take_to_detach();
    functions.into_iter().for_each(detach);
}

/// Makes a port that was begun, or notes why not. The interrupt thread gets its turn between two ports.
pub(super) fn make(id: PortId) {
    // Made all the same when that one is busy: who probes wants a port.
    let _alone = alone();
    let Some(recipe) = lock().recipe(id) else { return };
    // A panic must not leave the port half made.
    let mut outcome = guard("making of a port", Err(Errno(libc::EFAULT)), || try_make(id, &recipe));
    let full = ethdev::all_taken();
    match outcome {
        Err(_) if full => outcome = Err(Errno(libc::ENOSPC)),
        Err(_) => {}
        Ok(()) => {
            info!(target: NOTICE, "{}: made", recipe.label);
            if ethdev::find(&recipe.fallback).is_none() {
                let advice = if full { state::all_taken() } else { recipe.fallback_advice };
                error!("{}: {advice}", recipe.label);
            }
        }
    }
    if rescan::release(lock(), |state| state.made(id, outcome, Instant::now())) {
        close(id);
    }
    board::publish();
}

fn try_make(id: PortId, recipe: &Recipe) -> Result<(), Errno> {
    if ethdev::find(&recipe.failsafe).is_some() {
        return Err(Errno(libc::EEXIST));
    }
    if recipe.shell && vdev::exists(&recipe.failsafe) {
        // A secondary that was started when there was no port has a device without a driver, and refuses. From 26.07 on the
        // device is on the bus but removed already, and this fails.
        if let Err(error) = vdev::remove(&recipe.failsafe).or_else(|_| vdev::remove_here(&recipe.failsafe)) {
            debug!("{}: the shell of an earlier port is not removed: {error}", recipe.label);
        }
    }
    // Failsafe looks into its mailbox once while it is created, and takes at once what it finds.
    rescan::go_on(Scope::Making(id), Attend::Wait);
    let devargs = recipe.devargs.as_ref().ok_or(Errno(libc::E2BIG))?;
    debug!("{}: making it with {devargs:?}", recipe.label);
    MANAGER.mends.expect(&recipe.fallback, &recipe.failsafe);
    vdev::add(&recipe.failsafe, devargs)?;
    let port = ethdev::find(&recipe.failsafe).ok_or(Errno(libc::ENODEV))?;
    // With a fallback that never came up failsafe may set its alarm for port 0, whosever that is (`fs_dev_remove`).
    if ethdev::find(&recipe.fallback).is_none() && rescan::is_link_gone(id) {
        debug!("{}: its interface went meanwhile", recipe.label);
        ethdev::stop_and_close(port)?;
        return Err(Errno(libc::ENODEV));
    }
    MANAGER.mends.made(&recipe.failsafe);
    Ok(())
}

/// Closes the failsafe port of a port in phase `Closing`, which takes its fallback and its VF along and leaves its vdev:
/// removing that one as well would free what `rte_eal_cleanup` is about to read (`vdev_cleanup` up to 26.03). What cannot
/// be closed is left to the interrupt thread, which tries again at each rescan of everything. That thread is kept
/// [`alone`].
pub(super) fn close(id: PortId) {
    let Some(recipe) = lock().recipe(id) else { return };
    // A panic must not leave it closing for ever.
    guard("closing of a port", (), || {
        if let Some(Err(error)) = ethdev::find(&recipe.failsafe).map(ethdev::stop_and_close) {
            debug!("{}: closing it: {error}", recipe.label);
        }
    });
    if ethdev::find(&recipe.failsafe).is_none() {
        info!(target: NOTICE, "{}: closed", recipe.label);
        rescan::release(lock(), |state| state.closed(id));
        board::publish();
        // What it held is free.
        kick(KICK);
    } else {
        warn!("{}: its driver does not close it; trying again", recipe.label);
        lock().defer_close(id);
        pace();
    }
}
