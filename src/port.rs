// SPDX-License-Identifier: BSD-3-Clause
//! One port's life: its id and names, its mailbox, its VF.
//!
//! Calls neither DPDK nor the kernel but for its own pipe: the manager asks and tells.
//!
//! ```text
//!   VF link appears ── Waiting ── ready, and its PCI function free ──> Posted ── line read ──> Taken
//!                         ^                                                                      │
//!                         └── its PCI function without a port for REPOST_AFTER, link still there ┘
//! ```
//! The link going ends it from anywhere, and empties the mailbox.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use log::{info, warn};

use crate::args::{DevargsSafe, Fallback};
use crate::eal::ethdev::Occupant;
use crate::eal::log::NOTICE;
use crate::link::{IfIndex, IfName, Link, MacAddr, PciAddr};
use crate::mailbox::Mailbox;
use crate::pairing::Side;

/// How long a VF's PCI function is without a port before its address is posted once more.
///
/// A PMD reports a removal before the kernel takes the netdevice away. An address posted in between would be taken, and
/// failsafe never lets go of an address that it cannot attach.
const REPOST_AFTER: Duration = Duration::from_secs(2);

/// How long a VF's link may be down before its address is posted all the same.
///
/// The kernel's netvsc sets a VF up a tenth of a second after it came, as udev may rename it before, and later when it
/// is busy. Failsafe sends by a VF as soon as it has it, and what is sent by a link that is down is lost.
const UP_PATIENCE: Duration = Duration::from_secs(3);

/// How long an address may lie in the mailbox, or a VF lack its ibverbs device, before that is worth a line.
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// The longest text of a device and its arguments that hot-plug carries to secondary processes, without its NUL:
/// `EAL_DEV_MP_DEV_ARGS_MAX_LEN` in `lib/eal/common/hotplug_mp.h`. A longer one is cut silently up to 26.03.
const DEVICE_TEXT_MAX_BYTES: usize = 127;

/// Number of a port, part of the names of its devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortId(u32);

/// Beginnings of the names of devices that carry a port's id.
const NAMES: [&str; 3] = ["net_failsafe_vsc", "net_tap_vsc", "net_af_packet_vsc"];

impl PortId {
    /// Returns the lowest id that may be used beside the devices that live.
    ///
    /// Failsafe finds a sub-device by the beginning of its name (`fs_ethdev_portid_get`): made while `net_tap_vsc10`
    /// lives, a failsafe over `net_tap_vsc1` would reach for that one. So an id is free only when no living id begins
    /// with it.
    pub fn lowest_free(living: &BTreeSet<Self>) -> Self {
        let living: Vec<String> = living.iter().map(Self::to_string).collect();
        let free = |id: &u32| !living.iter().any(|other| other.starts_with(&id.to_string()));
        Self((0..u32::MAX).find(free).unwrap_or(u32::MAX))
    }

    /// Reads the id off the name of a device that may be one of ours.
    pub fn of_device(name: &CString) -> Option<Self> {
        let name = name.to_str().ok()?;
        let digits = NAMES.iter().find_map(|beginning| name.strip_prefix(beginning))?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten().map(Self)
    }

    /// Name of the failsafe port, which is the one that the application sees.
    pub fn failsafe_name(self) -> CString {
        name(format!("net_failsafe_vsc{self}"))
    }

    /// Name of the device on the NetVSC netdevice.
    pub fn fallback_name(self, fallback: Fallback) -> CString {
        match fallback {
            Fallback::Tap => name(format!("net_tap_vsc{self}")),
            Fallback::AfPacket => name(format!("net_af_packet_vsc{self}")),
        }
    }
}

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Turns a text of ours into one of C. None of them holds a NUL; one that did would become empty, which DPDK refuses.
fn name(text: impl Into<Vec<u8>>) -> CString {
    CString::new(text).unwrap_or_default()
}

