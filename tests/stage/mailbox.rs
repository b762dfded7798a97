// SPDX-License-Identifier: BSD-3-Clause
//! A look into the mailbox of a port, the pipe from which its failsafe learns where the VF is.

// UNSAFETY: copies what is in a pipe without taking it out, for which nix has no function.
#![expect(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use super::{App, wait_for};

/// The mailbox of a failsafe port, seen from outside.
pub struct Mailbox {
    pipe: File,
}

impl Mailbox {
    /// Opens the pipe that a failsafe port was told to read, `fd(N)` in its arguments.
    pub fn of(app: &mut App, failsafe: &str) -> Self {
        let devargs = app.devargs(failsafe).expect(failsafe);
        let number = devargs.split_once("fd(").and_then(|(_, rest)| rest.split_once(')')).expect(&devargs).0;
        let path = format!("/proc/{}/fd/{number}", app.pid());
        let pipe = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).expect("the read end");
        Self { pipe }
    }

    /// Returns what failsafe would read, and leaves it there.
    pub fn peek(&self) -> String {
        let (copy, end) = nix::unistd::pipe().unwrap();
        // SAFETY: takes any descriptors.
        let size =
            unsafe { libc::tee(self.pipe.as_raw_fd(), end.as_raw_fd(), libc::PIPE_BUF, libc::SPLICE_F_NONBLOCK) };
        if size < 0 {
            assert_eq!(io::Error::last_os_error().kind(), io::ErrorKind::WouldBlock, "neither empty nor a pipe");
        }
        // Else the copy would have no end.
        drop(end);
        let mut text = String::new();
        File::from(copy).read_to_string(&mut text).unwrap();
        text
    }

    /// Waits until failsafe would read this and nothing else.
    pub fn expect(&self, text: &str) {
        wait_for(&format!("{text:?} in the mailbox"), || (self.peek() == text).then_some(()));
    }
}
