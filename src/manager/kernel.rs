// SPDX-License-Identifier: BSD-3-Clause
//! The ear for the kernel: opened by the first probe, in its network namespace, closed when there is nothing to watch.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use log::{error, info};

use super::MANAGER;
use super::alarms::PACE;
use super::state::State;
use crate::eal::log::NOTICE;
use crate::host::{self, Drained};

/// A failure that lasts is told so often.
const TOLD_EACH: Duration = Duration::from_secs(60);

/// The sockets, and which they are.
#[derive(Debug)]
pub(super) struct Ear {
    kernel: Option<host::Kernel>,
    /// Which socket is to be watched, if any: it changes with each that is opened, closed, fails or works again.
    generation: u64,
    /// The socket of the events fails, so that to watch it would call us for ever.
    broken: bool,
    /// When a failure was told last.
    told: Option<Instant>,
}

impl Ear {
    pub(super) const fn new() -> Self {
        Self { kernel: None, generation: 0, broken: false, told: None }
    }

    /// Returns a copy of the socket to watch, if there is one, and its generation.
    pub(super) fn to_watch(&self) -> (Option<io::Result<OwnedFd>>, u64) {
        let kernel = self.kernel.as_ref().filter(|_| !self.broken);
        (kernel.map(|kernel| kernel.as_fd().try_clone_to_owned()), self.generation)
    }

    /// Tells whether the sockets are open.
    pub(super) fn is_open(&self) -> bool {
        self.kernel.is_some()
    }

    /// The generation of the socket to watch.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// The kernel to ask. Opens the sockets if they are not.
    ///
    /// # Errors
    /// When there are none to be had.
    pub(super) fn kernel(&mut self) -> Result<&mut host::Kernel, host::Error> {
        match &mut self.kernel {
            Some(kernel) => Ok(kernel),
            closed => {
                let kernel = closed.insert(host::Kernel::open()?);
                self.generation += 1;
                Ok(kernel)
            }
        }
    }

    /// Closes the sockets.
    pub(super) fn close(&mut self) {
        if self.kernel.is_some() {
            *self = Self { generation: self.generation + 1, ..Self::new() };
        }
    }

    /// Takes in what the kernel has to tell: reads what is queued at most `rounds` times, and lists all links when that
    /// is needed. `patient`: not because a list was only not exact. Returns whether the state could be had for that.
    ///
    /// The state is not held while the kernel lists its links.
    ///
    /// # Errors
    /// When the kernel cannot be listened to, or does not give its list. What is known stays; come again.
    pub(super) fn hear(
        &mut self,
        lock: impl Fn() -> Option<MutexGuard<'static, State>>,
        rounds: u32,
        patient: bool,
    ) -> Result<bool, host::Error> {
        let mut listed = false;
        for _ in 0..rounds {
            let Some(mut state) = lock() else { return Ok(false) };
            let all_read = self.drain(&mut state)?;
            let list = state.needs_dump(patient || listed);
            drop(state);
            if list {
                let dump = self.kernel()?.links()?;
                let Some(mut state) = lock() else { return Ok(false) };
                // What came meanwhile is read in the next round.
                state.take_dump(dump);
                listed = true;
            } else if all_read {
                break;
            }
        }
        // What fails now is another failure, unless it comes and goes all the time.
        self.told = self.told.filter(|then| then.elapsed() < PACE);
        Ok(true)
    }

    /// Applies the events that are queued. Returns whether all were read.
    fn drain(&mut self, state: &mut State) -> Result<bool, host::Error> {
        let mut events = 0;
        let drained = self.kernel()?.drain(|event| {
            events += 1;
            state.apply(event);
        });
        MANAGER.board.events.fetch_add(events, Ordering::Relaxed);
        if drained.is_err() != self.broken {
            self.broken = drained.is_err();
            self.generation += 1;
            if !self.broken {
                info!(target: NOTICE, "link events can be read again");
            }
        }
        match drained {
            Ok(Drained::Empty) => Ok(true),
            Ok(Drained::More) => Ok(false),
            Ok(Drained::Overrun) => {
                MANAGER.board.overruns.fetch_add(1, Ordering::Relaxed);
                state.lose_events();
                Ok(true)
            }
            Err(error) => {
                state.lose_events();
                Err(error)
            }
        }
    }

    /// Tells a failure that may last, once in a while.
    pub(super) fn tell(&mut self, error: &host::Error, now: Instant) {
        if self.told.is_none_or(|then| now.duration_since(then) >= TOLD_EACH) {
            self.told = Some(now);
            error!("{error}; VFs are followed again once it ends, trying each second");
        }
    }
}
