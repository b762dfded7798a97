// SPDX-License-Identifier: BSD-3-Clause
//! A VF's way to failsafe: when it is attached, when its address is posted, and when that is tried again. Pure.
//!
//! ```text
//!                     ┌── failed: after 1, 2, 4 … 60 s ──┐
//!                     v                                  │
//!   link appears ── Waiting ── ready, function free ─> Attaching ── a port of this VF ─> Posted ── line read ─> Taken
//!                     ^                                                                                          │
//!                     └──────────────── its function without a port for REPOST_AFTER, link still there ──────────┘
//! ```
//! The link going ends it from anywhere. One of MANA's waits for ever, as its port cannot be started below failsafe: it is
//! left to the kernel.
//!
//! Failsafe keeps an address that it has read until that sub-device is removed, and tries to attach it at each of its
//! polls, even when nothing can be attached there (`fs_read_fd`, `fs_bus_init`). So the VF is attached first, and its
//! address posted while its port is there: failsafe takes a port over in the same poll in which it reads the address.

use std::time::{Duration, Instant};
use std::{fmt, io};

use crate::address::{IfIndex, IfName, MacAddr, PciAddr};
use crate::eal::Errno;
use crate::eal::ethdev::Occupant;
use crate::link::KernelDriver;

/// How long a VF's PCI function is without a port before it is attached once more.
///
/// A PMD reports a removal before the kernel takes the netdevice away: attached in between, it would fail or be removed at
/// once.
const REPOST_AFTER: Duration = Duration::from_secs(2);

/// How long a VF's link may be down before it is attached all the same.
///
/// The kernel's netvsc sets a VF up a tenth of a second after it came, as udev may rename it before, and later when it
/// is busy. Failsafe sends by a VF as soon as it has it, and what is sent by a link that is down is lost.
const UP_PATIENCE: Duration = Duration::from_secs(3);

/// How long a VF may be hindered before that is worth a line.
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// How long failsafe has to keep a VF for its loss to be no failure.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// The longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Everything is looked at so often in any case.
pub(crate) const LOOK: Duration = Duration::from_secs(5);

/// A VF that belongs to a port, as the kernel shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VfLink {
    /// Its link.
    pub index: IfIndex,
    /// The name of that link.
    pub name: IfName,
    /// Its PCI function.
    pub address: PciAddr,
    /// The address of that link.
    pub mac: Option<MacAddr>,
    /// The address its hardware was made with, where the kernel knows one.
    pub permanent_mac: Option<MacAddr>,
    /// The kernel driver of the function; `None` while that cannot be read.
    pub driver: Option<KernelDriver>,
    /// Whether its link was up when the kernel last spoke of it.
    pub up: bool,
}

impl VfLink {
    /// Tells whether its PMD opens an ibverbs device, which comes after the netdevice.
    pub fn needs_verbs(&self) -> bool {
        self.driver == Some(KernelDriver::Mlx)
    }
}

/// What a delivery hangs on, beside what the kernel shows of the VF.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// Who sits on its PCI function.
    pub occupant: &'a Occupant,
    /// The port of ours that has the function, if another one has.
    pub sharer: Option<&'a str>,
    /// Whether its ibverbs device is there; matters for a VF that needs one.
    pub has_verbs: bool,
    /// Whether failsafe still holds the VF that was before this one.
    pub holds_other: bool,
    /// Whether its link is known to be there: no event of it was lost.
    pub is_sure: bool,
}

/// What has to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// Attach its PCI function, and tell [`Delivery::attached`].
    Attach,
    /// Put its address into the mailbox, and let failsafe have the port.
    Post,
    /// Take its address back.
    Recall,
    /// Take the function away from DPDK: we attached it, and failsafe does not get it.
    Detach,
}

/// Why a VF is not delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hindrance {
    /// Its kernel driver cannot be read, and with it what its PMD needs.
    Unreadable,
    /// It is MANA's. hv_netvsc has the host deliver by the VF only while its link is up, and then that has the vPort, so
    /// that the PMD cannot start (`netvsc_vf_changed`, `mana_cfg_vport` in the kernel; `mana_dev_start`).
    Mana,
    /// Its PMD would find no ibverbs device.
    NoVerbs,
    /// Somebody else has its function.
    Busy(Option<String>),
    /// Another port of ours has its function, which has several netdevices.
    Shared(String),
    /// Somebody has started this port on its function.
    Started(u16),
    /// The port that failsafe would take on its function is another netdevice's.
    Other(MacAddr),
    /// Failsafe does not find the port on its function, whose device has a name of the user's.
    NotFound,
    /// Failsafe does not let go of the VF before it.
    HoldsOther,
    /// Failsafe does not read.
    NotRead,
    /// DPDK cannot attach it.
    Failed(Errno),
    /// Its port cannot be configured as the failsafe port is.
    Unconfigured(Errno),
    /// Its address cannot be put into the mailbox, for the reason that this errno says.
    NotPosted(i32),
    /// Its port cannot be let go of.
    Kept(Errno),
    /// DPDK does not tell who has its function.
    Untold(Errno),
    /// DPDK attaches it, and no port comes of it.
    NoPort,
    /// Failsafe has it, and loses it at once.
    Lost,
}

