// SPDX-License-Identifier: BSD-3-Clause
//! Instances and ports: probe, remove, rescan.
//!
//! Threads: probe and remove run on whichever thread hot-plugs, everything else on the EAL interrupt thread. They share
//! one lock, under which DPDK is never entered; the interrupt thread only tries it and comes back later.
//!
//! ```text
//!   rtnetlink event ──────────────────────┐
//!   kick, at once                         ├─> rescan: look (lock) ─> ask DPDK ─> act (lock) ─> make or close ports
//!   pace, a second after one that left    │
//!   something pending                     │
//!   tick, each five seconds ──────────────┘
//! ```
//! An idle port is looked at by the tick alone, which is there in case that an event was missed.
//!
//! A kick is an alarm that someone asks for who cannot rescan himself: a port that is about to go, a probe,
//! a rescan that found the lock taken.

mod instance;
mod links;
mod state;
mod watch;

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use log::{debug, error, info, warn};

use crate::args::{self, Args, Fallback, Selector};
use crate::eal::ethdev::{Occupant, PortNumber};
use crate::eal::failsafe::{self, Hidden, SafeBursts};
use crate::eal::log::NOTICE;
use crate::eal::{self, Errno, alarm, ethdev, guard, kvargs, vdev};
use crate::host;
use crate::link::PciAddr;
use crate::pairing::Miss;
use crate::port::PortId;
use state::{Answers, Chosen, Job, Questions, Recipe, Serial, State};
use watch::Watch;

/// Period of the safety net.
const TICK: Duration = Duration::from_secs(5);

/// Period of checks for what no event announces: an address that failsafe has yet to read, a port to be tried again.
const PACE: Duration = Duration::from_secs(1);

/// Delay of a kick. A port that is about to go is still there when we hear of it (`rte_eth_dev_release_port`).
const KICK: Duration = Duration::from_millis(1);

/// How often a VF is looked at that waits for its ibverbs device.
const VERBS_POLL: Duration = Duration::from_millis(20);

/// How long remove() waits for the interrupt thread before it leaves the closing of a port to that thread.
const PARKING_PATIENCE: Duration = Duration::from_millis(250);

/// How long remove() waits for a port that another thread is making or closing.
const MAKING_PATIENCE: Duration = Duration::from_secs(2);

/// The only state that the driver keeps between two calls of DPDK.
struct Manager {
    state: Mutex<State>,
    /// Devices of VFs that failsafe lets go of right now.
    hidden: Mutex<Vec<Hidden>>,
    /// A kick is under way.
    kicked: AtomicBool,
    /// The next look at what is pending is under way.
    pacing: AtomicBool,
    /// The automatic instance was offered to EAL.
    offered: AtomicBool,
}

static MANAGER: Manager = Manager {
    state: Mutex::new(State::new()),
    hidden: Mutex::new(Vec::new()),
    kicked: AtomicBool::new(false),
    pacing: AtomicBool::new(false),
    offered: AtomicBool::new(false),
};

/// Why an instance is not made.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Its arguments are refused.
    #[error(transparent)]
    Args(#[from] args::Error),
    /// A PMD that it needs is missing.
    #[error("{driver} is not in this build: load it with -d librte_{driver}.so, or link it into the application")]
    NoDriver {
        /// The PMD.
        driver: &'static str,
    },
    /// The kernel does not tell its links.
    #[error(transparent)]
    Host(#[from] host::Error),
    /// DPDK does not tell it of ports that go, without which no port survives the loss of its VF.
    #[error("cannot hear of ports that go: {0}")]
    PortEvents(Errno),
    /// None of the links that it names can be taken.
    #[error("{}", list(.0))]
    NoLink(Vec<(Selector, Miss)>),
}

impl ProbeError {
    /// Returns the positive errno that says this in C.
    pub fn errno(&self) -> i32 {
        match self {
            Self::Args(_) => libc::EINVAL,
            Self::NoDriver { .. } => libc::ENOTSUP,
            Self::Host(error) => error.errno(),
            Self::PortEvents(error) => error.0,
            Self::NoLink(_) => libc::ENODEV,
        }
    }
}

/// Takes the state, also from a thread that died in a panic while it held it; all pairs are then looked at again.
fn lock() -> MutexGuard<'static, State> {
    MANAGER.state.lock().unwrap_or_else(|poisoned| recover(poisoned.into_inner()))
}

