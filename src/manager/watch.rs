// SPDX-License-Identifier: BSD-3-Clause
//! What has DPDK call us: the source of link events, the event of ports that go, the tick.

use std::io;
use std::os::fd::OwnedFd;

use log::error;

use super::{TICK, link_event, port_goes, tick, vf_removed};
use crate::eal::alarm;
use crate::eal::ethdev::{self, Event, PortNumber};
use crate::eal::interrupt::Source;

/// What we hear of ports.
const PORT_EVENTS: [(Event, fn(PortNumber)); 2] = [(Event::Removal, vf_removed), (Event::Destroy, port_goes)];

/// What has DPDK call us. It is taken out of the state while it is changed, as that calls DPDK.
#[derive(Debug)]
pub(super) struct Watch {
    /// The events' socket among the sources of the interrupt thread.
    source: Option<Source>,
    /// Whether `source` belongs to events that were given up; it could not be unregistered while it was running.
    stale: bool,
    /// Whether we hear of ports, for each of [`PORT_EVENTS`].
    ports: [bool; 2],
    /// Whether the tick's alarm is set.
    ticking: bool,
}

impl Watch {
    pub(super) const fn new() -> Self {
        Self { source: None, stale: false, ports: [false; 2], ticking: false }
    }

    /// Tells whether everything calls us.
    pub(super) fn is_on(&self) -> bool {
        self.source.is_some() && !self.stale && self.ports == [true; 2] && self.ticking
    }

    /// Tells whether nothing calls us any more, but for a tick that will end itself.
    pub(super) fn is_off(&self) -> bool {
        self.source.is_none() && self.ports == [false; 2]
    }

    /// Notes that the tick is not set again.
    pub(super) fn tick_ended(&mut self) {
        self.ticking = false;
    }

    /// Has everything call us. `events` is the socket to watch. Returns whether it was done.
    pub(super) fn start(&mut self, events: Option<io::Result<OwnedFd>>) -> bool {
        if self.stale {
            self.end_source();
        }
        if self.source.is_none() {
            match events {
                Some(Ok(socket)) => match Source::register(socket, link_event) {
                    Ok(source) => self.source = Some(source),
                    Err(error) => error!("cannot watch link events: {error}"),
                },
                Some(Err(error)) => error!("cannot watch link events: {error}"),
                None => {}
            }
        }
        for (on, (event, callback)) in self.ports.iter_mut().zip(PORT_EVENTS) {
            if !*on {
                match ethdev::watch(event, callback) {
                    Ok(()) => *on = true,
                    Err(error) => error!("cannot hear of ports that go: {error}"),
                }
            }
        }
        if !self.ticking {
            match alarm::set(TICK, tick) {
                Ok(()) => self.ticking = true,
                Err(error) => error!("cannot set an alarm: {error}"),
            }
        }
        // Errors were told; the tick, if there is one, tries again. Only a callback that was running is worth a kick.
        !self.stale
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
        self.source = self.source.take().and_then(|source| source.unregister().err());
        self.stale = self.source.is_some();
    }
}
