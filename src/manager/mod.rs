// SPDX-License-Identifier: BSD-3-Clause
//! Instances and ports: how they are probed and removed, and what is held meanwhile.
//!
//! ```text
//!   here        probe, remove, scan: on whichever thread hot-plugs
//!     rescan    hear, step, ask, execute: on the interrupt thread
//!       ports     what DPDK has to do: make, close, attach, hand over
//!     alarms    kick, pace, tick
//!     board     what telemetry tells                           its own lock
//!     watch     what has DPDK call us
//!     kernel    what is heard of the kernel                    its own lock
//!     state     what is held, and what follows                 its own lock; pure
//!       facts     what it asks, and is told
//!       links     the table of links, and what is sure
//!       instance  which links an instance wants
//!       small_map a map of few entries
//! ```
//! Neither the kernel nor DPDK is entered under the lock of the state. That of the ear is held while the kernel is asked,
//! and taken before that of the state. The interrupt thread only tries the first, and waits for neither.

mod alarms;
mod board;
mod facts;
mod instance;
mod kernel;
mod links;
#[cfg(any(test, fuzzing))]
#[cfg_attr(fuzzing, allow(dead_code))]
#[allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "of tests")]
mod model;
#[cfg(fuzzing)]
pub use model::follow;
mod ports;
mod rescan;
mod small_map;
mod state;
mod watch;

use std::ffi::{CStr, CString};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use log::{debug, error, info, warn};

use crate::address::IfIndex;
use crate::args::{self, Args, Fallback, Selector};
use crate::eal::alarm::{self, PARKING_PATIENCE};
use crate::eal::failsafe::Mends;
use crate::eal::log::NOTICE;
use crate::eal::vdev::Scanning;
use crate::eal::{self, Errno, ethdev, kvargs, secondary, vdev};
use crate::host::{self, Configuration, Sysfs};
use crate::pairing::Miss;
use crate::port::PortId;
use alarms::{Alarms, KICK, TICK, kick};
use board::Board;
use facts::Answers;
use kernel::Ear;
use rescan::Attend;
use small_map::SmallMap;
use state::{Chosen, Selected, State};
use watch::Watch;

/// How often a probe reads what the kernel has queued: a host that keeps on must not hold it for ever.
const HEAR_ROUNDS: u32 = 64;

/// How often sysfs is asked for a link that was named, and how long it has in between.
const SELECT_TRIES: u32 = 3;
const SELECT_PAUSE: Duration = Duration::from_millis(10);

/// The only state that the driver keeps between two calls of DPDK.
struct Manager {
    state: Mutex<State>,
    ear: Mutex<Ear>,
    /// What has DPDK call us; `None` while somebody changes it.
    watch: Mutex<Option<Watch>>,
    mends: Mends,
    alarms: Alarms,
    board: Board,
    /// Instances that `--vdev` named and EAL has yet to probe as it starts.
    starting: Mutex<Vec<CString>>,
    /// Sysfs could not be read when it was asked last.
    unread: AtomicBool,
}

static MANAGER: Manager = Manager {
    state: Mutex::new(State::new()),
    ear: Mutex::new(Ear::new()),
    watch: Mutex::new(Some(Watch::new())),
    mends: Mends::new(),
    alarms: Alarms::new(),
    board: Board::new(),
    starting: Mutex::new(Vec::new()),
    unread: AtomicBool::new(false),
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
    /// Memory ran out, or worse.
    #[error("not made: {0}")]
    Broken(Errno),
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
            Self::PortEvents(error) | Self::Broken(error) => error.0,
            Self::NoLink(_) => libc::ENODEV,
        }
    }
}

/// Takes the state, also from a thread that died in a panic while it held it; all pairs are then looked at again.
// Not inlined, as that would be into many places.
#[inline(never)]
fn lock() -> MutexGuard<'static, State> {
    MANAGER.state.lock().unwrap_or_else(|poisoned| recover(poisoned.into_inner()))
}