impl Hindrance {
    /// Name of the verdict that says this ([`crate::report`]).
    pub fn verdict(&self) -> &'static str {
        match self {
            Self::Unreadable => "vf_unreadable",
            Self::Mana => "mana_needs_net_netvsc",
            Self::NoVerbs => "vf_without_verbs",
            Self::Busy(_) | Self::Shared(_) => "vf_owned_by_another",
            Self::Started(_) => "vf_started_by_application",
            Self::Other(_) => "mac_differs",
            Self::NotFound => "vf_not_found_by_failsafe",
            Self::HoldsOther | Self::NotRead | Self::NotPosted(_) | Self::Kept(_) => "waiting_for_failsafe",
            Self::Untold(_) => "waiting_for_dpdk",
            Self::Failed(Errno(libc::ENOTSUP)) => "no_pmd_for_vf",
            Self::Failed(_) | Self::NoPort => "vf_probe_failed",
            Self::Unconfigured(_) | Self::Lost => "vf_start_failed",
        }
    }

    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Unreadable => "mount the sysfs of this network namespace at /sys",
            Self::Mana => "for the fast path on this host use net_netvsc, see docs/mana.md",
            Self::NoVerbs => "load the kernel modules ib_uverbs and mlx5_ib or mlx4_ib",
            Self::Busy(Some(_)) => "give that up",
            Self::Busy(None) => "see the errors of its PMD",
            Self::Shared(_) => "failsafe takes one port of a function only; this one serves on its fallback",
            Self::Started(_) => "stop that, as failsafe cannot take it then; the fallback serves until it is",
            Self::Other(_) => "have DPDK make none but the VF's there, by arguments of its PMD after -a",
            Self::NotFound => "write that after -a, domain included",
            Self::HoldsOther => {
                "end the burst that the application is in; or, if that went before the port was configured, make the port \
                 anew"
            }
            Self::NotRead => "see whether EAL's interrupt thread is held up",
            Self::Failed(Errno(libc::ENODEV)) => {
                "see the errors above, and whether --no-pci is given or the device named after -b or -a without its domain"
            }
            Self::Failed(Errno(libc::ENOTSUP)) => "load that of the VF with -d or link it into the application",
            Self::Failed(_) | Self::Unconfigured(_) | Self::NoPort | Self::Lost => "see the errors above",
            Self::NotPosted(_) | Self::Kept(_) | Self::Untold(_) => "see whether the application is short of memory",
        }
    }

    /// The line of the log: what hinders it, and what to do.
    pub fn line(&self) -> String {
        let again = match self {
            Self::Failed(_) | Self::Unconfigured(_) | Self::NoPort | Self::Lost => "; trying again, after 60 s at most",
            Self::NotPosted(_) | Self::Kept(_) | Self::Untold(_) => "; trying again",
            _ => "",
        };
        format!("{self}: {}{again}", self.advice())
    }
}

impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable => f.write_str("is not attached: sysfs does not tell its kernel driver"),
            Self::Mana => f.write_str(
                "is left to the kernel, by which the port goes, as MANA's PMD cannot drive it below failsafe",
            ),
            Self::NoVerbs => f.write_str("has no ibverbs device, which its PMD needs"),
            Self::Busy(Some(owner)) => write!(f, "is not attached: its port belongs to {owner}"),
            Self::Busy(None) => f.write_str("is not attached: its PCI function has a driver without a port"),
            Self::Shared(port) => write!(f, "is not attached: {port} has its PCI function"),
            Self::Started(port) => write!(f, "is not attached: the application has started its port {port}"),
            Self::Other(mac) => write!(f, "is not attached: the port that failsafe would take has the address {mac}"),
            Self::NotFound => f.write_str("is not attached: failsafe finds its device by the full address only"),
            Self::HoldsOther => f.write_str("waits: failsafe still holds the VF before it"),
            Self::NotRead => f.write_str("waits: failsafe does not ask for it"),
            Self::Failed(Errno(libc::ENODEV)) => {
                f.write_str("cannot be attached: DPDK or its PMD finds no such device")
            }
            Self::Failed(Errno(libc::ENOTSUP)) => f.write_str("cannot be attached: no PMD of this build takes it"),
            Self::Failed(error) => write!(f, "cannot be attached: {error}"),
            Self::Unconfigured(error) => write!(f, "cannot be configured as the port is: {error}"),
            Self::NotPosted(errno) => {
                write!(f, "cannot be told to failsafe: {}", io::Error::from_raw_os_error(*errno))
            }
            Self::Kept(error) => write!(f, "cannot be handed over to failsafe: {error}"),
            Self::Untold(error) => write!(f, "waits: DPDK does not tell who has its PCI function: {error}"),
            Self::NoPort => f.write_str("was attached, and its PMD made no port"),
            Self::Lost => f.write_str("is lost by failsafe as soon as it has it"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting {
        not_before: Option<Instant>,
    },
    Attaching,
    /// Attached, and not looked at yet.
    Attached,
    Posted {
        since: Instant,
    },
    Taken {
        since: Instant,
        idle_since: Option<Instant>,
    },
}

