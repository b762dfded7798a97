// SPDX-License-Identifier: BSD-3-Clause
//! The driver as `manager` drives the state, each function beside its original, which is named. Wherever another thread
//! may come between, a function pauses; whoever polls it says which thread goes on.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

pub(super) use super::super::alarms::TICK;
use super::super::alarms::{KICK, PACE};
use super::super::facts::{Answers, Questions};
use super::super::rescan::{Attend, HEAR_ROUNDS, STEPS_MAX, VERBS_POLL};
use super::super::state::{Chosen, Order, Scope, Selected, Serial, State, Step};
use super::check;
use super::failsafe;
use super::world::{Function, Owner, World};
use crate::address::PciAddr;
use crate::args::Args;
use crate::delivery::Hindrance;
use crate::eal::Errno;
use crate::eal::alarm::PARKING_PATIENCE;
use crate::eal::failsafe::QUIET;
use crate::host::Drained;
use crate::pairing::Miss;
use crate::port::PortId;

pub(super) type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Lets the other thread go on, if it is to.
pub(super) async fn pause() {
    let mut paused = false;
    std::future::poll_fn(move |_| if std::mem::replace(&mut paused, true) { Poll::Ready(()) } else { Poll::Pending })
        .await;
}

/// What the driver keeps beside the state: `kernel::Ear`, `watch::Watch`, `alarms::Alarms`, `eal::failsafe::Mends`.
#[derive(Debug, Default)]
pub(super) struct Driver {
    pub(super) ear_open: bool,
    ear_held: bool,
    generation: u64,
    broken: bool,
    /// Generation of the socket that is watched.
    watched: Option<u64>,
    pub(super) hears_of_ports: bool,
    watch_taken: bool,
    /// When they go off.
    pub(super) kick: Option<Duration>,
    pub(super) pace: Option<Duration>,
    pub(super) tick: Option<Duration>,
    quiet_until: Option<Duration>,
    /// How often everything was looked at.
    pub(super) rescans: u32,
    /// How often a lock is found taken.
    pub(super) lock_busy: u32,
}

/// The driver, and the world around it.
pub(super) struct Model {
    base: Instant,
    clock: Cell<Duration>,
    pub(super) state: RefCell<State>,
    pub(super) world: RefCell<World>,
    pub(super) driver: RefCell<Driver>,
    pub(super) interrupt: RefCell<Option<Task>>,
    pub(super) application: RefCell<Option<Task>>,
    on_interrupt_thread: Cell<bool>,
    /// The interrupt thread stands still.
    parked: Cell<bool>,
    /// Devices that were taken away, of which the interrupt thread is about to be told.
    pub(super) removals: RefCell<Vec<PciAddr>>,
    broken: RefCell<Option<String>>,
    /// Nothing failed since all was right.
    pub(super) calm: Cell<bool>,
    /// What happened, and how often.
    pub(super) counts: RefCell<BTreeMap<String, u64>>,
}

pub(super) type Shared = Rc<Model>;

impl Model {
    pub(super) fn new() -> Shared {
        Rc::new(Self {
            base: Instant::now(),
            clock: Cell::default(),
            state: RefCell::new(State::new()),
            world: RefCell::default(),
            driver: RefCell::default(),
            interrupt: RefCell::default(),
            application: RefCell::default(),
            on_interrupt_thread: Cell::default(),
            parked: Cell::default(),
            removals: RefCell::default(),
            broken: RefCell::default(),
            calm: Cell::new(true),
            counts: RefCell::default(),
        })
    }

    /// Time since the beginning.
    pub(super) fn clock(&self) -> Duration {
        self.clock.get()
    }

    pub(super) fn set_clock(&self, clock: Duration) {
        self.clock.set(clock.max(self.clock.get()));
    }

    pub(super) fn now(&self) -> Instant {
        self.base + self.clock()
    }

    /// Notes what must not be; the first counts.
    pub(super) fn breaks(&self, what: String) {
        self.broken.borrow_mut().get_or_insert(what);
    }

