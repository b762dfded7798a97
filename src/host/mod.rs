// SPDX-License-Identifier: BSD-3-Clause
//! What Linux tells about the links of this network namespace.
//!
//! ```text
//!   kernel         the way to all of rtnetlink
//!     events         what changes, as it changes     multicast  -> LinkEvent
//!     netlink        the state now: a dump           request    -> messages
//!     configuration  what is configured on a link    request    -> Configuration
//!   sysfs          what rtnetlink does not tell      files      -> Parent, driver, ibverbs
//!
//!   decode         the bytes of a link message       pure       -> Link
//!   message        the frame around all of them      pure
//! ```
//!
//! This room asks and decodes; it keeps no state, decides nothing and knows no DPDK.

pub mod configuration;
pub mod decode;
pub mod events;
pub mod kernel;
pub mod message;
pub mod netlink;
pub mod sysfs;

use std::fmt;
use std::io;

use libc::{RTM_GETADDR, RTM_GETLINK, RTM_GETROUTE};

use crate::address::IfIndex;

pub use configuration::Configuration;
pub use decode::LinkEvent;
pub use events::Drained;
pub use kernel::{Dump, Kernel};
pub use sysfs::Sysfs;

/// What the kernel is asked to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// Links, by `RTM_GETLINK`.
    Links,
    /// Addresses, by `RTM_GETADDR`.
    Addresses,
    /// Routes, by `RTM_GETROUTE`.
    Routes,
}

impl List {
    /// The kind of message that asks for it.
    const fn request(self) -> u16 {
        match self {
            Self::Links => RTM_GETLINK,
            Self::Addresses => RTM_GETADDR,
            Self::Routes => RTM_GETROUTE,
        }
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Links => "links",
            Self::Addresses => "addresses",
            Self::Routes => "routes",
        })
    }
}

/// Why Linux did not tell.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no socket to ask by.
    #[error("cannot open an rtnetlink socket: {source}")]
    Open {
        /// What the kernel said.
        source: io::Error,
    },
    /// The socket of the events failed in a way that a dump does not cure.
    #[error("cannot read rtnetlink events: {source}")]
    Events {
        /// What the kernel said.
        source: io::Error,
    },
    /// The question or the answer did not get through.
    #[error("cannot ask the kernel for its {list}: {source}")]
    Ask {
        /// What was asked for.
        list: List,
        /// What the kernel said; `ETIMEDOUT` when it said nothing.
        source: io::Error,
    },
    /// The kernel answered with an error.
    #[error("the kernel refuses to list its {list}: {source}")]
    Refused {
        /// What was asked for.
        list: List,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The answer is no netlink.
    #[error("the kernel's list of {list} cannot be decoded")]
    Malformed {
        /// What was asked for.
        list: List,
    },
    /// The list was never at rest while it was read.
    #[error("the kernel's list of {list} changed while it was read, {tries} times in a row")]
    Inconsistent {
        /// What was asked for.
        list: List,
        /// How often it was read.
        tries: u32,
    },
    /// The link that was asked about does not exist (any more).
    #[error("no link has ifindex {index}")]
    Gone {
        /// The index that was asked about.
        index: IfIndex,
    },
}

impl Error {
    /// Returns the positive errno that says this in C.
    pub fn errno(&self) -> i32 {
        match self {
            Self::Open { source }
            | Self::Events { source }
            | Self::Ask { source, .. }
            | Self::Refused { source, .. } => source.raw_os_error().unwrap_or(libc::EIO),
            Self::Malformed { .. } => libc::EBADMSG,
            Self::Inconsistent { .. } => libc::EAGAIN,
            Self::Gone { .. } => libc::ENODEV,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_as_a_log_line_and_has_an_errno() {
        let os = io::Error::from_raw_os_error;
        let index = IfIndex::new(5).unwrap();
        let cases = [
            (
                Error::Open { source: os(libc::EMFILE) },
                libc::EMFILE,
                "cannot open an rtnetlink socket: Too many open files (os error 24)",
            ),
            (
                Error::Events { source: os(libc::ENOMEM) },
                libc::ENOMEM,
                "cannot read rtnetlink events: Cannot allocate memory (os error 12)",
            ),
            (
                Error::Ask { list: List::Links, source: os(libc::ETIMEDOUT) },
                libc::ETIMEDOUT,
                "cannot ask the kernel for its links: Connection timed out (os error 110)",
            ),
            (
                Error::Refused { list: List::Routes, source: os(libc::EINVAL) },
                libc::EINVAL,
                "the kernel refuses to list its routes: Invalid argument (os error 22)",
            ),
            (
                Error::Ask { list: List::Addresses, source: io::Error::other("odd") },
                libc::EIO,
                "cannot ask the kernel for its addresses: odd",
            ),
            (Error::Malformed { list: List::Links }, libc::EBADMSG, "the kernel's list of links cannot be decoded"),
            (
                Error::Inconsistent { list: List::Routes, tries: 3 },
                libc::EAGAIN,
                "the kernel's list of routes changed while it was read, 3 times in a row",
            ),
            (Error::Gone { index }, libc::ENODEV, "no link has ifindex 5"),
        ];
        for (error, errno, text) in cases {
            assert_eq!(error.errno(), errno, "{text}");
            assert_eq!(error.to_string(), text);
        }
    }
}
