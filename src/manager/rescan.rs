// SPDX-License-Identifier: BSD-3-Clause
//! A rescan: what the kernel and DPDK say is compared with what we hold, and the difference acted upon.
//!
//! ```text
//!   hear the kernel ─> step (state) ─> ask sysfs, rtnetlink, DPDK ─┐
//!                        ^     │                                   │
//!                        │     └─ orders ─> make, close, attach ─┐ │
//!                        └───────────────────────────────────────┴─┘
//! ```
//! On the interrupt thread, which tries locks and comes back later; and for a port that is about to be made, on the thread
//! that makes it.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use log::{debug, warn};

use super::alarms::{KICK, PACE, kick, pace};
use super::facts::{Answers, Questions};
use super::kernel::Ear;
use super::ports::execute;
use super::state::{Scope, Serial, State, Step};
use super::{MANAGER, board, lock, lock_ear, lock_ear_from_here, try_lock, try_lock_ear};
use crate::eal::alarm::OnInterruptThread;
use crate::eal::ethdev;
use crate::host::Sysfs;
use crate::link::{Parent, Unreadable};
use crate::port::PortId;

/// How often a VF is looked at that waits for its ibverbs device.
pub(super) const VERBS_POLL: Duration = Duration::from_millis(20);

/// How often the kernel's queue is read in one rescan, and lists asked for: what is left calls again.
pub(super) const HEAR_ROUNDS: u32 = 4;

/// More steps than any rescan takes: parents, drivers, occupants, orders, and the same once more for what was attached.
pub(super) const STEPS_MAX: u32 = 32;

/// What to do when another thread holds the state or the ear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attend {
    /// Give up: on the interrupt thread.
    Try,
    /// Wait: elsewhere.
    Wait,
}

/// Link events wait.
pub(super) fn link_event(here: &OnInterruptThread) {
    rescan(Scope::Events, here);
}

/// Compares everything, or what an event concerns, and acts on it.
pub(super) fn rescan(scope: Scope, here: &OnInterruptThread) {
    let begin = Instant::now();
    compare(scope, here);
    MANAGER.board.rescanned(begin);
    board::publish();
}

fn compare(scope: Scope, here: &OnInterruptThread) {
    // First, so that a function is free when its VF is attached again.
    MANAGER.mends.settle(here, Instant::now());
    let heard = {
        // An event stays readable, so the interrupt thread comes back by itself.
        let again = || {
            if scope == Scope::All {
                kick(KICK);
            }
        };
        let Some(mut ear) = try_lock_ear() else { return again() };
        // Unless it is known that there is something to watch, the ear stays closed.
        let Some(idle) = try_lock().map(|state| state.is_idle()) else { return again() };
        if idle {
            return;
        }
        let now = Instant::now();
        ear.hear(try_lock, HEAR_ROUNDS, scope == Scope::Events).unwrap_or_else(|error| {
            ear.tell(&error, now);
            // So that a socket that fails is not watched.
            if scope == Scope::Events {
                kick(KICK);
            }
            true
        })
    };
    let Some(mut state) = try_lock().filter(|_| heard) else { return kick(KICK) };
    state.attend(scope);
    drop(state);
    if !go_on(scope, Attend::Try) {
        return kick(KICK);
    }
    match try_lock().map(|state| (state.waits_for_verbs(Instant::now()), state.is_at_rest(Instant::now()))) {
        Some((true, _)) => kick(VERBS_POLL),
        Some((false, true)) if !MANAGER.mends.is_quiet(Instant::now()) && MANAGER.mends.are_settled() => {}
        _ => {
            let now = Instant::now();
            let next = try_lock().and_then(|state| state.next_try(now));
            pace(next.map_or(PACE, |then| PACE.min(then - now)));
        }
    }
}

/// Takes steps until there is nothing left to do. Returns whether it came so far.
pub(super) fn go_on(scope: Scope, attend: Attend) -> bool {
    let mut answers = Answers::default();
    for _ in 0..STEPS_MAX {
        let Some(state) = (if attend == Attend::Wait { Some(lock()) } else { try_lock() }) else { return false };
        let now = Instant::now();
        let quiet = MANAGER.mends.is_quiet(now);
        match release(state, |state| state.step(scope, &answers, quiet, now)) {
            Step::Ask(questions) => {
                let more = ask(&questions, attend);
                if more.gone.as_ref().is_some_and(|gone| !gone.is_empty()) {
                    // What they held is free.
                    kick(KICK);
                }
                answers.extend(more);
            }
            Step::Do(orders) => {
                if !execute(orders) {
                    return true;
                }
                answers.forget_occupants();
            }
        }
    }
    debug!("a rescan does not come to an end");
    true
}

