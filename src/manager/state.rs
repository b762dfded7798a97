// SPDX-License-Identifier: BSD-3-Clause
//! What the driver holds, and what follows from what the kernel and DPDK say.
//!
//! Nothing here asks anybody: facts come in, orders go out, and a port's own pipe is all that is touched. A rescan calls
//! [`State::step`] until it has no more questions and gives orders. This is what the manager's lock protects, and neither
//! DPDK nor the kernel is entered under it.

use std::ffi::{CStr, CString};
use std::time::Instant;

use log::{debug, error, info, warn};

use super::facts::{Answers, Questions};
use super::instance::{Instance, Place, Refusal, Wanted};
use super::links::Links;
use super::small_map::SmallMap;
use crate::address::{IfIndex, IfName, PciAddr};
use crate::args::{Args, DevargsSafe, Selector};
use crate::delivery::{Hindrance, LOOK, Situation, VfLink};
use crate::eal::ethdev::{self, Occupant, PortNumber};
use crate::eal::failsafe;
use crate::eal::log::NOTICE;
use crate::eal::{Errno, guard};
use crate::host::{Dump, LinkEvent};
use crate::link::{Change, Link, LinkTable, Unreadable};
use crate::pairing::{self, Miss, Pair, Side};
use crate::port::{self, Options, Phase, Port, PortId};
use crate::report::Report;

#[cfg(any(test, fuzzing))]
#[path = "model/view.rs"]
#[allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "of tests")]
mod view;
#[cfg(any(test, fuzzing))]
pub(super) use view::PortView;

/// Which of the ports that had an id one after another is meant: an answer about one is none about the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Serial(u64);

#[derive(Debug)]
struct Held {
    port: Port,
    serial: Serial,
    /// The instance it belongs to; that one is gone when the port is closing.
    instance: CString,
    /// Its link, or one that may be its VF, has changed: the pair is to be looked at again.
    dirty: bool,
    /// The delivery of its VF is to be looked at.
    due: bool,
}

/// Which ports a rescan attends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Those that something has happened to.
    Events,
    /// All that serve; and whether they still do.
    All,
    /// One that is about to be made, and no other.
    Making(PortId),
}

/// What a rescan has to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask this, and come again with the answers.
    Ask(Questions),
    /// Do this, in this order. The rescan is over.
    Do(Vec<Order>),
}

/// What DPDK has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Make the port.
    Make(PortId),
    /// Close the port.
    Close(PortId),
    /// Attach a VF, and tell [`State::attached`].
    Attach(Serial, PciAddr),
    /// A VF's address was posted: let failsafe have the port on its function.
    HandOver(PortId, PciAddr),
    /// A VF's address was taken back: keep the port on its function from looking free.
    TakeBack(PciAddr),
    /// Take away a VF that we attached and failsafe does not get.
    Detach(PciAddr),
}

/// How to make or close a port.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) failsafe: CString,
    pub(super) fallback: CString,
    pub(super) devargs: Option<CString>,
    pub(super) options: Options,
    pub(super) link: DevargsSafe,
    /// Whether the vdev of an earlier port of this id, long closed, is still on the bus.
    pub(super) shell: bool,
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
    /// What other links use it or its VF for.
    pub(super) used: Option<String>,
    /// Its VF, and how that is called.
    pub(super) vf: Option<(IfIndex, String)>,
    /// That it has an address was told.
    pub(super) told: bool,
}

/// How a link is called in logs.
fn label(link: &Link) -> String {
    format!("{} (ifindex {})", link.name, link.index)
}

impl Chosen {
    fn new(links: &LinkTable, selector: Selector, link: &Link) -> Self {
        let pair = Pair::of(links, link);
        let used = pair.used(links).map(|(user, used)| {
            if user.index == link.index {
                used.to_string()
            } else {
                format!("has the VF {}, which {used}", label(user))
            }
        });
        let vf = pair.vf.map(|vf| (vf.index, label(vf)));
        Self { selector, index: link.index, label: label(link), used, vf, told: false }
    }
}

/// The links that an instance takes, and those named that it cannot take.
#[derive(Debug)]
pub(super) struct Selected {
    pub(super) chosen: Vec<Chosen>,
    pub(super) misses: Vec<(Selector, Miss)>,
    /// A link of which nobody tells whether it would be taken, how many more there are, and why.
    pub(super) untold: Option<(IfName, usize, Unreadable)>,
}

/// Everything the driver holds.
#[derive(Debug)]
pub(super) struct State {
    links: Links,
    instances: SmallMap<CString, Instance>,
    ports: SmallMap<PortId, Held>,
    /// Serial of the next port.
    next_serial: u64,
    /// Ids whose failsafe port is closed and whose vdev is still on the bus.
    shells: Vec<PortId>,
    /// Links have changed, and perhaps one that is wanted.
    appeared: bool,
    /// They had when this rescan began; it may be another thread that hears of the next.
    looking: bool,
    /// Something that a rule hangs on could not be read: all is to be looked at again.
    unsettled: bool,
    /// PCI functions that we attached and no failsafe port gets: to be taken away.
    to_detach: Vec<PciAddr>,
    /// Those of them that somebody is taking away right now.
    detaching: Vec<PciAddr>,
    /// Ports whose failsafe port is gone, until that is [taken in](Self::take_closed).
    closed: Vec<PortId>,
}

impl State {
    pub(super) const fn new() -> Self {
        Self {
            links: Links::new(),
            instances: SmallMap::new(),
            ports: SmallMap::new(),
            next_serial: 0,
            shells: Vec::new(),
            appeared: false,
            looking: false,
            unsettled: false,
            to_detach: Vec::new(),
            detaching: Vec::new(),
            closed: Vec::new(),
        }
    }

    /// Tells whether there is nothing to watch.
    pub(super) fn is_idle(&self) -> bool {
        let settled = |wanted: &Wanted| wanted.place == Place::Closed;
        let detached = self.to_detach.is_empty() && self.detaching.is_empty();
        detached && self.ports.is_empty() && self.instances.values().all(|instance| instance.wanted.iter().all(settled))
    }