/// Where a port stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its failsafe device is being made, on whichever thread took that on.
    Making,
    /// It serves.
    Live,
    /// Its instance is gone, and somebody is closing its failsafe port.
    Closing,
    /// Its instance is gone, and its failsafe port is left to the interrupt thread to close.
    CloseDeferred,
}

/// What a port needs of its instance's arguments.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The PMD on the NetVSC netdevice.
    pub fallback: Fallback,
    /// Failsafe's polling period in milliseconds.
    pub hotplug_poll_ms: u32,
}

/// A VF that belongs to a port, as the kernel shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VfLink {
    /// Its link.
    pub index: IfIndex,
    /// The name of that link.
    pub name: IfName,
    /// Its PCI function.
    pub address: PciAddr,
    /// Which netdevice of the function is meant, for kernel drivers that make several.
    pub mac: Option<MacAddr>,
    /// Whether its PMD opens an ibverbs device, which comes after the netdevice.
    pub needs_verbs: bool,
    /// Whether its link was up when the kernel last spoke of it.
    pub up: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delivery {
    Waiting { since: Instant, told: bool },
    Posted { since: Instant, told: bool },
    Taken { idle_since: Option<Instant> },
}

/// One NetVSC link under our care.
#[derive(Debug)]
pub struct Port {
    /// Its number.
    pub id: PortId,
    /// Where it stands.
    pub phase: Phase,
    /// Whether the link it was made on is gone.
    pub orphaned: bool,
    options: Options,
    name: DevargsSafe,
    side: Side,
    mailbox: Mailbox,
    vf: Option<(VfLink, Delivery)>,
    /// The VF came, and that is not told yet: its address goes first.
    arrival_unlogged: bool,
    rival: Option<IfIndex>,
    /// The PCI functions that were posted, of which failsafe holds one at most: often the last, and one before that as
    /// long as it has not let go of it. They are few, as a host gives a VF few addresses.
    lent: BTreeSet<PciAddr>,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net_failsafe_vsc{} ({}, ifindex {})", self.id, self.name.get(), self.side.index)
    }
}

impl Port {
    /// Begins a port on `link`.
    ///
    /// # Errors
    /// When there is no descriptor left for the mailbox.
    pub fn new(id: PortId, link: &Link, name: DevargsSafe, options: Options) -> io::Result<Self> {
        let (side, mailbox) = (Side::of(link), Mailbox::new()?);
        Ok(Self {
            id,
            phase: Phase::Making,
            orphaned: false,
            options,
            name,
            side,
            mailbox,
            vf: None,
            arrival_unlogged: false,
            rival: None,
            lent: BTreeSet::new(),
        })
    }

    /// The PCI functions of which its failsafe port may hold one.
    pub fn lent(&self) -> impl Iterator<Item = PciAddr> {
        self.lent.iter().copied()
    }

    /// The PCI function whose address lies in the mailbox.
    pub fn posted(&self) -> Option<PciAddr> {
        match &self.vf {
            Some((vf, Delivery::Posted { .. })) => Some(vf.address),
            _ => None,
        }
    }

    /// Notes that its failsafe port does not hold a PCI function any more.
    pub fn forget_lent(&mut self, function: PciAddr) {
        self.lent.remove(&function);
    }

    /// What the port's VF is recognized by.
    pub fn side(&self) -> Side {
        self.side
    }

    /// Name of its device on the NetVSC netdevice.
    pub fn fallback_name(&self) -> CString {
        self.id.fallback_name(self.options.fallback)
    }

    /// Returns the arguments of its failsafe device, `None` when they are too long to reach secondary processes.
    ///
    /// `hotplug_poll` goes first: failsafe reads past the end of a string that ends in a plain argument
    /// (`fs_parse_sub_devices`).
    pub fn devargs(&self) -> Option<CString> {
        let key = match self.options.fallback {
            Fallback::Tap => "remote",
            Fallback::AfPacket => "iface",
        };
        let (poll, descriptor) = (self.options.hotplug_poll_ms, self.mailbox.descriptor());
        let mut text =
            format!("hotplug_poll={poll},fd({descriptor}),dev({},{key}=", self.fallback_name().to_string_lossy())
                .into_bytes();
        text.extend_from_slice(self.name.get().as_bytes());
        text.push(b')');
        let device = "vdev:,".len() + self.id.failsafe_name().as_bytes().len() + text.len();
        (device <= DEVICE_TEXT_MAX_BYTES).then(|| name(text))
    }

