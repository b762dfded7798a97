// SPDX-License-Identifier: BSD-3-Clause
//! The moves of a history. A move is a line of text, and its meaning is [`play`]:
//!
//! ```text
//!   netvsc eth0 appears a                  a NetVSC link with the MAC a
//!   vf vf0 appears a at 0000:01:00.0       a VF, plugged in there
//!   other x0 appears a                     a virtual link
//!   link vf0 goes | up | down | renamed vf9 | called lan0 | mac b | master eth0 | master none | configured | bare
//!   function 0000:01:00.0 unplugged | probed | removed | owned | disowned | closed
//!   function 0000:01:00.0 pmd makes | fails | fails-once | no-port | other-mac | two | other-first
//!   function 0000:01:00.0 driver mlx | mana | other
//!   function 0000:01:00.0 verbs yes | no
//!   kernel old | new                       whether rtnetlink names parent devices
//!   kernel overruns | fails 2              events are lost; the socket of events fails
//!   kernel misses eth0 | unsteady | steady the next list leaves that one out, or each some link
//!   sysfs fails 2                          of what it is asked next it tells nothing
//!   dpdk refuses 2 | keeps-shell 1         it makes no port, it removes no shell
//!   probe a iface eth0 | probe a mac a | probe a all | remove a
//!   start a iface eth0                     as probe, while EAL starts
//!   port 0 configured | started | stopped | closed | busy | free | fallback gone | fallback back
//!   fault                                  a panic poisoned the lock
//!   lock busy                              the interrupt thread finds it taken
//!   interrupt | application                that thread goes on, to its next pause
//!   application all                        it comes to its end, while the interrupt thread stands still
//!   wait 100                               so many milliseconds pass, on the interrupt thread
//!   rest                                   nothing more happens for a while: all has to become right
//! ```

use std::ffi::CString;
use std::rc::Rc;
use std::time::Duration;

use super::check;
use super::driver::{Call, Shared, Task};
use super::failsafe::{self, Level};
use super::random::Random;
use super::world::{Function, Owner, Pmd};
use crate::address::{IfName, MacAddr, PciAddr};
use crate::args::{Args, DevargsSafe, Selector};
use crate::link::{KernelDriver, Link, Parent};
use crate::port::PortId;

const FUNCTIONS: [&str; 4] = ["0000:01:00.0", "0000:01:00.2", "0000:02:00.0", "7870:00:00.0"];
const MACS: [&str; 3] = ["a", "b", "c"];
const INSTANCES: [&str; 3] = ["a", "b", "auto"];

fn name(text: &str) -> Option<IfName> {
    IfName::new(text.as_bytes())
}

fn mac(text: &str) -> Option<MacAddr> {
    Some(MacAddr([0, 0x15, 0x5d, 0, 0, *text.as_bytes().first()?]))
}

fn port_id(text: &str) -> Option<PortId> {
    PortId::of_device(&CString::new(format!("net_failsafe_vsc{text}")).ok()?)
}

/// Whether a word of a move says which, and not what.
fn is_name(word: &str) -> bool {
    word.len() == 1 || word.contains(|c: char| c.is_ascii_digit()) || INSTANCES.contains(&word)
}

