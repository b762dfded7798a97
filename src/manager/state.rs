// SPDX-License-Identifier: BSD-3-Clause
//! What the driver holds, and what follows from what the kernel and DPDK say.
//!
//! Nothing here calls DPDK: this is what the manager's lock protects, and under that lock DPDK is not entered. So a
//! rescan is a question and an answer: [`State::look`] says what to ask DPDK, [`State::act`] takes the answers and says
//! what to do. The kernel is asked right here; it does not call back.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString};
use std::time::{Duration, Instant};

use log::{debug, error, info, warn};

use super::instance::{Instance, Place, Refusal, Wanted};
use super::links::Links;
use super::watch::Watch;
use crate::args::{Args, DevargsSafe, Selector};
use crate::eal::ethdev::Occupant;
use crate::eal::failsafe::SafeBursts;
use crate::eal::log::NOTICE;
use crate::eal::{Errno, guard};
use crate::host::{self, Sysfs};
use crate::link::{IfIndex, KernelDriver, Link, PciAddr};
use crate::pairing::{self, Miss};
use crate::port::{Options, Phase, Port, PortId, VfLink};

/// How long the closing of a failsafe port with its VF may take.
const QUIET: Duration = Duration::from_secs(2);

/// Which of the ports that had an id one after another is meant: an answer about one is none about the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Serial(u64);

#[derive(Debug)]
struct Held {
    port: Port,
    serial: Serial,
    /// The instance it belongs to; that one is gone when the port is closing.
    instance: CString,
}

/// What a rescan has to ask DPDK.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Questions {
    /// Whether these ports still have their failsafe port.
    pub(super) alive: Vec<(Serial, PortId)>,
    /// Who sits on these PCI functions.
    pub(super) functions: BTreeSet<PciAddr>,
    /// Which devices live, as a port is to be made.
    pub(super) names: bool,
}

/// What DPDK answered.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Ports of [`Questions::alive`] that have none any more.
    pub(super) gone: BTreeSet<Serial>,
    /// Occupants of [`Questions::functions`].
    pub(super) occupants: BTreeMap<PciAddr, Occupant>,
    /// Names of all Ethernet ports.
    pub(super) names: Vec<CString>,
}

/// What a rescan has to have DPDK do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Job {
    Make(PortId),
    Close(PortId),
}

/// How to make or close a port.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) failsafe: CString,
    pub(super) fallback: CString,
    pub(super) devargs: Option<CString>,
    /// Whether the vdev of an earlier port of this id, long closed, is still on the bus.
    pub(super) shell: bool,
    /// The PCI function of its VF, when that may be posted.
    pub(super) function: Option<PciAddr>,
    /// What to do when the fallback does not come up.
    pub(super) fallback_advice: String,
    /// How it is called in logs.
    pub(super) label: String,
}

/// A link that an instance takes.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    pub(super) selector: Selector,
    pub(super) index: IfIndex,
    pub(super) label: String,
}

impl Chosen {
    fn new(selector: Selector, link: &Link) -> Self {
        Self { selector, index: link.index, label: format!("{} (ifindex {})", link.name, link.index) }
    }
}

/// Everything the driver holds.
#[derive(Debug)]
pub(super) struct State {
    pub(super) links: Links,
    instances: BTreeMap<CString, Instance>,
    ports: BTreeMap<PortId, Held>,
    /// Serial of the next port.
    next_serial: u64,
    /// How often the kernel was begun to be listened to: whoever watches the socket of an earlier time watches nothing.
    generation: u64,
    /// Failsafe's burst functions that mind a VF that went, the same for all its ports; noted when the first is made.
    bursts: Option<SafeBursts>,
    /// Ids whose failsafe port is closed and whose vdev is still on the bus.
    shells: BTreeSet<PortId>,
    /// Links have appeared or changed, and perhaps one that is wanted.
    appeared: bool,
    /// Until when DPDK is not asked about PCI functions: another thread is taking one off the bus, whose list has no lock.
    quiet_until: Option<Instant>,
    /// What has DPDK call us; `None` while somebody changes it.
    pub(super) watch: Option<Watch>,
}

impl State {
    pub(super) const fn new() -> Self {
        Self {
            links: Links::new(),
            instances: BTreeMap::new(),
            ports: BTreeMap::new(),
            next_serial: 0,
            generation: 0,
            bursts: None,
            shells: BTreeSet::new(),
            appeared: false,
            quiet_until: None,
            watch: Some(Watch::new()),
        }
    }