    /// Explains what a port without its fallback lacks.
    pub fn fallback_advice(&self) -> String {
        let device = self.fallback_name();
        let (device, link) = (device.to_string_lossy(), self.name.get());
        match self.options.fallback {
            Fallback::Tap => format!(
                "{device} did not come up on {link}: it needs /dev/net/tun and the kernel modules tun, sch_multiq, \
                 sch_ingress, cls_flower, act_mirred, act_skbedit; load them, or use fallback=af_packet; failsafe \
                 tries again every {} ms",
                self.options.hotplug_poll_ms
            ),
            Fallback::AfPacket => format!(
                "{device} did not come up on {link}: it needs the kernel module af_packet and CAP_NET_RAW; failsafe \
                 tries again every {} ms",
                self.options.hotplug_poll_ms
            ),
        }
    }

    /// Follows its link: a new name or address changes nothing but what is logged and whom its VF may resemble.
    pub fn follow(&mut self, link: &Link) {
        self.side.mac = link.mac;
        if self.name.get() != link.name {
            info!("{self}: renamed {}", link.name);
            // A name that failsafe's syntax could misread is not carried anywhere: the old one stays, for logs.
            self.name = DevargsSafe::new(link.name).unwrap_or(self.name);
        }
    }

    /// Notes that its link is gone. Its failsafe port is the application's and stays, with the VF if there is one.
    pub fn orphan(&mut self) {
        self.orphaned = true;
        warn!(
            "{self}: the interface is gone, and with it the fallback; a port is made anew when the interface is back; \
             close this one when its VF is not needed"
        );
        self.drain();
        self.vf = None;
    }

    /// Tells which link is its VF's, as last heard.
    pub fn vf(&self) -> Option<&VfLink> {
        self.vf.as_ref().map(|(vf, _)| vf)
    }

    /// Warns once of another link that fits as well.
    pub fn note_rival(&mut self, rival: Option<IfIndex>) {
        if let (Some(rival), true, Some((vf, _))) = (rival, self.rival != rival, &self.vf) {
            warn!("{self}: two VFs fit equally well, taking {} and not ifindex {rival}", vf.name);
        }
        self.rival = rival;
    }

    /// Takes what the kernel says of its VF.
    pub fn set_vf(&mut self, found: Option<VfLink>, now: Instant) {
        let same = |known: &VfLink, found: &VfLink| known.index == found.index && known.address == found.address;
        match (&mut self.vf, &found) {
            (None, None) => return,
            (Some((known, _)), Some(found)) if same(known, found) => {
                *known = *found;
                return;
            }
            _ => {}
        }
        self.log_arrival();
        if let Some((gone, _)) = self.vf.take() {
            info!(target: NOTICE, "{self}: VF {} at {} went", gone.name, gone.address);
            self.drain();
        }
        if let Some(vf) = found {
            self.vf = Some((vf, Delivery::Waiting { since: now, told: false }));
            self.arrival_unlogged = true;
        }
    }

    /// Tells, if that was not done yet, that the VF came: a line of the log takes longer than to post its address.
    pub fn log_arrival(&mut self) {
        if let (true, Some((vf, _))) = (std::mem::take(&mut self.arrival_unlogged), &self.vf) {
            info!(target: NOTICE, "{self}: VF {} came at {}", vf.name, vf.address);
        }
    }

