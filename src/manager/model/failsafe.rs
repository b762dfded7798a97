// SPDX-License-Identifier: BSD-3-Clause
//! Failsafe's state machine, as `drivers/net/failsafe` has it (22.11.11), for its first sub-device: the one that reads
//! where it is from a descriptor. The fallback is only there or not.

use crate::address::PciAddr;
use crate::port::PortId;

use super::driver::Model;
use super::world::{OTHER, Owner};
use std::time::Duration;

/// `failsafe_private.h`: `enum dev_state`, of a sub-device and of failsafe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Undefined,
    Parsed,
    Probed,
    Active,
    Started,
}

/// A failsafe port.
#[derive(Debug)]
pub(super) struct Failsafe {
    /// What the application wants.
    pub(super) level: Level,
    /// How far the sub-device is.
    pub(super) sub: Level,
    /// Its address, once it was read.
    pub(super) address: Option<PciAddr>,
    /// It has read that while an application had the port, or had taken it away: nothing of ours keeps it from trying.
    pub(super) robbed: bool,
    /// The sub-device is to be removed.
    pub(super) remove: bool,
    /// The application is in a burst, so that it cannot be.
    pub(super) busy: bool,
    pub(super) fallback: bool,
    /// When its alarm goes off; never once it is being closed.
    pub(super) alarm: Option<Duration>,
}

/// `hotplug_poll`.
pub(super) const POLL: Duration = Duration::from_millis(100);

/// Creates the port `id` (`failsafe.c`: `fs_eth_dev_create`).
pub(super) fn create(model: &Model, id: PortId) {
    let failsafe = Failsafe {
        level: Level::Parsed,
        sub: Level::Undefined,
        address: None,
        robbed: false,
        remove: false,
        busy: false,
        fallback: true,
        alarm: Some(model.clock() + POLL),
    };
    model.world.borrow_mut().failsafes.insert(id, failsafe);
    read(model, id);
    if probe(model, id) {
        with(model, id, |failsafe| failsafe.level = Level::Probed);
    }
}

fn with<T>(model: &Model, id: PortId, change: impl FnOnce(&mut Failsafe) -> T) -> Option<T> {
    model.world.borrow_mut().failsafes.get_mut(&id).map(change)
}

/// `failsafe_args.c`: `failsafe_args_parse_subs`, `fs_read_fd`: read only while it has no address; the last line counts.
fn read(model: &Model, id: PortId) {
    if with(model, id, |failsafe| failsafe.sub) != Some(Level::Undefined) {
        return;
    }
    let text = model.state.borrow().read_mailbox(id);
    let Some(address) = text.lines().last().and_then(|line| line.parse().ok()) else { return };
    with(model, id, |failsafe| (failsafe.sub, failsafe.address) = (Level::Parsed, Some(address)));
    let mut world = model.world.borrow_mut();
    let function = world.functions.get(&address);
    let (meddled, taken) = function.map_or((false, false), |function| (function.meddled, function.taken));
    if let Some(failsafe) = world.failsafes.get_mut(&id) {
        failsafe.robbed = meddled || taken;
    }
    if world.port(address).is_none() && !meddled {
        drop(world);
        model.breaks(format!("failsafe {id} reads {address}, on which there is no port"));
    }
}

/// `failsafe_eal.c`: `fs_bus_init`. Returns whether it went well.
fn probe(model: &Model, id: PortId) -> bool {
    let Some((Level::Parsed, Some(address))) = with(model, id, |failsafe| (failsafe.sub, failsafe.address)) else {
        return true;
    };
    let mut world = model.world.borrow_mut();
    if world.port(address).is_none() {
        // It hot-plugs the address, and does so again at each poll.
        if world.attach(address, Owner::Failsafe(id)).is_err() {
            return true;
        }
        if world.port(address).is_none() {
            // "init went wrong".
            return false;
        }
    }
    let Some(port) = world.port(address) else { return true };
    match port.owner {
        Owner::Nobody => {
            model.count("failsafe takes a VF");
            if port.mac == OTHER {
                model.breaks(format!("failsafe {id} takes another NIC's port at {address}"));
            }
            port.owner = Owner::Failsafe(id);
        }
        Owner::Failsafe(owner) if owner == id => {}
        // "owner set failed, will try again later".
        _ => {
            model.count("failsafe cannot take a VF yet");
            return true;
        }
    }
    drop(world);
    with(model, id, |failsafe| failsafe.sub = Level::Probed);
    true
}

/// `failsafe_ops.c`: `fs_dev_configure`, for the sub-device. `Err` when its configuration failed.
fn configure(model: &Model, id: PortId) -> Result<(), ()> {
    let Some((Level::Probed, Some(address))) = with(model, id, |failsafe| (failsafe.sub, failsafe.address)) else {
        return Ok(());
    };
    let mut world = model.world.borrow_mut();
    let Some(function) = world.functions.get_mut(&address) else { return Err(()) };
    if function.gone {
        // Of a PMD that tells that its device is gone it is `EIO` (`eth_err`), which is no error (`fs_err`).
        return if function.driver == crate::link::KernelDriver::Other { Err(()) } else { Ok(()) };
    }
    let port = function.ports_mut().find(|port| port.owner == Owner::Failsafe(id));
    port.ok_or(())?.configured = true;
    drop(world);
    with(model, id, |failsafe| failsafe.sub = Level::Active);
    Ok(())
}

/// `failsafe_ops.c`: `fs_dev_start`, for the sub-device.
fn start(model: &Model, id: PortId) {
    with(model, id, |failsafe| {
        if failsafe.sub == Level::Active {
            failsafe.sub = Level::Started;
        }
    });
}