    /// Tells whether there is nothing to watch.
    pub(super) fn is_idle(&self) -> bool {
        let settled = |wanted: &Wanted| wanted.place == Place::Closed;
        self.ports.is_empty() && self.instances.values().all(|instance| instance.wanted.iter().all(settled))
    }

    /// Tells whether whatever happens next is an event.
    pub(super) fn is_at_rest(&self, now: Instant) -> bool {
        let put_off = |wanted: &Wanted| matches!(wanted.place, Place::Open { not_before: Some(_) });
        let tried_again = self.instances.values().flat_map(|instance| &instance.wanted).any(put_off);
        let ports = self.ports.values().all(|held| held.port.is_at_rest());
        ports && !tried_again && !self.is_quiet(now) && self.links.is_settled()
    }

    /// Tells whether DPDK calls us exactly when there is something to watch.
    pub(super) fn is_settled(&self) -> bool {
        let idle = self.is_idle();
        self.watch.as_ref().is_some_and(|watch| if idle { watch.is_off() } else { watch.is_on(self.generation) })
    }

    /// Begins to listen to the kernel, if that was not done before.
    ///
    /// # Errors
    /// When the kernel does not give its list of links.
    pub(super) fn listen(&mut self) -> Result<(), host::Error> {
        if self.links.events().is_none() {
            self.links.listen()?;
            self.generation += 1;
        }
        Ok(())
    }

    /// Tells which socket of link events is the one to watch.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Notes that the tick is not set again; `false` when that cannot be noted right now.
    pub(super) fn stop_ticking(&mut self) -> bool {
        self.watch.as_mut().map(Watch::tick_ended).is_some()
    }

    /// Finds the links that an instance with these arguments takes, and those named that it cannot take.
    pub(super) fn select(&mut self, args: &Args) -> (Vec<Chosen>, Vec<(Selector, Miss)>) {
        let (mut chosen, mut misses) = (Vec::new(), Vec::new());
        self.links.catch_up();
        if args.selectors.is_empty() {
            self.links.resolve(pairing::unclear_for_netvsc_links);
            let links = pairing::netvsc_links(self.links.table());
            chosen.extend(links.filter_map(|link| Some(Chosen::new(Selector::Mac(link.mac?), link))));
        }
        for &selector in &args.selectors {
            self.links.resolve(|links| pairing::unclear_for_choice(links, &selector));
            let links = self.links.table();
            match pairing::choose(links, &selector, args.force) {
                Ok(index) => chosen.extend(links.get(index).map(|link| Chosen::new(selector, link))),
                Err(miss) => misses.push((selector, miss)),
            }
        }
        (chosen, misses)
    }

    /// Notes an instance and begins its ports.
    ///
    /// `names` are those of all Ethernet ports, which no new id may collide with.
    pub(super) fn admit(
        &mut self,
        name: &CStr,
        args: &Args,
        chosen: &[Chosen],
        missing: &[Selector],
        names: &[CString],
    ) -> Vec<PortId> {
        let options = Options { fallback: args.fallback, hotplug_poll_ms: args.hotplug_poll_ms };
        let open = Place::Open { not_before: None };
        let wanted = missing.iter().map(|&selector| Wanted::new(selector, open)).collect();
        let named = !args.selectors.is_empty();
        self.instances.insert(name.to_owned(), Instance { named, force: args.force, options, wanted });
        let mut begun = Vec::new();
        for link in chosen {
            let server = self.port_serving(link.index).map(|port| port.phase);
            let place = match server {
                None => open,
                // Its port is that of an instance that was removed, and about to be closed.
                Some(Phase::Closing | Phase::CloseDeferred) => Place::Open { not_before: Some(Instant::now()) },
                Some(Phase::Making | Phase::Live) => Place::Closed,
            };
            if place == Place::Closed && named {
                warn!("{}: {} has a port already, skipping", name.to_string_lossy(), link.label);
            }
            let Some(wanted) = self.instances.get_mut(name).map(|instance| &mut instance.wanted) else { continue };
            wanted.push(Wanted::new(link.selector, place));
            if server.is_none() {
                let position = wanted.len().saturating_sub(1);
                begun.extend(self.fill_place(name, position, link.index, names, Instant::now()));
            }
        }
        begun
    }

    fn serves(&self, link: IfIndex) -> bool {
        self.port_serving(link).is_some()
    }