    /// Takes an address back that failsafe has not read yet: it may have gone stale.
    pub fn recall(&mut self, now: Instant) {
        if let Some((_, delivery @ Delivery::Posted { .. })) = &mut self.vf {
            if !self.mailbox.is_empty() {
                *delivery = Delivery::Waiting { since: now, told: false };
                self.drain();
            }
        }
    }

    fn drain(&self) {
        if let Err(error) = self.mailbox.drain() {
            warn!("{self}: cannot empty the mailbox: {error}");
        }
    }

    /// Returns the VF whose delivery hangs on who sits on its PCI function and on its ibverbs device.
    pub fn undelivered(&self) -> Option<&VfLink> {
        match &self.vf {
            Some((vf, Delivery::Waiting { .. } | Delivery::Taken { .. })) => Some(vf),
            _ => None,
        }
    }

    /// Tells whether whatever happens to it next is an event.
    pub fn is_at_rest(&self) -> bool {
        let delivered = matches!(&self.vf, None | Some((_, Delivery::Taken { idle_since: None })));
        delivered && self.phase != Phase::CloseDeferred
    }

    /// Tells whether its VF has begun to wait for its ibverbs device, whose coming no link event tells.
    pub fn waits_for_verbs(&self, now: Instant) -> bool {
        match &self.vf {
            Some((vf, Delivery::Waiting { since, .. })) => vf.needs_verbs && now.duration_since(*since) < STUCK_AFTER,
            _ => false,
        }
    }

    /// Moves the VF's delivery on as far as it goes. `occupant` sits on its PCI function; `has_verbs` matters only for
    /// a VF that needs them.
    pub fn deliver(&mut self, occupant: Occupant, has_verbs: bool, now: Instant) {
        let Some((vf, delivery)) = self.vf else { return };
        let next = match delivery {
            Delivery::Taken { .. } if occupant != Occupant::Nobody => Delivery::Taken { idle_since: None },
            Delivery::Taken { idle_since } => {
                let since = idle_since.unwrap_or(now);
                if now.duration_since(since) < REPOST_AFTER {
                    Delivery::Taken { idle_since: Some(since) }
                } else {
                    self.post(vf, now).unwrap_or(delivery)
                }
            }
            Delivery::Posted { since, told } => {
                if self.mailbox.is_empty() {
                    Delivery::Taken { idle_since: None }
                } else {
                    let stuck = now.duration_since(since) >= STUCK_AFTER;
                    if stuck && !told {
                        warn!(
                            "{self}: failsafe does not ask for VF {} at {}: it still holds an earlier address, which no \
                             PMD could attach; see its errors, and whether the VF's PMD is in this build",
                            vf.name, vf.address
                        );
                    }
                    Delivery::Posted { since, told: told || stuck }
                }
            }
            Delivery::Waiting { since, told } if vf.needs_verbs && !has_verbs => {
                let late = now.duration_since(since) >= STUCK_AFTER;
                if late && !told {
                    warn!(
                        "{self}: VF {} at {} has no ibverbs device, which its PMD needs: load the kernel modules \
                         ib_uverbs and mlx5_ib, mlx4_ib or mana_ib",
                        vf.name, vf.address
                    );
                }
                Delivery::Waiting { since, told: told || late }
            }
            // The event of its coming up is heard, and one that stays down is seen to.
            Delivery::Waiting { since, .. } if !vf.up && now.duration_since(since) < UP_PATIENCE => delivery,
            // An owned port there is that of a VF which was removed and not yet let go, or somebody else's.
            Delivery::Waiting { .. } if occupant == Occupant::Busy => delivery,
            Delivery::Waiting { .. } => self.post(vf, now).unwrap_or(delivery),
        };
        self.vf = Some((vf, next));
    }

