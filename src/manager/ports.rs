// SPDX-License-Identifier: BSD-3-Clause
//! What DPDK has to do for a port: to make and close it, to attach its VF and hand it over. The state is not held here.

use std::ffi::CString;
use std::time::{Duration, Instant};

use log::{debug, error, info, warn};

use super::alarms::{KICK, PACE, kick, pace};
use super::rescan::{self, Attend};
use super::state::{self, Order, Recipe, Scope, Serial};
use super::{MANAGER, board, lock, lock_ear_from_here};
use crate::address::PciAddr;
use crate::args::Fallback;
use crate::delivery::Hindrance;
use crate::eal::alarm::{self, Parked};
use crate::eal::ethdev::{self, Owner, PortNumber};
use crate::eal::log::NOTICE;
use crate::eal::{Errno, guard, pci, turn, vdev};
use crate::port::{Frames, PortId};

/// Keeps the interrupt thread out of hot-plug until what is returned ends. `without_memory` is how long it is waited for
/// when it cannot be called.
///
/// # Errors
/// `EBUSY` when it is busy in there; `ENOMEM`.
pub(super) fn alone(without_memory: Duration) -> Result<Parked, Errno> {
    // It may be waiting for us.
    turn::over_elsewhere();
    alarm::park_interrupt_thread(without_memory)
        .inspect_err(|error| debug!("the interrupt thread is not held: {error}"))
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
                let broken = Err(Hindrance::Failed(Errno(libc::EFAULT)));
                let outcome = guard("attaching of a VF", broken, || attach(serial, function));
                lock().attached(serial, function, outcome, Instant::now());
                again = true;
            }
            Order::HandOver(id, function) => {
                if let Err(error) = hand_over(id, function) {
                    lock().not_handed_over(id, function, error, Instant::now());
                }
            }
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
fn attach(serial: Serial, function: PciAddr) -> Result<(), Hindrance> {
    debug!("attaching {function}");
    pci::attach(function).map_err(Hindrance::Failed)?;
    let live = lock().live();
    let id = live.into_iter().find(|&(known, _)| known == serial).map(|(_, id)| id);
    let Some(failsafe) = id.and_then(|id| ethdev::find(&id.failsafe_name())) else { return Ok(()) };
    let configure = || ethdev::first_on(function)?.map_or(Ok(()), |port| ethdev::configure_like(port, failsafe));
    configure().map_err(|error| {
        detach(function);
        Hindrance::Unconfigured(error)
    })
}

/// Lets failsafe have the port of a VF whose address was posted: it takes over none that somebody owns. Any others of the
/// function are other NICs', and stay ours, so that they look free to nobody.
///
/// # Errors
/// When it is still ours, or may be: failsafe would ask for it in vain, at each of its polls.
fn hand_over(id: PortId, function: PciAddr) -> Result<(), Errno> {
    MANAGER.mends.lend(function, &id.failsafe_name())?;
    let owner = Owner::ours()?;
    let port = ethdev::first_on(function)?;
    port.into_iter().for_each(|port| lock().handed_over(id, port));
    match port {
        Some(port) if owner.holds(port)? => owner.release(port),
        _ => Ok(()),
    }
}

