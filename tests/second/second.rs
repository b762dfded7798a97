// SPDX-License-Identifier: BSD-3-Clause
//! Another library in Rust, for a program that has the driver linked in: each brings a runtime of its own.
#![crate_type = "staticlib"]

/// Throws a panic and catches it, so that the runtime is in use. Returns 42 when the panic came as it was thrown.
#[unsafe(no_mangle)]
pub extern "C" fn second_library() -> i32 {
    let thrown = std::panic::catch_unwind(|| panic!("thrown on purpose: {}", std::process::id()));
    let text = thrown.unwrap_err().downcast::<String>().unwrap_or_default();
    if *text == format!("thrown on purpose: {}", std::process::id()) { 42 } else { -1 }
}