/// How far a VF is delivered.
#[derive(Debug)]
pub struct Delivery {
    stage: Stage,
    /// When it began to wait.
    since: Instant,
    /// What hinders it.
    hindrance: Option<Hindrance>,
    /// That was told.
    told: bool,
    /// How often in a row it could not be attached, or was lost at once.
    failures: u32,
    /// We have attached its function, and failsafe has not taken it.
    ours: bool,
}

impl Delivery {
    /// Begins with a VF that has come.
    pub fn new(now: Instant) -> Self {
        let stage = Stage::Waiting { not_before: None };
        Self { stage, since: now, hindrance: None, told: false, failures: 0, ours: false }
    }

    /// Tells whether its address lies in the mailbox, as far as we know.
    pub fn is_posted(&self) -> bool {
        matches!(self.stage, Stage::Posted { .. })
    }

    /// Tells whether failsafe has it.
    pub fn is_taken(&self) -> bool {
        matches!(self.stage, Stage::Taken { .. })
    }

    /// What hinders it, as far as it waits.
    pub fn hindrance(&self) -> Option<&Hindrance> {
        self.hindrance.as_ref().filter(|_| !self.is_taken())
    }

    /// Tells whether we have attached its function and failsafe has not taken it.
    pub fn is_ours(&self) -> bool {
        self.ours
    }

    /// Tells whether somebody is attaching it.
    pub fn is_attaching(&self) -> bool {
        self.stage == Stage::Attaching
    }

    /// Tells whether it has begun to wait for its ibverbs device, whose coming no link event tells.
    pub fn waits_for_verbs(&self, vf: &VfLink, now: Instant) -> bool {
        matches!(self.stage, Stage::Waiting { .. }) && vf.needs_verbs() && now.duration_since(self.since) < STUCK_AFTER
    }

    /// Tells whether whatever happens to it next is an event, or has time until everything is looked at.
    pub fn is_at_rest(&self, now: Instant) -> bool {
        match self.stage {
            Stage::Waiting { not_before: Some(then) } if then > now => then > now + LOOK,
            Stage::Waiting { .. } => self.told,
            Stage::Taken { idle_since, .. } => idle_since.is_none(),
            Stage::Posted { since } => now.duration_since(since) > STUCK_AFTER,
            Stage::Attaching | Stage::Attached => false,
        }
    }

    /// The kernel tells something new of its link: what failed is worth another try.
    pub fn link_changed(&mut self) {
        if let Stage::Waiting { not_before } = &mut self.stage {
            *not_before = None;
        }
    }

    /// Moves on as far as it goes. `is_read` tells whether failsafe has read what was posted, `fits` whether a
    /// port with this address is the VF's.
    ///
    /// Each hindrance is returned once.
    pub fn advance(
        &mut self,
        vf: &VfLink,
        situation: &Situation<'_>,
        is_read: bool,
        fits: impl Fn(MacAddr) -> bool,
        now: Instant,
    ) -> (Option<Move>, Option<Hindrance>) {
        if let Stage::Taken { since, idle_since } = self.stage {
            if !self.is_lost(situation.occupant, since, idle_since, now) {
                return (None, None);
            }
            self.failures = if now.duration_since(since) < STABLE_AFTER { self.failures } else { 0 };
            let again = self.failures > 0;
            self.wait(if again { Some(now + pause(self.failures)) } else { None }, now);
            self.failures = self.failures.saturating_add(1);
            if again {
                return (None, self.tell(Hindrance::Lost));
            }
        }
        match self.stage {
            Stage::Taken { .. } | Stage::Attaching => (None, None),
            Stage::Posted { .. } if is_read => {
                self.stage = Stage::Taken { since: now, idle_since: None };
                self.ours = false;
                (None, None)
            }
            Stage::Posted { since } => match situation.occupant {
                Occupant::Untold(_) => (None, None),
                // Of several ports the first may have gone.
                Occupant::Unowned { mac } | Occupant::Ours { mac } if situation.is_sure && mac.is_some_and(&fits) => {
                    let late = now.duration_since(since) >= STUCK_AFTER;
                    (None, if late { self.tell(Hindrance::NotRead) } else { None })
                }
                _ => {
                    let gone = *situation.occupant == Occupant::Nobody;
                    self.ours &= !gone;
                    self.wait(gone.then(|| now + REPOST_AFTER), now);
                    (Some(Move::Recall), None)
                }
            },
            // It waits, and is ours, until it is known to be there, and free.
            Stage::Attached if !situation.is_sure || matches!(situation.occupant, Occupant::Started { .. }) => {
                self.stage = Stage::Waiting { not_before: None };
                (None, None)
            }
            Stage::Attached => match situation.occupant {
                Occupant::Untold(error) => (None, self.put_off(Hindrance::Untold(*error), now)),
                Occupant::Nobody | Occupant::Busy { .. } => {
                    self.ours = false;
                    let (_, hindrance) = self.fail(Hindrance::NoPort, now);
                    (Some(Move::Detach), hindrance)
                }
                Occupant::Unowned { mac } | Occupant::Ours { mac } | Occupant::Started { mac, .. } => {
                    self.offer(*mac, fits, now)
                }
            },
            Stage::Waiting { not_before } => {
                let early = not_before.is_some_and(|then| now < then);
                if early || !situation.is_sure {
                    return (None, None);
                }
                self.hindrance = None;
                if vf.driver.is_none() {
                    return (None, self.tell_late(Hindrance::Unreadable, now));
                }
                if vf.driver == Some(KernelDriver::Mana) {
                    return (None, self.tell(Hindrance::Mana));
                }
                if vf.needs_verbs() && !situation.has_verbs {
                    return (None, self.tell_late(Hindrance::NoVerbs, now));
                }
                // The event of its coming up is heard, and one that stays down is seen to.
                if !vf.up && now.duration_since(self.since) < UP_PATIENCE {
                    return (None, None);
                }
                if situation.holds_other {
                    return (None, self.tell_late(Hindrance::HoldsOther, now));
                }
                match situation.occupant {
                    Occupant::Untold(error) => (None, self.put_off(Hindrance::Untold(*error), now)),
                    Occupant::Nobody => {
                        self.stage = Stage::Attaching;
                        (Some(Move::Attach), None)
                    }
                    // That of a VF which was removed and not yet let go, or somebody else's.
                    Occupant::Busy { by } => {
                        let shared = situation.sharer.map(|sharer| Hindrance::Shared(sharer.to_owned()));
                        (None, self.tell_late(shared.unwrap_or_else(|| Hindrance::Busy(by.clone())), now))
                    }
                    Occupant::Started { mac, port } if mac.is_some_and(&fits) => {
                        (None, self.tell(Hindrance::Started(*port)))
                    }
                    Occupant::Unowned { mac } | Occupant::Ours { mac } | Occupant::Started { mac, .. } => {
                        self.offer(*mac, fits, now)
                    }
                }
            }
        }
    }

