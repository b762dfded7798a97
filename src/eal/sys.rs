// SPDX-License-Identifier: BSD-3-Clause
//! The bindings, made by `build.rs` from the installed DPDK's headers, and the calls that belong to no other file.

// UNSAFETY: generated foreign declarations, and calls of DPDK functions without preconditions.
#![expect(unsafe_code)]

#[allow(
    clippy::all,
    clippy::indexing_slicing,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    dead_code,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unsafe_op_in_unsafe_fn,
    unknown_lints,
    unnecessary_transmutes,
    unused_qualifications,
    reason = "generated"
)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/dpdk.rs"));
}

pub(crate) use bindings::*;

use std::ffi::{CString, c_int};

unsafe extern "C" {
    /// Internal to DPDK, and so in no installed header, yet exported by `librte_eal`: takes a bus out of EAL's list, and
    /// changes nothing of the bus.
    pub(crate) fn rte_bus_unregister(bus: *mut rte_bus);

    /// Internal as well, and exported by `librte_ethdev`: finds a port by its name, null when there is none.
    pub(crate) fn rte_eth_dev_allocated(name: *const std::ffi::c_char) -> *mut netvsc_ethdev_head;
}

/// Returns DPDK's text for an error number.
pub(super) fn strerror(errno: c_int) -> String {
    // SAFETY: takes any number.
    let text = unsafe { rte_strerror(errno) };
    lossy(text)
}

/// Returns the name and number of the DPDK release that runs.
pub(super) fn version() -> String {
    // SAFETY: no precondition; usable before rte_eal_init.
    let text = unsafe { rte_version() };
    lossy(text)
}

pub(super) fn on_hyperv() -> bool {
    // SAFETY: no precondition; usable before rte_eal_init.
    let hypervisor = unsafe { rte_hypervisor_get() };
    hypervisor == RTE_HYPERVISOR_HYPERV
}

pub(super) fn process() -> super::Process {
    // SAFETY: no precondition.
    let kind = unsafe { rte_eal_process_type() };
    if kind == RTE_PROC_PRIMARY { super::Process::Primary } else { super::Process::Secondary }
}

fn lossy(text: *const std::ffi::c_char) -> String {
    // SAFETY: DPDK returns a string of static or per-thread storage, valid until this thread's next call of it.
    let text: Option<CString> = unsafe { super::copy_cstr(text) };
    text.map_or_else(String::new, |text| text.to_string_lossy().into_owned())
}