/// As [`lock`], but `None` when another thread holds it.
// Not inlined, as that would be into many places.
#[inline(never)]
fn try_lock() -> Option<MutexGuard<'static, State>> {
    match MANAGER.state.try_lock() {
        Ok(state) => Some(state),
        Err(TryLockError::Poisoned(poisoned)) => Some(recover(poisoned.into_inner())),
        Err(TryLockError::WouldBlock) => None,
    }
}

#[cold]
fn recover(mut state: MutexGuard<'static, State>) -> MutexGuard<'static, State> {
    MANAGER.state.clear_poison();
    state.distrust();
    state
}

/// Takes the ear. Not under the lock of the state.
// Not inlined, as that would be into many places.
#[inline(never)]
fn lock_ear() -> MutexGuard<'static, Ear> {
    MANAGER.ear.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As [`lock_ear`], but `None` when another thread holds it.
// Not inlined, as that would be into many places.
#[inline(never)]
fn try_lock_ear() -> Option<MutexGuard<'static, Ear>> {
    match MANAGER.ear.try_lock() {
        Ok(ear) => Some(ear),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// As the interrupt thread may, which does not wait, and any other, which does.
fn lock_ear_from_here() -> Option<MutexGuard<'static, Ear>> {
    if alarm::on_interrupt_thread() { try_lock_ear() } else { Some(lock_ear()) }
}

/// Makes the instance `name` from its arguments, with a port for each link that it takes.
///
/// In a secondary process it makes nothing, as the primary owns the control plane, and keeps failsafe from ending it.
///
/// # Errors
/// [`ProbeError`]; nothing is half made then.
pub fn probe(name: &CStr, arguments: &CStr) -> Result<(), ProbeError> {
    let label = name.to_string_lossy();
    debug!("{label}: probed with {arguments:?}");
    if eal::process() == eal::Process::Secondary {
        secondary::came();
        return Ok(());
    }
    let starting = is_starting(name);
    let pairs = kvargs::parse(arguments).map_err(ProbeError::Broken)?;
    let args = Args::parse(arguments, |_| pairs, kvargs::parse_mac)?;
    if args.ignore {
        info!("{label}: ignored, as asked");
        return Ok(());
    }
    require_drivers(args.fallback)?;
    if !vdev::has_pci_bus() {
        warn!("{label}: the PCI bus driver is not in this build, so no VF can be attached: load librte_bus_pci.so");
    }
    let begin = || {
        let begun = admit(name, &args, starting)?;
        watch::hear_of_ports().map_err(ProbeError::PortEvents)?;
        Ok(begun)
    };
    let outcome = eal::caught("probe", begin).unwrap_or_else(|error| Err(ProbeError::Broken(error)));
    if outcome.is_err() {
        lock().abandon(name);
    }
    if outcome.is_ok() || !lock().is_idle() {
        // The interrupt thread begins to watch while the ports are being made; and what was heard here is acted upon.
        kick(KICK);
    }
    if outcome.is_err() || !MANAGER.alarms.is_kicked() {
        // There may be nothing to watch; or it has begun already, or cannot be asked to.
        watch::watch();
    }
    let begun = outcome?;
    board::serve();
    for id in begun {
        ports::make(id);
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
        if !vdev::has_driver(device).map_err(ProbeError::Broken)? {
            return Err(ProbeError::NoDriver { driver });
        }
    }
    Ok(())
}

/// Tells, once for each, whether EAL is starting and probes what `--vdev` named.
fn is_starting(name: &CStr) -> bool {
    let mut starting = MANAGER.starting.lock().unwrap_or_else(PoisonError::into_inner);
    let position = starting.iter().position(|other| other.as_c_str() == name);
    position.map(|position| starting.swap_remove(position)).is_some()
}

/// Selects the links of an instance and begins their ports. One that is `starting` may name links that are not there yet,
/// as udev and cloud-init rename late.
fn admit(name: &CStr, args: &Args, starting: bool) -> Result<Vec<PortId>, ProbeError> {
    let label = name.to_string_lossy();
    // What the application has just closed is free at once.
    let live = lock().live();
    let gone = rescan::without_port(&live);
    rescan::release(lock(), |state| state.let_go(&gone));
    let Selected { mut chosen, misses, untold } = select(args)?;
    if !misses.is_empty() {
        let may_come = starting && misses.iter().any(|(_, miss)| *miss == Miss::Absent);
        let go_on = match (chosen.is_empty(), misses.len()) {
            (false, _) => "going on with the others",
            (true, _) if !may_come => return Err(ProbeError::NoLink(misses)),
            (true, 1) => "taking it when it comes",
            (true, _) => "taking them when they come",
        };
        warn!("{label}: {}; {go_on}", list(&misses));
    }
    let named = !args.selectors.is_empty();
    chosen.retain(|link| named || is_free(&label, link));
    if named {
        chosen.iter_mut().for_each(|link| link.told = warn_used(&label, link));
    }
    if chosen.is_empty() && !named {
        info!(target: NOTICE, "{label}: no NetVSC interface to take");
        if let Some((name, others, why)) = untold {
            let others = if others > 0 { format!(" and {others} others are") } else { " is".to_owned() };
            info!(target: NOTICE, "{label}: cannot tell whether {name}{others} NetVSC, as {why}");
        }
    }
    let missing: Vec<Selector> = misses.into_iter().map(|(selector, _)| selector).collect();
    let names = ethdev::names();
    let mut ear = lock_ear();
    // Unless the last other instance, removed meanwhile, has ended it.
    ear.hear(|| Some(lock()), HEAR_ROUNDS, true)?;
    Ok(lock().admit(name, args, &chosen, &missing, &names, Instant::now()))
}

/// Finds the links that an instance takes, in the table as it is now.
fn select(args: &Args) -> Result<Selected, ProbeError> {
    let mut tries = 0;
    loop {
        let selected = select_once(args)?;
        // A link may be seen a moment before sysfs shows it.
        tries += 1;
        let unreadable = |(_, miss): &(Selector, Miss)| matches!(miss, Miss::Unreadable { .. });
        if tries == SELECT_TRIES || !selected.misses.iter().any(unreadable) {
            return Ok(selected);
        }
        thread::sleep(SELECT_PAUSE);
    }
}

fn select_once(args: &Args) -> Result<Selected, ProbeError> {
    // Held, so that nobody closes it meanwhile and forgets the links, as nothing else is watched any more.
    let mut ear = lock_ear();
    // A link that the last list missed is not taken for absent.
    ear.hear(|| Some(lock()), HEAR_ROUNDS, false)?;
    lock().ask_anew();
    let mut answers = Answers::default();
    loop {
        // The state is released before the questions are asked.
        let selected = lock().select(args, &answers);
        match selected {
            Ok(selected) => return Ok(selected),
            Err(mut questions) => {
                answers.extend(rescan::ask_kernel(&questions, Some(&mut ear)));
                questions.alternatives = SmallMap::new();
                answers.extend(rescan::ask(&questions, Attend::Wait));
            }
        }
    }
}

fn list(misses: &[(Selector, Miss)]) -> String {
    misses.iter().map(|(selector, miss)| format!("{selector}: {miss}")).collect::<Vec<_>>().join("; ")
}

/// What somebody uses a link for.
struct Usage {
    what: String,
    /// Whether that is configured on it or its VF; else other links use them.
    is_configured: bool,
}

/// Finds out what a link or its VF is used for; `find` tells what is configured on either.
fn usage(
    link: &Chosen,
    find: impl Fn(&mut host::Kernel, IfIndex) -> Result<Option<Configuration>, host::Error>,
) -> Result<Option<Usage>, host::Error> {
    let configured = |index| find(lock_ear().kernel()?, index);
    let has = |what: String| Usage { what, is_configured: true };
    if let Some(found) = configured(link.index)? {
        return Ok(Some(has(format!("has {found}"))));
    }
    if let Some(used) = link.used.clone() {
        return Ok(Some(Usage { what: used, is_configured: false }));
    }
    let Some((vf, label)) = &link.vf else { return Ok(None) };
    match configured(*vf) {
        Ok(found) => Ok(found.map(|found| has(format!("has the VF {label}, which has {found}")))),
        // It went.
        Err(host::Error::Gone { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Tells whether nobody uses a link that was not named, so that it is free to take.
fn is_free(instance: &str, link: &Chosen) -> bool {
    match usage(link, host::Kernel::configuration) {
        Ok(None) => true,
        Ok(Some(Usage { what, .. })) => {
            info!(target: NOTICE, "{instance}: {} {what}, skipping", link.label);
            false
        }
        Err(error) => {
            warn!("{instance}: {}: {error}; skipping it, as it may be in use", link.label);
            false
        }
    }
}

/// Warns of a named link that somebody uses. That it has a route alone is not worth a walk of all routes, as it is taken
/// in any case. Returns whether it has an address.
fn warn_used(instance: &str, link: &Chosen) -> bool {
    let told = match usage(link, host::Kernel::address) {
        Ok(None) => return false,
        Ok(Some(Usage { what, is_configured: true })) => {
            warn!(
                "{instance}: {} {what}, at which the kernel may no longer be reached; taking it, as it was named",
                link.label
            );
            return true;
        }
        Ok(Some(Usage { what, .. })) => format!(" {what}, which may no longer get what comes in"),
        Err(error) => format!(": {error}"),
    };
    warn!("{instance}: {}{told}; taking it, as it was named", link.label);
    false
}

/// Removes the instance `name` and closes its ports. Does nothing for one that is unknown, such as an ignored one.
///
/// It may run under the vdev list lock (`rte_vdev_uninit`), for which the interrupt thread may wait inside a hot-plug, at
/// device arguments that our caller would free next.
///
/// # Errors
/// `EBUSY` when the interrupt thread does not come out of a hot-plug, or `ENOMEM`; nothing has changed then.
pub fn remove(name: &CStr) -> Result<(), Errno> {
    debug!("{}: removed", name.to_string_lossy());
    if eal::process() == eal::Process::Secondary {
        secondary::went();
        return Ok(());
    }
    if lock().has_instance(name) {
        // What calls us may be cleaning up, and goes on in any case; then failsafe removes devices that it is about to look at.
        let alone = ports::alone(TICK + PARKING_PATIENCE)?;
        // What another thread is making is closed by that one.
        let closing = lock().withdraw(name);
        closing.into_iter().for_each(ports::close);
        // What calls us may be about to clean up the PCI bus, so nothing on it is left to the interrupt thread.
        MANAGER.mends.settle_alone(&alone, Instant::now());
        ports::detach_left();
    }
    watch::watch();
    Ok(())
}

/// Notes which instances the user named, and offers an automatic one to EAL on Hyper-V if there is none.
pub fn scan(scanning: &Scanning) {
    if eal::process() == eal::Process::Secondary {
        return;
    }
    let is_ours =
        |name: &CString| [&b"net_vdev_netvsc"[..], b"eth_vdev_netvsc"].iter().any(|n| name.as_bytes().starts_with(n));
    let named: Vec<CString> = vdev::names(scanning).into_iter().filter(is_ours).collect();
    for (position, name) in named.iter().enumerate().filter(|&(at, name)| !named.iter().take(at).any(|n| n == name)) {
        let times = named.iter().skip(position).filter(|other| *other == name).count();
        if times > 1 {
            warn!(
                "{}: given by --vdev {times} times, of which EAL takes the first and drops the others: name each device \
                 differently, or name several interfaces in one, as iface=eth1,iface=eth2",
                name.to_string_lossy()
            );
        }
    }
    // DPDK asks CPUID, on x86 only. The bus of its devices tells everywhere, and Linux has none off Hyper-V.
    let is_wanted = named.is_empty() && (eal::on_hyperv() || Sysfs::default().vmbus_present());
    *MANAGER.starting.lock().unwrap_or_else(PoisonError::into_inner) = named;
    if is_wanted {
        if let Err(error) = vdev::add_arguments(scanning, c"net_vdev_netvsc") {
            error!("cannot add an instance by itself: {error}; add --vdev=net_vdev_netvsc");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

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
        let at_rest = || try_lock().map(|state| state.is_at_rest(Instant::now()));
        assert_eq!(at_rest(), Some(false), "taken, and every pair is looked at again");
    }
}