/// Plays a move. `None` when there is no such move; one that is senseless now does nothing.
pub(super) fn play(model: &Shared, text: &str) -> Option<()> {
    let words: Vec<&str> = text.split(' ').collect();
    model.count(&words.iter().filter(|word| !is_name(word)).copied().collect::<Vec<_>>().join(" "));
    let world = || model.world.borrow_mut();
    match *words.as_slice() {
        ["netvsc", link, "appears", address] => world().add_link(name(link)?, mac(address)?, Parent::NetVsc),
        ["other", link, "appears", address] => world().add_link(name(link)?, mac(address)?, Parent::None),
        ["vf", link, "appears", address, "at", function] => {
            let (function, mut world) = (function.parse().ok()?, world());
            if world.link(&name(link)?).is_none() {
                world.plug(function, mac(address)?);
                world.add_link(name(link)?, mac(address)?, Parent::Pci(function));
            }
        }
        ["link", link, "goes"] => world().remove_link(&name(link)?),
        ["link", link, "up"] => world().change_link(&name(link)?, |link| link.up = true),
        ["link", link, "down"] => world().change_link(&name(link)?, |link| link.up = false),
        ["link", link, "mac", address] => {
            let address = mac(address)?;
            world().change_link(&name(link)?, |link| link.mac = Some(address));
        }
        ["link", link, "renamed", other] => {
            let other = name(other)?;
            if world().link(&other).is_none() {
                world().change_link(&name(link)?, |link| link.name = other);
            }
        }
        ["link", link, "called", other] => world().call(&name(link)?, name(other)?),
        ["link", link, "master", master] => {
            let master = world().link(&name(master)?).map(|master| master.index);
            world().change_link(&name(link)?, |link| link.master = master.filter(|&master| master != link.index));
        }
        ["link", link, state @ ("configured" | "bare")] => {
            let index = world().link(&name(link)?).map(|link| link.index);
            if let Some(index) = index {
                world().changes += 1;
                world().configured.remove(&index);
                world().configured.extend((state == "configured").then_some(index));
            }
        }
        ["function", function, ref what @ ..] => play_function(model, function.parse().ok()?, what)?,
        ["kernel", "old"] => world().old_kernel = true,
        ["kernel", "new"] => world().old_kernel = false,
        ["kernel", "overruns"] => world().overrun(),
        ["kernel", "misses", link] => world().list_misses = name(link),
        ["kernel", "unsteady"] => world().unsteady = true,
        ["kernel", "steady"] => world().unsteady = false,
        ["kernel", "fails", times] => world().socket_fails = times.parse().ok()?,
        ["sysfs", "fails", times] => world().sysfs_fails = times.parse().ok()?,
        ["dpdk", "refuses", times] => world().refuses = times.parse().ok()?,
        ["dpdk", "keeps-shell", times] => world().keeps_shell = times.parse().ok()?,
        [when @ ("probe" | "start"), instance, ref what @ ..] => {
            let selectors = match *what {
                ["iface", link] => vec![Selector::Name(DevargsSafe::new(name(link)?)?)],
                ["mac", address] => vec![Selector::Mac(mac(address)?)],
                ["all"] => Vec::new(),
                _ => return None,
            };
            let (instance, args) = (CString::new(instance).ok()?, Args { selectors, ..Args::default() });
            let known = model.state.borrow().has_instance(&instance);
            if !known {
                begin(model, Box::pin(Rc::clone(model).probe(instance, args, when == "start")));
            }
        }
        ["remove", instance] => begin(model, Box::pin(Rc::clone(model).remove(CString::new(instance).ok()?))),
        ["port", id, ref what @ ..] => play_port(model, port_id(id)?, what)?,
        ["fault"] => model.state.borrow_mut().distrust(),
        ["lock", "busy"] => model.driver.borrow_mut().lock_busy = 1,
        ["interrupt"] => interrupt(model),
        ["application"] => {
            model.go_on_with(&model.application);
        }
        ["application", "all"] => {
            // Unless it waits for the interrupt thread.
            let _ = (0..200).all(|_| model.go_on_with(&model.application));
        }
        ["wait", time] => {
            let time = Duration::from_millis(time.parse().ok()?);
            if time > Duration::from_millis(50) {
                finish_application(model);
            }
            wait(model, time);
        }
        ["rest"] => check::rest(model),
        _ => return None,
    }
    Some(())
}