    /// Tells whether whatever happens next is an event.
    pub(super) fn is_at_rest(&self, now: Instant) -> bool {
        // What has time until everything is looked at waits for that.
        let soon =
            |wanted: &Wanted| matches!(wanted.place, Place::Open { not_before: Some(then) } if then <= now + LOOK);
        let tried_again = self.instances.values().flat_map(|instance| &instance.wanted).any(soon);
        let ports = self.ports.values().all(|held| !held.dirty && held.port.is_at_rest(now));
        ports && !tried_again && !self.unsettled && self.to_detach.is_empty() && self.links.is_exact()
    }

    /// When something is tried again next, if that is known.
    pub(super) fn next_try(&self, now: Instant) -> Option<Instant> {
        let place = |wanted: &Wanted| if let Place::Open { not_before } = wanted.place { not_before } else { None };
        let places = self.instances.values().flat_map(|instance| &instance.wanted).filter_map(place);
        places.chain(self.ports.values().filter_map(|held| held.port.next_try())).filter(|&then| then > now).min()
    }

    /// Has everything looked at again.
    pub(super) fn distrust(&mut self) {
        self.unsettled = true;
    }

    /// Forgets the links, as nobody listens to the kernel any more.
    pub(super) fn forget_links(&mut self) {
        self.links = Links::new();
    }