/// Owns the port of a VF again that was handed over and failsafe has not taken.
fn take_back(function: PciAddr) {
    let Ok(owner) = Owner::ours() else { return };
    for port in ethdev::ports_on(function).unwrap_or_default() {
        if owner.holds(port) == Ok(true) {
            continue;
        }
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
    let _alone = alone(Duration::ZERO);
    let Some(recipe) = lock().recipe(id) else { return };
    // A panic must not leave the port half made.
    let mut outcome = guard("making of a port", Err(Errno(libc::EFAULT)), || try_make(id, &recipe));
    let full = ethdev::all_taken();
    match outcome {
        Err(_) if full => outcome = Err(Errno(libc::ENOSPC)),
        Err(_) => {}
        Ok(()) => {
            info!(target: NOTICE, "{}: made", recipe.label);
            match ethdev::find(&recipe.fallback) {
                None => {
                    let advice = if full { state::all_taken() } else { recipe.fallback_advice };
                    error!("{}: {advice}", recipe.label);
                }
                Some(fallback) => warn_of_queues(&recipe, fallback),
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
    if recipe.shell {
        // A secondary that was started when there was no port has a device without a driver, and refuses. From 26.07 on the
        // device is on the bus but removed already, and this fails.
        remove_shell(recipe);
    }
    remove_failed_fallback(recipe);
    // Failsafe looks into its mailbox once while it is created, and takes at once what it finds.
    rescan::go_on(Scope::Making(id), Attend::Wait);
    let devargs = recipe.devargs.as_ref().ok_or(Errno(libc::E2BIG))?;
    debug!("{}: making it with {devargs:?}", recipe.label);
    MANAGER.mends.expect(&recipe.fallback, &recipe.failsafe);
    let mtu = mtu(recipe).unwrap_or_default();
    let mut queues = recipe.options.queues;
    let mut fewer_may_do = recipe.options.fallback == Fallback::AfPacket;
    loop {
        vdev::fill_in(&recipe.fallback, fallback_devargs(recipe, queues, mtu).as_deref());
        vdev::add(&recipe.failsafe, devargs)?;
        let port = ethdev::find(&recipe.failsafe).ok_or(Errno(libc::ENODEV))?;
        MANAGER.mends.made(&recipe.failsafe);
        if ethdev::find(&recipe.fallback).is_some() {
            return Ok(());
        }
        // With a fallback that never came up failsafe may set its alarm for port 0, whosever that is (`fs_dev_remove`).
        if rescan::is_link_gone(id) {
            debug!("{}: its interface went meanwhile", recipe.label);
            ethdev::stop_and_close(port)?;
            return Err(Errno(libc::ENODEV));
        }
        if !fewer_may_do || queues == 1 || ethdev::all_taken() {
            return Ok(());
        }
        // Failsafe has the address and the limits of its fallback only when that is there as it is made.
        ethdev::stop_and_close(port)?;
        remove_shell(recipe);
        remove_failed_fallback(recipe);
        fewer_may_do = queues < recipe.options.queues || has_room_for_one_queue(recipe, mtu);
        if fewer_may_do {
            queues /= 2;
            debug!("{}: making it with {queues} queues", recipe.label);
        }
    }
}

/// Removes what a failsafe port that was closed has left on the bus.
fn remove_shell(recipe: &Recipe) {
    if let Err(error) = vdev::remove(&recipe.failsafe).or_else(|_| vdev::remove_here(&recipe.failsafe)) {
        debug!("{}: the shell of an earlier port is not removed: {error}", recipe.label);
    }
}

fn remove_failed_fallback(recipe: &Recipe) {
    if let Err(error) = vdev::remove_failed(&recipe.fallback) {
        debug!("{}: what an earlier fallback has left is not removed: {error}", recipe.label);
    }
}

/// Returns the arguments of a fallback with so many queues, `None` when it has them by those of failsafe.
fn fallback_devargs(recipe: &Recipe, queues: u16, mtu: u32) -> Option<CString> {
    let other = queues != recipe.options.queues || mtu > Frames::PLAIN_MTU;
    other.then(|| recipe.options.fallback_devargs(recipe.link, queues, mtu))?
}

/// Tells whether a fallback with one queue could be made.
fn has_room_for_one_queue(recipe: &Recipe, mtu: u32) -> bool {
    let Some(devargs) = recipe.options.fallback_devargs(recipe.link, 1, mtu) else { return false };
    vdev::fill_in(&recipe.fallback, Some(&devargs));
    let made = vdev::add(&recipe.fallback, &devargs).and_then(|()| vdev::remove(&recipe.fallback));
    remove_failed_fallback(recipe);
    made.is_ok()
}

/// The MTU of a port's link, if the kernel tells, and nobody asks it at the moment.
fn mtu(recipe: &Recipe) -> Option<u32> {
    lock_ear_from_here()?.kernel().ok()?.mtu(recipe.link.get().as_bytes()).ok()?
}

/// Says when a fallback has not as many queues as were asked for.
fn warn_of_queues(recipe: &Recipe, fallback: PortNumber) {
    let asked = recipe.options.queues;
    if let Some(queues) = ethdev::most_queues(fallback).filter(|&queues| queues != asked) {
        warn!(
            "{}: {} has {queues} queues each way, and not {asked} as asked for; the port goes on with that",
            recipe.label,
            recipe.fallback.to_string_lossy()
        );
    }
}

/// Closes the failsafe port of a port in phase `Closing`, which takes its fallback and its VF along and leaves its vdev:
/// removing that one as well would free what `rte_eal_cleanup` is about to read (`vdev_cleanup` up to 26.03). What cannot
/// be closed is left to the interrupt thread, which tries again at each rescan of everything. That thread is kept
/// [`alone`].
pub(super) fn close(id: PortId) {
    let Some(recipe) = lock().recipe(id) else { return };
    // A panic must not leave it closing for ever.
    let close = || ethdev::find(&recipe.failsafe).map_or(Ok(()), ethdev::stop_and_close);
    let closed = guard("closing of a port", Err(Errno(libc::EFAULT)), close);
    if ethdev::find(&recipe.failsafe).is_none() {
        info!(target: NOTICE, "{}: closed", recipe.label);
        rescan::release(lock(), |state| state.closed(id));
        board::publish();
        // What it held is free.
        kick(KICK);
    } else {
        let error = closed.map_or_else(|error| error.to_string(), |()| "no reason given".to_owned());
        warn!("{}: its driver does not close it: {error}; trying again", recipe.label);
        lock().defer_close(id);
        pace(PACE);
    }
}