fn play_function(model: &Shared, address: PciAddr, what: &[&str]) -> Option<()> {
    let mut world = model.world.borrow_mut();
    if what == ["probed"] {
        // EAL at its start, or the application.
        let _ = world.attach(address, Owner::Nobody);
        return Some(());
    }
    let has_link = world.links().any(|link| link.parent == Parent::Pci(address));
    let Some(function) = world.functions.get_mut(&address) else { return Some(()) };
    match *what {
        // The driver made the link.
        ["driver", _] if has_link => {}
        ["unplugged"] => {
            let told = function.port().is_some_and(|port| port.configured);
            if !std::mem::replace(&mut function.gone, true) && told {
                model.removals.borrow_mut().push(address);
            }
        }
        // What an application does with a port that looks free.
        ["owned"] => {
            meddle(function, Owner::Nobody, |ports| ports[0].owner = Owner::Application);
            function.taken |= function.port().is_some_and(|port| port.owner == Owner::Application);
        }
        ["disowned"] => meddle(function, Owner::Application, |ports| ports[0].owner = Owner::Nobody),
        ["closed"] => {
            if function.port().is_some_and(|port| port.owner == Owner::Nobody) {
                drop(world);
                model.first_port_goes(address, false);
                let mut world = model.world.borrow_mut();
                meddle(world.functions.get_mut(&address)?, Owner::Nobody, |ports| _ = ports.remove(0));
            }
        }
        ["removed"] => {
            let is_free = |port: &super::world::EthPort| matches!(port.owner, Owner::Nobody | Owner::Application);
            let free = function.device.iter().flatten().all(is_free);
            if free && !function.hidden && function.device.is_some() {
                drop(world);
                model.first_port_goes(address, false);
                let mut world = model.world.borrow_mut();
                let function = world.functions.get_mut(&address)?;
                (function.device, function.meddled, function.taken) = (None, true, true);
            }
        }
        ["pmd", pmd] => {
            function.pmd = match pmd {
                "makes" => Pmd::Makes,
                "fails" => Pmd::Fails,
                "fails-once" => Pmd::FailsOnce,
                "no-port" => Pmd::NoPort,
                "other-mac" => Pmd::OtherMac,
                "two" => Pmd::Two,
                "other-first" => Pmd::OtherFirst,
                _ => return None,
            };
        }
        ["driver", driver] => {
            function.driver = match driver {
                "mlx" => KernelDriver::Mlx,
                "mana" => KernelDriver::Mana,
                "other" => KernelDriver::Other,
                _ => return None,
            };
        }
        ["verbs", verbs] => function.verbs = verbs == "yes",
        _ => return None,
    }
    Some(())
}

fn meddle(function: &mut Function, owner: Owner, change: impl FnOnce(&mut Vec<super::world::EthPort>)) {
    if function.port().is_some_and(|port| port.owner == owner) {
        function.meddled = true;
        function.device.as_mut().map(change);
    }
}

fn play_port(model: &Shared, id: PortId, what: &[&str]) -> Option<()> {
    match *what {
        ["configured"] => failsafe::configured(model, id),
        ["started"] => failsafe::started(model, id),
        ["stopped"] => failsafe::stopped(model, id),
        ["closed"] => {
            let known = model.world.borrow().failsafes.contains_key(&id);
            if known {
                let closing = Rc::clone(model);
                begin(model, Box::pin(async move { closing.close_failsafe(id).await }));
            }
        }
        _ => {
            let mut world = model.world.borrow_mut();
            let Some(failsafe) = world.failsafes.get_mut(&id) else { return Some(()) };
            match *what {
                ["busy"] => failsafe.busy = true,
                ["free"] => failsafe.busy = false,
                ["fallback", "gone"] => failsafe.fallback = false,
                ["fallback", "back"] => failsafe.fallback = true,
                _ => return None,
            }
        }
    }
    Some(())
}

/// Begins with what the application does, unless it is at something.
fn begin(model: &Shared, task: Task) {
    let mut application = model.application.borrow_mut();
    if application.is_none() {
        *application = Some(task);
    }
}

