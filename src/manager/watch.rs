// SPDX-License-Identifier: BSD-3-Clause
//! What has DPDK call us: the source of link events, the events of ports, the tick.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::PoisonError;
use std::thread;
use std::time::{Duration, Instant};

use log::error;

use super::alarms::{KICK, TICK, kick, tick};
use super::rescan::link_event;
use super::{MANAGER, lock, lock_ear_from_here, try_lock, try_lock_ear};
use crate::address::PciAddr;
use crate::eal::ethdev::{self, Callback, Event, PortNumber};
use crate::eal::interrupt::Source;
use crate::eal::{Errno, alarm, pci};

/// What we hear of ports.
const PORT_EVENTS: [(Event, Callback); 4] = [
    (Event::New, pci::port_appeared),
    (Event::New, fallback_appeared),
    (Event::Removal, device_removed),
    (Event::Destroy, port_goes),
];

/// How long a probe waits for another thread that changes what has DPDK call us.
const CHANGE_PATIENCE: Duration = Duration::from_secs(2);

/// What has DPDK call us. It is taken out of its place while it is changed, as that calls DPDK.
#[derive(Debug)]
pub(super) struct Watch {
    /// The events' socket among the sources of the interrupt thread, and its generation (`Ear`).
    source: Option<(Source, u64)>,
    /// Whether we hear of ports, for each of [`PORT_EVENTS`].
    ports: [bool; PORT_EVENTS.len()],
    /// Whether the tick's alarm is set.
    ticking: bool,
}

impl Watch {
    pub(super) const fn new() -> Self {
        Self { source: None, ports: [false; PORT_EVENTS.len()], ticking: false }
    }

    /// Tells whether everything calls us; `generation` is that of the socket to watch.
    pub(super) fn is_on(&self, generation: u64) -> bool {
        self.watches(generation) && self.ports == [true; PORT_EVENTS.len()] && self.ticking
    }

    fn watches(&self, generation: u64) -> bool {
        self.source.as_ref().is_some_and(|&(_, watched)| watched == generation)
    }

    /// Tells whether nothing calls us any more, but for a tick that will end itself.
    pub(super) fn is_off(&self) -> bool {
        self.source.is_none() && self.ports == [false; PORT_EVENTS.len()]
    }

    /// Notes that the tick is not set again.
    pub(super) fn tick_ended(&mut self) {
        self.ticking = false;
    }

    /// Has everything call us. `events` is the socket to watch, of that generation. Returns whether it was done.
    pub(super) fn start(&mut self, events: Option<io::Result<OwnedFd>>, generation: u64) -> bool {
        if !self.watches(generation) {
            self.end_source();
        }
        if self.source.is_none() {
            match events {
                Some(Ok(socket)) => match Source::register(socket, link_event) {
                    Ok(source) => self.source = Some((source, generation)),
                    Err(error) => error!("cannot watch link events: {error}"),
                },
                Some(Err(error)) => error!("cannot watch link events: {error}"),
                None => {}
            }
        }
        if let Err(error) = self.hear_of_ports() {
            error!("cannot hear of ports that go: {error}");
        }
        if !self.ticking {
            match alarm::set(TICK, tick) {
                Ok(()) => self.ticking = true,
                Err(error) => error!("cannot set an alarm: {error}"),
            }
        }
        // Errors were told; the tick, if there is one, tries again. Only a callback that was running is worth a kick.
        self.source.is_none() || self.watches(generation)
    }

    /// Has us called when a port goes or its device is taken away.
    ///
    /// # Errors
    /// `ENOMEM`; what could be registered is.
    pub(super) fn hear_of_ports(&mut self) -> Result<(), Errno> {
        for (on, (event, callback)) in self.ports.iter_mut().zip(PORT_EVENTS) {
            if !*on {
                ethdev::watch(event, callback)?;
                *on = true;
            }
        }
        Ok(())
    }

    /// Ends all but the tick, which ends itself. Returns whether it was done: a callback that is running cannot be
    /// taken away, nor waited for.
    pub(super) fn stop(&mut self) -> bool {
        self.end_source();
        for (on, (event, callback)) in self.ports.iter_mut().zip(PORT_EVENTS) {
            *on = *on && ethdev::unwatch(event, callback).is_err();
        }
        self.is_off()
    }

    fn end_source(&mut self) {
        let ended = |(source, generation): (Source, u64)| source.unregister().err().map(|source| (source, generation));
        self.source = self.source.take().and_then(ended);
    }
}