/// `failsafe_ether.c`: `failsafe_eth_dev_state_sync`.
fn sync(model: &Model, id: PortId) -> Result<(), ()> {
    read(model, id);
    let level = with(model, id, |failsafe| failsafe.level).ok_or(())?;
    if level < Level::Probed {
        return Ok(());
    }
    if !probe(model, id) {
        return Err(());
    }
    if level < Level::Active {
        return Ok(());
    }
    configure(model, id)?;
    if level < Level::Started {
        return Ok(());
    }
    start(model, id);
    Ok(())
}

/// Its alarm (`failsafe.c`: `fs_hotplug_alarm`).
pub(super) fn poll(model: &Model, id: PortId) {
    let Some(differs) = with(model, id, |failsafe| failsafe.sub != failsafe.level || !failsafe.fallback) else {
        return;
    };
    if differs && sync(model, id).is_err() {
        with(model, id, |failsafe| failsafe.remove |= failsafe.sub != failsafe.level);
    }
    // `failsafe_ether.c`: `failsafe_dev_remove`.
    let remove = |failsafe: &mut Failsafe| failsafe.remove && !(failsafe.sub >= Level::Active && failsafe.busy);
    if with(model, id, remove) == Some(true) {
        remove_sub(model, id);
    }
    let next = model.clock() + POLL;
    with(model, id, |failsafe| failsafe.alarm = Some(next));
}

/// `failsafe_ether.c`: `fs_dev_remove`.
fn remove_sub(model: &Model, id: PortId) {
    let sub = with(model, id, |failsafe| {
        failsafe.remove = false;
        (std::mem::replace(&mut failsafe.sub, Level::Undefined), failsafe.address.take())
    });
    let Some((level, Some(address))) = sub else { return };
    if level >= Level::Active {
        close_vf(model, address);
    }
    if level >= Level::Probed {
        remove_device(model, address);
    }
}

/// `rte_eth_dev_close` of a VF's port that failsafe has.
fn close_vf(model: &Model, address: PciAddr) {
    let world = model.world.borrow();
    let Some(function) = world.functions.get(&address) else { return };
    if function.device.is_some() {
        drop(world);
        model.first_port_goes(address, true);
        let mut world = model.world.borrow_mut();
        let Some(function) = world.functions.get_mut(&address) else { return };
        function.device.iter_mut().for_each(|ports| ports.retain(|port| !matches!(port.owner, Owner::Failsafe(_))));
        // `eal::failsafe`: `port_goes`.
        function.hidden = model.on_interrupt_thread();
    }
}

/// `rte_dev_remove`: fails for a hidden one.
fn remove_device(model: &Model, address: PciAddr) {
    let mut world = model.world.borrow_mut();
    let Some(function) = world.functions.get_mut(&address).filter(|function| !function.hidden) else { return };
    let ports = function.device.take().unwrap_or_default();
    drop(world);
    if !ports.is_empty() {
        model.first_port_goes(address, true);
    }
}

/// The application configures it (`fs_dev_configure`).
pub(super) fn configured(model: &Model, id: PortId) {
    let level = with(model, id, |failsafe| failsafe.level);
    if matches!(level, Some(Level::Probed | Level::Active)) && configure(model, id).is_ok() {
        with(model, id, |failsafe| failsafe.level = Level::Active);
    }
}

/// The application starts it (`fs_dev_start`).
pub(super) fn started(model: &Model, id: PortId) {
    if with(model, id, |failsafe| failsafe.level) == Some(Level::Active) {
        start(model, id);
        with(model, id, |failsafe| failsafe.level = Level::Started);
    }
}

/// The application stops it (`fs_dev_stop`).
pub(super) fn stopped(model: &Model, id: PortId) {
    with(model, id, |failsafe| {
        failsafe.level = failsafe.level.min(Level::Active);
        failsafe.sub = failsafe.sub.min(Level::Active);
    });
}

/// The device of a VF was taken away, and it hears of that (`failsafe_eth_rmv_event_callback`).
pub(super) fn removal(model: &Model, address: PciAddr) {
    for failsafe in model.world.borrow_mut().failsafes.values_mut() {
        if failsafe.address == Some(address) && failsafe.sub >= Level::Active {
            failsafe.remove = true;
        }
    }
}

/// The beginning of its closing (`failsafe_ops.c`: `failsafe_eth_dev_close`): its VF's port is closed.
pub(super) fn begin_close(model: &Model, id: PortId) {
    let sub = with(model, id, |failsafe| {
        failsafe.alarm = None;
        (std::mem::replace(&mut failsafe.sub, Level::Undefined), failsafe.address.take())
    });
    let Some((level, Some(address))) = sub else { return };
    if level >= Level::Active {
        close_vf(model, address);
    }
    with(model, id, |failsafe| {
        (failsafe.sub, failsafe.address) = (level.min(Level::Probed), Some(address));
    });
}

/// The rest of it (`failsafe_eal.c`: `fs_bus_uninit`): its VF's device is removed, and its own port.
pub(super) fn end_close(model: &Model, id: PortId) {
    let sub = with(model, id, |failsafe| (failsafe.sub, failsafe.address));
    if let Some((Level::Probed, Some(address))) = sub {
        remove_device(model, address);
    }
    let mut world = model.world.borrow_mut();
    if world.failsafes.remove(&id).is_some() {
        world.shells.insert(id);
        drop(world);
        model.port_goes(false);
    }
}