/// Has the interrupt thread go on, to its next pause; time passes until there is something to do.
fn interrupt(model: &Shared) {
    if model.interrupt.borrow().is_none() {
        let Some((due, call)) = model.next_call() else { return };
        model.set_clock(due);
        model.call(call);
    }
    model.go_on_with(&model.interrupt);
}

/// Has the interrupt thread do all that it has to do now.
fn finish_interrupt(model: &Shared) {
    let mut turns = 0;
    while model.go_on_with(&model.interrupt) {
        turns += 1;
        if turns > 10_000 {
            return model.breaks("the interrupt thread does not come to an end".to_owned());
        }
    }
}

/// Lets time pass.
pub(super) fn wait(model: &Shared, time: Duration) {
    let until = model.clock() + time;
    let mut calls = 0;
    finish_interrupt(model);
    while let Some((due, call)) = model.next_call().filter(|&(due, _)| due <= until) {
        calls = if matches!(call, Call::LinkEvent) { calls + 1 } else { calls / 2 };
        if calls > 100 {
            return model.breaks("the interrupt thread is called again and again for events".to_owned());
        }
        // What is called takes a moment; also when it does nothing, as another thread has the ear.
        let moment = if model.application.borrow().is_some() { 1000 } else { 10 };
        model.set_clock(due + Duration::from_micros(moment));
        model.call(call);
        finish_interrupt(model);
    }
    model.set_clock(until);
}

/// Has the application come to the end of what it does, and the interrupt thread go on beside it.
pub(super) fn finish_application(model: &Shared) {
    let mut turns = 0;
    while model.go_on_with(&model.application) {
        turns += 1;
        if turns % 16 == 0 {
            wait(model, Duration::from_millis(1));
        }
        if turns > 100_000 {
            return model.breaks("the application does not come to an end".to_owned());
        }
    }
}

/// Whether a move does more than what the driver promises to see within seconds.
pub(super) fn is_adverse(text: &str) -> bool {
    let words: Vec<&str> = text.split(' ').collect();
    match *words.as_slice() {
        ["function", _, "unplugged"] | ["function", _, "driver", _] | ["function", _, "pmd", "makes" | "two"] => false,
        ["function" | "sysfs" | "dpdk", ..] | ["kernel", "fails" | "unsteady", ..] | ["link", _, "down" | "bare"] => {
            true
        }
        ["port", _, "busy" | "fallback", ..] => true,
        _ => false,
    }
}

/// Whether a move can be made among real links and a real EAL as well (`tests/replay.rs`), which pause where they like.
fn is_on_stage(text: &str) -> bool {
    let words: Vec<&str> = text.split(' ').collect();
    match *words.as_slice() {
        ["function", _, "unplugged"] | ["function", _, "pmd", "makes" | "fails" | "fails-once" | "no-port"] => true,
        ["function", ..] | ["link", _, "master" | "called" | "configured" | "bare", ..] => false,
        ["port", _, what] => matches!(what, "configured" | "started" | "stopped" | "closed"),
        [what, ..] => matches!(what, "netvsc" | "vf" | "other" | "link" | "probe" | "remove" | "wait" | "rest"),
        [] => false,
    }
}

/// Chooses the moves of a history.
#[derive(Debug)]
pub(super) struct Chooser {
    random: Random,
    /// None that fails.
    calm: bool,
    /// What comes next, sooner or later; the last first.
    plan: Vec<String>,
}

impl Chooser {
    pub(super) fn new(mut random: Random) -> Self {
        let calm = random.below(2) == 0;
        // Mostly there is something to watch.
        let mut plan = Vec::new();
        if random.below(8) > 0 {
            let what = ["all", "iface eth0", "mac a"];
            plan.extend(["wait 100".to_owned(), format!("probe a {}", random.of(&what).unwrap())]);
            plan.extend((0..=random.below(2)).map(|number| format!("netvsc eth{number} appears {}", MACS[number])));
        }
        Self { random, calm, plan }
    }

