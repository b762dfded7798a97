// SPDX-License-Identifier: BSD-3-Clause
//! What has DPDK call us: the source of link events, the event of ports that go, the tick.

use std::io;
use std::os::fd::OwnedFd;

use log::error;

use super::{TICK, link_event, port_goes, tick, vf_removed};
use crate::eal::ethdev::{self, Event, PortNumber};
use crate::eal::interrupt::Source;
use crate::eal::{Errno, alarm};

/// What we hear of ports.
const PORT_EVENTS: [(Event, fn(PortNumber)); 2] = [(Event::Removal, vf_removed), (Event::Destroy, port_goes)];

/// What has DPDK call us. It is taken out of the state while it is changed, as that calls DPDK.
#[derive(Debug)]
pub(super) struct Watch {
    /// The events' socket among the sources of the interrupt thread, and its generation ([`State::generation`]).
    ///
    /// [`State::generation`]: super::state::State::generation
    source: Option<(Source, u64)>,
    /// Whether we hear of ports, for each of [`PORT_EVENTS`].
    ports: [bool; 2],
    /// Whether the tick's alarm is set.
    ticking: bool,
}

impl Watch {
    pub(super) const fn new() -> Self {
        Self { source: None, ports: [false; 2], ticking: false }
    }

    /// Tells whether everything calls us; `generation` is that of the socket to watch.
    pub(super) fn is_on(&self, generation: u64) -> bool {
        self.watches(generation) && self.ports == [true; 2] && self.ticking
    }

    fn watches(&self, generation: u64) -> bool {
        self.source.as_ref().is_some_and(|&(_, watched)| watched == generation)
    }

    /// Tells whether nothing calls us any more, but for a tick that will end itself.
    pub(super) fn is_off(&self) -> bool {
        self.source.is_none() && self.ports == [false; 2]
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