    /// The port that a link has.
    fn port_serving(&self, link: IfIndex) -> Option<&Port> {
        self.ports.values().map(|held| &held.port).find(|port| port.side().index == link && !port.orphaned)
    }

    fn wanted(&mut self, instance: &CStr, position: usize) -> Option<&mut Wanted> {
        self.instances.get_mut(instance)?.wanted.get_mut(position)
    }

    /// Begins a port on a link that an instance wants; says once why that cannot be.
    fn fill_place(
        &mut self,
        instance: &CStr,
        position: usize,
        index: IfIndex,
        names: &[CString],
        now: Instant,
    ) -> Option<PortId> {
        let options = self.instances.get(instance)?.options;
        let pci = self.links.table().get(index).is_some_and(Link::is_on_pci);
        if pci && self.wanted(instance, position)?.pci == Some(false) {
            return None;
        }
        let outcome = self.begin(instance, index, options, names);
        let wanted = self.wanted(instance, position)?;
        match outcome {
            Ok(id) => {
                wanted.place = Place::Served(id);
                wanted.pci = Some(pci);
                return Some(id);
            }
            // It may come back, and that is an event.
            Err(Refusal::Gone) => {}
            Err(refusal) => {
                if wanted.failures == 0 {
                    error!("{}: {refusal}", instance.to_string_lossy());
                }
                wanted.put_off(now);
                if matches!(refusal, Refusal::Name { .. }) {
                    // A new name is an event as well.
                    wanted.place = Place::Open { not_before: None };
                }
            }
        }
        None
    }

    /// Begins a port on a link.
    fn begin(
        &mut self,
        instance: &CStr,
        index: IfIndex,
        options: Options,
        names: &[CString],
    ) -> Result<PortId, Refusal> {
        let link = self.links.table().get(index).ok_or(Refusal::Gone)?;
        let name = DevargsSafe::new(link.name).ok_or(Refusal::Name { name: link.name, index })?;
        let living = names.iter().filter_map(PortId::of_device).chain(self.ports.keys().copied()).collect();
        let id = PortId::lowest_free(&living);
        let port = Port::new(id, link, name, options).map_err(|error| Refusal::Pipe { name: link.name, error })?;
        let serial = Serial(self.next_serial);
        self.next_serial += 1;
        self.ports.insert(id, Held { port, serial, instance: instance.to_owned() });
        self.find_vf(id, Instant::now());
        Ok(id)
    }

    /// Looks for the VF of a port.
    fn find_vf(&mut self, id: PortId, now: Instant) {
        let Some(side) = self.ports.get(&id).map(|held| held.port.side()) else { return };
        self.links.resolve(|links| pairing::unclear_for_vf(links, &side));
        let found = pairing::vf_of(self.links.table(), &side);
        if let Some(vf) = found {
            self.links.resolve_driver(vf.index, vf.address);
        }
        let Some(Held { port, .. }) = self.ports.get_mut(&id) else { return };
        let link = found.and_then(|vf| self.links.table().get(vf.index));
        let vf = found.zip(link).map(|(vf, link)| VfLink {
            index: vf.index,
            name: link.name,
            address: vf.address,
            mac: link.mac.filter(|_| link.driver == Some(KernelDriver::Mana)),
            needs_verbs: matches!(link.driver, Some(KernelDriver::Mlx | KernelDriver::Mana)),
            up: link.up,
        });
        port.set_vf(vf, now);
        port.note_rival(found.and_then(|vf| vf.rival));
    }

    /// Takes in what the kernel says, and returns what DPDK has to be asked. With `all`, every port is attended to;
    /// else only those that an event concerns.
    pub(super) fn look(&mut self, all: bool, now: Instant) -> Questions {
        let unsettled = self.links.take_unsettled();
        self.links.catch_up();
        let changes = self.links.take_changes();
        if self.links.is_outdated() {
            // The VF whose address waits there may be gone, and failsafe never lets go of one that it cannot attach.
            self.ports.values_mut().for_each(|held| held.port.recall(now));
        }
        let ids: Vec<PortId> = self.ports.keys().copied().collect();
        let mut questions = Questions::default();
        let quiet = self.is_quiet(now);
        for id in ids {
            let Some(held) = self.ports.get(&id) else { continue };
            let side = held.port.side();
            let concerned = unsettled
                || changes.iter().any(|change| {
                    let links = [&change.before, &change.after];
                    links.into_iter().flatten().any(|link| pairing::concerns(link, &side))
                });
            if concerned {
                guard("rescan of a port", (), || self.follow(id, now));
            }
            let Some(Held { port, .. }) = self.ports.get(&id) else { continue };
            if port.phase == Phase::Live && (all || concerned) && !quiet {
                questions.functions.extend(port.undelivered().map(|vf| vf.address));
            }
        }
        if all {
            questions.alive = self.live();
        }
        // Until it is acted upon: the lock may be taken before that.
        self.appeared |= unsettled || changes.iter().any(|change| change.after.is_some());
        let appeared = self.appeared;
        let due = |wanted: &Wanted| match wanted.place {
            Place::Open { not_before: None } => appeared,
            Place::Open { not_before: Some(then) } => now >= then,
            _ => false,
        };
        questions.names = self.instances.values().any(|instance| instance.wanted.iter().any(due));
        questions
    }

