// SPDX-License-Identifier: BSD-3-Clause
//! The driver's hooks: the only way in. C comes to them in one of two ways.
//!
//! - `out_of_tree`: as a plugin or an archive beside a DPDK that is not known before run time. Registers itself, with
//!   a layout chosen by the release that runs.
//! - `in_tree`, with the feature of that name: as a driver of a DPDK tree. There a C file registers it with DPDK's macros
//!   (`drivers/net/vdev_netvsc`).

#[cfg(feature = "in-tree")]
mod in_tree;
#[cfg(not(feature = "in-tree"))]
mod out_of_tree;

use std::ffi::{CStr, c_int};

use log::error;

use crate::eal::{self, vdev};
use crate::host::Sysfs;
use crate::manager;

/// Has the bus add an instance by itself on Hyper-V. Before `rte_eal_init`.
fn add_automatic_instance() {
    // DPDK asks CPUID, on x86 only. The bus of its devices tells everywhere, and Linux has none off Hyper-V.
    if eal::on_hyperv() || Sysfs::default().vmbus_present() {
        if let Err(error) = vdev::add_custom_scan(manager::scan) {
            error!("no automatic instance: {error}; add --vdev=net_vdev_netvsc");
        }
    }
}

/// Makes an instance, and returns what a probe hook does: 0 or a negative errno.
fn probe(name: &CStr, arguments: &CStr) -> c_int {
    match manager::probe(name, arguments) {
        Ok(()) => 0,
        Err(error) => {
            error!("{}: {error}", name.to_string_lossy());
            -error.errno()
        }
    }
}