/// Tells whether a port's link is known to be gone by now.
pub(super) fn is_link_gone(id: PortId) -> bool {
    let heard = lock_ear_from_here().is_some_and(|mut ear| ear.hear(|| Some(lock()), HEAR_ROUNDS, true).is_ok());
    heard && lock().is_link_gone(id)
}

/// Changes the state, and has failsafe's mends forget the ports that it let go of before another can have their names.
pub(super) fn release<T>(mut state: MutexGuard<'static, State>, change: impl FnOnce(&mut State) -> T) -> T {
    let result = change(&mut state);
    for id in state.take_closed() {
        MANAGER.mends.closed(&id.failsafe_name());
    }
    result
}

/// Of these ports, those that have no failsafe port.
pub(super) fn without_port(ports: &[(Serial, PortId)]) -> Vec<Serial> {
    ports.iter().filter(|(_, id)| ethdev::find(&id.failsafe_name()).is_none()).map(|&(serial, _)| serial).collect()
}

/// Asks whoever knows. What cannot be told for now is left out, or said to be unknown.
pub(super) fn ask(questions: &Questions, attend: Attend) -> Answers {
    let kernel = if questions.configured.is_empty() && questions.alternatives.is_empty() {
        Answers::default()
    } else {
        let mut ear = if attend == Attend::Wait { Some(lock_ear()) } else { try_lock_ear() };
        ask_kernel(questions, ear.as_deref_mut())
    };
    let sysfs = Sysfs::default();
    let now = Instant::now();
    let mut unread = None;
    let answers = Answers {
        parents: questions.parents.map(|&index, name| {
            Some(sysfs.parent(name, index).unwrap_or_else(|error| {
                let errno = error.raw_os_error().unwrap_or(libc::EIO);
                unread.get_or_insert_with(|| format!("what device {name} sits on: {error}"));
                Parent::Unreadable(Unreadable::Errno(errno))
            }))
        }),
        // It has none for a while before its netdevices go.
        drivers: questions.drivers.map(|_, &function| {
            let driver = sysfs.kernel_driver(function).inspect_err(|error| {
                unread.get_or_insert_with(|| format!("the kernel driver of {function}: {error}"));
            });
            Some(driver.unwrap_or_default())
        }),
        verbs: questions.verbs.map(|&function, ()| {
            let has_verbs = sysfs.has_verbs(function).inspect_err(|error| {
                unread.get_or_insert_with(|| format!("the ibverbs device of {function}: {error}"));
            });
            Some(has_verbs.unwrap_or_default())
        }),
        occupants: questions.occupants.map(|&function, ()| MANAGER.mends.occupant(function, now)),
        gone: (!questions.alive.is_empty()).then(|| without_port(&questions.alive)),
        names: questions.names.then(ethdev::names),
        ..kernel
    };
    let is_asked = !(questions.parents.is_empty() && questions.drivers.is_empty() && questions.verbs.is_empty());
    if is_asked && MANAGER.unread.swap(unread.is_some(), Ordering::Relaxed) {
        // It was told.
        return answers;
    }
    if let Some(unread) = unread {
        warn!("sysfs does not tell {unread}; trying again");
    }
    answers
}

/// Asks what rtnetlink tells. Without an ear a link may be configured, and has no alternative name for now.
pub(super) fn ask_kernel(questions: &Questions, mut ear: Option<&mut Ear>) -> Answers {
    let mut unsettled = false;
    let alternatives = questions.alternatives.map(|selector, ()| {
        let name = selector.name()?;
        let found = ear.as_deref_mut().map(|ear| ear.kernel()?.link_called(name));
        unsettled |= !matches!(found, Some(Ok(_)));
        Some(found.and_then(Result::ok).flatten())
    });
    let configured = questions.configured.map(|&index, ()| {
        let configuration = ear.as_deref_mut().map(|ear| ear.kernel()?.configuration(index));
        Some(!matches!(configuration, Some(Ok(None))))
    });
    Answers { alternatives, configured, unsettled, ..Answers::default() }
}