    /// Takes in what became of a port's link and of its VF's.
    fn follow(&mut self, id: PortId, now: Instant) {
        let Some(Held { port, .. }) = self.ports.get_mut(&id) else { return };
        if port.orphaned || matches!(port.phase, Phase::Closing | Phase::CloseDeferred) {
            return;
        }
        match self.links.table().get(port.side().index) {
            Some(link) => {
                port.follow(link);
                self.find_vf(id, now);
            }
            None => {
                port.orphan();
                self.place(id, Place::Open { not_before: None });
            }
        }
    }

    /// Notes what became of the link that a port served.
    fn place(&mut self, id: PortId, place: Place) {
        for wanted in self.instances.values_mut().flat_map(|instance| &mut instance.wanted) {
            if wanted.place == Place::Served(id) {
                wanted.place = place;
            }
        }
    }

    /// Acts on what DPDK answered to the questions of [`State::look`], and returns what DPDK has to do.
    pub(super) fn act(&mut self, questions: &Questions, answers: &Answers, all: bool, now: Instant) -> Vec<Job> {
        self.appeared = false;
        self.let_go(&answers.gone);
        // Nothing is posted that may be gone already.
        if !self.links.is_outdated() {
            for Held { port, .. } in self.ports.values_mut().filter(|held| held.port.phase == Phase::Live) {
                guard("delivery to a port", (), || deliver(port, &answers.occupants, now));
            }
        }
        self.ports.values_mut().for_each(|held| held.port.log_arrival());
        self.settle_lent();
        let mut jobs = Vec::new();
        if questions.names {
            jobs.extend(self.fill_places(&answers.names, now).into_iter().map(Job::Make));
        }
        if all {
            for Held { port, .. } in self.ports.values_mut().filter(|held| held.port.phase == Phase::CloseDeferred) {
                port.phase = Phase::Closing;
                jobs.push(Job::Close(port.id));
            }
        }
        jobs
    }

    /// What is posted to a port is no other's any more: nobody sat there.
    fn settle_lent(&mut self) {
        let posted: Vec<_> = self.ports.values().filter_map(|held| Some((held.port.id, held.port.posted()?))).collect();
        for (id, function) in posted {
            for held in self.ports.values_mut().filter(|held| held.port.id != id) {
                held.port.forget_lent(function);
            }
        }
    }

    /// Lists the ports that should have their failsafe port.
    pub(super) fn live(&self) -> Vec<(Serial, PortId)> {
        let live = self.ports.values().filter(|held| held.port.phase == Phase::Live);
        live.map(|held| (held.serial, held.port.id)).collect()
    }

    /// Lets go of ports whose failsafe port is gone: the application has closed it.
    pub(super) fn let_go(&mut self, gone: &BTreeSet<Serial>) {
        // Unless it is gone because we were closing it.
        let is_gone = |held: &&Held| held.port.phase == Phase::Live && gone.contains(&held.serial);
        let ids: Vec<PortId> = self.ports.values().filter(is_gone).map(|held| held.port.id).collect();
        for id in ids {
            if let Some(held) = self.ports.get(&id) {
                info!(target: NOTICE, "{}: closed by the application, let go", held.port);
            }
            self.place(id, Place::Closed);
            self.closed(id);
        }
    }

    /// Tells whether some VF waits for an ibverbs device, whose coming no event tells.
    pub(super) fn waits_for_verbs(&self, now: Instant) -> bool {
        self.ports.values().any(|held| held.port.waits_for_verbs(now))
    }

