// SPDX-License-Identifier: BSD-3-Clause
//! The `log` crate's records, carried to DPDK's log.

// UNSAFETY: calls DPDK's log.
#![expect(unsafe_code)]

use std::ffi::CString;
use std::sync::atomic::{AtomicI32, Ordering};

use super::sys;

/// Log type of the driver, the C driver's own.
const TYPE: &std::ffi::CStr = c"pmd.net.vdev_netvsc";

/// The level above INFO that says what an operator of a fleet wants in the log. The `log` crate has no such level, so
/// records with this target carry it.
pub const NOTICE: &str = "notice";

/// Hands records to `rte_log`. Its one number is the id that DPDK gave to our log type.
struct DpdkLog {
    id: AtomicI32,
}

static LOGGER: DpdkLog = DpdkLog { id: AtomicI32::new(-1) };

/// Registers the log type at level NOTICE and sends this crate's records there.
///
/// A Rust application that has set a logger of its own keeps it.
pub fn init() {
    // SAFETY: a NUL-terminated name; made to be called from constructors.
    let id = unsafe { sys::rte_log_register_type_and_pick_level(TYPE.as_ptr(), sys::RTE_LOG_NOTICE) };
    // As RTE_LOG_REGISTER does: without a type of our own the lines go to EAL's, number 0.
    LOGGER.id.store(id.max(0), Ordering::Relaxed);
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(log::LevelFilter::Trace);
    }
}

impl DpdkLog {
    fn level(metadata: &log::Metadata<'_>) -> u32 {
        match metadata.level() {
            log::Level::Error => sys::RTE_LOG_ERR,
            log::Level::Warn => sys::RTE_LOG_WARNING,
            log::Level::Info if metadata.target() == NOTICE => sys::RTE_LOG_NOTICE,
            log::Level::Info => sys::RTE_LOG_INFO,
            log::Level::Debug | log::Level::Trace => sys::RTE_LOG_DEBUG,
        }
    }

    fn type_id(&self) -> u32 {
        u32::try_from(self.id.load(Ordering::Relaxed)).unwrap_or(0)
    }
}

impl log::Log for DpdkLog {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        // SAFETY: takes any numbers.
        unsafe { sys::rte_log_can_log(self.type_id(), Self::level(metadata)) }
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let Ok(text) = CString::new(format!("net_vdev_netvsc: {}", record.args())) else { return };
        // SAFETY: the format takes one NUL-terminated string, which lives during the call.
        unsafe { sys::rte_log(Self::level(record.metadata()), self.type_id(), c"%s\n".as_ptr(), text.as_ptr()) };
    }

    fn flush(&self) {}
}
