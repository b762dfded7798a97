// SPDX-License-Identifier: BSD-3-Clause
//! Commands of DPDK's telemetry, each answered by one function on the thread of whoever asks.

// UNSAFETY: calls DPDK with strings, and with the reply that it hands in.
#![expect(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int};
use std::sync::OnceLock;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::{Errno, copy_cstr, guard, sys};

/// The longest text in a reply in bytes, without its NUL: `RTE_TEL_MAX_STRING_LEN` in `rte_telemetry.h`.
pub const TEXT_MAX_BYTES: usize = 127;

/// Answers a command with its argument, which is empty when there is none. `None` for one that has no answer.
pub type Answer = fn(command: &str, argument: &str, reply: &mut Reply) -> Option<()>;

static ANSWER: OnceLock<Answer> = OnceLock::new();

/// Has commands, each with its help, answered by this function for as long as the process lives: DPDK forgets none.
///
/// # Errors
/// `ENOMEM`.
pub fn serve(commands: &[(&CStr, &CStr)], answer: Answer) -> Result<(), Errno> {
    if ANSWER.set(answer).is_err() {
        return Ok(());
    }
    for (command, help) in commands {
        // SAFETY: NUL-terminated strings, which are copied, and a thunk that lives as long as this library, which EAL
        // never unloads.
        let returned = unsafe { sys::rte_telemetry_register_cmd(command.as_ptr(), Some(reply), help.as_ptr()) };
        Errno::check(returned)?;
    }
    Ok(())
}

/// The reply to one command.
#[derive(Debug)]
pub struct Reply(*mut sys::rte_tel_data);

impl Reply {
    /// Makes it an object, whose members are added next.
    pub fn object(&mut self) {
        // SAFETY: the reply that DPDK waits for.
        unsafe { sys::rte_tel_data_start_dict(self.0) };
    }

    /// Makes it a list of these numbers.
    pub fn list(&mut self, numbers: impl Iterator<Item = u32>) {
        // SAFETY: the reply that DPDK waits for.
        unsafe { sys::rte_tel_data_start_array(self.0, sys::RTE_TEL_INT_VAL) };
        for number in numbers {
            // SAFETY: as above, a list by now. One that is full takes no more.
            unsafe { sys::rte_tel_data_add_array_int(self.0, number as _) };
        }
    }

    /// Adds a text to an object, cut where it is too long.
    pub fn text(&mut self, name: &CStr, text: &str) {
        let end = text.floor_boundary(TEXT_MAX_BYTES);
        let Ok(text) = CString::new(text.get(..end).unwrap_or_default()) else { return };
        // SAFETY: the reply that DPDK waits for, an object by now; strings that are copied. One that is full takes no
        // more.
        unsafe { sys::rte_tel_data_add_dict_string(self.0, name.as_ptr(), text.as_ptr()) };
    }

    /// Adds a number to an object.
    pub fn number(&mut self, name: &CStr, number: u64) {
        #[cfg(telemetry_uint)]
        let add = sys::rte_tel_data_add_dict_uint;
        #[cfg(not(telemetry_uint))]
        let add = sys::rte_tel_data_add_dict_u64;
        // SAFETY: as for a text.
        unsafe { add(self.0, name.as_ptr(), number) };
    }
}

/// Time since the machine started, by the clock of [`std::time::Instant`].
pub fn uptime() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

/// Where a text may be cut.
trait FloorBoundary {
    /// The last end of a character at or before `end`.
    fn floor_boundary(&self, end: usize) -> usize;
}

impl FloorBoundary for str {
    fn floor_boundary(&self, end: usize) -> usize {
        (0..=end.min(self.len())).rev().find(|&end| self.is_char_boundary(end)).unwrap_or(0)
    }
}

/// The thunk of [`serve`].
///
/// # Safety
/// The strings are null or NUL-terminated, and `data` is a reply that lives and is nobody else's during the call.
unsafe extern "C" fn reply(command: *const c_char, argument: *const c_char, data: *mut sys::rte_tel_data) -> c_int {
    guard("telemetry", -libc::EFAULT, || {
        // SAFETY: the caller's duty.
        let command = unsafe { copy_cstr(command) }.unwrap_or_default();
        // SAFETY: the caller's duty.
        let argument = unsafe { copy_cstr(argument) }.unwrap_or_default();
        let answer = ANSWER.get().zip(command.to_str().ok()).zip(argument.to_str().ok());
        let done = answer.and_then(|((answer, command), argument)| answer(command, argument, &mut Reply(data)));
        done.map_or(-libc::EINVAL, |()| 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!("abc".floor_boundary(2), 2);
        assert_eq!("abc".floor_boundary(9), 3);
        assert_eq!("aü".floor_boundary(2), 1);
        assert_eq!("".floor_boundary(2), 0);
    }
}