    /// Tells whether there is nothing to choose by any more.
    pub(super) fn is_over(&self) -> bool {
        self.random.is_over()
    }

    pub(super) fn next(&mut self, model: &Shared) -> String {
        let random = &mut self.random;
        // What is planned happens at once, or with other things between.
        let planned = if random.below(2) == 0 { self.plan.pop() } else { None };
        if let Some(text) = planned {
            return text;
        }
        let at = random.below(1000);
        if at < 350 {
            let active = model.application.borrow().is_some();
            let who = if active { random.below(9) } else { 9 };
            return ["application all", "application", "application", "application", "application"]
                .get(who)
                .unwrap_or(&"interrupt")
                .to_string();
        }
        if at < 450 {
            return format!("wait {}", [1, 3, 20, 50, 100, 250, 900, 2500].get(random.below(8)).unwrap());
        }
        if at < 460 {
            return "rest".to_owned();
        }
        if at < 500 && self.plan.is_empty() {
            let plan = match random.below(10) {
                0..2 => made_anew(model, random),
                2 if !self.calm => first_of_two_closed(model, random),
                _ => life_of_a_vf(model, random),
            };
            self.plan = plan.unwrap_or_default();
        }
        loop {
            if let Some(text) = choose_event(model, random).filter(|text| !self.calm || !is_adverse(text)) {
                return text;
            }
        }
    }

    /// As [`Chooser::next`], of the moves that can be made on a stage; the application comes to its end in between, mostly
    /// starts what it has, and some of the VFs that come find a PMD that fails.
    pub(super) fn next_on_stage(&mut self, model: &Shared) -> String {
        if model.application.borrow().is_some() {
            return "wait 100".to_owned();
        }
        let mut ports: Vec<_> = model.world.borrow().failsafes.iter().map(|(&id, port)| (id, port.level)).collect();
        ports.retain(|&(_, level)| level < Level::Started);
        if let Some((id, level)) = ports.first().filter(|_| self.random.below(3) == 0) {
            return format!("port {id} {}", if *level < Level::Active { "configured" } else { "started" });
        }
        loop {
            let text = self.next(model);
            let comes = text.rsplit_once(" at ").filter(|_| self.random.below(3) == 0);
            if let Some((_, function)) = comes {
                let pmd = self.random.of(&["makes", "makes", "fails-once", "fails", "no-port"]).unwrap();
                let before = format!("function {function} pmd {pmd}");
                self.plan.push(text);
                return before;
            }
            if is_on_stage(&text) {
                return text;
            }
        }
    }
}

/// An application closes a port and makes it anew, while the interrupt thread stands still.
fn made_anew(model: &Shared, random: &mut Random) -> Option<Vec<String>> {
    let world = model.world.borrow();
    let netvsc: Vec<_> = world.links().filter(|link| link.is_netvsc()).collect();
    let mut plan = vec!["wait 900".to_owned()];
    plan.extend(std::iter::repeat_n("interrupt".to_owned(), random.below(8)));
    plan.extend([format!("port {} closed", random.below(2)), "application all".to_owned()]);
    plan.extend(std::iter::repeat_n("interrupt".to_owned(), random.below(8)));
    plan.extend([format!("probe {} iface {}", random.of(&INSTANCES)?, random.of(&netvsc)?.name)]);
    plan.push("application all".to_owned());
    plan.reverse();
    Some(plan)
}

/// A VF comes on a function with two ports, and an application closes the first, mostly before failsafe has it.
fn first_of_two_closed(model: &Shared, random: &mut Random) -> Option<Vec<String>> {
    let mut plan = life_of_a_vf(model, random)?;
    let appears = plan.iter().position(|text| text.starts_with("vf "))?;
    let function = plan[appears].rsplit_once(' ')?.1.to_owned();
    plan.insert(appears + 1, format!("function {function} pmd two"));
    let pauses = random.below(24);
    let closed = [format!("wait {}", random.below(8)), format!("function {function} closed"), "wait 100".to_owned()];
    let then: Vec<String> = std::iter::repeat_n("interrupt".to_owned(), pauses).chain(closed).rev().collect();
    plan.splice(appears..appears, then);
    Some(plan)
}

