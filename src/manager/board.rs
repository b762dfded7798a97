// SPDX-License-Identifier: BSD-3-Clause
//! What telemetry tells: a copy of what is known of the ports, put here whenever it may have changed. Who asks reads this
//! copy, and what DPDK shows in memory, and so holds up nobody that hot-plugs, nor waits for one.

use std::ffi::CStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::debug;

use super::{MANAGER, try_lock};
use crate::eal::ethdev::{self, Owner};
use crate::eal::telemetry::{self, Reply};
use crate::report::{Facts, Report};

/// The commands, each with its help.
const COMMANDS: [(&CStr, &CStr); 5] = [
    (c"/net_vdev_netvsc/list", c"Returns the ids of the ports. Takes no parameters"),
    (c"/net_vdev_netvsc/info", c"Returns what a port is made of. Parameters: int id"),
    (c"/net_vdev_netvsc/why", c"Returns why a port is fast or not, and what to do. Parameters: int id"),
    (c"/net_vdev_netvsc/stats", c"Returns counters and times of a port. Parameters: int id"),
    (c"/net_vdev_netvsc/events", c"Returns what happened to a port last. Parameters: int id"),
];

/// What is told. Its lock is held while a copy is made, and nothing else is locked under it.
pub(super) struct Board {
    ports: Mutex<Vec<Report>>,
    pub(super) rescans: AtomicU64,
    pub(super) events: AtomicU64,
    /// How often events were lost.
    pub(super) overruns: AtomicU64,
    /// The longest rescan in microseconds.
    pub(super) longest: AtomicU64,
}

impl Board {
    pub(super) const fn new() -> Self {
        Self {
            ports: Mutex::new(Vec::new()),
            rescans: AtomicU64::new(0),
            events: AtomicU64::new(0),
            overruns: AtomicU64::new(0),
            longest: AtomicU64::new(0),
        }
    }

    fn ports(&self) -> MutexGuard<'_, Vec<Report>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a rescan that began then.
    pub(super) fn rescanned(&self, begin: Instant) {
        self.rescans.fetch_add(1, Ordering::Relaxed);
        self.longest.fetch_max(micros(begin.elapsed()), Ordering::Relaxed);
    }
}

/// Has telemetry answered. Without it the driver works as well.
pub(super) fn serve() {
    // While there is an owner, ethdev keeps the memory of its ports, which the answers are read from
    // (`eth_dev_shared_data_release`, since 23.11).
    if let Err(error) = Owner::ours().and_then(|_| telemetry::serve(&COMMANDS, answer)) {
        debug!("no telemetry: {error}");
    }
}

/// Puts up what is known by now, unless somebody holds the state at the moment: the next rescan does so then.
pub(super) fn publish() {
    // Held meanwhile, so that nothing older is put up later.
    if let Some(state) = try_lock() {
        let reports = state.reports();
        let before = std::mem::replace(&mut *MANAGER.board.ports(), reports);
        drop(state);
        drop(before);
    }
}

fn answer(command: &str, argument: &str, reply: &mut Reply) -> Option<()> {
    let board = &MANAGER.board;
    let command = command.strip_prefix("/net_vdev_netvsc/")?;
    if command == "list" {
        let ids: Vec<u32> = board.ports().iter().map(|port| port.id).collect();
        reply.list(ids.into_iter());
        return Some(());
    }
    let id: u32 = argument.parse().ok()?;
    let port = board.ports().iter().find(|port| port.id == id).cloned()?;
    let now = Instant::now();
    reply.object();
    match command {
        "info" => info(&port, reply),
        "why" => why(&port, now, reply),
        "stats" => stats(&port, board, now, reply),
        "events" => events(&port, now, reply),
        _ => return None,
    }
    Some(())
}

/// What DPDK shows of a port at the moment.
fn facts(port: &Report) -> Facts {
    let started = |number| ethdev::is_started(number) == Some(true);
    Facts {
        queues: ethdev::queues(&port.failsafe),
        started: ethdev::find(&port.failsafe).is_some_and(started),
        has_fallback: ethdev::find(&port.fallback).is_some(),
        vf_started: port.vf.as_ref().and_then(|vf| vf.port).is_some_and(started),
    }
}

fn info(port: &Report, reply: &mut Reply) {
    let facts = facts(port);
    reply.text(c"instance", &port.instance.to_string_lossy());
    reply.text(c"failsafe", &port.failsafe.to_string_lossy());
    reply.text(c"fallback", &port.fallback.to_string_lossy());
    reply.number(c"fallback_present", facts.has_fallback.into());
    reply.text(c"netvsc", &port.name.to_string());
    reply.number(c"netvsc_ifindex", port.index.get().into());
    reply.text(c"netvsc_mac", &port.mac.map(|mac| mac.to_string()).unwrap_or_default());
    reply.number(c"netvsc_present", port.up.is_some().into());
    reply.number(c"netvsc_up", port.up.unwrap_or_default().into());
    let [receive, transmit] = facts.queues.unwrap_or_default();
    reply.number(c"rx_queues", receive.into());
    reply.number(c"tx_queues", transmit.into());
    reply.number(c"vf_present", port.vf.is_some().into());
    if let Some(vf) = &port.vf {
        reply.text(c"vf", &vf.link.name.to_string());
        reply.text(c"vf_address", &vf.link.address.to_string());
        reply.text(c"vf_driver", &vf.link.driver.map_or("unknown".to_owned(), |driver| driver.to_string()));
        reply.text(c"vf_paired_by", vf.paired_by);
        reply.number(c"vf_up", vf.link.up.into());
    }
}

fn why(port: &Report, now: Instant, reply: &mut Reply) {
    let why = port.why(&facts(port));
    reply.number(c"path_vf", why.is_vf().into());
    reply.text(c"verdict", why.verdict);
    reply.number(c"since_s", now.duration_since(port.since).as_secs());
    reply.text(c"text", &why.text);
    reply.text(c"do", why.advice);
}

fn stats(port: &Report, board: &Board, now: Instant, reply: &mut Reply) {
    let history = &port.history;
    let counts = [
        (c"vf_came", history.came),
        (c"vf_went", history.went),
        (c"vf_posted", history.posted),
        (c"vf_taken", history.taken),
        (c"vf_hindered", history.hindered),
        (c"vf_s", history.vf_time(now).as_secs()),
        (c"fallback_s", history.fallback_time(now).as_secs()),
        (c"change_last_ms", millis(history.last_change)),
        (c"change_longest_ms", millis(history.longest_change)),
        (c"rescans", board.rescans.load(Ordering::Relaxed)),
        (c"rescan_longest_us", board.longest.load(Ordering::Relaxed)),
        (c"link_events", board.events.load(Ordering::Relaxed)),
        (c"link_events_lost", board.overruns.load(Ordering::Relaxed)),
    ];
    counts.into_iter().for_each(|(name, count)| reply.number(name, count));
}

/// Each under its number: seconds since the machine started and since 1970, and what happened.
fn events(port: &Report, now: Instant, reply: &mut Reply) {
    let (wall, uptime) = (SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(), telemetry::uptime());
    for (number, then, event) in port.history.events() {
        let ago = now.duration_since(then);
        let [uptime, wall] = [uptime, wall].map(|clock| seconds(clock.saturating_sub(ago)));
        let text = format!("{uptime} {wall} {event}");
        if let Ok(name) = std::ffi::CString::new(number.to_string()) {
            reply.text(&name, &text);
        }
    }
}

/// A time in seconds, to the millisecond.
fn seconds(time: Duration) -> String {
    format!("{}.{:03}", time.as_secs(), time.subsec_millis())
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