/// A port is about to exist: perhaps the fallback of one of ours.
fn fallback_appeared(_: PortNumber) {
    MANAGER.mends.port_appeared();
}

/// The device of a port was taken away.
fn device_removed(port: PortNumber) {
    MANAGER.mends.device_removed(port);
    take_back(|function| MANAGER.mends.is_on(function, port));
}

/// Takes back what lies in a mailbox, or is about to, for a function of which this is so.
fn take_back(is_it: impl Fn(PciAddr) -> bool) {
    let offered = lock().offered();
    if let Some((serial, _)) = offered.into_iter().find(|&(_, function)| is_it(function)) {
        lock().device_removed(serial, Instant::now());
        kick(KICK);
    }
}

/// A port of anybody's is about to go: perhaps a failsafe port of ours, or a VF's.
fn port_goes(port: PortNumber) {
    // Failsafe would find the next one on that function, or none.
    take_back(|function| MANAGER.mends.is_first_on(function, port));
    MANAGER.mends.port_goes(port, Instant::now());
    kick(KICK);
}

/// What has DPDK call us, taken out of its place while it is changed. It goes back there on every way.
struct Taken(Option<Watch>);

impl Taken {
    /// Takes it, `None` while somebody else changes it.
    fn take() -> Option<Self> {
        let watch = MANAGER.watch.lock().unwrap_or_else(PoisonError::into_inner).take();
        watch.map(|watch| Self(Some(watch)))
    }

    fn change<T>(&mut self, change: impl FnOnce(&mut Watch) -> T) -> Option<T> {
        self.0.as_mut().map(change)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        *MANAGER.watch.lock().unwrap_or_else(PoisonError::into_inner) = self.0.take();
    }
}

/// Notes that the tick is not set again; `false` when that cannot be noted right now.
pub(super) fn tick_ended() -> bool {
    Taken::take().is_some_and(|mut watch| watch.change(Watch::tick_ended).is_some())
}

/// Has DPDK tell us of ports, before there is one that could lose its VF.
///
/// # Errors
/// `ENOMEM`, or `EAGAIN` when another thread does not get done with what has DPDK call us.
pub(super) fn hear_of_ports() -> Result<(), Errno> {
    let patience = Instant::now() + CHANGE_PATIENCE;
    loop {
        if let Some(mut taken) = Taken::take() {
            return taken.change(Watch::hear_of_ports).unwrap_or(Ok(()));
        }
        if Instant::now() >= patience {
            return Err(Errno(libc::EAGAIN));
        }
        thread::sleep(KICK);
    }
}

/// Makes up, on the interrupt thread, for what [`watch()`] could not do elsewhere.
pub(super) fn watch_on() {
    let settled = || {
        let (is_open, generation) = try_lock_ear().map(|ear| (ear.is_open(), ear.generation()))?;
        let idle = try_lock()?.is_idle();
        let taken = Taken::take()?;
        taken.0.as_ref().map(|watch| if idle { watch.is_off() && !is_open } else { watch.is_on(generation) })
    };
    match settled() {
        Some(true) => {}
        Some(false) => watch(),
        None => kick(KICK),
    }
}

/// Has DPDK call us as long as there is something to watch, and no longer.
pub(super) fn watch() {
    loop {
        let Some((idle, events, generation)) = what_to_watch() else { return kick(KICK) };
        // Somebody else is at it, and looks again when he is through.
        let Some(mut taken) = Taken::take() else { return };
        let settled = taken.change(|watch| if idle { watch.stop() } else { watch.start(events, generation) });
        drop(taken);
        // Another socket may have come while the first was being watched, though there was something to watch all along.
        let Some((now_idle, _, now)) = what_to_watch() else { return kick(KICK) };
        if (now_idle, now) == (idle, generation) {
            if settled == Some(false) {
                kick(KICK);
            }
            return;
        }
    }
}

/// Tells whether there is nothing to watch, and ends listening then; else which socket to watch. `None` on the interrupt
/// thread when another has the ear.
fn what_to_watch() -> Option<(bool, Option<io::Result<OwnedFd>>, u64)> {
    let mut ear = lock_ear_from_here()?;
    let mut state = lock();
    let idle = state.is_idle();
    if idle {
        ear.close();
        state.forget_links();
    }
    drop(state);
    let (events, generation) = ear.to_watch();
    Some((idle, events, generation))
}