/// As [`lock`], but `None` when another thread holds it.
fn try_lock() -> Option<MutexGuard<'static, State>> {
    match MANAGER.state.try_lock() {
        Ok(state) => Some(state),
        Err(TryLockError::Poisoned(poisoned)) => Some(recover(poisoned.into_inner())),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Takes the list of hidden devices, which no one holds for long.
fn lock_hidden() -> MutexGuard<'static, Vec<Hidden>> {
    MANAGER.hidden.lock().unwrap_or_else(PoisonError::into_inner)
}

fn recover(mut state: MutexGuard<'static, State>) -> MutexGuard<'static, State> {
    MANAGER.state.clear_poison();
    state.links.distrust();
    state
}

/// Makes the instance `name` from its arguments, with a port for each link that it takes.
///
/// In a secondary process it does nothing: the primary owns the control plane.
///
/// # Errors
/// [`ProbeError`]; nothing is half made then.
pub fn probe(name: &CStr, arguments: &CStr) -> Result<(), ProbeError> {
    let label = name.to_string_lossy();
    debug!("{label}: probed with {arguments:?}");
    if eal::process() == eal::Process::Secondary {
        return Ok(());
    }
    let args = Args::parse(arguments, kvargs::parse, kvargs::parse_mac)?;
    if args.ignore {
        info!("{label}: ignored, as asked");
        return Ok(());
    }
    require_drivers(args.fallback)?;
    if !vdev::has_pci_bus() {
        warn!("{label}: the PCI bus driver is not in this build, so no VF can be attached: load librte_bus_pci.so");
    }
    vdev::clean_before_pci();
    let outcome = admit(name, &args).and_then(|begun| match hear_of_ports() {
        Ok(()) => Ok(begun),
        Err(error) => {
            lock().abandon(name);
            Err(ProbeError::PortEvents(error))
        }
    });
    if outcome.is_ok() {
        // The interrupt thread begins to watch while the ports are being made.
        kick(KICK);
    }
    if outcome.is_err() || !MANAGER.kicked.load(Ordering::Relaxed) {
        // There may be nothing to watch; or it has begun already, or cannot be asked to.
        watch();
    }
    for id in outcome? {
        make(id);
    }
    // What came while the ports were being made.
    kick(KICK);
    Ok(())
}

fn require_drivers(fallback: Fallback) -> Result<(), ProbeError> {
    let fallback = match fallback {
        Fallback::Tap => (c"net_tap_vsc", "net_tap"),
        Fallback::AfPacket => (c"net_af_packet_vsc", "net_af_packet"),
    };
    for (device, driver) in [(c"net_failsafe_vsc", "net_failsafe"), fallback] {
        if !vdev::has_driver(device) {
            return Err(ProbeError::NoDriver { driver });
        }
    }
    Ok(())
}

/// Selects the links of an instance and begins their ports.
fn admit(name: &CStr, args: &Args) -> Result<Vec<PortId>, ProbeError> {
    let label = name.to_string_lossy();
    // What the application has just closed is free at once.
    let live = lock().live();
    let gone = without_port(&live);
    let (mut chosen, misses) = {
        let mut state = lock();
        state.let_go(&gone);
        state.listen()?;
        state.select(args)
    };
    if !misses.is_empty() {
        if chosen.is_empty() {
            return Err(ProbeError::NoLink(misses));
        }
        warn!("{label}: {}; going on with the others", list(&misses));
    }
    let named = !args.selectors.is_empty();
    chosen.retain(|link| named || is_free(&label, link));
    if named {
        chosen.iter().for_each(|link| warn_addressed(&label, link));
    }
    if chosen.is_empty() {
        info!("{label}: no NetVSC interface to take");
    }
    let missing: Vec<Selector> = misses.into_iter().map(|(selector, _)| selector).collect();
    let names = ethdev::names();
    let mut state = lock();
    // Unless the last other instance, removed meanwhile, has ended it.
    state.listen()?;
    Ok(state.admit(name, args, &chosen, &missing, &names))
}

fn list(misses: &[(Selector, Miss)]) -> String {
    misses.iter().map(|(selector, miss)| format!("{selector}: {miss}")).collect::<Vec<_>>().join("; ")
}

/// Tells whether a link that nobody named is without configuration of its own, and so free to take.
fn is_free(instance: &str, link: &Chosen) -> bool {
    match host::configuration(link.index) {
        Ok(None) => true,
        Ok(Some(configured)) => {
            info!("{instance}: {} has {configured}, skipping", link.label);
            false
        }
        Err(error) => {
            warn!("{instance}: {}: {error}; skipping it, as it may be in use", link.label);
            false
        }
    }
}

/// Warns of a named link that has an address, as it may carry traffic of the kernel's. That it has a route alone is not
/// worth a walk of all routes, as it is taken in any case.
fn warn_addressed(instance: &str, link: &Chosen) {
    match host::address(link.index) {
        Ok(None) => {}
        Ok(Some(address)) => warn!("{instance}: {} has {address}; taking it, as it was named", link.label),
        Err(error) => warn!("{instance}: {}: {error}; taking it, as it was named", link.label),
    }
}

/// Removes the instance `name` and closes its ports. Does nothing for one that is unknown, such as an ignored one.
///
/// Waits for nothing that could be inside a hot-plug: it may run under the vdev list lock (`rte_vdev_uninit`).
pub fn remove(name: &CStr) {
    debug!("{}: removed", name.to_string_lossy());
    let closing = lock().withdraw(name);
    closing.into_iter().for_each(close);
    // What another thread is making is closed by that one; the caller may be about to free what it uses. When that
    // thread waits for the vdev list lock, which our caller may hold, it is not waited for any longer.
    let patience = Instant::now() + MAKING_PATIENCE;
    while !alarm::on_interrupt_thread() && lock().is_under_way(name) && Instant::now() < patience {
        thread::sleep(KICK);
    }
    watch();
}

/// Offers an automatic instance to EAL, once and unless the user named one. A custom-scan callback: runs at start,
/// before memory exists, and at every hot-plug of a virtual device.
pub fn scan() {
    let ours =
        |name: &CString| [&b"net_vdev_netvsc"[..], b"eth_vdev_netvsc"].iter().any(|n| name.as_bytes().starts_with(n));
    if eal::process() == eal::Process::Secondary || MANAGER.offered.swap(true, Ordering::Relaxed) {
        return;
    }
    if vdev::names().iter().any(ours) {
        return;
    }
    if let Err(error) = vdev::add_arguments(c"net_vdev_netvsc") {
        error!("cannot add an instance by itself: {error}; add --vdev=net_vdev_netvsc");
    }
}

/// Makes a port that was begun, or notes why not.
fn make(id: PortId) {
    let Some(recipe) = lock().recipe(id) else { return };
    // A panic must not leave the port half made.
    let outcome = guard("making of a port", Err(Errno(libc::EFAULT)), || try_make(id, &recipe));
    if outcome.is_ok() {
        info!(target: NOTICE, "{}: made", recipe.label);
        if ethdev::find(&recipe.fallback).is_none() {
            error!("{}: {}", recipe.label, recipe.fallback_advice);
        }
    }
    if lock().made(id, outcome, Instant::now()) {
        close(id);
    }
}

fn try_make(id: PortId, recipe: &Recipe) -> Result<Option<SafeBursts>, Errno> {
    if ethdev::find(&recipe.failsafe).is_some() {
        return Err(Errno(libc::EEXIST));
    }
    if recipe.shell && vdev::names().contains(&recipe.failsafe) {
        // From 26.07 on the device is on the bus but removed already, and this fails.
        if let Err(error) = vdev::remove(&recipe.failsafe) {
            debug!("{}: the shell of an earlier port is not removed: {error}", recipe.label);
        }
    }
    if let Some(function) = recipe.function {
        let occupant = occupant(function);
        lock().deliver_first(id, function, occupant);
    }
    let devargs = recipe.devargs.as_ref().ok_or(Errno(libc::E2BIG))?;
    debug!("{}: making it with {devargs:?}", recipe.label);
    vdev::add(&recipe.failsafe, devargs)?;
    ethdev::find(&recipe.failsafe).ok_or(Errno(libc::ENODEV))?;
    Ok(SafeBursts::of(&recipe.failsafe))
}

/// Closes the failsafe port of a port in phase `Closing`, which takes its fallback and its VF along and leaves its vdev:
/// removing that one as well would free what `rte_eal_cleanup` is about to read (`vdev_cleanup` up to 26.03). What cannot
/// be closed is left to the interrupt thread, which tries again at each rescan of everything.
fn close(id: PortId) {
    let Some(recipe) = lock().recipe(id) else { return };
    let shut = || {
        if let Some(Err(error)) = ethdev::find(&recipe.failsafe).map(ethdev::stop_and_close) {
            debug!("{}: closing it: {error}", recipe.label);
        }
    };
    // Without its fallback failsafe hot-plugs it again and again on the interrupt thread, and closing the port would
    // wait there for a lock that our caller may hold.
    let shut_in_time = || {
        if alarm::on_interrupt_thread() || ethdev::find(&recipe.fallback).is_some() {
            shut();
            return true;
        }
        alarm::with_interrupt_thread_parked(PARKING_PATIENCE, shut).is_some()
    };
    // A panic must not leave it closing for ever.
    if !guard("closing of a port", true, shut_in_time) {
        debug!("{}: the interrupt thread is busy, and is to close it", recipe.label);
        lock().defer_close(id);
        return kick(KICK);
    }
    if ethdev::find(&recipe.failsafe).is_none() {
        info!(target: NOTICE, "{}: closed", recipe.label);
        lock().closed(id);
        // What it held is free.
        kick(KICK);
    } else {
        warn!("{}: its driver does not close it; trying again", recipe.label);
        lock().defer_close(id);
        pace();
    }
}

/// Has the interrupt thread rescan everything after `delay`, once for all who ask meanwhile, and have DPDK call us as
/// [`watch()`] does. Callable from any thread.
fn kick(delay: Duration) {
    set_once(&MANAGER.kicked, delay, kicked);
}

fn kicked() {
    alarm_fired(&MANAGER.kicked);
}

/// Has the interrupt thread look again at what is pending. Callable from any thread.
fn pace() {
    set_once(&MANAGER.pacing, PACE, paced);
}

fn paced() {
    alarm_fired(&MANAGER.pacing);
}

/// Sets an alarm whose callback calls [`alarm_fired`], unless it is set already.
fn set_once(flag: &AtomicBool, delay: Duration, callback: fn()) {
    if !flag.swap(true, Ordering::Relaxed) {
        if let Err(error) = alarm::set(delay, callback) {
            flag.store(false, Ordering::Relaxed);
            error!("cannot set an alarm: {error}; the next tick makes up for it");
        }
    }
}

/// An alarm of [`set_once`] has gone off.
fn alarm_fired(flag: &AtomicBool) {
    flag.store(false, Ordering::Relaxed);
    rescan(true);
    watch_on();
}

/// Runs each [`TICK`] while there is something to watch.
fn tick() {
    // Set again before the work, so that no failure ends the safety net.
    let over = try_lock().is_some_and(|mut state| state.is_idle() && state.stop_ticking());
    if !over {
        if let Err(error) = alarm::set(TICK, tick) {
            error!("cannot set an alarm: {error}; link events still come");
            if let Some(mut state) = try_lock() {
                state.stop_ticking();
            }
        }
    }
    rescan(true);
    watch_on();
}

/// Makes up, on the interrupt thread, for what [`watch()`] could not do elsewhere.
fn watch_on() {
    match try_lock().map(|state| state.is_settled()) {
        Some(true) => {}
        Some(false) => watch(),
        None => kick(KICK),
    }
}

/// The device of a port was taken away. When that is the VF of a failsafe port of ours, its application is made to call
/// bursts that mind it, before failsafe frees what the others use. Waits for the lock: later is too late.
fn vf_removed(port: PortNumber) {
    let (lent, bursts) = {
        let state = lock();
        (state.lent(), state.safe_bursts())
    };
    for (function, id) in lent {
        if !ethdev::sits_on(port, function) {
            continue;
        }
        if let (Some(bursts), Some(failsafe)) = (bursts, ethdev::find(&id.failsafe_name())) {
            bursts.install(failsafe);
        }
    }
}

/// A port of anybody's is about to go: perhaps a failsafe port of ours, or a VF's.
fn port_goes(port: PortNumber) {
    // On the interrupt thread it is failsafe that lets go of a VF, and it would do so twice.
    if alarm::on_interrupt_thread() {
        let lent = lock().lent();
        if let Some(hidden) = lent.into_iter().find_map(|(function, ..)| Hidden::take(port, function)) {
            lock_hidden().push(hidden);
        }
    } else if ethdev::is_owned_by(port, failsafe::OWNER) {
        lock().keep_quiet(Instant::now());
    }
    kick(KICK);
}

/// Removes the devices of VFs that failsafe has let go of.
fn remove_hidden() {
    let hidden = std::mem::take(&mut *lock_hidden());
    for device in hidden {
        if let Err(error) = device.remove() {
            warn!("cannot remove the device of a VF that went: {error}");
        }
    }
}

/// Link events wait.
fn link_event() {
    rescan(false);
}

/// Compares what the kernel and DPDK say with what we hold, and acts on the difference. Runs on the interrupt thread.
///
/// With `all`, every port is attended to; else only those that an event concerns.
fn rescan(all: bool) {
    let Some(state) = try_lock() else {
        // An event stays readable, so the interrupt thread comes back by itself.
        if all {
            kick(KICK);
        }
        return;
    };
    let quiet = state.is_quiet(Instant::now());
    drop(state);
    if !quiet {
        // First, so that the address is free when it is posted again.
        remove_hidden();
    }
    let Some(mut state) = try_lock() else { return kick(KICK) };
    let questions = state.look(all, Instant::now());
    drop(state);
    if !all && questions == Questions::default() {
        // Such as a question to the kernel that has no answer yet.
        return pace_unless_at_rest();
    }
    let answers = ask(&questions);
    let Some(mut state) = try_lock() else { return kick(KICK) };
    let now = Instant::now();
    let jobs = state.act(&questions, &answers, all, now);
    let waits = state.waits_for_verbs(now);
    drop(state);
    if !answers.gone.is_empty() {
        // What they held is free.
        kick(KICK);
    }
    for job in jobs {
        match job {
            Job::Make(id) => {
                make(id);
                // What came while it was being made.
                kick(KICK);
            }
            Job::Close(id) => close(id),
        }
    }
    if waits {
        kick(VERBS_POLL);
    }
    pace_unless_at_rest();
}

/// Has the interrupt thread look again at what ends without an event, if there is something.
fn pace_unless_at_rest() {
    if try_lock().is_none_or(|state| !state.is_at_rest(Instant::now())) {
        pace();
    }
}

/// Of these ports, those that have no failsafe port.
fn without_port(ports: &[(Serial, PortId)]) -> BTreeSet<Serial> {
    ports.iter().filter(|(_, id)| ethdev::find(&id.failsafe_name()).is_none()).map(|&(serial, _)| serial).collect()
}

fn ask(questions: &Questions) -> Answers {
    Answers {
        gone: without_port(&questions.alive),
        occupants: questions.functions.iter().map(|&function| (function, occupant(function))).collect(),
        names: if questions.names { ethdev::names() } else { Vec::new() },
    }
}

/// Who sits on a PCI function: also a driver whose device is hidden, as its port is being released.
fn occupant(function: PciAddr) -> Occupant {
    if lock_hidden().iter().any(|device| device.is_at(function)) { Occupant::Busy } else { ethdev::occupant(function) }
}

/// What has DPDK call us, taken out of the state while it is changed. It goes back there on every way.
struct TakenWatch(Option<Watch>);

impl TakenWatch {
    /// Takes it, `None` while somebody else changes it.
    fn take(state: &mut State) -> Option<Self> {
        state.watch.take().map(|watch| Self(Some(watch)))
    }

    fn change<T>(&mut self, change: impl FnOnce(&mut Watch) -> T) -> Option<T> {
        self.0.as_mut().map(change)
    }
}

impl Drop for TakenWatch {
    /// Takes the lock, which must not be held here.
    fn drop(&mut self) {
        lock().watch = self.0.take();
    }
}

/// Has DPDK tell us of ports that go, before there is a port that could lose its VF.
///
/// # Errors
/// `ENOMEM`, or `EAGAIN` when another thread does not get done with what has DPDK call us.
fn hear_of_ports() -> Result<(), Errno> {
    let patience = Instant::now() + MAKING_PATIENCE;
    loop {
        // The lock is released before the body.
        let taken = TakenWatch::take(&mut lock());
        if let Some(mut taken) = taken {
            return taken.change(Watch::hear_of_ports).unwrap_or(Ok(()));
        }
        if Instant::now() >= patience {
            return Err(Errno(libc::EAGAIN));
        }
        thread::sleep(KICK);
    }
}

/// Has DPDK call us as long as there is something to watch, and no longer.
fn watch() {
    loop {
        let mut state = lock();
        let idle = state.is_idle();
        if idle {
            state.links.stop();
        }
        let (events, generation) = (state.links.events(), state.generation());
        let events = events.map(|events| events.as_fd().try_clone_to_owned());
        // Somebody else is at it, and looks again when he is through.
        let Some(mut taken) = TakenWatch::take(&mut state) else { return };
        drop(state);
        let settled = taken.change(|watch| if idle { watch.stop() } else { watch.start(events, generation) });
        drop(taken);
        let state = lock();
        // Another socket may have come while the first was being watched, though there was something to watch all along.
        if (state.is_idle(), state.generation()) == (idle, generation) {
            if settled == Some(false) {
                kick(KICK);
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_held_is_busy_and_one_poisoned_by_a_panic_is_taken() {
        let held = lock();
        assert!(thread::spawn(|| try_lock().is_none()).join().unwrap(), "held elsewhere");
        drop(held);
        let died = thread::spawn(|| {
            let _held = lock();
            panic!("thrown on purpose");
        });
        assert!(died.join().is_err());
        let unsettled = || try_lock().map(|mut state| state.links.take_unsettled());
        assert_eq!(unsettled(), Some(true), "taken, and every pair is looked at again");
        assert_eq!(unsettled(), Some(false), "once");
    }
}