    /// Begins ports on links that are wanted and have come.
    fn fill_places(&mut self, names: &[CString], now: Instant) -> Vec<PortId> {
        let mut open = Vec::new();
        for (name, instance) in &self.instances {
            for (position, wanted) in instance.wanted.iter().enumerate() {
                if matches!(wanted.place, Place::Open { not_before } if not_before.is_none_or(|then| now >= then)) {
                    open.push((name.clone(), position, wanted.selector, instance.named, instance.force));
                }
            }
        }
        let mut begun = Vec::new();
        for (name, position, selector, named, force) in open {
            self.links.resolve(|links| pairing::unclear_for_choice(links, &selector));
            let index = match pairing::choose(self.links.table(), &selector, force) {
                Ok(index) if !self.serves(index) => index,
                Ok(_) => continue,
                Err(miss) => {
                    debug!("{}: {selector}: {miss}", name.to_string_lossy());
                    continue;
                }
            };
            if named || matches!(host::configuration(index), Ok(None)) {
                begun.extend(self.fill_place(&name, position, index, names, now));
            } else if let Some(wanted) = self.wanted(&name, position) {
                info!("{}: {selector} is in use or may be, looking again later", name.to_string_lossy());
                wanted.put_off(now);
            }
        }
        begun
    }

    /// Returns how to make or close a port.
    pub(super) fn recipe(&self, id: PortId) -> Option<Recipe> {
        let port = &self.ports.get(&id)?.port;
        Some(Recipe {
            failsafe: id.failsafe_name(),
            fallback: port.fallback_name(),
            devargs: port.devargs(),
            shell: self.shells.contains(&id),
            function: port.undelivered().map(|vf| vf.address),
            fallback_advice: port.fallback_advice(),
            label: port.to_string(),
        })
    }

    /// Puts the VF's address into the mailbox of a port that is about to be made: failsafe looks there once while it
    /// is created, and attaches at once what it finds.
    pub(super) fn deliver_first(&mut self, id: PortId, function: PciAddr, occupant: Occupant) {
        if self.links.is_outdated() {
            return;
        }
        if let Some(Held { port, .. }) = self.ports.get_mut(&id) {
            deliver(port, &BTreeMap::from([(function, occupant)]), Instant::now());
        }
    }

    /// Notes that a port was made, or why not. Returns whether it has to be closed again, as its instance was removed
    /// meanwhile.
    pub(super) fn made(&mut self, id: PortId, outcome: Result<Option<SafeBursts>, Errno>, now: Instant) -> bool {
        let Some(held) = self.ports.get_mut(&id) else { return false };
        let wanted = self.instances.get_mut(&held.instance).map(|instance| &mut instance.wanted);
        let orphan = wanted.is_none();
        let wanted = wanted.into_iter().flatten().find(|wanted| wanted.place == Place::Served(id));
        match outcome {
            Ok(bursts) => {
                self.shells.remove(&id);
                self.bursts = self.bursts.or(bursts);
                if let Some(wanted) = wanted {
                    wanted.failures = 0;
                }
                held.port.phase = if orphan { Phase::Closing } else { Phase::Live };
                orphan
            }
            Err(error) => {
                // Said once: the next tries fail for the same reason or succeed.
                if wanted.as_ref().is_none_or(|wanted| wanted.failures == 0) {
                    error!("{}: DPDK refuses to make it: {error}; trying again, after 60 s at most", held.port);
                }
                if let Some(wanted) = wanted {
                    wanted.put_off(now);
                }
                // What is left of the try is on the bus, and so is the shell of an earlier port that was in its way.
                self.ports.remove(&id);
                self.shells.insert(id);
                false
            }
        }
    }

    /// Lists the PCI functions that failsafe ports may hold, with the port.
    pub(super) fn lent(&self) -> Vec<(PciAddr, PortId)> {
        let ports = self.ports.values().map(|held| &held.port);
        ports.flat_map(|port| port.lent().map(|function| (function, port.id))).collect()
    }

    /// Failsafe's burst functions that mind a VF that went.
    pub(super) fn safe_bursts(&self) -> Option<SafeBursts> {
        self.bursts
    }

    /// Forgets an instance and returns which of its ports have to be closed. One that is being made right now is closed
    /// by whoever makes it.
    pub(super) fn withdraw(&mut self, name: &CStr) -> Vec<PortId> {
        self.instances.remove(name);
        let mut closing = Vec::new();
        for held in self.ports.values_mut() {
            if held.instance.as_c_str() == name && held.port.phase == Phase::Live {
                held.port.phase = Phase::Closing;
                closing.push(held.port.id);
            }
        }
        closing
    }

