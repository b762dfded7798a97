// SPDX-License-Identifier: BSD-3-Clause
//! One port's life: its id and names, its mailbox, its VF.
//!
//! Calls neither DPDK nor the kernel but for its own pipe: the manager asks and tells.

use std::ffi::{CStr, CString};
use std::fmt;
use std::io;
use std::time::Instant;

use log::{info, warn};

use crate::address::{IfIndex, PciAddr};
use crate::args::{DevargsSafe, Fallback};
use crate::delivery::{Delivery, Hindrance, Move, Situation, VfLink};
use crate::eal::Errno;
use crate::eal::ethdev::PortNumber;
use crate::eal::log::NOTICE;
use crate::host::Configuration;
use crate::link::Link;
use crate::mailbox::Mailbox;
use crate::pairing::{self, Side};
use crate::report::{self, Event, History, Report, Stage};

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
    pub fn lowest_free(living: &[Self]) -> Self {
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
    // Not inlined, as that would be into many places.
    #[inline(never)]
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
    /// How many queues it has at most, each way.
    pub queues: u16,
}

impl Options {
    /// Returns all arguments of the fallback on the link `link`, which has this MTU, for so many queues: failsafe's have no
    /// room for them. `None` where there is nothing to add.
    pub fn fallback_devargs(&self, link: DevargsSafe, queues: u16, mtu: u32) -> Option<CString> {
        let frames = Frames::for_mtu(mtu, queues);
        let mut text = match self.fallback {
            Fallback::Tap => return None,
            Fallback::AfPacket => format!("qpairs={queues},{frames}iface=").into_bytes(),
        };
        text.extend_from_slice(link.get().as_bytes());
        Some(name(text))
    }
}

/// The rings of a packet socket: one to receive and one to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frames {
    bytes: u32,
    count: u32,
}

impl Frames {
    /// The PMD's own, of which a page holds two.
    const PLAIN: u32 = 2048;
    /// The largest MTU that those hold: the kernel has 66 bytes before an Ethernet header (`tpacket_rcv`).
    pub const PLAIN_MTU: u32 = Self::PLAIN - 80;
    const MOST: u32 = 512;
    /// What the rings of a port may take, each way.
    const PORT_BYTES: u32 = 16 << 20;

    /// Returns those that hold packets of an MTU: a power of two, as a frame may not cross the blocks of a ring, which the
    /// kernel rounds up to one. The larger they are and the more queues there are, the fewer, so that a port takes 32 MiB
    /// at most.
    fn for_mtu(mtu: u32, queues: u16) -> Self {
        let bytes = mtu.min(u16::MAX.into()).saturating_add(80).next_power_of_two().max(Self::PLAIN);
        let share = Self::PORT_BYTES.checked_div(u32::from(queues).saturating_mul(bytes));
        Self { bytes, count: share.unwrap_or_default().clamp(8, Self::MOST) }
    }
}

impl fmt::Display for Frames {
    /// As arguments of the PMD, each with a comma behind; none where they are its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bytes > Self::PLAIN {
            write!(f, "framesz={0},blocksz={0},framecnt={1},", self.bytes, self.count)?;
        }
        Ok(())
    }
}