    /// Takes what the kernel says of a link, as it happens.
    pub(super) fn apply(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Changed(link) => {
                // Perhaps it has got an alternative name, which is not kept.
                self.appeared |= self.awaits_a_name();
                let change = self.links.update(link);
                change.into_iter().for_each(|change| self.note(&change));
            }
            LinkEvent::Gone(index) => {
                let change = self.links.remove(index);
                change.into_iter().for_each(|change| self.note(&change));
            }
            LinkEvent::Addressed(index, address) => {
                self.ports.values_mut().for_each(|held| held.port.note_address(index, &address));
            }
        }
    }

    fn awaits_a_name(&self) -> bool {
        let is_open = |wanted: &Wanted| matches!(wanted.place, Place::Open { .. }) && wanted.selector.name().is_some();
        self.instances.values().any(|instance| instance.wanted.iter().any(is_open))
    }

    /// Notes that events were lost.
    pub(super) fn lose_events(&mut self) {
        self.links.lose();
        // What lies in a mailbox may be the address of a VF that is gone.
        self.ports.values_mut().for_each(|held| held.due = true);
    }

    /// Tells whether the kernel has to list all links; `patient` when that can wait if only a link may be missing.
    pub(super) fn needs_dump(&self, patient: bool) -> bool {
        self.links.need_dump(patient)
    }

    /// Takes the kernel's list of all links.
    pub(super) fn take_dump(&mut self, dump: Dump) {
        for change in self.links.replace(dump) {
            self.note(&change);
        }
        // A link may have got an alternative name meanwhile, of which no list tells.
        self.appeared = true;
        // What was not sure is.
        self.ports.values_mut().for_each(|held| held.due = true);
    }

    /// Marks what hangs on a link that has changed.
    fn note(&mut self, change: &Change) {
        // Also one that goes: a link below it is free then.
        self.appeared = true;
        for wanted in self.instances.values_mut().flat_map(|instance| &mut instance.wanted) {
            let is_named =
                |link: &Option<Link>| link.as_ref().is_some_and(|link| pairing::names(&wanted.selector, link));
            // One that goes may leave another of the same MAC.
            if is_named(&change.after) != is_named(&change.before) {
                wanted.come();
                self.appeared = true;
            }
        }
        for held in self.ports.values_mut() {
            let side = held.port.side();
            let links = [&change.before, &change.after];
            held.dirty |= links.into_iter().flatten().any(|link| pairing::concerns(link, &side));
        }
    }

    /// Has whatever could not be told of links asked again.
    pub(super) fn ask_anew(&mut self) {
        self.links.ask_anew();
    }

    /// Finds the links that an instance with these arguments takes, and those named that it cannot take.
    ///
    /// # Errors
    /// What has to be asked before.
    pub(super) fn select(&mut self, args: &Args, answers: &Answers) -> Result<Selected, Box<Questions>> {
        self.learn(answers);
        let mut questions = Questions::default();
        if args.selectors.is_empty() {
            self.links.ask(pairing::unclear_for_netvsc_links, answers, &mut questions);
        }
        for selector in &args.selectors {
            self.ask_of_choice(selector, answers, &mut questions);
        }
        let table = self.links.table();
        if !questions.is_empty() {
            return Err(Box::new(questions));
        }
        let (mut chosen, mut misses) = (Vec::new(), Vec::new());
        if args.selectors.is_empty() {
            let links = pairing::netvsc_links(table);
            chosen.extend(links.filter_map(|link| Some(Chosen::new(table, Selector::Mac(link.mac?), link))));
        }
        for &selector in &args.selectors {
            match pairing::choose(table, &selector, answers.alternative(&selector), args.force) {
                Ok(index) => chosen.extend(table.get(index).map(|link| Chosen::new(table, selector, link))),
                Err(miss) => misses.push((selector, miss)),
            }
        }
        let untold = args.selectors.is_empty().then(|| pairing::untold(table)).flatten();
        Ok(Selected { chosen, misses, untold })
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
        now: Instant,
    ) -> Vec<PortId> {
        let options = Options { fallback: args.fallback, hotplug_poll_ms: args.hotplug_poll_ms, queues: args.queues };
        let open = Place::Open { not_before: None };
        let wanted = missing.iter().map(|&selector| Wanted::new(selector, open)).collect();
        let named = !args.selectors.is_empty();
        self.instances.insert(name.to_owned(), Instance { named, force: args.force, options, wanted });
        // What came since its links were chosen may be among what it lacks.
        self.appeared = true;
        let mut begun = Vec::new();
        for link in chosen {
            let server = self.port_serving(link.index).map(|port| port.phase);
            let place = match server {
                None => open,
                // Its port is that of an instance that was removed, and about to be closed.
                Some(Phase::Closing | Phase::CloseDeferred) => Place::Open { not_before: Some(now) },
                Some(Phase::Making | Phase::Live) => Place::Closed,
            };
            if place == Place::Closed && named {
                warn!("{}: {} has a port already, skipping", name.to_string_lossy(), link.label);
            }
            let Some(wanted) = self.instances.get_mut(name).map(|instance| &mut instance.wanted) else { continue };
            wanted.push(Wanted::new(link.selector, place));
            if server.is_none() {
                let position = wanted.len().saturating_sub(1);
                let id = self.fill_place(name, position, link.index, names, now);
                if let Some(held) = id.and_then(|id| self.ports.get_mut(&id)) {
                    held.port.address_told = link.told;
                }
                begun.extend(id);
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
        let &Instance { options, force, .. } = self.instances.get(instance)?;
        let link = self.links.table().get(index);
        let pci = link.is_some_and(Link::is_on_pci);
        // What it sits on may have become unknown since it was chosen.
        let is_other = |link: &&Link| !link.is_netvsc() && !link.parent.is_unknown();
        let forced = link.filter(is_other).filter(|_| force).map(label);
        let label = link.map(label);
        let selector = self.wanted(instance, position)?.selector;
        let name = selector.name().filter(|_| pairing::may_be_alternative(self.links.table(), &selector));
        if pci && self.wanted(instance, position)?.pci == Some(false) {
            return None;
        }
        let outcome = self.begin(instance, index, options, names, now);
        let wanted = self.wanted(instance, position)?;
        match outcome {
            Ok(id) => {
                wanted.place = Place::Served(id);
                wanted.pci = Some(pci);
                let instance = instance.to_string_lossy();
                if let (Some(label), Some(name), 0) = (label, name, wanted.failures) {
                    let name = name.escape_ascii();
                    info!(target: NOTICE, "{instance}: {name} is an alternative name of {label}");
                }
                if let (Some(label), 0) = (forced, wanted.failures) {
                    warn!("{instance}: {label} is not a NetVSC interface; taking it, as force=1 was given");
                }
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
        now: Instant,
    ) -> Result<PortId, Refusal> {
        let link = self.links.table().get(index).ok_or(Refusal::Gone)?;
        let name = DevargsSafe::new(link.name).ok_or(Refusal::Name { name: link.name, index })?;
        let living: Vec<PortId> =
            names.iter().filter_map(PortId::of_device).chain(self.ports.keys().copied()).collect();
        let id = PortId::lowest_free(&living);
        let port = Port::new(id, link, name, options, now).map_err(|error| Refusal::Pipe { name: link.name, error })?;
        let serial = Serial(self.next_serial);
        self.next_serial += 1;
        self.ports.insert(id, Held { port, serial, instance: instance.to_owned(), dirty: true, due: true });
        Ok(id)
    }

    /// Marks what a rescan attends to. Not for a port that is about to be made.
    pub(super) fn attend(&mut self, scope: Scope) {
        self.looking |= std::mem::take(&mut self.appeared);
        if scope != Scope::All {
            return;
        }
        let unsettled = std::mem::take(&mut self.unsettled);
        self.looking |= unsettled;
        for held in self.ports.values_mut() {
            held.due = true;
            held.dirty |= unsettled;
        }
    }

    /// Goes on with a rescan: asks what is not answered yet and matters, or else decides. `quiet`: DPDK is to be left
    /// alone about PCI functions.
    pub(super) fn step(&mut self, scope: Scope, answers: &Answers, quiet: bool, now: Instant) -> Step {
        self.learn(answers);
        let mut questions = Questions::default();
        let ids: Vec<PortId> = self.ports.keys().copied().filter(|&id| self.is_within(scope, id)).collect();
        for &id in &ids {
            if self.ports.get(&id).is_some_and(|held| held.dirty) {
                guard("rescan of a port", (), || self.follow(id, answers, &mut questions, now));
            }
            self.ask_of_vf(id, answers, quiet, &mut questions);
        }
        if scope == Scope::All && answers.gone.is_none() {
            questions.alive = self.live();
        }
        if !matches!(scope, Scope::Making(_)) {
            self.ask_of_places(answers, &mut questions, now);
        }
        if !questions.is_empty() {
            return Step::Ask(questions);
        }
        Step::Do(self.act(scope, &ids, answers, now))
    }

    /// Tells whether a rescan of this scope attends to a port.
    fn is_within(&self, scope: Scope, id: PortId) -> bool {
        let making = self.ports.get(&id).is_some_and(|held| held.port.phase == Phase::Making);
        match scope {
            Scope::Making(made) => made == id && making,
            Scope::Events | Scope::All => !making,
        }
    }

    /// Takes what sysfs says of links.
    fn learn(&mut self, answers: &Answers) {
        self.unsettled |= answers.unsettled;
        for (&index, &parent) in answers.parents.iter() {
            self.unsettled |= self.links.set_parent(index, parent);
        }
        for (&index, &driver) in answers.drivers.iter() {
            let unknown = self.links.table().get(index).is_some_and(|link| link.driver.is_none());
            if let (Some(driver), true) = (driver, unknown) {
                self.links.set_driver(index, driver);
                let is_vf = |held: &&mut Held| held.port.vf().is_some_and(|vf| vf.index == index);
                self.ports.values_mut().filter(is_vf).for_each(|held| held.dirty = true);
            }
        }
    }

    /// Takes in what became of a port's link and of its VF's, unless that has to be asked first.
    fn follow(&mut self, id: PortId, answers: &Answers, questions: &mut Questions, now: Instant) {
        let Some(Held { port, dirty, due, .. }) = self.ports.get_mut(&id) else { return };
        *dirty = false;
        if port.orphaned || matches!(port.phase, Phase::Closing | Phase::CloseDeferred) {
            return;
        }
        let table = self.links.table();
        let Some(link) = table.get(port.side().index) else {
            self.to_detach.extend(port.orphan(now));
            self.place(id, Place::Open { not_before: None });
            // Another link may have what it is named by.
            self.looking = true;
            return;
        };
        port.follow(link);
        let side = port.side();
        if self.links.ask(|links| pairing::unclear_for_vf(links, &side), answers, questions) {
            *dirty = true;
            return;
        }
        let table = self.links.table();
        let found = pairing::vf_of(table, &side);
        let link = found.and_then(|vf| table.get(vf.index));
        let vf = found.zip(link).map(|(vf, link)| VfLink {
            index: vf.index,
            name: link.name,
            address: vf.address,
            mac: link.mac,
            permanent_mac: link.permanent_mac,
            driver: link.driver,
            up: link.up,
        });
        *due = true;
        self.to_detach.extend(port.set_vf(vf, now));
        port.note_pairing(found);
    }

    /// Asks what the delivery of a port's VF hangs on.
    fn ask_of_vf(&self, id: PortId, answers: &Answers, quiet: bool, questions: &mut Questions) {
        let Some(Held { port, dirty: false, due: true, .. }) = self.ports.get(&id) else { return };
        let serves = matches!(port.phase, Phase::Live | Phase::Making);
        let Some(vf) = port.pending().filter(|_| serves && !quiet) else { return };
        let functions = [Some(vf.address), port.held_before()];
        for function in functions.into_iter().flatten().filter(|function| !answers.occupants.contains_key(function)) {
            questions.occupants.insert(function, ());
        }
        if vf.driver.is_none() && !answers.drivers.contains_key(&vf.index) {
            questions.drivers.insert(vf.index, vf.address);
        }
        if vf.needs_verbs() && !answers.verbs.contains_key(&vf.address) {
            questions.verbs.insert(vf.address, ());
        }
    }

    /// Asks what the links hang on that are wanted and have no port.
    fn ask_of_places(&mut self, answers: &Answers, questions: &mut Questions, now: Instant) {
        let open = self.open_places(now);
        for place in &open {
            if self.ask_of_choice(&place.selector, answers, questions) {
                continue;
            }
            let table = self.links.table();
            let alternative = answers.alternative(&place.selector);
            let Ok(index) = pairing::choose(table, &place.selector, alternative, place.force) else { continue };
            let Some(link) = table.get(index).filter(|_| !place.named && !self.serves(index)) else { continue };
            let side = Side::of(link);
            if self.links.ask(|links| pairing::unclear_for_vf(links, &side), answers, questions) {
                continue;
            }
            let table = self.links.table();
            let Some(link) = table.get(index) else { continue };
            let pair = Pair::of(table, link);
            for index in [Some(pair.link), pair.vf].into_iter().flatten().map(|link| link.index) {
                if !answers.configured.contains_key(&index) {
                    questions.configured.insert(index, ());
                }
            }
        }
        questions.names = !open.is_empty() && answers.names.is_none();
    }

    /// Asks what has to be known to choose a link. Returns whether there is something.
    fn ask_of_choice(&mut self, selector: &Selector, answers: &Answers, questions: &mut Questions) -> bool {
        let asked = answers.alternatives.contains_key(selector);
        if !asked && pairing::may_be_alternative(self.links.table(), selector) {
            questions.alternatives.insert(*selector, ());
            return true;
        }
        let alternative = answers.alternative(selector);
        self.links.ask(|links| pairing::unclear_for_choice(links, selector, alternative), answers, questions)
    }

    /// Lists the links that are wanted, have no port and may get one now.
    fn open_places(&self, now: Instant) -> Vec<OpenPlace> {
        let due = |place: &Place| match place {
            Place::Open { not_before: None } => self.looking,
            Place::Open { not_before: Some(then) } => now >= *then,
            _ => false,
        };
        let mut open = Vec::new();
        for (name, instance) in self.instances.iter() {
            for (position, wanted) in instance.wanted.iter().enumerate().filter(|(_, wanted)| due(&wanted.place)) {
                open.push(OpenPlace {
                    instance: name.clone(),
                    position,
                    selector: wanted.selector,
                    named: instance.named,
                    force: instance.force,
                });
            }
        }
        open
    }

    /// Tells whether the link of a port is not among the links.
    pub(super) fn is_link_gone(&self, id: PortId) -> bool {
        self.ports.get(&id).is_some_and(|held| self.links.table().get(held.port.side().index).is_none())
    }

    /// Notes what became of the link that a port served.
    fn place(&mut self, id: PortId, place: Place) {
        for wanted in self.instances.values_mut().flat_map(|instance| &mut instance.wanted) {
            if wanted.place == Place::Served(id) {
                wanted.place = place;
            }
        }
    }

    /// Acts on the answers, and returns what DPDK has to do.
    fn act(&mut self, scope: Scope, ids: &[PortId], answers: &Answers, now: Instant) -> Vec<Order> {
        let making = matches!(scope, Scope::Making(_));
        let mut orders: Vec<Order> = Vec::new();
        if let Some(gone) = &answers.gone {
            self.let_go(gone);
        }
        orders.extend(self.take_to_detach().into_iter().map(Order::Detach));
        for id in ids {
            orders.extend(guard("delivery to a port", None, || self.deliver(*id, answers, now)));
        }
        if making {
            return orders;
        }
        self.ports.values_mut().for_each(|held| held.port.log_arrival());
        if let Some(names) = &answers.names {
            orders.extend(self.fill_places(names, answers, now).into_iter().map(Order::Make));
        }
        self.looking = false;
        if scope == Scope::All {
            for Held { port, .. } in self.ports.values_mut().filter(|held| held.port.phase == Phase::CloseDeferred) {
                port.phase = Phase::Closing;
                orders.push(Order::Close(port.id));
            }
        }
        orders
    }

    /// Moves the delivery of a port's VF on, unless something has to be asked first.
    fn deliver(&mut self, id: PortId, answers: &Answers, now: Instant) -> Option<Order> {
        let function = self.ports.get(&id)?.port.pending()?.address;
        if self.to_detach.contains(&function) || self.detaching.contains(&function) {
            return None;
        }
        // What is on its way to another port is not this one's, whoever has it at this moment.
        let others = || self.ports.values().map(|held| &held.port).filter(|port| port.id != id);
        let claims = others().find(|port| port.claimed() == Some(function));
        let claimed = claims.map(|_| Occupant::Busy { by: None });
        let is_failsafes = answers.occupants.get(&function).is_some_and(failsafe::has);
        let has_it = || others().find(|port| is_failsafes && port.taken() == Some(function));
        let sharer = claims.or_else(has_it).map(Port::to_string);
        let Held { port, serial, dirty: false, due, .. } = self.ports.get_mut(&id)? else { return None };
        let vf = port.pending().filter(|_| *due && matches!(port.phase, Phase::Live | Phase::Making))?;
        let situation = Situation {
            occupant: claimed.as_ref().or_else(|| answers.occupants.get(&function))?,
            sharer: sharer.as_deref(),
            has_verbs: answers.verbs.get(&vf.address).copied().unwrap_or_default(),
            holds_other: port.held_before().is_some_and(|held| answers.occupants.get(&held).is_some_and(failsafe::has)),
            is_sure: self.links.is_sure(vf.index),
        };
        *due = false;
        Some(match port.deliver(&situation, now)? {
            port::Order::Attach(function) => Order::Attach(*serial, function),
            port::Order::HandOver(function) => {
                let others = self.ports.values_mut().filter(|held| held.port.id != id);
                others.for_each(|held| held.port.posted_elsewhere(function, now));
                Order::HandOver(id, function)
            }
            port::Order::TakeBack(function) => Order::TakeBack(function),
            port::Order::Detach(function) => {
                self.detaching.push(function);
                Order::Detach(function)
            }
        })
    }

    /// Takes the outcome of [`Order::Attach`].
    pub(super) fn attached(&mut self, serial: Serial, function: PciAddr, outcome: Result<(), Hindrance>, now: Instant) {
        let held = self.ports.values_mut().find(|held| held.serial == serial);
        let is_ours = outcome.is_ok();
        match held.and_then(|held| held.port.attached(function, outcome, now).map(|()| held)) {
            Some(held) => held.due = true,
            // Its link went meanwhile, or the port.
            None if is_ours => {
                self.to_detach.push(function);
            }
            None => {}
        }
    }

    /// Notes that what was ordered by [`Order::HandOver`] could not be done.
    pub(super) fn not_handed_over(&mut self, id: PortId, function: PciAddr, error: Errno, now: Instant) {
        if let Some(held) = self.ports.get_mut(&id) {
            held.port.not_handed_over(function, error, now);
        }
    }

    /// Lists the PCI functions that were posted, or that we have attached, and that failsafe has not taken.
    pub(super) fn offered(&self) -> Vec<(Serial, PciAddr)> {
        self.ports.values().filter_map(|held| Some((held.serial, held.port.offered()?))).collect()
    }

    /// Notes that the device of a function that is [offered](Self::offered) went away, or the port there that failsafe
    /// would take.
    pub(super) fn device_removed(&mut self, serial: Serial, now: Instant) {
        let held = self.ports.values_mut().find(|held| held.serial == serial);
        self.to_detach.extend(held.and_then(|held| held.port.device_removed(now)));
    }

    /// Notes which port of its VF a port's failsafe was handed.
    pub(super) fn handed_over(&mut self, id: PortId, port: PortNumber) {
        if let Some(held) = self.ports.get_mut(&id) {
            held.port.handed_over(port);
        }
    }

    /// What is to be told of all ports.
    pub(super) fn reports(&self) -> Vec<Report> {
        let link = |held: &Held| self.links.table().get(held.port.side().index);
        self.ports.values().map(|held| held.port.report(&held.instance, link(held))).collect()
    }

    /// Lists the ports that should have their failsafe port.
    pub(super) fn live(&self) -> Vec<(Serial, PortId)> {
        let live = self.ports.values().filter(|held| held.port.phase == Phase::Live);
        live.map(|held| (held.serial, held.port.id)).collect()
    }

    /// Lets go of ports whose failsafe port is gone: the application has closed it.
    pub(super) fn let_go(&mut self, gone: &[Serial]) {
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
    fn fill_places(&mut self, names: &[CString], answers: &Answers, now: Instant) -> Vec<PortId> {
        let mut begun = Vec::new();
        for OpenPlace { instance, position, selector, named, force } in self.open_places(now) {
            let found = pairing::choose(self.links.table(), &selector, answers.alternative(&selector), force);
            let found = found.inspect_err(|miss| debug!("{}: {selector}: {miss}", instance.to_string_lossy()));
            let Some(index) = found.ok().filter(|&index| !self.serves(index)) else {
                // That it comes, or is free, is an event.
                if let Some(wanted) = self.wanted(&instance, position) {
                    wanted.place = Place::Open { not_before: None };
                }
                continue;
            };
            match self.usage(index, answers) {
                Usage::Free => {}
                _ if named => {}
                // A port that is gone has just left it, which is worth another look.
                Usage::Unknown => {
                    self.appeared = true;
                    continue;
                }
                Usage::Used { by_links } => {
                    let Some(wanted) = self.wanted(&instance, position) else { continue };
                    if wanted.failures == 0 {
                        let instance = instance.to_string_lossy();
                        info!(target: NOTICE, "{instance}: {selector} is in use or may be, waiting until it is not");
                    }
                    wanted.put_off(now);
                    if by_links {
                        // That it is not any more is an event.
                        wanted.place = Place::Open { not_before: None };
                    }
                    continue;
                }
            }
            begun.extend(self.fill_place(&instance, position, index, names, now));
        }
        begun
    }

    /// Tells whether somebody uses a link or its VF.
    fn usage(&self, index: IfIndex, answers: &Answers) -> Usage {
        let table = self.links.table();
        let Some(pair) = table.get(index).map(|link| Pair::of(table, link)) else { return Usage::Unknown };
        if pair.used(table).is_some() {
            return Usage::Used { by_links: true };
        }
        let mut both = [Some(pair.link), pair.vf].into_iter().flatten();
        let configured = both.try_fold(false, |any, link| Some(any || *answers.configured.get(&link.index)?));
        configured.map_or(Usage::Unknown, |used| if used { Usage::Used { by_links: false } } else { Usage::Free })
    }

    /// Returns how to make or close a port.
    pub(super) fn recipe(&self, id: PortId) -> Option<Recipe> {
        let port = &self.ports.get(&id)?.port;
        Some(Recipe {
            failsafe: id.failsafe_name(),
            fallback: port.fallback_name(),
            devargs: port.devargs(),
            options: port.options,
            link: port.link_name(),
            shell: self.shells.contains(&id),
            fallback_advice: port.fallback_advice(),
            label: port.to_string(),
        })
    }

    /// Notes that a port was made, or why not. Returns whether it has to be closed again, as its instance was removed
    /// meanwhile.
    pub(super) fn made(&mut self, id: PortId, outcome: Result<(), Errno>, now: Instant) -> bool {
        let Some(held) = self.ports.get_mut(&id) else { return false };
        let wanted = self.instances.get_mut(&held.instance).map(|instance| &mut instance.wanted);
        let orphan = wanted.is_none();
        let wanted = wanted.into_iter().flatten().find(|wanted| wanted.place == Place::Served(id));
        match outcome {
            Ok(()) => {
                self.shells.retain(|&shell| shell != id);
                if let Some(wanted) = wanted {
                    wanted.failures = 0;
                }
                held.port.phase = if orphan { Phase::Closing } else { Phase::Live };
                held.port.made(now);
                orphan
            }
            Err(error) => {
                // Said once: the next tries fail for the same reason or succeed.
                if wanted.as_ref().is_none_or(|wanted| wanted.failures == 0) {
                    let why = match error {
                        Errno(libc::ENOSPC) => all_taken(),
                        error => format!("DPDK refuses to make it: {error}"),
                    };
                    error!("{}: {why}; trying again, after 60 s at most", held.port);
                }
                if let Some(wanted) = wanted {
                    wanted.put_off(now);
                }
                // What is left of the try is on the bus, and so is the shell of an earlier port that was in its way.
                self.closed(id);
                false
            }
        }
    }

    /// Tells whether there is an instance of this name.
    pub(super) fn has_instance(&self, name: &CStr) -> bool {
        self.instances.contains_key(name)
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
        let begun = self.ports.iter().filter(|(_, held)| held.instance.as_c_str() == name).map(|(&id, _)| id);
        for id in begun.collect::<Vec<_>>() {
            self.ports.remove(&id);
        }
    }

    /// Lists once the PCI functions that we attached and no failsafe port gets. None is posted until it is told to be
    /// [`State::detached`].
    pub(super) fn take_to_detach(&mut self) -> Vec<PciAddr> {
        self.detaching.extend(&self.to_detach);
        std::mem::take(&mut self.to_detach)
    }

    /// Notes that a function was detached, or cannot be.
    pub(super) fn detached(&mut self, function: PciAddr) {
        self.detaching.retain(|&detached| detached != function);
    }

    /// Lists once the ports that are gone: another port may have their names from now on.
    pub(super) fn take_closed(&mut self) -> Vec<PortId> {
        std::mem::take(&mut self.closed)
    }

    /// Notes that a port could not be closed for now.
    pub(super) fn defer_close(&mut self, id: PortId) {
        if let Some(Held { port, .. }) = self.ports.get_mut(&id) {
            port.phase = Phase::CloseDeferred;
        }
    }

    /// Notes that the failsafe port of a port is gone, and lets go of its mailbox.
    pub(super) fn closed(&mut self, id: PortId) {
        if let Some(mut held) = self.ports.remove(&id) {
            self.shells.retain(|&shell| shell != id);
            self.shells.push(id);
            self.closed.push(id);
            self.to_detach.extend(held.port.forget_vf());
            // Its link may be wanted elsewhere.
            self.appeared = true;
        }
    }
}

/// What to do when DPDK has no room for another port (`ENOSPC`).
pub(super) fn all_taken() -> String {
    format!(
        "all {} ports that this DPDK has room for (RTE_MAX_ETHPORTS) are taken; close those that are not needed, such as \
         those whose interface is gone",
        ethdev::MAX
    )
}

/// Whether somebody uses a link that is wanted.
enum Usage {
    Free,
    Used {
        /// Whether it is other links that do.
        by_links: bool,
    },
    /// That was not asked.
    Unknown,
}

/// A link that is wanted and may get a port.
struct OpenPlace {
    instance: CString,
    position: usize,
    selector: Selector,
    named: bool,
    force: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{IfName, MacAddr};
    use crate::link::{KernelDriver, Parent};
    use std::time::Duration;

    const NAME: &CStr = c"net_vdev_netvsc0";

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
            lower: None,
            parent,
            driver: Some(KernelDriver::Other),
            up: true,
        }
    }

    fn arguments() -> Args {
        let eth1 = DevargsSafe::new(IfName::new(b"eth1").unwrap()).unwrap();
        Args { selectors: vec![Selector::Name(eth1)], ..Args::default() }
    }

    /// The kernel lists these links.
    fn list(state: &mut State, links: Vec<Link>, consistent: bool) {
        state.take_dump(Dump { links, consistent });
    }

    fn pair() -> Vec<Link> {
        vec![link(2, "eth1", Parent::NetVsc), link(3, "vf0", Parent::Pci(function()))]
    }

    /// An instance that takes eth1; its port is begun.
    fn admit(state: &mut State) -> PortId {
        let args = arguments();
        let Selected { chosen, misses, .. } = state.select(&args, &Answers::default()).unwrap();
        assert!(misses.is_empty(), "{misses:?}");
        let ids = state.admit(NAME, &args, &chosen, &[], &[], Instant::now());
        assert_eq!(ids.len(), 1);
        ids[0]
    }

    /// A state with the NetVSC link eth1, its VF, and an instance that takes it; the port is begun.
    fn begun() -> (State, PortId) {
        let mut state = State::new();
        list(&mut state, pair(), true);
        let id = admit(&mut state);
        (state, id)
    }

    /// As [`begun`], with the port made.
    fn serving() -> (State, PortId) {
        let (mut state, id) = begun();
        assert!(!state.made(id, Ok(()), Instant::now()));
        (state, id)
    }

    /// A rescan of everything in which `occupant` sits on each PCI function, and these ports are gone.
    fn rescan(state: &mut State, occupant: &Occupant, gone: &[Serial], now: Instant) -> Vec<Order> {
        let mut answers = Answers::default();
        state.attend(Scope::All);
        loop {
            match state.step(Scope::All, &answers, false, now) {
                Step::Do(orders) => return orders,
                Step::Ask(questions) => answers.extend(Answers {
                    occupants: questions.occupants.map(|_, ()| Some(occupant.clone())),
                    gone: (!questions.alive.is_empty()).then(|| gone.to_vec()),
                    names: questions.names.then(Vec::new),
                    alternatives: questions.alternatives.map(|_, ()| Some(None)),
                    ..Answers::default()
                }),
            }
        }
    }

    fn nobody_gone(state: &mut State, occupant: &Occupant, now: Instant) -> Vec<Order> {
        rescan(state, occupant, &[], now)
    }

    const FREE: Occupant = Occupant::Unowned { mac: Some(MAC) };

    #[test]
    fn a_vf_that_is_there_is_attached_posted_and_rests_once_it_is_taken() {
        let (mut state, id) = serving();
        let now = Instant::now();
        let orders = nobody_gone(&mut state, &Occupant::Nobody, now);
        let [Order::Attach(serial, function)] = orders[..] else { panic!("{orders:?}") };
        state.attached(serial, function, Ok(()), now);
        let ours = Occupant::Ours { mac: Some(MAC) };
        assert_eq!(nobody_gone(&mut state, &ours, now), [Order::HandOver(id, function)]);
        assert!(!state.is_at_rest(now), "failsafe has yet to read");
    }

    #[test]
    fn what_was_attached_for_a_port_that_is_gone_meanwhile_is_detached() {
        let (mut state, id) = serving();
        let now = Instant::now();
        let orders = nobody_gone(&mut state, &Occupant::Nobody, now);
        let [Order::Attach(serial, function)] = orders[..] else { panic!("{orders:?}") };
        state.withdraw(NAME);
        state.closed(id);
        state.attached(serial, function, Ok(()), now);
        assert!(!state.is_idle(), "it is still to be detached");
        assert_eq!(nobody_gone(&mut state, &Occupant::Nobody, now), [Order::Detach(function)]);
        assert!(!state.is_idle(), "it is being detached");
        state.detached(function);
        assert!(state.is_idle());
    }

    #[test]
    fn what_is_being_detached_is_posted_to_nobody() {
        let (mut state, id) = serving();
        let now = Instant::now();
        let orders = nobody_gone(&mut state, &Occupant::Nobody, now);
        let [Order::Attach(serial, function)] = orders[..] else { panic!("{orders:?}") };
        state.attached(serial, function, Ok(()), now);
        state.withdraw(NAME);
        state.closed(id);
        // The link is taken anew before its VF, attached for the port before, is taken away.
        assert_eq!(admit(&mut state), id);
        assert!(!state.made(id, Ok(()), now));
        let ours = Occupant::Ours { mac: Some(MAC) };
        assert_eq!(nobody_gone(&mut state, &ours, now), [Order::Detach(function)]);
        assert_eq!(nobody_gone(&mut state, &ours, now), []);
        state.detached(function);
        let orders = nobody_gone(&mut state, &Occupant::Nobody, now);
        let [Order::Attach(next, ..)] = orders[..] else { panic!("{orders:?}") };
        assert_ne!(next, serial);
    }

    #[test]
    fn a_link_that_is_gone_when_its_port_is_to_be_tried_again_is_waited_for() {
        let (mut state, id) = begun();
        let now = Instant::now();
        state.made(id, Err(Errno(libc::EIO)), now);
        list(&mut state, vec![link(2, "eth9", Parent::NetVsc)], true);
        assert_eq!(nobody_gone(&mut state, &FREE, now + 2 * SECOND), []);
        assert!(state.is_at_rest(now + 2 * SECOND));
        list(&mut state, vec![link(2, "eth1", Parent::NetVsc)], true);
        assert_eq!(nobody_gone(&mut state, &FREE, now + 2 * SECOND), [Order::Make(id)]);
    }

    #[test]
    fn a_second_link_with_the_mac_takes_the_place_of_one_that_goes() {
        let mut state = State::new();
        list(&mut state, vec![link(2, "eth1", Parent::NetVsc), link(4, "eth2", Parent::NetVsc)], true);
        let args = Args { selectors: vec![Selector::Mac(MAC)], ..Args::default() };
        let Selected { chosen, .. } = state.select(&args, &Answers::default()).unwrap();
        let now = Instant::now();
        let ids = state.admit(NAME, &args, &chosen, &[], &[], now);
        state.made(ids[0], Ok(()), now);
        nobody_gone(&mut state, &FREE, now);
        state.apply(LinkEvent::Gone(IfIndex::new(2).unwrap()));
        assert!(matches!(nobody_gone(&mut state, &FREE, now)[..], [Order::Make(_)]));
    }

    #[test]
    fn one_vf_is_posted_to_one_port() {
        let mut state = State::new();
        let twin = [link(2, "eth1", Parent::NetVsc), link(4, "eth2", Parent::NetVsc)];
        list(&mut state, twin.into_iter().chain([link(3, "vf0", Parent::Pci(function()))]).collect(), true);
        let now = Instant::now();
        let args = Args { selectors: vec![Selector::Mac(MAC)], ..Args::default() };
        for (name, index) in [(c"one", 2), (c"two", 4)] {
            let table = state.links.table();
            let link = table.get(IfIndex::new(index).unwrap()).unwrap();
            let chosen = Chosen::new(table, Selector::Mac(MAC), link);
            let ids = state.admit(name, &args, &[chosen], &[], &[], now);
            assert!(!state.made(ids[0], Ok(()), now));
        }
        let orders = nobody_gone(&mut state, &Occupant::Nobody, now);
        let [Order::Attach(serial, function)] = orders[..] else { panic!("{orders:?}") };
        state.attached(serial, function, Ok(()), now);
        let ours = Occupant::Ours { mac: Some(MAC) };
        let orders = nobody_gone(&mut state, &ours, now);
        let [Order::HandOver(..)] = orders[..] else { panic!("{orders:?}") };
    }

    #[test]
    fn an_answer_about_a_port_is_none_about_the_next_one_with_its_id() {
        let (mut state, id) = serving();
        let now = Instant::now();
        let gone: Vec<Serial> = state.live().into_iter().map(|(serial, _)| serial).collect();
        assert_eq!(gone.len(), 1);
        // Between question and answer the application closes the port, and attaches anew.
        state.let_go(&gone);
        assert_eq!(state.live(), []);
        state.withdraw(NAME);
        assert_eq!(admit(&mut state), id, "the id is free again");
        assert!(!state.made(id, Ok(()), now));
        rescan(&mut state, &FREE, &gone, now);
        assert_eq!(state.live().len(), 1, "the new port is not meant");
    }

    #[test]
    fn the_shell_of_an_earlier_port_is_minded_until_a_port_is_made_over_it() {
        let (mut state, id) = serving();
        let mut now = Instant::now();
        state.withdraw(NAME);
        state.closed(id);
        assert_eq!(admit(&mut state), id);
        for _ in 0..3 {
            assert!(state.recipe(id).unwrap().shell);
            // The shell could not be removed, and DPDK made nothing.
            assert!(!state.made(id, Err(Errno(libc::ENODEV)), now));
            assert!(!state.is_at_rest(now), "it is tried again");
            now += 61 * SECOND;
            assert_eq!(nobody_gone(&mut state, &FREE, now), [Order::Make(id)]);
        }
        assert!(!state.made(id, Ok(()), now));
        assert!(!state.recipe(id).unwrap().shell);
    }

    #[test]
    fn a_try_that_fails_leaves_a_shell_for_the_next() {
        let (mut state, id) = begun();
        let now = Instant::now();
        assert!(!state.recipe(id).unwrap().shell);
        state.made(id, Err(Errno(libc::ENODEV)), now);
        nobody_gone(&mut state, &FREE, now + 2 * SECOND);
        assert!(state.recipe(id).unwrap().shell);
    }

    #[test]
    fn a_port_that_is_to_be_tried_again_much_later_is_no_unrest() {
        let (mut state, mut id) = begun();
        let mut now = Instant::now();
        for _ in 0..4 {
            assert!(!state.made(id, Err(Errno(libc::EIO)), now));
            now += 60 * SECOND;
            let [Order::Make(next)] = nobody_gone(&mut state, &FREE, now)[..] else { panic!() };
            id = next;
        }
        state.made(id, Err(Errno(libc::EIO)), now);
        assert!(state.is_at_rest(now), "each tick looks");
        now += 12 * SECOND;
        assert!(!state.is_at_rest(now));
        assert_eq!(nobody_gone(&mut state, &FREE, now), [], "not yet");
        nobody_gone(&mut state, &FREE, now + 4 * SECOND);
        assert!(state.recipe(id).is_some(), "in time");
    }

    #[test]
    fn nothing_is_posted_nor_left_to_read_while_events_are_lost() {
        let (mut state, id) = serving();
        let now = Instant::now();
        state.lose_events();
        assert_eq!(nobody_gone(&mut state, &FREE, now), [], "the VF may be gone");
        assert!(!state.is_at_rest(now), "the links are asked for again");
        assert!(state.needs_dump(true));

        list(&mut state, pair(), true);
        assert_eq!(nobody_gone(&mut state, &FREE, now), [Order::HandOver(id, function())]);

        state.lose_events();
        nobody_gone(&mut state, &FREE, now);
        assert_eq!(mailbox(&state, id), "", "taken back, as failsafe has not read it");

        // A list that changed while it was read is true of what is in it, and not of what is not.
        list(&mut state, vec![link(2, "eth1", Parent::NetVsc)], false);
        assert_eq!(nobody_gone(&mut state, &FREE, now), []);
        list(&mut state, pair(), false);
        assert_eq!(nobody_gone(&mut state, &FREE, now), [Order::HandOver(id, function())]);
        assert!(!state.needs_dump(true) && state.needs_dump(false), "it is asked for anew, in time");
    }

    /// Reads a port's mailbox as failsafe does.
    fn mailbox(state: &State, id: PortId) -> String {
        state.ports.get(&id).map(|held| held.port.read_mailbox()).unwrap_or_default()
    }

    #[test]
    fn an_instance_that_is_abandoned_leaves_nothing() {
        let (mut state, _) = begun();
        assert!(!state.is_idle());
        state.abandon(NAME);
        assert!(state.is_idle());
    }

    #[test]
    fn a_link_of_which_sysfs_does_not_tell_is_asked_about_again_and_not_for_ever() {
        let (mut state, _) = serving();
        let mut now = Instant::now();
        list(&mut state, vec![link(2, "eth1", Parent::NetVsc), link(4, "vf1", Parent::Unknown)], true);
        let mut asks = 0;
        for _ in 0..30 {
            state.attend(Scope::All);
            if let Step::Ask(questions) = state.step(Scope::All, &Answers::default(), false, now) {
                let parents = questions.parents.map(|_, _| Some(Parent::Unknown));
                asks += parents.iter().count();
                let answers = Answers { parents, gone: Some(Vec::new()), ..Answers::default() };
                state.step(Scope::All, &answers, false, now);
            }
            now += SECOND;
        }
        assert_eq!(asks, 10);
        assert!(state.is_at_rest(now), "until its next event");
        state.apply(LinkEvent::Changed(Link { up: false, ..link(4, "vf1", Parent::Unknown) }));
        let Step::Ask(questions) = state.step(Scope::Events, &Answers::default(), false, now) else { panic!() };
        assert!(questions.parents.contains_key(&IfIndex::new(4).unwrap()));
    }
}