    fn post(&mut self, vf: VfLink, now: Instant) -> Option<Delivery> {
        match self.mailbox.post(vf.address, vf.mac) {
            Ok(()) => {
                info!("{self}: posted VF {} at {}", vf.name, vf.address);
                self.lent.insert(vf.address);
                Some(Delivery::Posted { since: now, told: false })
            }
            Err(error) => {
                warn!("{self}: cannot post VF {} at {}: {error}", vf.name, vf.address);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Parent;
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;

    const SECOND: Duration = Duration::from_secs(1);

    fn port(fallback: Fallback) -> Port {
        let name = IfName::new(b"eth1").unwrap();
        let link = Link {
            index: IfIndex::new(3).unwrap(),
            name,
            ethernet: true,
            mac: Some(MacAddr([0, 1, 2, 3, 4, 5])),
            permanent_mac: None,
            master: None,
            parent: Parent::NetVsc,
            driver: None,
            up: true,
        };
        let options = Options { fallback, hotplug_poll_ms: 100 };
        Port::new(PortId(0), &link, DevargsSafe::new(name).unwrap(), options).unwrap()
    }

    fn vf(bus: u8) -> VfLink {
        VfLink {
            index: IfIndex::new(100 + u32::from(bus)).unwrap(),
            name: IfName::new(b"vf0").unwrap(),
            address: format!("0000:{bus:02x}:00.0").parse().unwrap(),
            mac: None,
            needs_verbs: false,
            up: true,
        }
    }

    /// Reads the mailbox as failsafe does.
    fn take(port: &Port) -> String {
        let fd = port.mailbox.descriptor();
        let mut line = String::new();
        let path = format!("/proc/self/fd/{fd}");
        let mut file = std::fs::File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).unwrap();
        let _ = file.read_to_string(&mut line);
        line
    }

    fn ids(raw: impl IntoIterator<Item = u32>) -> BTreeSet<PortId> {
        raw.into_iter().map(PortId).collect()
    }

    #[test]
    fn an_id_is_not_the_beginning_of_a_living_one() {
        let table = [
            (ids([]), 0),
            (ids([0]), 1),
            (ids([1]), 0),
            (ids(0..10), 10),
            (ids((0..12).filter(|&id| id != 1)), 12),
            (ids((0..11).filter(|&id| id != 1)), 11),
            (ids((0..10).filter(|&id| id != 1)), 1),
            (ids([0, 10, 11, 12]), 2),
            (ids([0, 2, 100]), 3),
        ];
        for (living, want) in table {
            assert_eq!(PortId::lowest_free(&living), PortId(want), "{living:?}");
        }
    }

    #[test]
    fn ids_are_read_off_device_names() {
        let of = |text: &str| PortId::of_device(&CString::new(text).unwrap());
        assert_eq!(of("net_tap_vsc12"), Some(PortId(12)));
        assert_eq!(of("net_failsafe_vsc0"), Some(PortId(0)));
        assert_eq!(of("net_af_packet_vsc3"), Some(PortId(3)));
        for other in ["net_tap0", "net_tap_vsc", "net_tap_vsc1x", "net_tap_vsc+1", "0000:01:00.0"] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn devargs_are_those_of_the_c_driver_with_the_poll_in_front() {
        let tap = port(Fallback::Tap);
        let want = format!("hotplug_poll=100,fd({}),dev(net_tap_vsc0,remote=eth1)", tap.mailbox.descriptor());
        assert_eq!(tap.devargs().unwrap().to_str().unwrap(), want);
        let packet = port(Fallback::AfPacket);
        let want = format!("hotplug_poll=100,fd({}),dev(net_af_packet_vsc0,iface=eth1)", packet.mailbox.descriptor());
        assert_eq!(packet.devargs().unwrap().to_str().unwrap(), want);
    }

    #[test]
    fn a_vf_that_is_down_is_posted_once_it_is_up_or_has_stayed_down() {
        let (mut port, now) = (port(Fallback::Tap), Instant::now());
        let down = VfLink { up: false, ..vf(1) };
        port.set_vf(Some(down), now);
        port.deliver(Occupant::Nobody, false, now + UP_PATIENCE / 2);
        assert_eq!(take(&port), "");
        port.set_vf(Some(vf(1)), now);
        port.deliver(Occupant::Nobody, false, now + UP_PATIENCE / 2);
        assert_eq!(take(&port), "0000:01:00.0\n");
        port.set_vf(None, now);
        port.set_vf(Some(down), now);
        port.deliver(Occupant::Nobody, false, now + UP_PATIENCE);
        assert_eq!(take(&port), "0000:01:00.0\n", "nobody sets it up");
    }

    #[test]
    fn a_vf_that_comes_is_posted_once() {
        let (mut port, now) = (port(Fallback::Tap), Instant::now());
        port.set_vf(Some(vf(1)), now);
        for _ in 0..100 {
            port.deliver(Occupant::Nobody, false, now);
        }
        assert_eq!(take(&port), "0000:01:00.0\n");
    }

    #[test]
    fn a_vf_that_went_leaves_nothing_to_read() {
        let (mut port, now) = (port(Fallback::Tap), Instant::now());
        port.set_vf(Some(vf(1)), now);
        port.deliver(Occupant::Nobody, false, now);
        port.set_vf(None, now);
        assert_eq!(take(&port), "");
    }

    #[test]
    fn a_vf_in_use_is_not_posted_and_one_at_another_address_is_the_only_line() {
        let (mut port, mut now) = (port(Fallback::Tap), Instant::now());
        port.set_vf(Some(vf(1)), now);
        port.deliver(Occupant::Nobody, false, now);
        assert_eq!(take(&port), "0000:01:00.0\n");
        for _ in 0..20 {
            now += SECOND;
            port.deliver(Occupant::Busy, false, now);
        }
        assert_eq!(take(&port), "");
        port.set_vf(None, now);
        port.set_vf(Some(vf(2)), now);
        port.deliver(Occupant::Nobody, false, now);
        assert_eq!(take(&port), "0000:02:00.0\n");
    }

    #[test]
    fn a_vf_that_stays_without_a_port_is_posted_again_after_a_while() {
        let (mut port, now) = (port(Fallback::Tap), Instant::now());
        port.set_vf(Some(vf(1)), now);
        port.deliver(Occupant::Nobody, false, now);
        take(&port);
        port.deliver(Occupant::Nobody, false, now);
        port.deliver(Occupant::Busy, false, now + SECOND);
        port.deliver(Occupant::Nobody, false, now + 5 * SECOND);
        port.deliver(Occupant::Nobody, false, now + 6 * SECOND);
        assert_eq!(take(&port), "", "a removal may be under way");
        port.deliver(Occupant::Nobody, false, now + 7 * SECOND);
        assert_eq!(take(&port), "0000:01:00.0\n");
    }

    #[test]
    fn a_vf_back_on_a_function_that_is_not_free_yet_waits_until_it_is() {
        let (mut port, now) = (port(Fallback::Tap), Instant::now());
        port.set_vf(Some(vf(1)), now);
        port.deliver(Occupant::Busy, false, now);
        assert_eq!(take(&port), "");
        port.deliver(Occupant::Unowned, false, now);
        assert_eq!(take(&port), "0000:01:00.0\n", "failsafe takes over what EAL has probed");
    }

    #[test]
    fn a_vf_that_needs_verbs_is_posted_when_they_are_there() {
        let (mut port, now) = (port(Fallback::Tap), Instant::now());
        let mac = Some(MacAddr([0, 1, 2, 3, 4, 5]));
        port.set_vf(Some(VfLink { needs_verbs: true, mac, ..vf(1) }), now);
        port.deliver(Occupant::Nobody, false, now);
        assert!(port.waits_for_verbs(now));
        assert!(!port.waits_for_verbs(now + 11 * SECOND), "then the tick is enough");
        assert_eq!(take(&port), "");
        port.deliver(Occupant::Nobody, true, now);
        assert_eq!(take(&port), "0000:01:00.0,mac=00:01:02:03:04:05\n");
        assert!(!port.waits_for_verbs(now));
    }
}