    /// Counts something that happens.
    pub(super) fn count(&self, what: &str) {
        let mut counts = self.counts.borrow_mut();
        match counts.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(counts.insert(what.to_owned(), 1)),
        }
    }

    pub(super) fn broken(&self) -> Option<String> {
        self.broken.borrow().clone()
    }

    pub(super) fn on_interrupt_thread(&self) -> bool {
        self.on_interrupt_thread.get()
    }

    /// Goes on with what a thread does. Returns whether there is more.
    pub(super) fn go_on_with(&self, thread: &RefCell<Option<Task>>) -> bool {
        let Some(mut task) = thread.borrow_mut().take() else { return false };
        self.on_interrupt_thread.set(std::ptr::eq(thread, &raw const self.interrupt));
        let ended = task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
        self.on_interrupt_thread.set(false);
        if !ended {
            *thread.borrow_mut() = Some(task);
        }
        !ended
    }

    /// Does something on the interrupt thread at once.
    pub(super) fn on_interrupt<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = self.on_interrupt_thread.replace(true);
        let result = work();
        self.on_interrupt_thread.set(before);
        result
    }

    // alarms.rs

    pub(super) fn kick(&self, delay: Duration) {
        let due = self.clock() + delay;
        self.driver.borrow_mut().kick.get_or_insert(due);
    }

    fn pace(&self) {
        let due = self.clock() + PACE;
        self.driver.borrow_mut().pace.get_or_insert(due);
    }

    // eal/failsafe.rs

    /// `Mends::port_goes` (but for what is hidden) and `watch::port_goes`.
    pub(super) fn port_goes(&self, is_failsafes: bool) {
        if !self.driver.borrow().hears_of_ports {
            return;
        }
        if is_failsafes && !self.on_interrupt_thread() {
            self.driver.borrow_mut().quiet_until = Some(self.clock() + QUIET);
        }
        self.kick(KICK);
    }

    fn is_quiet(&self) -> bool {
        self.driver.borrow().quiet_until.is_some_and(|until| self.clock() < until)
    }

    /// `watch::take_back`.
    fn take_back_offer(&self, function: PciAddr) {
        if !self.driver.borrow().hears_of_ports {
            return;
        }
        let offered = self.state.borrow().offered();
        if let Some((serial, _)) = offered.into_iter().find(|&(_, offered)| offered == function) {
            self.state.borrow_mut().device_removed(serial, self.now());
            self.kick(KICK);
        }
    }

    /// `watch::port_goes`, of the first port on a function, which is still there.
    pub(super) fn first_port_goes(&self, function: PciAddr, is_failsafes: bool) {
        self.take_back_offer(function);
        self.port_goes(is_failsafes);
    }

    fn settle(&self) {
        if !self.is_quiet() {
            for function in self.world.borrow_mut().functions.values_mut() {
                if std::mem::take(&mut function.hidden) {
                    function.device = None;
                }
            }
        }
    }

    // mod.rs

    /// Whether the interrupt thread gets the state.
    fn try_lock(&self) -> bool {
        let busy = &mut self.driver.borrow_mut().lock_busy;
        let gets = *busy == 0;
        *busy = busy.saturating_sub(1);
        gets
    }

    fn gets_state(&self, attend: Attend) -> bool {
        attend == Attend::Wait || self.try_lock()
    }

    pub(super) fn try_ear(&self) -> bool {
        !std::mem::replace(&mut self.driver.borrow_mut().ear_held, true)
    }

    fn release_ear(&self) {
        self.driver.borrow_mut().ear_held = false;
    }

    async fn lock_ear(&self) {
        while !self.try_ear() {
            pause().await;
        }
    }

    // kernel.rs

    /// `Ear::kernel`.
    fn kernel(&self) {
        let mut driver = self.driver.borrow_mut();
        if !std::mem::replace(&mut driver.ear_open, true) {
            driver.generation += 1;
            self.world.borrow_mut().open_socket();
        }
    }

    /// `Ear::close`.
    fn close_ear(&self) {
        let mut driver = self.driver.borrow_mut();
        if std::mem::take(&mut driver.ear_open) {
            driver.generation += 1;
            driver.broken = false;
            self.world.borrow_mut().close_socket();
        }
    }

    /// `Ear::hear`. `Err` when the socket fails.
    async fn hear(&self, attend: Attend, rounds: u32, patient: bool) -> Result<bool, ()> {
        let mut listed = false;
        for _ in 0..rounds {
            if !self.gets_state(attend) {
                return Ok(false);
            }
            let all_read = self.drain()?;
            let list = self.state.borrow().needs_dump(patient || listed);
            if list {
                pause().await;
                let dump = self.world.borrow_mut().dump();
                self.count(if dump.consistent { "a list" } else { "a list that is not exact" });
                pause().await;
                if !self.gets_state(attend) {
                    return Ok(false);
                }
                self.state.borrow_mut().take_dump(dump);
                listed = true;
            } else if all_read {
                break;
            }
        }
        Ok(true)
    }

    /// `Ear::drain`.
    fn drain(&self) -> Result<bool, ()> {
        self.kernel();
        let drained = self.world.borrow_mut().drain(|event| self.state.borrow_mut().apply(event));
        let mut driver = self.driver.borrow_mut();
        if drained.is_none() != driver.broken {
            driver.broken = drained.is_none();
            driver.generation += 1;
        }
        match drained {
            Some(Drained::Empty) => Ok(true),
            Some(Drained::More) => {
                self.count("more to read");
                Ok(false)
            }
            Some(Drained::Overrun) => {
                self.count("events lost");
                self.state.borrow_mut().lose_events();
                Ok(true)
            }
            None => {
                self.state.borrow_mut().lose_events();
                Err(())
            }
        }
    }

    // watch.rs

    /// Whether link events call us: the watched socket is the one that has them.
    pub(super) fn is_called(&self) -> bool {
        let driver = self.driver.borrow();
        driver.ear_open && driver.watched == Some(driver.generation) && self.world.borrow().is_readable()
    }

    /// Whether nothing calls us any more, but for a tick that ends itself.
    pub(super) fn is_off(&self) -> bool {
        let driver = self.driver.borrow();
        driver.watched.is_none() && !driver.hears_of_ports
    }

    /// `watch::what_to_watch`.
    async fn what_to_watch(&self) -> Option<(bool, bool, u64)> {
        if !self.on_interrupt_thread() {
            self.lock_ear().await;
        } else if !self.try_ear() {
            return None;
        }
        let idle = self.state.borrow().is_idle();
        if idle {
            self.close_ear();
            self.state.borrow_mut().forget_links();
        }
        self.release_ear();
        let driver = self.driver.borrow();
        Some((idle, driver.ear_open && !driver.broken, driver.generation))
    }

    /// `watch::watch`.
    async fn watch(&self) {
        loop {
            let Some((idle, events, generation)) = self.what_to_watch().await else { return self.kick(KICK) };
            pause().await;
            if std::mem::replace(&mut self.driver.borrow_mut().watch_taken, true) {
                return;
            }
            pause().await;
            if idle {
                self.stop()
            } else {
                self.start(events, generation)
            }
            pause().await;
            self.driver.borrow_mut().watch_taken = false;
            let Some((now_idle, _, now)) = self.what_to_watch().await else { return self.kick(KICK) };
            if (now_idle, now) == (idle, generation) {
                return;
            }
        }
    }

    /// `Watch::start`.
    fn start(&self, events: bool, generation: u64) {
        let mut driver = self.driver.borrow_mut();
        if driver.watched != Some(generation) {
            driver.watched = events.then_some(generation);
        }
        driver.hears_of_ports = true;
        let due = self.clock() + TICK;
        driver.tick.get_or_insert(due);
    }

    /// `Watch::stop`.
    fn stop(&self) {
        let mut driver = self.driver.borrow_mut();
        (driver.watched, driver.hears_of_ports) = (None, false);
    }

    /// `watch::hear_of_ports`.
    async fn hear_of_ports(&self) {
        while self.driver.borrow().watch_taken {
            pause().await;
        }
        self.driver.borrow_mut().hears_of_ports = true;
    }

    /// `watch::watch_on`.
    async fn watch_on(&self) {
        if !self.try_ear() {
            return self.kick(KICK);
        }
        self.release_ear();
        if !self.try_lock() {
            return self.kick(KICK);
        }
        let idle = self.state.borrow().is_idle();
        let settled = {
            let driver = self.driver.borrow();
            if driver.watch_taken {
                drop(driver);
                return self.kick(KICK);
            }
            let is_on = driver.watched == Some(driver.generation) && driver.hears_of_ports && driver.tick.is_some();
            let is_off = driver.watched.is_none() && !driver.hears_of_ports && !driver.ear_open;
            if idle { is_off } else { is_on }
        };
        if !settled {
            self.watch().await;
        }
    }

    // rescan.rs

    /// `rescan::rescan`.
    async fn rescan(self: &Rc<Self>, scope: Scope) {
        self.driver.borrow_mut().rescans += 1;
        self.settle();
        let again = || {
            if scope == Scope::All {
                self.kick(KICK);
            }
        };
        if !self.try_ear() {
            return again();
        }
        if !self.try_lock() {
            self.release_ear();
            return again();
        }
        if self.state.borrow().is_idle() {
            return self.release_ear();
        }
        let heard = self.hear(Attend::Try, HEAR_ROUNDS, scope == Scope::Events).await;
        self.release_ear();
        if heard.is_err() && scope == Scope::Events {
            self.kick(KICK);
        }
        if !heard.unwrap_or(true) || !self.try_lock() {
            return self.kick(KICK);
        }
        self.state.borrow_mut().attend(scope);
        pause().await;
        if !self.go_on(scope, Attend::Try).await {
            return self.kick(KICK);
        }
        if !self.try_lock() {
            return self.pace();
        }
        let (waits, rests) = {
            let state = self.state.borrow();
            (state.waits_for_verbs(self.now()), state.is_at_rest(self.now()))
        };
        match (waits, rests) {
            (true, _) => self.kick(VERBS_POLL),
            (false, true) if !self.is_quiet() => {}
            _ if self.driver.borrow().broken => {}
            _ => self.pace(),
        }
    }

    /// `rescan::go_on`.
    async fn go_on(self: &Rc<Self>, scope: Scope, attend: Attend) -> bool {
        let mut answers = Answers::default();
        for _ in 0..STEPS_MAX {
            if !self.gets_state(attend) {
                return false;
            }
            let quiet = self.is_quiet();
            let step = self.release(|state, now| state.step(scope, &answers, quiet, now));
            if let Step::Do(orders) = &step {
                check::orders(self, orders);
            }
            pause().await;
            match step {
                Step::Ask(questions) => {
                    let more = self.ask(&questions, attend).await;
                    if more.gone.as_ref().is_some_and(|gone| !gone.is_empty()) {
                        self.kick(KICK);
                    }
                    answers.extend(more);
                }
                Step::Do(orders) => {
                    if !self.execute(orders).await {
                        return true;
                    }
                    answers.forget_occupants();
                }
            }
        }
        self.breaks("a rescan does not come to an end".to_owned());
        true
    }

    /// `rescan::release`.
    fn release<T>(&self, change: impl FnOnce(&mut State, Instant) -> T) -> T {
        let mut state = self.state.borrow_mut();
        let result = change(&mut state, self.now());
        if !state.take_closed().is_empty() {
            self.driver.borrow_mut().quiet_until = None;
        }
        result
    }

    /// `rescan::without_port`.
    fn without_port(&self, ports: &[(Serial, PortId)]) -> Vec<Serial> {
        let world = self.world.borrow();
        ports.iter().filter(|(_, id)| !world.failsafes.contains_key(id)).map(|&(serial, _)| serial).collect()
    }

    /// `rescan::ask`.
    async fn ask(&self, questions: &Questions, attend: Attend) -> Answers {
        let mut answers = Answers::default();
        {
            let mut world = self.world.borrow_mut();
            answers.parents = questions.parents.map(|&index, &name| Some(world.parent(name, index)));
            answers.drivers = questions.drivers.map(|_, &function| Some(world.kernel_driver(function)));
            answers.verbs = questions.verbs.map(|&function, ()| Some(world.has_verbs(function)));
        }
        if !questions.configured.is_empty() || !questions.alternatives.is_empty() {
            let got = match attend {
                Attend::Try => self.try_ear(),
                Attend::Wait => {
                    self.lock_ear().await;
                    true
                }
            };
            self.ask_kernel(questions, got, &mut answers);
            if got {
                self.release_ear();
            }
        }
        pause().await;
        for &function in questions.occupants.keys().filter(|_| !self.is_quiet()) {
            answers.occupants.insert(function, self.world.borrow().occupant(function));
        }
        answers.gone = (!questions.alive.is_empty()).then(|| self.without_port(&questions.alive));
        answers.names = questions.names.then(|| self.world.borrow().names());
        pause().await;
        answers
    }

    /// `rescan::ask_kernel`.
    fn ask_kernel(&self, questions: &Questions, got: bool, answers: &mut Answers) {
        let world = self.world.borrow();
        answers.configured = questions.configured.map(|index, ()| Some(!got || world.configured.contains(index)));
        answers.alternatives =
            questions.alternatives.map(|selector, ()| Some(world.alternative(selector).filter(|_| got)));
        answers.unsettled = !got && !questions.alternatives.is_empty();
    }

    // ports.rs

    /// `ports::execute`.
    fn execute(self: &Rc<Self>, orders: Vec<Order>) -> Pin<Box<dyn Future<Output = bool>>> {
        let this = Rc::clone(self);
        Box::pin(async move {
            let mut again = false;
            for order in orders {
                pause().await;
                match order {
                    Order::Make(id) => {
                        this.make(id).await;
                        this.kick(KICK);
                    }
                    Order::Close(id) => this.close(id).await,
                    Order::Attach(serial, function) => {
                        let outcome = this.world.borrow_mut().attach(function, Owner::Ours);
                        this.count(if outcome.is_ok() { "a VF attached" } else { "a VF not attached" });
                        pause().await;
                        this.state.borrow_mut().attached(
                            serial,
                            function,
                            outcome.map_err(Hindrance::Failed),
                            this.now(),
                        );
                        again = true;
                    }
                    Order::HandOver(_, function) => {
                        this.count("a VF handed over");
                        this.hand_over(function);
                    }
                    Order::TakeBack(function) => {
                        this.count("a VF taken back");
                        this.take_back(function);
                    }
                    Order::Detach(function) => {
                        this.count("a VF detached");
                        this.detach(function);
                        again = true;
                    }
                }
            }
            again
        })
    }

    /// `ports::hand_over`.
    fn hand_over(&self, function: PciAddr) {
        if let Some(port) = self.world.borrow_mut().port(function).filter(|port| port.owner == Owner::Ours) {
            port.owner = Owner::Nobody;
        }
    }

    /// `ports::take_back`.
    fn take_back(&self, function: PciAddr) {
        let mut world = self.world.borrow_mut();
        let ports = world.functions.get_mut(&function).into_iter().flat_map(Function::ports_mut);
        ports.filter(|port| port.owner == Owner::Nobody).for_each(|port| port.owner = Owner::Ours);
    }

    /// `ports::detach`, `pci::detach`.
    fn detach(&self, address: PciAddr) {
        self.take_back(address);
        let mut world = self.world.borrow_mut();
        let function = world.functions.get_mut(&address).filter(|function| !function.hidden);
        let mut function =
            function.filter(|function| function.device.iter().flatten().all(|port| port.owner == Owner::Ours));
        let ports = function.as_mut().and_then(|function| function.device.take()).unwrap_or_default();
        drop(world);
        if !ports.is_empty() {
            self.first_port_goes(address, false);
        }
        self.state.borrow_mut().detached(address);
    }

    /// `ports::detach_left`.
    fn detach_left(&self) {
        let left = self.state.borrow_mut().take_to_detach();
        left.into_iter().for_each(|function| self.detach(function));
    }

    /// `ports::alone`.
    async fn alone(&self) -> bool {
        if self.on_interrupt_thread() {
            return true;
        }
        let patience = self.clock() + PARKING_PATIENCE;
        while self.interrupt.borrow().is_some() {
            if self.clock() >= patience {
                self.count("the interrupt thread is busy");
                return false;
            }
            pause().await;
        }
        self.parked.set(true);
        true
    }

    /// The end of what `ports::alone` returned.
    fn release_interrupt_thread(&self) {
        if !self.on_interrupt_thread() {
            self.parked.set(false);
        }
    }

    /// `ports::make`.
    async fn make(self: &Rc<Self>, id: PortId) {
        self.alone().await;
        self.make_alone(id).await;
        self.release_interrupt_thread();
    }

    async fn make_alone(self: &Rc<Self>, id: PortId) {
        let Some(recipe) = self.state.borrow().recipe(id) else { return };
        pause().await;
        let outcome = self.try_make(id, recipe.shell).await;
        self.count(if outcome.is_ok() { "a port made" } else { "a port not made" });
        pause().await;
        if self.release(|state, now| state.made(id, outcome, now)) {
            self.close(id).await;
        }
    }

    async fn try_make(self: &Rc<Self>, id: PortId, shell: bool) -> Result<(), Errno> {
        if self.world.borrow().failsafes.contains_key(&id) {
            return Err(Errno(libc::EEXIST));
        }
        if shell {
            let mut world = self.world.borrow_mut();
            if world.keeps_shell > 0 {
                world.keeps_shell -= 1;
            } else {
                world.shells.remove(&id);
            }
        }
        self.go_on(Scope::Making(id), Attend::Wait).await;
        pause().await;
        {
            let mut world = self.world.borrow_mut();
            if world.refuses > 0 {
                world.refuses -= 1;
                return Err(Errno(libc::EIO));
            }
            // Of a name that is probed nothing is made.
            if world.shells.contains(&id) {
                return Err(Errno(libc::ENODEV));
            }
        }
        failsafe::create(self, id);
        Ok(())
    }

    /// `ports::close`.
    async fn close(&self, id: PortId) {
        if self.state.borrow().recipe(id).is_none() {
            return;
        }
        pause().await;
        self.close_failsafe(id).await;
        self.release(|state, _| state.closed(id));
        self.kick(KICK);
    }

    /// `rte_eth_dev_close` of a failsafe port.
    pub(super) async fn close_failsafe(&self, id: PortId) {
        failsafe::begin_close(self, id);
        pause().await;
        failsafe::end_close(self, id);
        pause().await;
    }

    // mod.rs

    /// `probe`.
    pub(super) async fn probe(self: Rc<Self>, name: CString, args: Args, starting: bool) {
        let begun = self.admit(&name, &args, starting).await;
        if begun.is_some() {
            self.hear_of_ports().await;
        }
        if begun.is_some() || !self.state.borrow().is_idle() {
            self.kick(KICK);
        }
        let Some(begun) = begun else { return self.watch().await };
        for id in begun {
            pause().await;
            self.make(id).await;
        }
        self.kick(KICK);
    }

    /// `admit`.
    async fn admit(&self, name: &CStr, args: &Args, starting: bool) -> Option<Vec<PortId>> {
        let live = self.state.borrow().live();
        pause().await;
        let gone = self.without_port(&live);
        self.release(|state, _| state.let_go(&gone));
        pause().await;
        let Selected { mut chosen, misses, .. } = self.select(args).await?;
        let may_come = starting && misses.iter().any(|(_, miss)| *miss == Miss::Absent);
        if !misses.is_empty() && chosen.is_empty() && !may_come {
            return None;
        }
        let named = !args.selectors.is_empty();
        let free = |link: &Chosen| {
            let used = |index| self.world.borrow().configured.contains(&index);
            named || !(link.used.is_some() || used(link.index) || link.vf.as_ref().is_some_and(|&(vf, _)| used(vf)))
        };
        chosen.retain(free);
        pause().await;
        let missing: Vec<_> = misses.into_iter().map(|(selector, _)| selector).collect();
        let names = self.world.borrow().names();
        pause().await;
        self.lock_ear().await;
        let heard = self.hear(Attend::Wait, super::super::HEAR_ROUNDS, true).await;
        let begun =
            heard.is_ok().then(|| self.state.borrow_mut().admit(name, args, &chosen, &missing, &names, self.now()));
        self.release_ear();
        begun
    }

    /// `select`.
    async fn select(&self, args: &Args) -> Option<Selected> {
        let before = self.world.borrow().changes;
        self.lock_ear().await;
        let heard = self.hear(Attend::Wait, super::super::HEAR_ROUNDS, false).await;
        if heard.is_err() {
            self.release_ear();
            return None;
        }
        let mut answers = Answers::default();
        loop {
            let selected = self.state.borrow_mut().select(args, &answers);
            pause().await;
            match selected {
                Ok(selected) => {
                    if self.world.borrow().changes == before {
                        check::probe_is_right(self, args, &selected);
                    }
                    self.release_ear();
                    return Some(selected);
                }
                Err(mut questions) => {
                    let mut more = Answers::default();
                    self.ask_kernel(&questions, true, &mut more);
                    answers.extend(more);
                    questions.alternatives = Default::default();
                    answers.extend(self.ask(&questions, Attend::Wait).await);
                }
            }
        }
    }

    /// `remove`.
    pub(super) async fn remove(self: Rc<Self>, name: CString) {
        if self.state.borrow().has_instance(&name) {
            if !self.alone().await {
                return;
            }
            let closing = self.state.borrow_mut().withdraw(&name);
            for id in closing {
                pause().await;
                self.close(id).await;
            }
            self.settle();
            self.detach_left();
            self.release_interrupt_thread();
        }
        self.watch().await;
    }

    // What the interrupt thread does.

    /// `rescan::link_event`.
    pub(super) async fn link_event(self: Rc<Self>) {
        self.rescan(Scope::Events).await;
    }

    /// `alarms::fired`.
    pub(super) async fn fired(self: Rc<Self>) {
        self.rescan(Scope::All).await;
        self.watch_on().await;
    }

    /// `alarms::tick`.
    pub(super) async fn tick(self: Rc<Self>) {
        let over = self.try_lock() && self.state.borrow().is_idle() && !self.driver.borrow().watch_taken;
        let next = (!over).then(|| self.clock() + TICK);
        self.driver.borrow_mut().tick = next;
        self.rescan(Scope::All).await;
        self.watch_on().await;
    }

    /// `watch::device_removed`, and failsafe's, which is called later.
    pub(super) fn device_removed(&self, function: PciAddr) {
        self.take_back_offer(function);
        failsafe::removal(self, function);
    }
}

