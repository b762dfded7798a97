// SPDX-License-Identifier: BSD-3-Clause
//! What is told of a port to whoever runs it: what it is made of, why it is fast or not, what happened to it. Pure.
//!
//! [`Report::why`] gives one of these verdicts, of which `docs/telemetry.md` says what to do:
//!
//! | verdict | |
//! | --- | --- |
//! | `vf` | frames go by the VF |
//! | `no_vf` | the host gives none |
//! | `vf_down` | its link is down |
//! | `vf_unreadable` | sysfs does not tell its kernel driver |
//! | `vf_without_verbs` | its PMD would find no ibverbs device |
//! | `mana_needs_net_netvsc` | below failsafe it cannot be driven |
//! | `vf_owned_by_another`, `vf_started_by_application` | its port is somebody else's |
//! | `mac_differs`, `vf_not_found_by_failsafe` | failsafe would take another port, or none |
//! | `no_pmd_for_vf`, `vf_probe_failed`, `vf_start_failed` | DPDK has tried |
//! | `attaching`, `waiting_for_failsafe`, `waiting_for_dpdk` | it is on its way |
//! | `port_not_configured`, `port_not_started` | the application has not |
//! | `fallback_down`, `netvsc_gone`, `port_closing` | nothing carries frames |

use std::ffi::CString;
use std::fmt;
use std::time::{Duration, Instant};

use crate::address::{IfIndex, IfName, MacAddr, PciAddr};
use crate::delivery::{Hindrance, VfLink};
use crate::eal::ethdev::PortNumber;

/// How many events are kept of a port.
pub const KEPT: usize = 32;

/// What happened to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It was made.
    Made,
    /// A VF came.
    Came(IfName, PciAddr),
    /// Its address was posted.
    Posted(PciAddr),
    /// Failsafe has it.
    Taken(PciAddr),
    /// It is not delivered; the verdict says why.
    Hindered(&'static str),
    /// It went.
    Went(IfName, PciAddr),
    /// The NetVSC interface went.
    InterfaceGone,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Made => f.write_str("made"),
            Self::Came(name, address) => write!(f, "VF {name} came at {address}"),
            Self::Posted(address) => write!(f, "posted {address}"),
            Self::Taken(address) => write!(f, "failsafe has {address}"),
            Self::Hindered(verdict) => f.write_str(verdict),
            Self::Went(name, address) => write!(f, "VF {name} at {address} went"),
            Self::InterfaceGone => f.write_str("the interface is gone"),
        }
    }
}

/// What happened so far to one port.
#[derive(Debug, Clone)]
pub struct History {
    /// The last events; that of number `n` lies at `n % KEPT`.
    kept: [Option<(Instant, Event)>; KEPT],
    /// How many there were.
    count: usize,
    /// VFs that came.
    pub came: u64,
    /// VFs that went.
    pub went: u64,
    /// How often an address was posted.
    pub posted: u64,
    /// How often failsafe took one.
    pub taken: u64,
    /// How often a VF was hindered.
    pub hindered: u64,
    /// When the VF that is not delivered yet came.
    on_its_way: Option<Instant>,
    /// How long the last VF took from its coming to failsafe.
    pub last_change: Duration,
    /// The longest.
    pub longest_change: Duration,
    since: Instant,
    vf_since: Option<Instant>,
    vf_time: Duration,
}

impl History {
    /// Begins with a port that is about to be made.
    pub fn new(now: Instant) -> Self {
        Self {
            kept: [None; KEPT],
            count: 0,
            came: 0,
            went: 0,
            posted: 0,
            taken: 0,
            hindered: 0,
            on_its_way: None,
            last_change: Duration::ZERO,
            longest_change: Duration::ZERO,
            since: now,
            vf_since: None,
            vf_time: Duration::ZERO,
        }
    }

    /// Notes what happens.
    pub fn note(&mut self, event: Event, now: Instant) {
        if let Some(place) = self.kept.get_mut(self.count % KEPT) {
            *place = Some((now, event));
        }
        self.count += 1;
        match event {
            Event::Came(..) => {
                self.came += 1;
                self.on_its_way = Some(now);
            }
            Event::Posted(_) => self.posted += 1,
            Event::Taken(_) => {
                self.taken += 1;
                self.vf_since = Some(now);
                if let Some(came) = self.on_its_way.take() {
                    self.last_change = now.duration_since(came);
                    self.longest_change = self.longest_change.max(self.last_change);
                }
            }
            Event::Hindered(_) => self.hindered += 1,
            Event::Went(..) => {
                self.went += 1;
                self.lost(now);
            }
            Event::Made | Event::InterfaceGone => {}
        }
    }

    /// Notes that failsafe has no VF any more.
    pub fn lost(&mut self, now: Instant) {
        self.vf_time = self.vf_time(now);
        (self.vf_since, self.on_its_way) = (None, None);
    }

    /// How long failsafe has had a VF in all.
    pub fn vf_time(&self, now: Instant) -> Duration {
        self.vf_time + self.vf_since.map_or(Duration::ZERO, |since| now.duration_since(since))
    }

    /// How long it had none.
    pub fn fallback_time(&self, now: Instant) -> Duration {
        now.duration_since(self.since).saturating_sub(self.vf_time(now))
    }