/// A VF comes, and mostly goes, one way or another.
fn life_of_a_vf(model: &Shared, random: &mut Random) -> Option<Vec<String>> {
    let world = model.world.borrow();
    let netvsc: Vec<_> = world.links().filter(|link| link.is_netvsc()).collect();
    let netvsc = random.of(&netvsc)?;
    let letter = char::from(netvsc.mac?.0[5]);
    let function = random.of(&FUNCTIONS)?;
    let vf =
        (0..).map(|number| format!("vf{number}")).find(|vf| name(vf).is_some_and(|vf| world.link(&vf).is_none()))?;
    let on = |link: &&Link| link.parent == Parent::Pci(function.parse().unwrap());
    // Two ways to make room; what is there already may stay.
    let before = world.links().find(on).map(|link| format!("link {} goes", link.name));
    let mut plan: Vec<String> = before.into_iter().collect();
    match random.below(12) {
        0..2 => plan.push(format!("function {function} driver {}", random.of(&["mana", "mlx", "other"])?)),
        2..4 => plan.push(format!("function {function} pmd {}", random.of(&["makes", "two"])?)),
        _ => {}
    }
    plan.push(format!("vf {vf} appears {letter} at {function}"));
    if random.below(3) == 0 {
        plan.push(format!("link {vf} master {}", netvsc.name));
    }
    let pauses = random.below(8);
    plan.extend(std::iter::repeat_n("interrupt".to_owned(), pauses));
    let mut end = [format!("function {function} unplugged"), format!("link {vf} goes")];
    if random.below(2) == 0 {
        end.reverse();
    }
    plan.extend(end.into_iter().take(random.below(5)));
    plan.reverse();
    Some(plan)
}