    /// Takes the outcome of [`Move::Attach`].
    pub fn attached(&mut self, outcome: Result<(), Hindrance>, now: Instant) -> Option<Hindrance> {
        match outcome {
            Ok(()) => {
                self.stage = Stage::Attached;
                self.ours = true;
                None
            }
            Err(hindrance) => self.fail(hindrance, now).1,
        }
    }

    /// Notes that it cannot go on for a reason that is none of the VF's, and waits for a second.
    pub fn put_off(&mut self, hindrance: Hindrance, now: Instant) -> Option<Hindrance> {
        self.stage = Stage::Waiting { not_before: Some(now + pause(1)) };
        self.tell(hindrance)
    }

    /// When it is tried again, if that is known.
    pub fn next_try(&self) -> Option<Instant> {
        if let Stage::Waiting { not_before } = self.stage { not_before } else { None }
    }

    /// Notes that [`Move::Post`] was done.
    pub fn posted(&mut self, now: Instant) {
        self.hindrance = None;
        self.stage = Stage::Posted { since: now };
    }

    /// The device went away under it before failsafe had it. Returns whether we had attached it.
    pub fn disown(&mut self, now: Instant) -> bool {
        self.wait(Some(now + REPOST_AFTER), now);
        std::mem::take(&mut self.ours)
    }

    fn wait(&mut self, not_before: Option<Instant>, now: Instant) {
        self.stage = Stage::Waiting { not_before };
        self.since = now;
    }

    fn is_lost(&mut self, occupant: &Occupant, since: Instant, idle_since: Option<Instant>, now: Instant) -> bool {
        let idle_since = match occupant {
            Occupant::Busy { .. } | Occupant::Untold(_) => None,
            _ => Some(idle_since.unwrap_or(now)),
        };
        self.stage = Stage::Taken { since, idle_since };
        if idle_since.is_none() && now.duration_since(since) >= STABLE_AFTER {
            (self.failures, self.told) = (0, false);
        }
        idle_since.is_some_and(|then| now.duration_since(then) >= REPOST_AFTER)
    }

    /// A port is there that failsafe can take over.
    fn offer(
        &mut self,
        mac: Option<MacAddr>,
        fits: impl Fn(MacAddr) -> bool,
        now: Instant,
    ) -> (Option<Move>, Option<Hindrance>) {
        if mac.is_some_and(fits) {
            return (Some(Move::Post), None);
        }
        let hindrance = mac.map_or(Hindrance::NotFound, Hindrance::Other);
        if std::mem::take(&mut self.ours) {
            let (_, hindrance) = self.fail(hindrance, now);
            return (Some(Move::Detach), hindrance);
        }
        (None, self.tell(hindrance))
    }

    fn fail(&mut self, hindrance: Hindrance, now: Instant) -> (Option<Move>, Option<Hindrance>) {
        self.failures = self.failures.saturating_add(1);
        self.stage = Stage::Waiting { not_before: Some(now + pause(self.failures)) };
        (None, self.tell(hindrance))
    }

    fn tell_late(&mut self, hindrance: Hindrance, now: Instant) -> Option<Hindrance> {
        if now.duration_since(self.since) >= STUCK_AFTER {
            return self.tell(hindrance);
        }
        self.hindrance = Some(hindrance);
        None
    }

    fn tell(&mut self, hindrance: Hindrance) -> Option<Hindrance> {
        self.hindrance = Some(hindrance);
        if std::mem::replace(&mut self.told, true) { None } else { self.hindrance.clone() }
    }
}