/// What the interrupt thread may be called for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Call {
    Removal,
    LinkEvent,
    Kick,
    Pace,
    Tick,
    Poll(PortId),
}

impl Model {
    /// What the interrupt thread does next, and when.
    pub(super) fn next_call(&self) -> Option<(Duration, Call)> {
        let now = self.clock();
        if self.parked.get() {
            return None;
        }
        if !self.removals.borrow().is_empty() {
            return Some((now, Call::Removal));
        }
        let driver = self.driver.borrow();
        let ours = [(driver.kick, Call::Kick), (driver.pace, Call::Pace), (driver.tick, Call::Tick)];
        let world = self.world.borrow();
        let polls = world.failsafes.iter().map(|(&id, failsafe)| (failsafe.alarm, Call::Poll(id)));
        let alarms = ours.into_iter().chain(polls).filter_map(|(due, call)| Some((due?, call)));
        let alarm = alarms.min_by_key(|&(due, _)| due);
        let event = self.is_called().then_some((now, Call::LinkEvent));
        // Neither keeps the other from being called.
        alarm.filter(|&(due, _)| due <= now).or(event).or(alarm)
    }

    /// Has the interrupt thread begin with that.
    pub(super) fn call(self: &Rc<Self>, call: Call) {
        let this = Rc::clone(self);
        let task: Task = match call {
            Call::Removal => {
                let function = self.removals.borrow_mut().remove(0);
                return self.on_interrupt(|| self.device_removed(function));
            }
            Call::Poll(id) => return self.on_interrupt(|| failsafe::poll(self, id)),
            Call::LinkEvent => Box::pin(this.link_event()),
            Call::Kick => {
                self.driver.borrow_mut().kick = None;
                Box::pin(this.fired())
            }
            Call::Pace => {
                self.driver.borrow_mut().pace = None;
                Box::pin(this.fired())
            }
            Call::Tick => Box::pin(this.tick()),
        };
        *self.interrupt.borrow_mut() = Some(task);
    }
}