/// What has to be done for the VF of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Attach its PCI function.
    Attach(PciAddr),
    /// Its address was posted: let failsafe have the port on its function.
    HandOver(PciAddr),
    /// Its address was taken back: keep the port on its function from looking free.
    TakeBack(PciAddr),
    /// Take a function away from DPDK that we attached and failsafe does not get.
    Detach(PciAddr),
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
    /// It was told that its link or its VF has an address.
    pub address_told: bool,
    /// What its instance says.
    pub options: Options,
    name: DevargsSafe,
    side: Side,
    mailbox: Mailbox,
    vf: Option<(VfLink, Delivery)>,
    /// The VF came, and that is not told yet: it is attached first.
    arrival_unlogged: bool,
    rival: Option<IfIndex>,
    /// The function that failsafe took last.
    held: Option<PciAddr>,
    /// What its VF is known by.
    paired_by: &'static str,
    /// The port of its VF, since that was handed to failsafe.
    vf_port: Option<PortNumber>,
    history: History,
    /// When what is told of it changed last.
    since: Instant,
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
    pub fn new(id: PortId, link: &Link, name: DevargsSafe, options: Options, now: Instant) -> io::Result<Self> {
        let (side, mailbox) = (Side::of(link), Mailbox::new()?);
        Ok(Self {
            id,
            phase: Phase::Making,
            orphaned: false,
            address_told: false,
            options,
            name,
            side,
            mailbox,
            vf: None,
            arrival_unlogged: false,
            rival: None,
            held: None,
            paired_by: "",
            vf_port: None,
            history: History::new(now),
            since: now,
        })
    }

    /// What the port's VF is recognized by.
    pub fn side(&self) -> Side {
        self.side
    }

    /// Name of its link.
    pub fn link_name(&self) -> DevargsSafe {
        self.name
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
        let (key, queues) = match self.options.fallback {
            // As many as the application takes, up to 16: nothing can be said.
            Fallback::Tap => ("remote", String::new()),
            Fallback::AfPacket => ("iface", format!("qpairs={},", self.options.queues)),
        };
        let (poll, descriptor) = (self.options.hotplug_poll_ms, self.mailbox.descriptor());
        let mut text = format!(
            "hotplug_poll={poll},fd({descriptor}),dev({},{queues}{key}=",
            self.fallback_name().to_string_lossy()
        )
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
        if let (true, Some((_, delivery))) = (self.side.mac != link.mac, &mut self.vf) {
            // Another port may be the VF's now.
            delivery.link_changed();
        }
        self.side.mac = link.mac;
        if self.name.get() != link.name {
            info!("{self}: renamed {}", link.name);
            // A name that failsafe's syntax could misread is not carried anywhere: the old one stays, for logs.
            self.name = DevargsSafe::new(link.name).unwrap_or(self.name);
        }
    }

    /// Notes that its link is gone. Its failsafe port is the application's and stays, with the VF if there is one.
    /// Returns a function that we attached and nobody gets.
    pub fn orphan(&mut self, now: Instant) -> Option<PciAddr> {
        self.orphaned = true;
        self.note(Event::InterfaceGone, now);
        warn!(
            "{self}: the interface is gone, and with it the fallback; a port is made anew when the interface is back; \
             close this one when its VF is not needed"
        );
        self.forget_vf()
    }

    /// Tells which link is its VF's, as last heard.
    pub fn vf(&self) -> Option<&VfLink> {
        self.vf.as_ref().map(|(vf, _)| vf)
    }

    /// Warns once of an address that its link or its VF has got.
    pub fn note_address(&mut self, index: IfIndex, address: &Configuration) {
        let vf = self.vf().filter(|vf| vf.index == index).map(|vf| vf.name);
        let own = (self.side.index == index).then(|| self.name.get());
        if let (Some(link), false) = (vf.or(own), self.address_told || self.orphaned) {
            self.address_told = true;
            warn!(
                "{self}: {link} has got {address}, at which the kernel may not be reached: the port takes its frames; take \
                 it off, or give the port up"
            );
        }
    }

    /// Notes what its VF is known by, and warns once of another link that fits as well. One that comes is news of the VF,
    /// too: it may be of the same function.
    pub fn note_pairing(&mut self, found: Option<pairing::Vf>) {
        self.paired_by = found.map_or("", |vf| vf.by);
        let rival = found.and_then(|vf| vf.rival);
        if let (Some(rival), true, Some((vf, delivery))) = (rival, self.rival != rival, &mut self.vf) {
            delivery.link_changed();
            let name = vf.name;
            warn!("{self}: two VFs fit equally well, taking {name} and not ifindex {rival}");
        }
        self.rival = rival;
    }

    /// Takes what the kernel says of its VF. Returns a function that we attached and nobody gets.
    pub fn set_vf(&mut self, found: Option<VfLink>, now: Instant) -> Option<PciAddr> {
        let same = |known: &VfLink, found: &VfLink| known.index == found.index && known.address == found.address;
        match (&mut self.vf, &found) {
            (None, None) => return None,
            (Some((known, delivery)), Some(found)) if same(known, found) => {
                if *known != *found {
                    *known = *found;
                    delivery.link_changed();
                }
                return None;
            }
            _ => {}
        }
        self.log_arrival();
        if let Some((VfLink { name, address, .. }, _)) = self.vf {
            info!(target: NOTICE, "{self}: VF {name} at {address} went");
            self.note(Event::Went(name, address), now);
        }
        let left = self.forget_vf();
        if let Some(vf) = found {
            self.vf = Some((vf, Delivery::new(now)));
            self.arrival_unlogged = true;
            self.note(Event::Came(vf.name, vf.address), now);
        }
        left
    }

    /// Takes back what failsafe has not read, and lets go of the VF; also for the end of the port itself. Returns a
    /// function that we attached and nobody gets.
    pub fn forget_vf(&mut self) -> Option<PciAddr> {
        self.vf_port = None;
        let (vf, delivery) = self.vf.take()?;
        let read = delivery.is_posted() && self.mailbox.is_empty();
        self.drain();
        if read || delivery.is_taken() {
            self.held = Some(vf.address);
            return None;
        }
        delivery.is_ours().then_some(vf.address)
    }

    /// Tells, if that was not done yet, that the VF came: a line of the log takes longer than to attach it.
    pub fn log_arrival(&mut self) {
        if let (true, Some((vf, _))) = (std::mem::take(&mut self.arrival_unlogged), &self.vf) {
            info!(target: NOTICE, "{self}: VF {} came at {}", vf.name, vf.address);
        }
    }

    /// The function whose address lies in the mailbox, or that was attached by us and is about to.
    pub fn offered(&self) -> Option<PciAddr> {
        let (vf, delivery) = self.vf.as_ref()?;
        (delivery.is_posted() || (delivery.is_ours() && !delivery.is_attaching())).then_some(vf.address)
    }

    /// The function that is on its way to failsafe: being attached, attached by us, or posted.
    pub fn claimed(&self) -> Option<PciAddr> {
        let (vf, delivery) = self.vf.as_ref()?;
        (delivery.is_ours() || delivery.is_attaching() || delivery.is_posted()).then_some(vf.address)
    }

    /// The function that failsafe has, as far as we know.
    pub fn taken(&self) -> Option<PciAddr> {
        let taken = self.vf.as_ref().filter(|(_, delivery)| delivery.is_taken());
        taken.map(|(vf, _)| vf.address).or(self.held)
    }

    /// The device of the function that is [offered](Self::offered) went away, or the port there that failsafe would take,
    /// before the kernel says so of the link. Returns the function if we have attached it.
    pub fn device_removed(&mut self, now: Instant) -> Option<PciAddr> {
        let (vf, delivery) = self.vf.as_mut()?;
        if delivery.is_posted() && self.mailbox.is_empty() {
            return None;
        }
        let function = vf.address;
        let detach = delivery.disown(now).then_some(function);
        self.drain();
        detach
    }

    /// Reads the mailbox as failsafe does.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn read_mailbox(&self) -> String {
        self.mailbox.read()
    }

    /// Tells what lies in the mailbox, and leaves it there.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn peek_mailbox(&self) -> String {
        if self.mailbox.is_empty() {
            return String::new();
        }
        let text = self.mailbox.read();
        self.mailbox.write(&text);
        text
    }

    fn drain(&self) {
        if let Err(error) = self.mailbox.drain() {
            warn!("{self}: cannot empty the mailbox: {error}");
        }
    }

    /// The VF whose delivery hangs on who sits on its PCI function.
    pub fn pending(&self) -> Option<&VfLink> {
        self.vf.as_ref().filter(|(_, delivery)| !delivery.is_attaching()).map(|(vf, _)| vf)
    }

    /// The function that failsafe may still hold, when that is another than the VF's.
    pub fn held_before(&self) -> Option<PciAddr> {
        let (vf, delivery) = self.vf.as_ref()?;
        self.held.filter(|&held| held != vf.address && !delivery.is_taken())
    }

    /// Notes that a function is posted to another port: nobody sat there, so failsafe has let go of it.
    pub fn posted_elsewhere(&mut self, function: PciAddr, now: Instant) {
        self.held = self.held.filter(|&held| held != function);
        let taken = self.vf.as_mut().filter(|(vf, delivery)| vf.address == function && delivery.is_taken());
        if let Some((_, delivery)) = taken {
            *delivery = Delivery::new(now);
            self.history.lost(now);
        }
    }

    /// Tells whether whatever happens to it next is an event.
    pub fn is_at_rest(&self, now: Instant) -> bool {
        let delivered = self.vf.as_ref().is_none_or(|(_, delivery)| delivery.is_at_rest(now));
        delivered && self.phase != Phase::CloseDeferred
    }

    /// When its VF is tried again, if that is known.
    pub fn next_try(&self) -> Option<Instant> {
        self.vf.as_ref()?.1.next_try()
    }

    /// Tells whether its VF has begun to wait for its ibverbs device, whose coming no link event tells.
    pub fn waits_for_verbs(&self, now: Instant) -> bool {
        self.vf.as_ref().is_some_and(|(vf, delivery)| delivery.waits_for_verbs(vf, now))
    }

    /// Moves its VF's delivery on as far as it goes.
    pub fn deliver(&mut self, situation: &Situation<'_>, now: Instant) -> Option<Order> {
        let side = self.side;
        let is_read = self.mailbox.is_empty();
        let (vf, delivery) = self.vf.as_mut()?;
        let vf = *vf;
        let fits = |mac| [vf.mac, vf.permanent_mac, side.mac, side.first_mac].contains(&Some(mac));
        let had = delivery.is_taken();
        let (next, hindrance) = delivery.advance(&vf, situation, is_read, fits, now);
        let (ours, has) = (delivery.is_ours(), delivery.is_taken());
        if has {
            self.held = Some(vf.address);
        }
        match (had, has) {
            (false, true) => self.note(Event::Taken(vf.address), now),
            (true, false) => self.history.lost(now),
            _ => {}
        }
        self.tell(&vf, hindrance, now);
        match next? {
            Move::Attach => Some(Order::Attach(vf.address)),
            Move::Detach => Some(Order::Detach(vf.address)),
            Move::Recall => {
                self.drain();
                ours.then_some(Order::TakeBack(vf.address))
            }
            Move::Post => self.post(&vf, now),
        }
    }

    /// Takes the outcome of [`Order::Attach`]. `None` when its VF is another by now.
    pub fn attached(&mut self, function: PciAddr, outcome: Result<(), Hindrance>, now: Instant) -> Option<()> {
        let (vf, delivery) =
            self.vf.as_mut().filter(|(vf, delivery)| vf.address == function && delivery.is_attaching())?;
        let vf = *vf;
        let hindrance = delivery.attached(outcome, now);
        self.tell(&vf, hindrance, now);
        Some(())
    }

    /// Notes that failsafe cannot get the port of a function that was posted: its address is taken back, and posted again
    /// later.
    pub fn not_handed_over(&mut self, function: PciAddr, error: Errno, now: Instant) {
        if self.vf.as_ref().is_some_and(|(vf, delivery)| vf.address == function && delivery.is_posted()) {
            self.drain();
            self.put_off(Hindrance::Kept(error), now);
        }
    }

    fn tell(&mut self, vf: &VfLink, hindrance: Option<Hindrance>, now: Instant) {
        if let Some(hindrance) = hindrance {
            warn!("{self}: VF {} at {} {}", vf.name, vf.address, hindrance.line());
            self.note(Event::Hindered(hindrance.verdict()), now);
        }
    }

    fn note(&mut self, event: Event, now: Instant) {
        self.history.note(event, now);
        self.since = now;
    }

    /// Notes that its failsafe port was made.
    pub fn made(&mut self, now: Instant) {
        self.note(Event::Made, now);
    }

    /// Notes which port of its VF was handed to failsafe.
    pub fn handed_over(&mut self, port: PortNumber) {
        self.vf_port = Some(port);
    }

    /// What is to be told of it. `link` is its own, if that is there.
    pub fn report(&self, instance: &CStr, link: Option<&Link>) -> Report {
        let stage = |delivery: &Delivery| match delivery {
            taken if taken.is_taken() => Stage::Taken,
            posted if posted.is_posted() => Stage::Posted,
            coming if coming.is_attaching() || coming.is_ours() => Stage::Attaching,
            _ => Stage::Waiting,
        };
        Report {
            id: self.id.0,
            instance: instance.to_owned(),
            failsafe: self.id.failsafe_name(),
            fallback: self.fallback_name(),
            name: self.name.get(),
            index: self.side.index,
            mac: self.side.mac,
            up: link.filter(|_| !self.orphaned).map(|link| link.up),
            live: self.phase == Phase::Live,
            vf: self.vf.as_ref().map(|(link, delivery)| report::Vf {
                link: *link,
                paired_by: self.paired_by,
                stage: stage(delivery),
                hindrance: delivery.hindrance().cloned(),
                port: self.vf_port,
            }),
            history: self.history.clone(),
            since: self.since,
        }
    }

    fn post(&mut self, vf: &VfLink, now: Instant) -> Option<Order> {
        match self.mailbox.post(vf.address) {
            Ok(()) => {
                info!("{self}: posted VF {} at {}", vf.name, vf.address);
                if let Some((_, delivery)) = &mut self.vf {
                    delivery.posted(now);
                }
                self.note(Event::Posted(vf.address), now);
                Some(Order::HandOver(vf.address))
            }
            Err(error) => {
                self.put_off(Hindrance::NotPosted(error.raw_os_error().unwrap_or(libc::EIO)), now);
                None
            }
        }
    }

    /// Puts the delivery of its VF off, and says once why.
    fn put_off(&mut self, hindrance: Hindrance, now: Instant) {
        let Some((vf, delivery)) = &mut self.vf else { return };
        let vf = *vf;
        let hindrance = delivery.put_off(hindrance, now);
        self.tell(&vf, hindrance, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{IfName, MacAddr};
    use crate::eal::ethdev::Occupant;
    use crate::link::{KernelDriver, Parent};
    use std::time::Duration;

    fn port(fallback: Fallback) -> Port {
        let name = IfName::new(b"eth1").unwrap();
        let link = Link::plain(IfIndex::new(3).unwrap(), name, MacAddr([0, 1, 2, 3, 4, 5]), Parent::NetVsc);
        let options = Options { fallback, hotplug_poll_ms: 100, queues: 16 };
        Port::new(PortId(0), &link, DevargsSafe::new(name).unwrap(), options, Instant::now()).unwrap()
    }

    fn ids(raw: impl IntoIterator<Item = u32>) -> Vec<PortId> {
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
        let want = format!(
            "hotplug_poll=100,fd({}),dev(net_af_packet_vsc0,qpairs=16,iface=eth1)",
            packet.mailbox.descriptor()
        );
        assert_eq!(packet.devargs().unwrap().to_str().unwrap(), want);
    }

    #[test]
    fn what_a_port_and_its_fallback_are_called_and_what_that_one_lacks() {
        for (fallback, name, module) in
            [(Fallback::Tap, "net_tap_vsc0", "sch_multiq"), (Fallback::AfPacket, "net_af_packet_vsc0", "CAP_NET_RAW")]
        {
            let port = port(fallback);
            assert_eq!(port.to_string(), "net_failsafe_vsc0 (eth1, ifindex 3)");
            assert_eq!(port.id.failsafe_name().as_c_str(), c"net_failsafe_vsc0");
            assert_eq!(port.fallback_name().to_str().unwrap(), name);
            let advice = port.fallback_advice();
            assert!(
                advice.starts_with(&format!("{name} did not come up on eth1")) && advice.contains(module),
                "{advice}"
            );
        }
        assert_eq!(PortId(12).to_string(), "12");
    }

    #[test]
    fn its_link_is_followed_and_what_that_was_at_first_stays() {
        let mut port = port(Fallback::Tap);
        let first = port.side();
        let now = |name: &[u8]| Link::plain(first.index, IfName::new(name).unwrap(), MacAddr([6; 6]), Parent::NetVsc);
        port.follow(&now(b"lan0"));
        assert_eq!(port.to_string(), "net_failsafe_vsc0 (lan0, ifindex 3)");
        assert_eq!(port.side(), Side { mac: Some(MacAddr([6; 6])), ..first });
        port.follow(&now(b"a),exec(b"));
        assert_eq!(port.to_string(), "net_failsafe_vsc0 (lan0, ifindex 3)");
    }

    #[test]
    fn an_address_is_told_of_when_the_port_or_its_vf_has_it_and_the_port_serves() {
        let address = Configuration::Address("192.0.2.1".parse().unwrap(), 24);
        let (vf, now) = (vf(1), Instant::now());
        for (index, orphaned, want) in [
            (IfIndex::new(3).unwrap(), false, true),
            (vf.index, false, true),
            (IfIndex::new(9).unwrap(), false, false),
            (IfIndex::new(3).unwrap(), true, false),
        ] {
            let mut port = port(Fallback::Tap);
            port.set_vf(Some(vf), now);
            port.orphaned = orphaned;
            port.note_address(index, &address);
            assert_eq!(port.address_told, want, "{index}, {orphaned}");
        }
    }

    #[test]
    fn a_vf_is_another_when_its_link_or_its_function_is() {
        let now = Instant::now();
        let known = vf(1);
        for (found, arrived, why) in [
            (known, false, "nothing new"),
            (VfLink { up: false, ..known }, false, "it is down"),
            (VfLink { index: vf(2).index, ..known }, true, "another link"),
            (VfLink { address: vf(2).address, ..known }, true, "another function"),
        ] {
            let mut port = port(Fallback::Tap);
            port.set_vf(Some(known), now);
            port.log_arrival();
            port.set_vf(Some(found), now);
            assert_eq!((port.vf(), port.arrival_unlogged), (Some(&found), arrived), "{why}");
        }
    }

    #[test]
    fn whose_a_function_is_on_its_way_to_failsafe() {
        let (mut port, now) = (port(Fallback::Tap), Instant::now());
        let function = Some(vf(1).address);
        let whose = |port: &Port| (port.claimed(), port.offered(), port.taken(), port.pending().is_some());
        assert_eq!(whose(&port), (None, None, None, false), "there is none");
        port.set_vf(Some(vf(1)), now);
        assert_eq!(whose(&port), (None, None, None, true), "it waits");
        deliver(&mut port, &Occupant::Nobody, now);
        assert_eq!(whose(&port), (function, None, None, false), "it is being attached");
        port.attached(vf(1).address, Ok(()), now).unwrap();
        assert_eq!(whose(&port), (function, function, None, true), "it is attached");
        let ours = Occupant::Ours { mac: Some(MacAddr([0, 1, 2, 3, 4, 5])) };
        deliver(&mut port, &ours, now);
        assert_eq!(whose(&port), (function, function, None, true), "it is posted");
        take(&port);
        assert_eq!(port.device_removed(now), None, "failsafe has it");
        deliver(&mut port, &ours, now);
        assert_eq!(whose(&port), (None, None, function, true), "it is failsafe's");
        assert!(port.is_at_rest(now + SECOND));
        port.phase = Phase::CloseDeferred;
        assert!(!port.is_at_rest(now + SECOND), "it is to be closed");
        port.set_vf(None, now);
        assert_eq!(whose(&port), (None, None, function, false), "it went, and failsafe may still have it");
    }

    #[test]
    fn a_port_whose_link_is_gone_gives_back_what_failsafe_has_not_read() {
        let (mut port, now) = (port(Fallback::Tap), Instant::now());
        post(&mut port, 1, now);
        assert_eq!(port.orphan(now), Some(vf(1).address));
        assert!(port.orphaned && port.vf().is_none());
        assert_eq!(take(&port), "");
    }

    #[test]
    fn what_is_attached_and_not_posted_yet_is_given_back() {
        let (now, function) = (Instant::now(), vf(1).address);
        for gives_back in
            [|port: &mut Port, now| port.device_removed(now), |port: &mut Port, now| port.set_vf(None, now)]
        {
            let mut port = port(Fallback::Tap);
            port.set_vf(Some(vf(1)), now);
            assert_eq!(port.attached(function, Ok(()), now), None, "nobody was asked to");
            deliver(&mut port, &Occupant::Nobody, now);
            port.attached(function, Ok(()), now).unwrap();
            assert_eq!(gives_back(&mut port, now), Some(function));
        }
    }

    #[test]
    fn a_vf_that_comes_back_to_its_function_does_not_wait_for_itself() {
        let (mut port, now) = (port(Fallback::Tap), Instant::now());
        post(&mut port, 1, now);
        take(&port);
        port.set_vf(None, now);
        port.set_vf(Some(vf(1)), now);
        assert_eq!((port.taken(), port.held_before()), (Some(vf(1).address), None));
    }

    #[test]
    fn only_news_of_a_vf_have_it_tried_again_at_once() {
        let (mut port, now) = (port(Fallback::Tap), Instant::now());
        port.set_vf(Some(vf(1)), now);
        deliver(&mut port, &Occupant::Nobody, now);
        port.attached(vf(1).address, Err(Hindrance::Failed(Errno(libc::EIO))), now).unwrap();
        port.set_vf(Some(vf(1)), now);
        assert_eq!(deliver(&mut port, &Occupant::Nobody, now), None, "nothing new");
        let renamed = VfLink { name: IfName::new(b"vf1").unwrap(), ..vf(1) };
        port.set_vf(Some(renamed), now);
        assert_eq!(deliver(&mut port, &Occupant::Nobody, now), Some(Order::Attach(vf(1).address)));
    }

    #[test]
    fn a_rival_is_kept_in_mind() {
        let mut port = port(Fallback::Tap);
        for rival in [None, Some(vf(2).index), None] {
            let (index, address) = (vf(1).index, vf(1).address);
            port.note_pairing(rival.map(|_| pairing::Vf { index, address, rival, by: "mac" }));
            assert_eq!(port.rival, rival);
        }
    }

    #[test]
    fn a_vf_that_waits_for_its_verbs_is_looked_at_for_a_while() {
        let (mut port, now) = (port(Fallback::Tap), Instant::now());
        assert!(!port.waits_for_verbs(now), "there is none");
        for (driver, want) in [(KernelDriver::Mlx, true), (KernelDriver::Other, false)] {
            port.set_vf(Some(VfLink { driver: Some(driver), ..vf(1) }), now);
            assert_eq!(port.waits_for_verbs(now), want, "{driver:?}");
        }
    }

    #[test]
    fn a_vf_that_another_port_gets_after_failsafe_had_it_begins_anew() {
        let (mut port, now) = (port(Fallback::Tap), Instant::now());
        post(&mut port, 1, now);
        take(&port);
        deliver(&mut port, &Occupant::Busy { by: None }, now);
        port.posted_elsewhere(vf(2).address, now);
        assert_eq!(port.taken(), Some(vf(1).address));
        assert!(port.is_at_rest(now), "as before");
        port.posted_elsewhere(vf(1).address, now);
        assert_eq!(port.taken(), None);
    }

    #[test]
    fn rings_hold_what_the_mtu_allows_and_take_no_more_than_32_mib() {
        let table = [
            (1500, 16, ""),
            (1968, 16, ""),
            (1969, 16, "framesz=4096,blocksz=4096,framecnt=256,"),
            (9000, 16, "framesz=16384,blocksz=16384,framecnt=64,"),
            (9000, 4, "framesz=16384,blocksz=16384,framecnt=256,"),
            (9000, 1, "framesz=16384,blocksz=16384,framecnt=512,"),
            (65_535, 16, "framesz=131072,blocksz=131072,framecnt=8,"),
            (u32::MAX, 1, "framesz=131072,blocksz=131072,framecnt=128,"),
        ];
        for (mtu, queues, want) in table {
            assert_eq!(Frames::for_mtu(mtu, queues).to_string(), want, "{mtu}, {queues}");
        }
        assert_eq!(Frames::PLAIN_MTU, 1968);
        let devargs = |fallback| {
            let port = port(fallback);
            port.options.fallback_devargs(port.name, 4, 9000)
        };
        let want = c"qpairs=4,framesz=16384,blocksz=16384,framecnt=256,iface=eth1";
        assert_eq!(devargs(Fallback::AfPacket).as_deref(), Some(want));
        assert_eq!(devargs(Fallback::Tap), None);
    }

    const SECOND: Duration = Duration::from_secs(1);
    const FREE: Occupant = Occupant::Unowned { mac: Some(MacAddr([0, 1, 2, 3, 4, 5])) };

    fn vf(bus: u8) -> VfLink {
        VfLink {
            index: IfIndex::new(100 + u32::from(bus)).unwrap(),
            name: IfName::new(b"vf0").unwrap(),
            address: format!("0000:{bus:02x}:00.0").parse().unwrap(),
            mac: None,
            permanent_mac: None,
            driver: Some(KernelDriver::Other),
            up: true,
        }
    }

    fn take(port: &Port) -> String {
        port.read_mailbox()
    }

    fn deliver(port: &mut Port, occupant: &Occupant, now: Instant) -> Option<Order> {
        port.deliver(&Situation { occupant, sharer: None, has_verbs: false, holds_other: false, is_sure: true }, now)
    }

    /// Attaches the VF on a bus, and has it posted.
    fn post(port: &mut Port, bus: u8, now: Instant) {
        let function = vf(bus).address;
        port.set_vf(Some(vf(bus)), now);
        assert_eq!(deliver(port, &Occupant::Nobody, now), Some(Order::Attach(function)));
        assert_eq!(port.attached(function, Ok(()), now), Some(()));
        let ours = Occupant::Ours { mac: Some(MacAddr([0, 1, 2, 3, 4, 5])) };
        assert_eq!(deliver(port, &ours, now), Some(Order::HandOver(function)));
    }

    #[test]
    fn a_function_that_another_port_gets_is_not_waited_for() {
        let (mut port, now) = (port(Fallback::Tap), Instant::now());
        post(&mut port, 1, now);
        take(&port);
        port.set_vf(Some(vf(2)), now);
        assert_eq!(port.held_before(), Some(vf(1).address));
        port.posted_elsewhere(vf(3).address, now);
        assert_eq!(port.held_before(), Some(vf(1).address));
        port.posted_elsewhere(vf(1).address, now);
        assert_eq!(port.held_before(), None);
    }

    #[test]
    fn a_vf_that_comes_is_posted_once_it_is_attached_and_only_once() {
        let (mut port, now) = (port(Fallback::Tap), Instant::now());
        post(&mut port, 1, now);
        for _ in 0..100 {
            assert_eq!(deliver(&mut port, &FREE, now), None);
        }
        assert_eq!(take(&port), "0000:01:00.0\n");
    }

    #[test]
    fn a_vf_that_went_leaves_nothing_to_read_and_nothing_attached() {
        let (mut port, now) = (port(Fallback::Tap), Instant::now());
        post(&mut port, 1, now);
        assert_eq!(port.set_vf(None, now), Some(vf(1).address), "nobody else detaches it");
        assert_eq!(take(&port), "");
    }

    #[test]
    fn a_vf_that_cannot_be_handed_over_is_taken_back_and_posted_again_in_a_second() {
        let (mut port, now) = (port(Fallback::Tap), Instant::now());
        let ours = Occupant::Ours { mac: Some(MacAddr([0, 1, 2, 3, 4, 5])) };
        post(&mut port, 1, now);
        for second in 0..3 {
            let now = now + second * SECOND;
            port.not_handed_over(vf(1).address, Errno(libc::ENOMEM), now);
            assert_eq!(take(&port), "", "failsafe would ask for it in vain");
            assert_eq!(port.next_try(), Some(now + SECOND));
            assert_eq!(deliver(&mut port, &ours, now), None);
            assert_eq!(deliver(&mut port, &ours, now + SECOND), Some(Order::HandOver(vf(1).address)));
        }
        assert_eq!(take(&port), "0000:01:00.0\n");
    }

    #[test]
    fn a_vf_that_went_after_failsafe_had_read_is_failsafes_to_let_go() {
        let (mut port, now) = (port(Fallback::Tap), Instant::now());
        post(&mut port, 1, now);
        assert_eq!(take(&port), "0000:01:00.0\n");
        assert_eq!(port.set_vf(None, now), None);
        // The one that comes next waits until it has.
        port.set_vf(Some(vf(2)), now);
        assert_eq!(port.held_before(), Some(vf(1).address));
    }

    #[test]
    fn a_vf_whose_device_goes_before_failsafe_has_read_is_taken_back() {
        let (mut port, now) = (port(Fallback::Tap), Instant::now());
        post(&mut port, 1, now);
        assert_eq!(port.offered(), Some(vf(1).address));
        assert_eq!(port.device_removed(now), Some(vf(1).address));
        assert_eq!(take(&port), "");
        assert_eq!(port.offered(), None);
        assert_eq!(deliver(&mut port, &Occupant::Nobody, now + SECOND), None, "its link may be about to go");
        assert_eq!(deliver(&mut port, &Occupant::Nobody, now + 2 * SECOND), Some(Order::Attach(vf(1).address)));
    }

    #[test]
    fn a_vf_of_which_events_were_lost_is_taken_back_and_posted_again_once_it_is_sure() {
        let (mut port, now) = (port(Fallback::Tap), Instant::now());
        post(&mut port, 1, now);
        let unsure = Situation { occupant: &FREE, sharer: None, has_verbs: false, holds_other: false, is_sure: false };
        assert_eq!(port.deliver(&unsure, now), Some(Order::TakeBack(vf(1).address)));
        assert_eq!(take(&port), "");
        assert_eq!(port.deliver(&unsure, now + 10 * SECOND), None);
        assert_eq!(take(&port), "");
        assert_eq!(deliver(&mut port, &FREE, now), Some(Order::HandOver(vf(1).address)));
        assert_eq!(take(&port), "0000:01:00.0\n");
    }

    #[test]
    fn what_was_attached_for_a_vf_that_is_another_by_now_is_not_taken_for_its() {
        let (mut port, now) = (port(Fallback::Tap), Instant::now());
        port.set_vf(Some(vf(1)), now);
        deliver(&mut port, &Occupant::Nobody, now);
        port.set_vf(Some(vf(2)), now);
        assert_eq!(port.attached(vf(1).address, Ok(()), now), None);
    }

    #[test]
    fn a_port_of_another_netdevice_is_not_posted() {
        let (mut port, now) = (port(Fallback::Tap), Instant::now());
        port.set_vf(Some(vf(1)), now);
        let other = Occupant::Unowned { mac: Some(MacAddr([6, 6, 6, 6, 6, 6])) };
        assert_eq!(deliver(&mut port, &other, now), None);
        assert_eq!(take(&port), "");
        assert!(port.is_at_rest(now), "it was told");
        assert_eq!(deliver(&mut port, &FREE, now), Some(Order::HandOver(vf(1).address)));
    }
}
