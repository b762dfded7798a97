// SPDX-License-Identifier: BSD-3-Clause
//! The kernel, as one network namespace shows it over rtnetlink.
//!
//! Events and requests have a socket each: an event in the middle of an answer would be taken for a part of it. Both are
//! opened together, and a socket stays in the namespace in which it was opened: whichever thread asks later, events and
//! answers are about the same links.
//!
//! To know the links at any moment, open a [`Kernel`], then take [`Kernel::links`], then apply what [`Kernel::drain`] reads,
//! in that order. An event that the dump has already seen changes nothing in the end when it is applied again: those
//! behind it lead to what the dump saw, and beyond.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};

use libc::{IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS};

use super::configuration::{self, Configuration, requests};
use super::decode::{LinkEvent, link_event, mtu};
use super::events::{Drained, Events};
use super::message::Message;
use super::netlink::{Request, Requests, TRIES};
use super::{Error, List};
use crate::address::IfIndex;
use crate::link::Link;

/// The links of a network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Dump {
    /// The links, each once.
    pub links: Vec<Link>,
    /// Whether these are all links that there were at one moment. If not, links came or went at each try.
    pub consistent: bool,
}

/// The kernel, to be heard and asked, as it shows itself to the network namespace of the thread that opened this.
#[derive(Debug)]
pub struct Kernel {
    events: Events,
    requests: Requests,
}

impl Kernel {
    /// Opens both sockets; events are queued from now on.
    ///
    /// # Errors
    ///
    /// When the process may have no more descriptors or no rtnetlink socket.
    pub fn open() -> Result<Self, Error> {
        let events = Events::open().map_err(|source| Error::Open { source })?;
        let requests = Requests::open().map_err(|source| Error::Open { source })?;
        Ok(Self { events, requests })
    }

    /// Hands every queued event to `apply`, oldest first. Does not block.
    ///
    /// # Errors
    ///
    /// When the socket is broken; losing events is none, but [`Drained::Overrun`].
    pub fn drain(&mut self, apply: impl FnMut(LinkEvent)) -> Result<Drained, Error> {
        self.events.drain(apply)
    }

    /// Lists all links.
    ///
    /// When links come or go at each of three tries, the dump is inconsistent and holds each link that any try saw, as the
    /// last one saw it. Such a link may be gone by now: its event was queued after it was seen, and so is drained after
    /// the dump. A link may also be missing that was there all along: the walk goes by position in a hash bucket on kernels
    /// that do not go by index (`net/core/rtnetlink.c`, `rtnl_dump_ifinfo`), and steps over one when another before it
    /// goes. So what an inconsistent dump does not hold need not be gone, and it is for [`LinkTable::merge`] until a
    /// later one is consistent.
    ///
    /// The kernel takes some 6 µs for each link (measured with 1,000), thirty times what decoding it costs: a dump is for
    /// the beginning and for lost events, not for every look. While others change links, each part of it waits for them
    /// (`rtnl_lock`).
    ///
    /// # Errors
    ///
    /// When the kernel cannot be asked or refuses.
    ///
    /// [`LinkTable::merge`]: crate::link::LinkTable::merge
    pub fn links(&mut self) -> Result<Dump, Error> {
        // Statistics would be a quarter of the answer.
        let mask = RTEXT_FILTER_SKIP_STATS.to_ne_bytes();
        let request = Request { list: List::Links, header: vec![0; 16], attribute: Some((IFLA_EXT_MASK, mask)) };
        let mut seen = BTreeMap::new();
        for _ in 0..TRIES {
            let mut links = Vec::new();
            let whole = self.requests.read(&request, |message| {
                if let Some(LinkEvent::Changed(link)) = link_event(message) {
                    links.push(link);
                }
                ControlFlow::Continue(())
            })?;
            if whole {
                return Ok(Dump { links, consistent: true });
            }
            seen.extend(links.into_iter().map(|link| (link.index, link)));
        }
        Ok(Dump { links: seen.into_values().collect(), consistent: false })
    }

    /// Finds the link with this alternative name (`ip link property add dev eth1 altname lan0`).
    ///
    /// # Errors
    ///
    /// When the kernel cannot be asked.
    pub fn link_called(&mut self, name: &[u8]) -> Result<Option<IfIndex>, Error> {
        let mut found = None;
        self.ask_called(name, &mut |message| {
            if let Some(LinkEvent::Changed(link)) = link_event(message) {
                found = Some(link.index);
            }
        })?;
        Ok(found)
    }

    /// Returns the MTU of the link with this name; `None` when there is none, or the kernel finds none by its name alone,
    /// before 5.5.
    ///
    /// # Errors
    ///
    /// When the kernel cannot be asked.
    pub fn mtu(&mut self, name: &[u8]) -> Result<Option<u32>, Error> {
        let mut found = None;
        self.ask_called(name, &mut |message| found = mtu(message))?;
        Ok(found)
    }

    /// Shows what the kernel says of the link with this name, unless there is none.
    fn ask_called(&mut self, name: &[u8], visit: &mut dyn FnMut(&Message<'_>)) -> Result<(), Error> {
        for _ in 0..TRIES {
            match self.requests.link_called(name, &mut *visit) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                // There is none, or there are no such names.
                Err(Error::Refused { .. }) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Finds something that is configured on a link beyond what the kernel sets up by itself.
    ///
    /// Addresses are looked at before routes, IPv4 before IPv6; the first that is found is told. Where the kernel runs
    /// without IPv6, it takes the question for IPv6 as one for all families, and answers with IPv4 again.
    ///
    /// # Errors
    ///
    /// When the kernel cannot be asked, or there is no such link: [`Error::Gone`].
    pub fn configuration(&mut self, index: IfIndex) -> Result<Option<Configuration>, Error> {
        configuration::find(&mut self.requests, index, &requests(index))
    }

    /// Finds an address of a link beyond link-local, as [`Kernel::configuration`] does, and leaves routes alone.
    ///
    /// The kernel finds addresses by their link, whatever else there is: this takes as long on a router with a full table.
    ///
    /// # Errors
    ///
    /// When the kernel cannot be asked.
    pub fn address(&mut self, index: IfIndex) -> Result<Option<Configuration>, Error> {
        let [address4, address6, ..] = requests(index);
        configuration::find(&mut self.requests, index, &[address4, address6])
    }
}

/// The socket of the events: readable when there is something to [`drain`](Kernel::drain).
impl AsFd for Kernel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}
