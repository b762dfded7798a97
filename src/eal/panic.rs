// SPDX-License-Identifier: BSD-3-Clause
//! What becomes of a panic, and of an allocation that fails, where the driver is linked into somebody's application.
//!
//! Both are to unwind up to [`super::guard`], which logs them, and to print nothing. For panics [`keep_quiet`] does that
//! by stable means. Beyond that `tools/archive.sh` puts two functions of this file in the places of the runtime's:
//!
//! - [`netvsc_panic`], for size alone: the runtime's own brings a printer of backtraces and a reader of debug information
//!   along, 250 KiB beside the driver's 380, which are not used and cannot be left out. It has the type that the attribute
//!   `panic_handler` asks for, which is stable, but may not be given where the standard library is.
//! - [`netvsc_out_of_memory`], as there are no stable means: an allocator must not unwind (`GlobalAlloc`), and
//!   `std::alloc::set_alloc_error_hook` is for nightly compilers only. The runtime's own ends the process. It has the type
//!   of `__rust_alloc_error_handler` (`library/alloc/src/alloc.rs` of Rust, 1.85 to 1.95).
//!
//! A Rust that calls its functions otherwise keeps them, and `tools/archive.sh` says so. In a Rust program that uses the
//! crate as a library the runtime keeps its own too.
//!
//! What cannot be unwound ends the process, after one line on its standard error.

// UNSAFETY: functions with names that the linker knows, and a line written by the kernel's own means.
#![expect(unsafe_code)]

use core::panic::PanicInfo;
use std::fmt::Display;
use std::io::Write;
use std::panic::resume_unwind;
use std::{process, thread};

use super::reserve::SLOT_BYTES;

#[cfg(feature = "faults")]
#[path = "../../tests/faults/faults.rs"]
mod faults;

/// What is thrown when an allocation fails. It takes no memory.
pub(super) struct OutOfMemory;

/// Keeps the runtime from printing panics, where the runtime is the driver's own.
pub fn keep_quiet() {
    #[cfg(feature = "plugin")]
    std::panic::set_hook(Box::new(|_| {}));
}

/// In the place of `rust_begin_unwind`.
#[unsafe(no_mangle)]
extern "Rust" fn netvsc_panic(info: &PanicInfo<'_>) -> ! {
    // One is on its way already. So it is when Rust says that a function may not be unwound.
    if thread::panicking() {
        // Formatting anything but a plain text could panic once more.
        let text = info.message().as_str().unwrap_or("panic");
        match info.location() {
            Some(place) => end(format_args!("{text} ({place}), during another panic")),
            None => end(format_args!("{text}, during another panic")),
        }
    }
    let place = info.location().map(|place| format!(" ({place})")).unwrap_or_default();
    resume_unwind(Box::new(format!("{}{place}", info.message())))
}

/// In the place of `__rust_alloc_error_handler`, which ends the process.
#[unsafe(no_mangle)]
extern "Rust" fn netvsc_out_of_memory(size: usize, _align: usize) -> ! {
    if size <= SLOT_BYTES {
        // To throw takes memory as well.
        end(format_args!("out of memory, and the reserve is used up"));
    }
    if thread::panicking() {
        end(format_args!("out of memory, during a panic"));
    }
    resume_unwind(Box::new(OutOfMemory))
}

/// Ends the process after one line, for which no memory is asked for.
fn end(why: impl Display) -> ! {
    let mut line = [0; 512];
    let mut rest = line.as_mut_slice();
    // What is too long is cut off.
    let _ = write!(rest, "net_vdev_netvsc: {why}: ending the process");
    let left = rest.len().max(1);
    let length = line.len().saturating_sub(left);
    if let Some(last) = line.get_mut(length) {
        *last = b'\n';
    }
    // SAFETY: so many bytes of the buffer.
    unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), length.saturating_add(1)) };
    process::abort()
}
