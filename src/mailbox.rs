// SPDX-License-Identifier: BSD-3-Clause
//! The one-line pipe through which failsafe learns where the VF is.
//!
//! Failsafe holds the read end as `fd(N)`. It reads only while it misses that sub-device, takes the last line of what
//! it finds, and keeps it until the sub-device is removed again (`fs_read_fd`). So at any time there is at most one
//! line in the pipe, and it is true. The pipe itself tells what failsafe has taken: no state is kept beside it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::address::PciAddr;

/// A pipe with at most one line in it.
#[derive(Debug)]
pub struct Mailbox {
    read: OwnedFd,
    write: OwnedFd,
}

impl Mailbox {
    /// Makes an empty mailbox, both ends non-blocking and closed on exec.
    ///
    /// # Errors
    /// When the process or the machine has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let (read, write) = nix::unistd::pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)?;
        Ok(Self { read, write })
    }

    /// Returns the number by which failsafe finds the read end. Failsafe duplicates it for every look and never owns
    /// it, so the mailbox has to live as long as the failsafe port.
    pub fn descriptor(&self) -> RawFd {
        self.read.as_raw_fd()
    }

    /// Puts the address of a VF in, in place of whatever was there.
    ///
    /// # Errors
    /// None that a pipe just drained is known to give.
    pub fn post(&self, address: PciAddr) -> io::Result<()> {
        let line = format!("{address}\n");
        self.drain()?;
        // A write of less than PIPE_BUF bytes is whole or not at all (pipe(7)).
        nix::unistd::write(&self.write, line.as_bytes())?;
        Ok(())
    }

    /// Empties the mailbox.
    ///
    /// # Errors
    /// None that a pipe is known to give.
    pub fn drain(&self) -> io::Result<()> {
        let mut line = [0; 128];
        loop {
            match nix::unistd::read(&self.read, &mut line) {
                Ok(0) | Err(Errno::EAGAIN) => return Ok(()),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads all that is there, as failsafe does.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn read(&self) -> String {
        let mut text = [0; 128];
        let length = nix::unistd::read(&self.read, &mut text).unwrap_or_default();
        String::from_utf8_lossy(text.get(..length).unwrap_or_default()).into_owned()
    }

    /// Puts back what was read.
    #[cfg(any(test, fuzzing))]
    #[allow(clippy::unwrap_used, reason = "of tests")]
    pub(crate) fn write(&self, text: &str) {
        nix::unistd::write(&self.write, text.as_bytes()).unwrap();
    }

    /// Tells whether nothing is left to read: nothing was posted, or failsafe has taken it.
    pub fn is_empty(&self) -> bool {
        let mut ends = [PollFd::new(self.read.as_fd(), PollFlags::POLLIN)];
        poll(&mut ends, PollTimeout::ZERO) == Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "0000:01:00.0";
    const B: &str = "7870:00:00.0";

    fn read_all(mailbox: &Mailbox) -> String {
        let mut text = [0; 4096];
        let length = nix::unistd::read(&mailbox.read, &mut text).unwrap_or(0);
        String::from_utf8(text[..length].to_vec()).unwrap()
    }

    #[test]
    fn the_last_post_is_the_only_line() {
        let mailbox = Mailbox::new().unwrap();
        for _ in 0..10_000 {
            mailbox.post(A.parse().unwrap()).unwrap();
        }
        mailbox.post(B.parse().unwrap()).unwrap();
        assert!(!mailbox.is_empty());
        assert_eq!(mailbox.descriptor(), mailbox.read.as_raw_fd());
        assert_eq!(read_all(&mailbox), "7870:00:00.0\n");
        assert!(mailbox.is_empty());
    }

    #[test]
    fn a_drained_mailbox_holds_nothing() {
        let mailbox = Mailbox::new().unwrap();
        mailbox.post(A.parse().unwrap()).unwrap();
        mailbox.drain().unwrap();
        assert!(mailbox.is_empty());
        assert_eq!(read_all(&mailbox), "");
        mailbox.drain().unwrap();
    }

    #[test]
    fn both_ends_are_non_blocking_and_closed_on_exec() {
        let mailbox = Mailbox::new().unwrap();
        for end in [&mailbox.read, &mailbox.write] {
            let status = nix::fcntl::fcntl(end, nix::fcntl::F_GETFL).unwrap();
            assert!(OFlag::from_bits_truncate(status).contains(OFlag::O_NONBLOCK));
            let flags = nix::fcntl::fcntl(end, nix::fcntl::F_GETFD).unwrap();
            assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        }
    }
}
