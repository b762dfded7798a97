// SPDX-License-Identifier: BSD-3-Clause
//! DPDK's `net_vdev_netvsc` driver: makes one DPDK port from each NetVSC netdevice and its SR-IOV VF, fast while the VF
//! is there, up when it is not. `docs/design.md` says what must always hold, and why.
//!
//! ```text
//!   driver      the hooks, called as a plugin's or as a DPDK tree's: the only way in
//!     manager   instances and ports: probe, remove, rescan
//!       args      kvargs -> Args                                      pure
//!       pairing   which links become ports, whose VF is whose         pure
//!       port      one port's life                                     pure but for its pipe
//!         delivery  a VF's way to failsafe                            pure
//!         mailbox   the one-line pipe that failsafe reads
//!         report    what is told of it                                pure
//!       link      one netdevice, and the table of all                 pure
//!       host      what Linux tells: rtnetlink, sysfs                  knows no DPDK
//!       eal       what DPDK offers, as safe Rust                      knows no links
//!         address   names of netdevices and PCI functions             pure
//! ```
//! Arrows go down only. A link event wakes the interrupt thread, `manager` takes it in, `pairing` says whose VF came or
//! went, `delivery` when it is attached and when failsafe may have it; `port` then puts its PCI address into its `mailbox`,
//! and failsafe finds there what is true.

pub mod address;
pub mod args;
pub mod delivery;
mod driver;
pub mod eal;
pub mod host;
pub mod link;
pub mod mailbox;
mod manager;
pub mod pairing;
pub mod port;
pub mod report;

/// For `fuzz/`.
#[cfg(fuzzing)]
pub use manager::follow;