    /// Forgets an instance whose ports were begun and none of them made.
    pub(super) fn abandon(&mut self, name: &CStr) {
        self.instances.remove(name);
        self.ports.retain(|_, held| held.instance.as_c_str() != name);
    }

    /// Tells whether somebody is making or closing a port of an instance.
    pub(super) fn is_under_way(&self, instance: &CStr) -> bool {
        let under_way = |port: &Port| matches!(port.phase, Phase::Making | Phase::Closing);
        self.ports.values().any(|held| held.instance.as_c_str() == instance && under_way(&held.port))
    }

    /// Notes that a port could not be closed for now.
    pub(super) fn defer_close(&mut self, id: PortId) {
        if let Some(Held { port, .. }) = self.ports.get_mut(&id) {
            port.phase = Phase::CloseDeferred;
        }
    }

    /// Notes that the failsafe port of a port is gone, and lets go of its mailbox.
    pub(super) fn closed(&mut self, id: PortId) {
        if self.ports.remove(&id).is_some() {
            self.shells.insert(id);
        }
        self.quiet_until = None;
    }

    /// Has DPDK left alone about PCI functions until the next port is closed, or for a while: a failsafe port is being
    /// closed on another thread, which takes the VF off the bus.
    pub(super) fn keep_quiet(&mut self, now: Instant) {
        self.quiet_until = Some(now + QUIET);
    }

    /// Tells whether DPDK is to be left alone about PCI functions.
    pub(super) fn is_quiet(&self, now: Instant) -> bool {
        self.quiet_until.is_some_and(|until| now < until)
    }
}

