// SPDX-License-Identifier: BSD-3-Clause
//! What DPDK's Environment Abstraction Layer and ethdev offer, as safe Rust.
//!
//! This room knows no netdevice and takes no decision. Every `extern "C"` function that DPDK calls back lives here or
//! in `driver`, runs its body inside [`guard`] and has no user data but a plain `fn`, so that nothing dangles.

pub mod alarm;
pub mod ethdev;
pub mod failsafe;
pub mod fallback;
pub mod interrupt;
pub mod kvargs;
pub mod log;
mod ops;
pub(crate) mod panic;
pub mod pci;
mod queues;
pub mod reserve;
pub mod secondary;
pub(crate) mod sys;
pub mod telemetry;
pub(crate) mod turn;
pub mod vdev;

use std::ffi::{CStr, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A positive `errno` as DPDK returns it negated; some are DPDK's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub c_int);

impl Errno {
    /// Turns a DPDK return value, negative on failure, into a result.
    pub fn check(returned: c_int) -> Result<c_int, Self> {
        if returned < 0 { Err(Self(returned.saturating_neg())) } else { Ok(returned) }
    }
}

impl std::fmt::Display for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&sys::strerror(self.0))
    }
}

impl std::error::Error for Errno {}

/// Runs what C called and lets no panic through: a panic is logged and becomes `fallback`.
pub fn guard<T>(what: &str, fallback: T, body: impl FnOnce() -> T) -> T {
    caught(what, body).unwrap_or(fallback)
}

/// Runs something that must not be left half done, whatever happens in it.
///
/// # Errors
/// A panic is logged and becomes `EFAULT`, an allocation that failed `ENOMEM`.
pub fn caught<T>(what: &str, body: impl FnOnce() -> T) -> Result<T, Errno> {
    catch_unwind(AssertUnwindSafe(body)).map_err(|payload| {
        let errno = if payload.is::<panic::OutOfMemory>() {
            ::log::error!("{what}: out of memory");
            libc::ENOMEM
        } else {
            ::log::error!("{what}: internal error, please report it: {}", panic_text(payload.as_ref()));
            libc::EFAULT
        };
        // Dropping what was thrown may panic once more.
        std::mem::forget(payload);
        Errno(errno)
    })
}

fn panic_text(payload: &(dyn std::any::Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without text")
}

/// What kind of DPDK process this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// The one that owns devices and the control plane.
    Primary,
    /// One that attaches to the primary's memory, or anything else.
    Secondary,
}

/// Returns the kind of this process. Valid once `rte_eal_init` has read its arguments.
pub fn process() -> Process {
    sys::process()
}

/// Tells whether CPUID names Hyper-V. DPDK knows this on x86 only (`lib/eal/arm/rte_hypervisor.c`).
pub fn on_hyperv() -> bool {
    sys::on_hyperv()
}

/// Returns the year and month of the DPDK release that runs, such as `(22, 11)`, and its full text.
///
/// The release that runs, not the one of the headers: 25.11 and 26.07 share a soname.
pub fn release() -> (Option<(u32, u32)>, String) {
    let text = sys::version();
    (parse_release(&text), text)
}

fn parse_release(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Copies a NUL-terminated string of C, `None` for a null pointer.
///
/// # Safety
/// `text` is null or points to a NUL-terminated string that lives and does not change during the call.
#[expect(unsafe_code, reason = "reads a string of C")]
pub(crate) unsafe fn copy_cstr(text: *const c_char) -> Option<std::ffi::CString> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not null, and NUL-terminated and stable by the caller's duty.
    Some(unsafe { CStr::from_ptr(text) }.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_in_the_fallback() {
        assert_eq!(guard("test", 7, || panic!("thrown on purpose")), 7);
        assert_eq!(guard("test", 7, || 3), 3);
        let out_of_memory = || std::panic::resume_unwind(Box::new(panic::OutOfMemory));
        assert_eq!(caught::<()>("test", out_of_memory), Err(Errno(libc::ENOMEM)));
    }

    #[test]
    fn releases_are_read_from_the_version_text() {
        let table = [
            ("DPDK 22.11.11", Some((22, 11))),
            ("DPDK 26.07.0-rc1", Some((26, 7))),
            ("DPDK 25.11.0", Some((25, 11))),
            ("DPDK", None),
        ];
        for (text, want) in table {
            assert_eq!(parse_release(text), want, "{text}");
        }
        assert!(release().0.is_some_and(|release| release >= (22, 11)), "{:?}", release());
    }

    #[test]
    fn negative_returns_are_errors() {
        assert_eq!(Errno::check(-19), Err(Errno(19)));
        assert_eq!(Errno::check(0), Ok(0));
        assert_eq!(Errno(19).to_string(), "No such device");
    }
}
