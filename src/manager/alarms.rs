// SPDX-License-Identifier: BSD-3-Clause
//! Alarms of the interrupt thread. Each is set once, however many ask for it before it fires.
//!
//! ```text
//!   kick    at once: for a thread that cannot rescan itself, such as a probe, or that found the lock taken
//!   pace    after a rescan that has left something to do which no event will announce: when that is due, or in a second
//!   tick    every five seconds, in case an event was missed
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use log::error;

use super::rescan::rescan;
use super::state::Scope;
use super::watch::{self, watch_on};
use super::{MANAGER, try_lock};
use crate::delivery;
use crate::eal::alarm::{self, OnInterruptThread};

/// Period of the safety net.
pub(super) const TICK: Duration = delivery::LOOK;

/// Period of checks for what no event announces: an address that failsafe has yet to read, a port to be tried again.
pub(super) const PACE: Duration = Duration::from_secs(1);

/// Delay of a kick. A port that is about to go is still there when we hear of it (`rte_eth_dev_release_port`).
pub(super) const KICK: Duration = Duration::from_millis(1);

/// Which alarms are set.
#[derive(Debug)]
pub(super) struct Alarms {
    kick: AtomicBool,
    pace: AtomicBool,
}

impl Alarms {
    pub(super) const fn new() -> Self {
        Self { kick: AtomicBool::new(false), pace: AtomicBool::new(false) }
    }

    /// Tells whether a kick is under way.
    pub(super) fn is_kicked(&self) -> bool {
        self.kick.load(Ordering::Relaxed)
    }
}

/// Makes the interrupt thread rescan everything after `delay`, and then do what [`watch()`](watch::watch) does.
/// Callable from any thread.
pub(super) fn kick(delay: Duration) {
    set_once(&MANAGER.alarms.kick, delay, kicked);
}

fn kicked(here: &OnInterruptThread) {
    fired(&MANAGER.alarms.kick, here);
}

/// Makes the interrupt thread look again, after `delay`, at what is pending. Callable from any thread.
pub(super) fn pace(delay: Duration) {
    set_once(&MANAGER.alarms.pace, delay, paced);
}

fn paced(here: &OnInterruptThread) {
    fired(&MANAGER.alarms.pace, here);
}

// Not inlined, as that would be into many places.
#[inline(never)]
fn set_once(flag: &AtomicBool, delay: Duration, callback: alarm::Callback) {
    if !flag.swap(true, Ordering::Relaxed) {
        if let Err(error) = alarm::set(delay, callback) {
            flag.store(false, Ordering::Relaxed);
            error!("cannot set an alarm: {error}; the next tick makes up for it");
        }
    }
}

fn fired(flag: &AtomicBool, here: &OnInterruptThread) {
    flag.store(false, Ordering::Relaxed);
    rescan(Scope::All, here);
    watch_on();
}

/// Runs each [`TICK`] while there is something to watch.
pub(super) fn tick(here: &OnInterruptThread) {
    // Set again before the work, so that no failure ends the safety net.
    let over = try_lock().is_some_and(|state| state.is_idle()) && watch::tick_ended();
    if !over {
        if let Err(error) = alarm::set(TICK, tick) {
            error!("cannot set an alarm: {error}; link events still come");
            watch::tick_ended();
        }
    }
    rescan(Scope::All, here);
    watch_on();
}