    /// The events that are kept, each with its number, the oldest first.
    pub fn events(&self) -> impl Iterator<Item = (usize, Instant, Event)> {
        let first = self.count.saturating_sub(KEPT);
        let at = move |number: usize| self.kept.get(number % KEPT).copied().flatten();
        (first..self.count).filter_map(move |number| at(number).map(|(then, event)| (number, then, event)))
    }
}

/// How far the VF of a port is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It waits.
    Waiting,
    /// Its function is being attached, or was.
    Attaching,
    /// Its address lies in the mailbox.
    Posted,
    /// Failsafe has it.
    Taken,
}

/// The VF of a port.
#[derive(Debug, Clone)]
pub struct Vf {
    /// As the kernel shows it.
    pub link: VfLink,
    /// What it is known by as the port's.
    pub paired_by: &'static str,
    /// How far it is.
    pub stage: Stage,
    /// What keeps it from going on.
    pub hindrance: Option<Hindrance>,
    /// Its port, since that was handed to failsafe.
    pub port: Option<PortNumber>,
}

/// One port, as it was when something happened last.
#[derive(Debug, Clone)]
pub struct Report {
    /// Its number.
    pub id: u32,
    /// Its instance.
    pub instance: CString,
    /// Name of its failsafe port.
    pub failsafe: CString,
    /// Name of its fallback.
    pub fallback: CString,
    /// Name of the NetVSC interface.
    pub name: IfName,
    /// Index of it.
    pub index: IfIndex,
    /// Address of it.
    pub mac: Option<MacAddr>,
    /// Whether it is up; `None` when it is gone.
    pub up: Option<bool>,
    /// Whether its failsafe port serves.
    pub live: bool,
    /// Its VF.
    pub vf: Option<Vf>,
    /// What happened to it.
    pub history: History,
    /// Since when it is so.
    pub since: Instant,
}

/// What DPDK shows of a port at the moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// Queues that the application has configured, to receive and to send; `None` when there is no failsafe port.
    pub queues: Option<[u16; 2]>,
    /// The failsafe port is started.
    pub started: bool,
    /// The fallback's port exists.
    pub has_fallback: bool,
    /// The VF's port is started.
    pub vf_started: bool,
}

/// Why frames go by the way that they go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// One of the list above.
    pub verdict: &'static str,
    /// What is so.
    pub text: String,
    /// What to do.
    pub advice: &'static str,
}

impl Why {
    fn new(verdict: &'static str, text: impl Into<String>, advice: &'static str) -> Self {
        Self { verdict, text: text.into(), advice }
    }

    /// Whether frames go by the VF.
    pub fn is_vf(&self) -> bool {
        self.verdict == "vf"
    }
}

impl Report {
    /// Says why the port is fast or not.
    pub fn why(&self, facts: &Facts) -> Why {
        if self.up.is_none() {
            let text = format!("the interface {} is gone", self.name);
            return Why::new("netvsc_gone", text, "a port is made anew when it is back; close this one");
        }
        let Some(queues) = facts.queues.filter(|_| self.live) else {
            return Why::new("port_closing", "the port is being made or closed", "");
        };
        if queues == [0; 2] {
            let text = format!("the application has not configured {}", self.failsafe.to_string_lossy());
            return Why::new("port_not_configured", text, "configure the port (rte_eth_dev_configure)");
        }
        if !facts.started {
            let text = format!("the application has not started {}", self.failsafe.to_string_lossy());
            return Why::new("port_not_started", text, "start the port (rte_eth_dev_start)");
        }
        if let Some(vf) = &self.vf {
            if vf.stage == Stage::Taken && facts.vf_started {
                return Why::new("vf", format!("frames go by the VF {} at {}", vf.link.name, vf.link.address), "");
            }
        }
        if !facts.has_fallback || self.up == Some(false) && self.vf.is_none() {
            return self.without_fallback(facts);
        }
        self.vf.as_ref().map_or_else(
            || {
                Why::new(
                    "no_vf",
                    "the host gives no VF at the moment",
                    "see that Accelerated Networking (SR-IOV) is on",
                )
            },
            Vf::why,
        )
    }

    fn without_fallback(&self, facts: &Facts) -> Why {
        if facts.has_fallback {
            let advice = "set it up (ip link set up)";
            return Why::new("fallback_down", format!("the interface {} is down", self.name), advice);
        }
        let text = format!("{} did not come up on {}", self.fallback.to_string_lossy(), self.name);
        Why::new("fallback_down", text, "see the errors in the log")
    }
}

impl Vf {
    /// Why frames do not go by it.
    fn why(&self) -> Why {
        let (name, address) = (self.link.name, self.link.address);
        let of = |verdict, what: &str, advice| Why::new(verdict, format!("VF {name} at {address} {what}"), advice);
        match (&self.hindrance, self.stage) {
            (Some(hindrance), _) => of(hindrance.verdict(), &hindrance.to_string(), hindrance.advice()),
            (None, Stage::Waiting) if !self.link.up => of("vf_down", "is down", "set it up (ip link set up)"),
            (None, Stage::Waiting | Stage::Attaching) => of("attaching", "is about to be attached", ""),
            (None, Stage::Posted) => of("waiting_for_failsafe", "waits until failsafe reads its address", ""),
            (None, Stage::Taken) => {
                of("vf_start_failed", "is failsafe's, which has not started it", "see the errors in the log")
            }
        }
    }
}