/// Moves the delivery of a port's VF on, unless it hangs on a question that was not asked.
fn deliver(port: &mut Port, occupants: &BTreeMap<PciAddr, Occupant>, now: Instant) {
    let Some(vf) = port.undelivered().copied() else {
        return port.deliver(Occupant::Nobody, false, now);
    };
    if let Some(&occupant) = occupants.get(&vf.address) {
        let has_verbs = vf.needs_verbs && Sysfs::default().has_verbs(vf.address);
        port.deliver(occupant, has_verbs, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Drained;
    use crate::link::{IfName, MacAddr, Parent};

    const MAC: MacAddr = MacAddr([0, 0x15, 0x5d, 0, 0, 1]);
    const SECOND: Duration = Duration::from_secs(1);

    fn function() -> PciAddr {
        "0000:01:00.0".parse().unwrap()
    }

    fn link(raw: u32, name: &str, parent: Parent) -> Link {
        Link {
            index: IfIndex::new(raw).unwrap(),
            name: IfName::new(name.as_bytes()).unwrap(),
            ethernet: true,
            mac: Some(MAC),
            permanent_mac: None,
            master: None,
            parent,
            driver: Some(KernelDriver::Other),
            up: true,
        }
    }

    fn arguments() -> Args {
        let eth1 = DevargsSafe::new(IfName::new(b"eth1").unwrap()).unwrap();
        Args { selectors: vec![Selector::Name(eth1)], ..Args::default() }
    }

    /// A state with the NetVSC link eth1, its VF, and an instance that takes it; the port is begun.
    fn begun() -> (State, PortId) {
        let mut state = State::new();
        state.links.assume(vec![link(2, "eth1", Parent::NetVsc), link(3, "vf0", Parent::Pci(function()))]);
        let args = arguments();
        let (chosen, misses) = state.select(&args);
        assert!(misses.is_empty(), "{misses:?}");
        let ids = state.admit(c"net_vdev_netvsc0", &args, &chosen, &[], &[]);
        assert_eq!(ids.len(), 1);
        (state, ids[0])
    }

    /// As [`begun`], with the port made.
    fn serving() -> (State, PortId) {
        let (mut state, id) = begun();
        assert!(!state.made(id, Ok(None), Instant::now()));
        (state, id)
    }

    /// A rescan in which nobody sits on any PCI function and these ports are gone.
    fn rescan(state: &mut State, gone: &BTreeSet<Serial>, now: Instant) -> (Questions, Vec<Job>) {
        let questions = state.look(true, now);
        let occupants = questions.functions.iter().map(|&function| (function, Occupant::Nobody)).collect();
        let answers = Answers { gone: gone.clone(), occupants, names: Vec::new() };
        let jobs = state.act(&questions, &answers, true, now);
        (questions, jobs)
    }

    fn posted(state: &State, id: PortId) -> Option<PciAddr> {
        state.ports.get(&id).and_then(|held| held.port.posted())
    }

    #[test]
    fn a_vf_that_is_there_is_posted_and_its_port_rests_once_it_is_taken() {
        let (mut state, id) = serving();
        rescan(&mut state, &BTreeSet::new(), Instant::now());
        assert_eq!(posted(&state, id), Some(function()));
    }

    #[test]
    fn an_answer_about_a_port_is_none_about_the_next_one_with_its_id() {
        let (mut state, id) = serving();
        let now = Instant::now();
        let old = state.look(true, now).alive;
        assert_eq!(old.len(), 1);
        // Between question and answer the application closes the port, and attaches anew.
        let gone: BTreeSet<Serial> = old.iter().map(|&(serial, _)| serial).collect();
        state.let_go(&gone);
        assert_eq!(state.live(), []);
        state.withdraw(c"net_vdev_netvsc0");
        let args = arguments();
        let (chosen, _) = state.select(&args);
        assert_eq!(state.admit(c"net_vdev_netvsc0", &args, &chosen, &[], &[]), [id], "the id is free again");
        assert!(!state.made(id, Ok(None), now));
        rescan(&mut state, &gone, now);
        assert_eq!(state.live().len(), 1, "the new port is not meant");
    }

    #[test]
    fn the_shell_of_an_earlier_port_is_minded_until_a_port_is_made_over_it() {
        let (mut state, id) = serving();
        let mut now = Instant::now();
        state.withdraw(c"net_vdev_netvsc0");
        state.closed(id);
        let args = arguments();
        let (chosen, _) = state.select(&args);
        assert_eq!(state.admit(c"net_vdev_netvsc0", &args, &chosen, &[], &[]), [id]);
        for _ in 0..3 {
            assert!(state.recipe(id).unwrap().shell);
            // The shell could not be removed, and DPDK made nothing.
            assert!(!state.made(id, Err(Errno(libc::ENODEV)), now));
            assert!(!state.is_at_rest(now), "it is tried again");
            now += 61 * SECOND;
            let (_, jobs) = rescan(&mut state, &BTreeSet::new(), now);
            assert_eq!(jobs, [Job::Make(id)]);
        }
        assert!(!state.made(id, Ok(None), now));
        assert!(!state.recipe(id).unwrap().shell);
    }

    #[test]
    fn a_try_that_fails_leaves_a_shell_for_the_next() {
        let (mut state, id) = begun();
        let now = Instant::now();
        assert!(!state.recipe(id).unwrap().shell);
        state.made(id, Err(Errno(libc::ENODEV)), now);
        rescan(&mut state, &BTreeSet::new(), now + 2 * SECOND);
        assert!(state.recipe(id).unwrap().shell);
    }

    #[test]
    fn nothing_is_posted_nor_left_to_read_on_a_table_that_is_known_to_be_old() {
        let (mut state, id) = serving();
        let mut now = Instant::now();
        state.links.drained(Ok(Drained::Overrun));
        rescan(&mut state, &BTreeSet::new(), now);
        assert_eq!(posted(&state, id), None, "the VF may be gone");
        assert!(!state.is_at_rest(now), "the links are asked for again");

        state.links.assume(vec![link(2, "eth1", Parent::NetVsc), link(3, "vf0", Parent::Pci(function()))]);
        rescan(&mut state, &BTreeSet::new(), now);
        assert_eq!(posted(&state, id), Some(function()));

        state.links.drained(Ok(Drained::Overrun));
        rescan(&mut state, &BTreeSet::new(), now);
        assert_eq!(posted(&state, id), None, "taken back, as failsafe has not read it");
        // Not after the time, either, after which an address is posted again that failsafe has taken.
        now += 10 * SECOND;
        rescan(&mut state, &BTreeSet::new(), now);
        assert_eq!(posted(&state, id), None);
    }

    #[test]
    fn an_instance_that_is_abandoned_leaves_nothing() {
        let (mut state, _) = begun();
        assert!(state.is_under_way(c"net_vdev_netvsc0"));
        state.abandon(c"net_vdev_netvsc0");
        assert!(state.is_idle() && !state.is_under_way(c"net_vdev_netvsc0"));
    }
}
