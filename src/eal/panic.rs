// SPDX-License-Identifier: BSD-3-Clause
//! What becomes of a panic, and of an allocation that fails, where the driver is linked into somebody's application.
//!
//! `tools/archive.sh` puts these two in the places of the functions of Rust's runtime that would print to the
//! application's standard error: they have the runtime's signatures (`library/std/src/panicking.rs` and
//! `library/alloc/src/alloc.rs` of Rust, 1.85 to 1.95). They begin to unwind, up to [`super::guard`], which logs the text.
//! In a Rust program that uses the crate as a library the runtime keeps its own.

// UNSAFETY: functions with names that the linker knows.
#![expect(unsafe_code)]

use core::panic::PanicInfo;
use std::panic::resume_unwind;

/// What is thrown when an allocation fails. It takes no memory.
pub(super) struct OutOfMemory;

/// An allocation this small that fails leaves no memory to unwind with.
const LAST_BYTES: usize = 1024;

/// In the place of `rust_begin_unwind`.
#[unsafe(no_mangle)]
extern "Rust" fn netvsc_panic(info: &PanicInfo<'_>) -> ! {
    let place = info.location().map(|place| format!(" ({place})")).unwrap_or_default();
    resume_unwind(Box::new(format!("{}{place}", info.message())))
}

/// In the place of `__rust_alloc_error_handler`, which ends the process.
#[unsafe(no_mangle)]
extern "Rust" fn netvsc_out_of_memory(size: usize, _align: usize) -> ! {
    if size <= LAST_BYTES {
        std::process::abort();
    }
    resume_unwind(Box::new(OutOfMemory))
}