fn choose_event(model: &Shared, random: &mut Random) -> Option<String> {
    let world = model.world.borrow();
    let all: Vec<_> = world.links().collect();
    let vfs: Vec<_> = all.iter().filter(|link| link.is_on_pci()).collect();
    let netvsc: Vec<_> = all.iter().filter(|link| link.is_netvsc()).collect();
    let function = *random.of(&FUNCTIONS)?;
    let letter = *random.of(&MACS)?;
    let number = random.below(4);
    Some(match random.below(100) {
        0..8 => {
            // One at a time on a function, mostly.
            let taken = vfs.iter().any(|link| link.parent == Parent::Pci(function.parse().unwrap()));
            if taken && random.below(8) > 0 {
                return None;
            }
            format!("vf vf{number} appears {letter} at {function}")
        }
        8..18 => {
            // What the application has looks free for a moment.
            let free = |port: &super::world::EthPort| port.owner != Owner::Ours;
            let (at, _) = world.functions.iter().find(|(_, known)| known.port().is_some_and(free))?;
            match random.below(12) {
                0 => format!("function {at} {}", random.of(&["owned", "disowned", "closed"])?),
                _ => format!("port {} {}", random.below(2), random.of(&["configured", "started"])?),
            }
        }
        18..24 => format!("link {} goes", random.of(&vfs)?.name),
        24..28 => {
            // The two ends of a VF that goes.
            let gone = |link: &&&&Link| match link.parent {
                Parent::Pci(at) => world.functions.get(&at).is_some_and(|known| known.gone),
                _ => false,
            };
            if let Some(link) = vfs.iter().find(gone) {
                format!("link {} goes", link.name)
            } else {
                let on = |at: PciAddr| vfs.iter().any(|link| link.parent == Parent::Pci(at));
                let left = world.functions.iter().find(|(at, known)| !known.gone && !on(**at));
                let Parent::Pci(at) = random.of(&vfs).map_or(Parent::None, |link| link.parent) else {
                    return left.map(|(at, _)| format!("function {at} unplugged"));
                };
                format!("function {} unplugged", left.map_or(at, |(&at, _)| at))
            }
        }
        28..32 => "kernel overruns".to_owned(),
        32..38 => format!("probe {} iface {}", random.of(&INSTANCES)?, random.of(&netvsc)?.name),
        38..44 => format!("netvsc eth{number} appears {letter}"),
        44..46 => format!("link {} goes", random.of(&netvsc)?.name),
        46..48 => format!("link {} renamed {}{number}", random.of(&all)?.name, random.of(&["eth", "vf", "x"])?),
        48..50 => format!("link {} mac {letter}", random.of(&all)?.name),
        50..55 => format!("link {} master {}", random.of(&vfs)?.name, random.of(&netvsc)?.name),
        55..56 => format!("link {} master none", random.of(&vfs)?.name),
        56..58 => format!("link {} down", random.of(&all)?.name),
        58..61 => format!("link {} up", random.of(&all)?.name),
        61 => match random.below(5) {
            0 => format!("link {} master x{}", random.of(&netvsc)?.name, random.below(2)),
            1 => format!("link {} master none", random.of(&netvsc)?.name),
            2 => format!("link {} called lan{}", random.of(&netvsc)?.name, random.below(2)),
            _ => format!("link {} {}", random.of(&all)?.name, random.of(&["configured", "bare"])?),
        },
        62 => format!("other x{number} appears {letter}"),
        63..69 => match random.below(4) {
            0 => format!("probe {} mac {letter}", random.of(&INSTANCES)?),
            1 => format!("probe {} all", random.of(&INSTANCES)?),
            2 => {
                format!("start {} iface {}{}", random.of(&INSTANCES)?, random.of(&["eth", "lan"])?, random.below(2))
            }
            _ => format!("probe {} iface {}", random.of(&INSTANCES)?, random.of(&netvsc)?.name),
        },
        69..71 => format!("remove {}", random.of(&INSTANCES)?),
        71..76 => format!("port {} configured", random.below(3)),
        76..81 => format!("port {} started", random.below(3)),
        81 => format!("port {} stopped", random.below(3)),
        82..84 => format!("port {} closed", random.below(3)),
        84 => format!("port {} {}", random.below(3), random.of(&["busy", "free", "free"])?),
        85 => format!("port {} fallback {}", random.below(3), random.of(&["gone", "back", "back"])?),
        86 => format!("kernel {}", random.of(&["old", "new"])?),
        87..89 => "kernel overruns".to_owned(),
        89 => match random.below(4) {
            0 => "kernel unsteady".to_owned(),
            1 => "kernel steady".to_owned(),
            _ => format!("kernel misses {}", random.of(&all)?.name),
        },
        90 => format!("kernel fails {}", random.below(3)),
        91 => format!("sysfs fails {}", random.below(4)),
        92 => format!("dpdk {} {}", random.of(&["refuses", "keeps-shell"])?, 1 + random.below(2)),
        93 => "fault".to_owned(),
        94 => "lock busy".to_owned(),
        95..97 => {
            let pmd = ["makes", "two", "fails-once", "fails", "no-port", "other-mac", "other-first"];
            format!("function {function} pmd {}", random.of(&pmd)?)
        }
        97 => match random.below(2) {
            0 => format!("function {function} driver {}", random.of(&["mlx", "mana", "other"])?),
            _ => format!("function {function} verbs {}", random.of(&["yes", "yes", "no"])?),
        },
        98 => format!("function {function} {}", random.of(&["probed", "removed"])?),
        _ => format!("function {function} {}", random.of(&["owned", "disowned", "closed"])?),
    })
}