/// The pause after so many failures in a row, of a VF or of a port: 1, 2, 4 … 60 s.
pub(crate) fn pause(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(6)).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MAC: MacAddr = MacAddr([0, 1, 2, 3, 4, 5]);

    fn vf() -> VfLink {
        VfLink {
            index: IfIndex::new(3).unwrap(),
            name: IfName::new(b"vf0").unwrap(),
            address: "0000:01:00.0".parse().unwrap(),
            mac: Some(MAC),
            permanent_mac: None,
            driver: Some(KernelDriver::Other),
            up: true,
        }
    }

    /// A delivery at some time, moved on by hand.
    struct Way {
        delivery: Delivery,
        vf: VfLink,
        sharer: Option<&'static str>,
        has_verbs: bool,
        holds_other: bool,
        is_read: bool,
        now: Instant,
        told: Vec<Hindrance>,
    }

    impl Way {
        fn of(vf: VfLink) -> Self {
            let now = Instant::now();
            let delivery = Delivery::new(now);
            let (sharer, told) = (None, Vec::new());
            Self { delivery, vf, sharer, has_verbs: false, holds_other: false, is_read: false, now, told }
        }

        fn on(&mut self, occupant: &Occupant) -> Option<Move> {
            let (has_verbs, holds_other) = (self.has_verbs, self.holds_other);
            let situation = Situation { occupant, sharer: self.sharer, has_verbs, holds_other, is_sure: true };
            let fits = |mac| mac == MAC;
            let (next, hindrance) = self.delivery.advance(&self.vf, &situation, self.is_read, fits, self.now);
            self.told.extend(hindrance);
            if next == Some(Move::Post) {
                self.delivery.posted(self.now);
            }
            next
        }

        fn attached(&mut self, outcome: Result<(), Hindrance>) {
            self.told.extend(self.delivery.attached(outcome, self.now));
        }

        /// Seconds until it is attached again, looked at each second.
        fn seconds_until_attached(&mut self) -> u32 {
            let begin = self.now;
            while self.on(&Occupant::Nobody) != Some(Move::Attach) {
                self.now += SECOND;
                assert!(self.now < begin + 100 * SECOND, "never again");
            }
            u32::try_from(self.now.duration_since(begin).as_secs()).unwrap()
        }
    }

    #[test]
    fn a_vf_of_which_dpdk_does_not_tell_is_neither_let_go_nor_taken_for_anybodys_and_is_asked_for_again_in_a_second() {
        let untold = Occupant::Untold(Errno(libc::ENOMEM));
        let mut way = Way::of(vf());
        assert_eq!(way.on(&untold), None);
        assert_eq!(way.told, [Hindrance::Untold(Errno(libc::ENOMEM))]);
        assert_eq!(way.on(&Occupant::Nobody), None, "not at once");
        way.now += SECOND;
        assert_eq!(way.on(&Occupant::Nobody), Some(Move::Attach));
        way.attached(Ok(()));
        for _ in 0..3 {
            assert_eq!(way.on(&untold), None, "it is attached, and stays");
            way.now += SECOND;
        }
        assert_eq!(way.on(&ours()), Some(Move::Post), "a second later, however often it was not told");
        assert_eq!(way.on(&untold), None, "not taken back");
        way.is_read = true;
        assert_eq!(way.on(&busy()), None);
        for _ in 0..10 {
            assert_eq!(way.on(&untold), None, "not lost");
            way.now += SECOND;
        }
        assert!(way.delivery.is_taken());
        assert_eq!(way.told.len(), 1);
    }

    fn busy() -> Occupant {
        Occupant::Busy { by: Some("Fail-safe".to_owned()) }
    }

    fn ours() -> Occupant {
        Occupant::Ours { mac: Some(MAC) }
    }

    #[test]
    fn each_hindrance_is_told_in_words_of_its_own() {
        for (hindrance, words) in [
            (Hindrance::Unreadable, "sysfs does not tell its kernel driver"),
            (Hindrance::Mana, "left to the kernel"),
            (Hindrance::NoVerbs, "no ibverbs device"),
            (Hindrance::Busy(Some("Fail-safe".to_owned())), "its port belongs to Fail-safe"),
            (Hindrance::Busy(None), "a driver without a port"),
            (Hindrance::Shared("net_failsafe_vsc1".to_owned()), "net_failsafe_vsc1 has its PCI function"),
            (Hindrance::Started(7), "has started its port 7"),
            (Hindrance::Other(MAC), "has the address 00:01:02:03:04:05"),
            (Hindrance::NotFound, "by the full address only"),
            (Hindrance::HoldsOther, "still holds the VF before it"),
            (Hindrance::NotRead, "does not ask for it"),
            (Hindrance::Failed(Errno(libc::ENODEV)), "finds no such device"),
            (Hindrance::Failed(Errno(libc::ENOTSUP)), "no PMD of this build takes it"),
            (Hindrance::Failed(Errno(libc::EIO)), "cannot be attached: Input/output error"),
            (Hindrance::Unconfigured(Errno(libc::EINVAL)), "cannot be configured as the port is: Invalid argument"),
            (Hindrance::NotPosted(libc::EMFILE), "cannot be told to failsafe: Too many open files"),
            (Hindrance::Kept(Errno(libc::ENOMEM)), "cannot be handed over to failsafe"),
            (Hindrance::Untold(Errno(libc::ENOMEM)), "DPDK does not tell who has its PCI function"),
            (Hindrance::NoPort, "its PMD made no port"),
            (Hindrance::Lost, "is lost by failsafe"),
        ] {
            let text = hindrance.to_string();
            assert!(text.contains(words), "{hindrance:?}: {text}");
            assert!(hindrance.line().contains(hindrance.advice()) && !hindrance.advice().is_empty(), "{hindrance:?}");
        }
    }

    const MOMENT: Duration = Duration::from_millis(1);

    #[test]
    fn it_is_left_to_the_tick_when_nothing_is_due_before() {
        let mut way = Way::of(vf());
        way.on(&Occupant::Nobody);
        for (pause, at_rest) in [(1, false), (2, false), (4, false), (8, true)] {
            way.attached(Err(Hindrance::Failed(Errno(libc::EIO))));
            assert_eq!(way.delivery.is_at_rest(way.now), at_rest, "tried again after {pause} s");
            assert!(!way.delivery.is_at_rest(way.now + (pause * SECOND).saturating_sub(LOOK)));
            assert_eq!(way.seconds_until_attached(), pause);
        }
    }

    #[test]
    fn it_is_left_to_the_tick_when_it_may_be_tried_again_and_cannot() {
        let mut way = Way::of(vf());
        way.on(&Occupant::Nobody);
        way.attached(Err(Hindrance::Failed(Errno(libc::EIO))));
        way.now += SECOND;
        assert_eq!(way.on(&busy()), None);
        assert!(way.delivery.is_at_rest(way.now));
    }

    #[test]
    fn how_long_it_is_waited_for() {
        let mut way = Way::of(vf());
        way.on(&Occupant::Unowned { mac: Some(MAC) });
        way.now += STUCK_AFTER - MOMENT;
        way.on(&Occupant::Unowned { mac: Some(MAC) });
        assert_eq!(way.told, []);
        way.now += MOMENT;
        assert!(!way.delivery.is_at_rest(way.now));
        way.on(&Occupant::Unowned { mac: Some(MAC) });
        assert_eq!(way.told, [Hindrance::NotRead]);
        assert!(way.delivery.is_at_rest(way.now + MOMENT));

        let way = Way::of(VfLink { driver: Some(KernelDriver::Mlx), ..vf() });
        assert!(way.delivery.waits_for_verbs(&way.vf, way.now + STUCK_AFTER - MOMENT));
        assert!(!way.delivery.waits_for_verbs(&way.vf, way.now + STUCK_AFTER));
    }

    #[test]
    fn its_loss_is_a_failure_unless_failsafe_has_kept_it_long_enough() {
        for (kept, next, told) in
            [(STABLE_AFTER - MOMENT, None, vec![Hindrance::Lost]), (STABLE_AFTER, Some(Move::Attach), vec![])]
        {
            let mut way = Way::of(vf());
            // Lost once, at once.
            for kept in [REPOST_AFTER, kept] {
                way.is_read = false;
                assert_eq!(way.on(&Occupant::Unowned { mac: Some(MAC) }), Some(Move::Post));
                way.is_read = true;
                way.on(&busy());
                way.now += kept - REPOST_AFTER;
                assert_eq!(way.on(&Occupant::Nobody), None);
                way.now += REPOST_AFTER;
                if kept == REPOST_AFTER {
                    assert_eq!(way.on(&Occupant::Nobody), Some(Move::Attach));
                    way.attached(Ok(()));
                }
            }
            assert_eq!((way.on(&Occupant::Nobody), way.told), (next, told), "{kept:?}");
        }
    }

    #[test]
    fn what_we_attached_and_posted_is_ours_until_its_port_is_gone() {
        for (occupant, ours_still) in [(Occupant::Ours { mac: Some(MacAddr([6; 6])) }, true), (Occupant::Nobody, false)]
        {
            let mut way = Way::of(vf());
            way.on(&Occupant::Nobody);
            way.attached(Ok(()));
            assert_eq!(way.on(&ours()), Some(Move::Post));
            assert_eq!(way.on(&occupant), Some(Move::Recall));
            assert_eq!(way.delivery.is_ours(), ours_still, "{occupant:?}");
            if !ours_still {
                assert_eq!(way.seconds_until_attached(), 2, "its link may be about to go");
            }
            assert_eq!(way.delivery.disown(way.now), ours_still);
            assert!(!way.delivery.is_ours());
        }
    }

    #[test]
    fn what_somebody_starts_as_it_is_attached_waits() {
        let mut way = Way::of(vf());
        way.on(&Occupant::Nobody);
        way.attached(Ok(()));
        assert_eq!(way.on(&Occupant::Started { mac: Some(MAC), port: 3 }), None);
        assert!(way.delivery.is_ours());
        assert_eq!(way.on(&ours()), Some(Move::Post));
    }

    #[test]
    fn it_is_attached_posted_and_taken() {
        let mut way = Way::of(vf());
        assert_eq!(way.on(&Occupant::Nobody), Some(Move::Attach));
        assert_eq!(way.on(&Occupant::Nobody), None, "somebody is at it");
        way.attached(Ok(()));
        assert!(way.delivery.is_ours());
        assert_eq!(way.on(&ours()), Some(Move::Post));
        assert_eq!(way.on(&Occupant::Unowned { mac: Some(MAC) }), None);
        assert!(!way.delivery.is_at_rest(way.now));
        way.is_read = true;
        assert_eq!(way.on(&busy()), None);
        assert!(way.delivery.is_taken() && !way.delivery.is_ours() && way.delivery.is_at_rest(way.now));
        assert_eq!(way.told, []);
    }

    #[test]
    fn what_eal_has_probed_is_posted_and_not_attached() {
        let mut way = Way::of(vf());
        assert_eq!(way.on(&Occupant::Unowned { mac: Some(MAC) }), Some(Move::Post));
        assert!(!way.delivery.is_ours(), "nor is it detached by us");
    }

    #[test]
    fn what_cannot_be_attached_is_tried_again_after_1_2_4_to_60_seconds_and_told_once() {
        let mut way = Way::of(vf());
        let mut pauses = Vec::new();
        way.on(&Occupant::Nobody);
        for _ in 0..9 {
            way.attached(Err(Hindrance::Failed(Errno(libc::ENODEV))));
            pauses.push(way.seconds_until_attached());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(way.told, [Hindrance::Failed(Errno(libc::ENODEV))]);
        assert_eq!(way.vf.address.to_string(), "0000:01:00.0");
    }

    #[test]
    fn news_of_the_link_are_worth_another_try_at_once() {
        let mut way = Way::of(vf());
        way.on(&Occupant::Nobody);
        for _ in 0..5 {
            way.attached(Err(Hindrance::Failed(Errno(libc::EIO))));
            assert!(way.on(&Occupant::Nobody).is_none());
            way.delivery.link_changed();
            assert_eq!(way.on(&Occupant::Nobody), Some(Move::Attach));
        }
    }

    #[test]
    fn an_attach_that_makes_no_port_is_a_failure() {
        let mut way = Way::of(vf());
        way.on(&Occupant::Nobody);
        way.attached(Ok(()));
        assert_eq!(way.on(&Occupant::Busy { by: None }), Some(Move::Detach));
        assert_eq!(way.told, [Hindrance::NoPort]);
        assert_eq!(way.seconds_until_attached(), 1);
    }

    #[test]
    fn the_port_of_another_netdevice_is_detached_when_it_is_ours() {
        let other = MacAddr([6; 6]);
        let mut way = Way::of(vf());
        way.on(&Occupant::Nobody);
        way.attached(Ok(()));
        assert_eq!(way.on(&Occupant::Ours { mac: Some(other) }), Some(Move::Detach));
        assert_eq!(way.told, [Hindrance::Other(other)]);
        assert!(!way.delivery.is_ours());
        assert_eq!(way.seconds_until_attached(), 1);

        let mut way = Way::of(vf());
        assert_eq!(way.on(&Occupant::Unowned { mac: Some(other) }), None);
        assert_eq!(way.told, [Hindrance::Other(other)]);
        assert!(way.delivery.is_at_rest(way.now));
    }

    #[test]
    fn a_function_without_a_port_is_attached_again_after_a_while_if_the_link_stays() {
        let mut way = Way::of(vf());
        assert_eq!(way.on(&Occupant::Unowned { mac: Some(MAC) }), Some(Move::Post));
        way.is_read = true;
        for _ in 0..20 {
            assert_eq!(way.on(&busy()), None);
            way.now += SECOND;
        }
        assert_eq!(way.seconds_until_attached(), 2, "a removal may be under way");
        assert_eq!(way.told, []);
    }

    #[test]
    fn a_vf_that_failsafe_loses_at_once_is_tried_again_ever_later_and_told_once() {
        let mut way = Way::of(vf());
        let mut pauses = Vec::new();
        for _ in 0..6 {
            pauses.push(way.seconds_until_attached());
            way.attached(Ok(()));
            way.is_read = false;
            assert_eq!(way.on(&ours()), Some(Move::Post));
            way.is_read = true;
            way.on(&busy());
        }
        assert_eq!(pauses, [0, 2, 3, 4, 6, 10]);
        assert_eq!(way.told, [Hindrance::Lost]);
        // Kept for long, its loss is like that of any.
        for _ in 0..11 {
            way.on(&busy());
            way.now += SECOND;
        }
        assert_eq!(way.seconds_until_attached(), 2);
    }

    #[test]
    fn a_vf_back_on_a_function_that_is_not_free_yet_waits_until_it_is() {
        let mut way = Way::of(vf());
        assert_eq!(way.on(&busy()), None);
        assert_eq!(way.on(&Occupant::Nobody), Some(Move::Attach));
    }

    #[test]
    fn a_function_that_stays_somebody_elses_is_told_and_left_to_the_tick() {
        let mut way = Way::of(vf());
        assert_eq!(way.on(&busy()), None);
        assert!(!way.delivery.is_at_rest(way.now));
        way.now += 10 * SECOND;
        assert_eq!(way.on(&busy()), None);
        assert_eq!(way.told, [Hindrance::Busy(Some("Fail-safe".to_owned()))]);
        assert!(way.delivery.is_at_rest(way.now));
    }

    #[test]
    fn a_function_that_another_port_of_ours_has_is_told_with_that_port() {
        let mut way = Way::of(vf());
        way.sharer = Some("net_failsafe_vsc1");
        way.now += 10 * SECOND;
        assert_eq!(way.on(&busy()), None);
        assert_eq!(way.told, [Hindrance::Shared("net_failsafe_vsc1".to_owned())]);
        assert!(way.delivery.is_at_rest(way.now));
    }

    #[test]
    fn what_was_posted_is_recalled_when_failsafe_would_take_another_netdevices_port() {
        let other = Occupant::Unowned { mac: Some(MacAddr([6; 6])) };
        let mut way = Way::of(vf());
        assert_eq!(way.on(&Occupant::Unowned { mac: Some(MAC) }), Some(Move::Post));
        assert_eq!(way.on(&other), Some(Move::Recall));
        assert_eq!(way.on(&other), None);
        assert_eq!(way.told, [Hindrance::Other(MacAddr([6; 6]))]);
        assert!(way.delivery.is_at_rest(way.now));
        assert_eq!(way.on(&Occupant::Unowned { mac: Some(MAC) }), Some(Move::Post));
    }

    #[test]
    fn what_is_not_read_is_told_and_left_to_the_tick() {
        let mut way = Way::of(vf());
        assert_eq!(way.on(&Occupant::Unowned { mac: Some(MAC) }), Some(Move::Post));
        way.now += 11 * SECOND;
        assert_eq!(way.on(&Occupant::Unowned { mac: Some(MAC) }), None);
        assert_eq!(way.told, [Hindrance::NotRead]);
        assert!(way.delivery.is_at_rest(way.now));
    }

    #[test]
    fn a_vf_of_mana_is_left_to_the_kernel_whoever_sits_there() {
        for occupant in [Occupant::Nobody, Occupant::Unowned { mac: Some(MAC) }, busy()] {
            let mut way = Way::of(VfLink { driver: Some(KernelDriver::Mana), up: false, ..vf() });
            way.has_verbs = true;
            for _ in 0..100 {
                assert_eq!(way.on(&occupant), None);
                assert!(way.delivery.is_at_rest(way.now) && !way.delivery.waits_for_verbs(&way.vf, way.now));
                way.now += SECOND;
                way.delivery.link_changed();
            }
            assert_eq!(way.told, [Hindrance::Mana]);
        }
    }

    #[test]
    fn a_port_that_is_started_is_told_and_posted_once_it_is_stopped() {
        let started = Occupant::Started { mac: Some(MAC), port: 3 };
        let mut way = Way::of(vf());
        assert_eq!(way.on(&started), None);
        assert_eq!(way.on(&started), None);
        assert_eq!(way.told, [Hindrance::Started(3)]);
        assert!(way.delivery.is_at_rest(way.now), "looked at with each tick");
        let free = Occupant::Unowned { mac: Some(MAC) };
        assert_eq!(way.on(&free), Some(Move::Post));
        assert_eq!(way.on(&started), Some(Move::Recall), "started before failsafe has read");
        assert_eq!(way.on(&free), Some(Move::Post));
        assert!(!way.delivery.is_ours());
    }

    #[test]
    fn it_waits_while_failsafe_holds_the_one_before() {
        let mut way = Way::of(vf());
        way.holds_other = true;
        assert_eq!(way.on(&Occupant::Nobody), None);
        way.holds_other = false;
        assert_eq!(way.on(&Occupant::Nobody), Some(Move::Attach));
    }

    #[test]
    fn a_vf_that_needs_verbs_is_attached_when_they_are_there() {
        let mut way = Way::of(VfLink { driver: Some(KernelDriver::Mlx), ..vf() });
        assert_eq!(way.on(&Occupant::Nobody), None);
        assert!(way.delivery.waits_for_verbs(&way.vf, way.now));
        assert!(!way.delivery.waits_for_verbs(&way.vf, way.now + 11 * SECOND), "then the tick is enough");
        way.has_verbs = true;
        assert_eq!(way.on(&Occupant::Nobody), Some(Move::Attach));
        assert!(!way.delivery.waits_for_verbs(&way.vf, way.now));
    }

    #[test]
    fn a_vf_whose_kernel_driver_is_unknown_waits() {
        let mut way = Way::of(VfLink { driver: None, ..vf() });
        assert_eq!(way.on(&Occupant::Nobody), None);
        way.now += 10 * SECOND;
        assert_eq!(way.on(&Occupant::Nobody), None);
        assert_eq!(way.told, [Hindrance::Unreadable]);
        way.vf.driver = Some(KernelDriver::Other);
        assert_eq!(way.on(&Occupant::Nobody), Some(Move::Attach));
    }

    #[test]
    fn a_vf_that_is_down_is_attached_once_it_is_up_or_has_stayed_down() {
        let mut way = Way::of(VfLink { up: false, ..vf() });
        way.now += UP_PATIENCE / 2;
        assert_eq!(way.on(&Occupant::Nobody), None);
        way.now += UP_PATIENCE / 2;
        assert_eq!(way.on(&Occupant::Nobody), Some(Move::Attach), "nobody sets it up");
        let mut way = Way::of(VfLink { up: false, ..vf() });
        way.vf.up = true;
        assert_eq!(way.on(&Occupant::Nobody), Some(Move::Attach));
    }
}
