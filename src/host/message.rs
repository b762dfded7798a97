// SPDX-License-Identifier: BSD-3-Clause
//! The frame of netlink messages: header, family header, attributes, in both directions.
//!
//! ```text
//!   datagram   [ message ][ message ] ...
//!   message    [ length u32 | kind u16 | flags u16 | sequence u32 | port u32 ][ family header ][ attribute ] ...
//!   attribute  [ length u16 | kind u16 ][ value ][ padding to 4 ]
//! ```
//!
//! Pure. All numbers are in the byte order of the machine. A broken frame ends what can be read of *its* level and
//! nothing above: attributes after a broken one are lost, the next message is not; after a broken message the rest of
//! its datagram is. The kernel has been seen to write such attributes: the length of `IFLA_VFINFO_LIST` wraps at 64 KiB
//! with some hundred VFs.

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer};

/// Both messages and attributes start at multiples of this (`NLMSG_ALIGNTO`, `NLA_ALIGNTO`).
const ALIGN_BYTES: usize = 4;

/// Size of `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;

/// Size of `struct nlattr`.
const ATTRIBUTE_HEADER_BYTES: usize = 4;

/// What is not flags in the kind of an attribute (`NLA_TYPE_MASK`).
const KIND: u16 = 0x3fff;

/// One message of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it says (`RTM_NEWLINK`, `NLMSG_DONE`, …).
    pub kind: u16,
    /// `NLM_F_…`.
    pub flags: u16,
    /// Number of the request it answers, 0 when it is an event.
    pub sequence: u32,
    /// Port of the socket whose request it answers.
    pub port: u32,
    /// Family header and attributes.
    pub payload: &'a [u8],
}

/// What was taken for a netlink message is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a netlink message")]
pub struct Malformed;

/// Iterates over the messages of a datagram, up to and including the first that is broken.
#[derive(Debug, Clone)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    /// Takes one datagram.
    pub fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let Ok(frame) = NetlinkBuffer::new_checked(self.rest) else {
            self.rest = &[];
            return Some(Err(Malformed));
        };
        let length = usize::try_from(frame.length()).unwrap_or(usize::MAX);
        // The checked length is at least that of a header, so that each step gets on.
        self.rest = self.rest.get(length.saturating_add(padding(length))..).unwrap_or_default();
        Some(Ok(Message {
            kind: frame.message_type(),
            flags: frame.flags(),
            sequence: frame.sequence_number(),
            port: frame.port_number(),
            payload: frame.payload(),
        }))
    }
}

/// Iterates over attributes, as kind (without its flags, such as `NLA_F_NESTED`) and value, up to the first that is
/// broken.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let &[length @ .., kind_low, kind_high] = bytes.first_chunk::<ATTRIBUTE_HEADER_BYTES>()?;
        let length = usize::from(u16::from_ne_bytes(length));
        let value = bytes.get(ATTRIBUTE_HEADER_BYTES..length)?;
        bytes = bytes.get(length.saturating_add(padding(length))..).unwrap_or_default();
        Some((u16::from_ne_bytes([kind_low, kind_high]) & KIND, value))
    })
}

/// Builds a message. Values longer than an attribute can hold are left out.
pub fn build(kind: u16, flags: u16, sequence: u32, header: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = header.to_vec();
    pad(&mut body);
    for (kind, value) in attributes {
        let Ok(length) = u16::try_from(ATTRIBUTE_HEADER_BYTES.saturating_add(value.len())) else { continue };
        body.extend_from_slice(&length.to_ne_bytes());
        body.extend_from_slice(&kind.to_ne_bytes());
        body.extend_from_slice(value);
        pad(&mut body);
    }
    let length = u32::try_from(HEADER_BYTES.saturating_add(body.len())).unwrap_or(u32::MAX);
    let port: u32 = 0; // The kernel fills in that of the sending socket.
    let mut message = Vec::with_capacity(HEADER_BYTES.saturating_add(body.len()));
    message.extend_from_slice(&length.to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&flags.to_ne_bytes());
    message.extend_from_slice(&sequence.to_ne_bytes());
    message.extend_from_slice(&port.to_ne_bytes());
    message.extend_from_slice(&body);
    message
}

/// Builds the request for a dump.
pub fn build_dump(kind: u16, sequence: u32, header: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    build(kind, NLM_F_REQUEST | NLM_F_DUMP, sequence, header, attributes)
}

fn padding(length: usize) -> usize {
    length.wrapping_neg() % ALIGN_BYTES
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().saturating_add(padding(bytes.len())), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn a_broken_message_ends_its_datagram_and_costs_none_before_it() {
        let good = build(16, 0, 7, b"1234", &[]);
        let mut too_long = build(17, 0, 8, b"1234", &[]);
        too_long[0] += 1;
        let mut too_short = build(17, 0, 8, b"1234", &[]);
        too_short[0] = 15;
        for (name, tail) in [
            ("longer than the datagram", too_long),
            ("shorter than its header", too_short),
            ("half a header", vec![0xff; 8]),
            ("no length", vec![0; 64]),
        ] {
            let datagram = [good.clone(), tail].concat();
            let read: Vec<_> = Messages::new(&datagram).collect();
            assert_eq!(read.len(), 2, "{name}");
            assert_eq!(read[0].map(|m| (m.kind, m.sequence, m.payload)), Ok((16, 7, b"1234".as_slice())), "{name}");
            assert_eq!(read[1], Err(Malformed), "{name}");
        }
    }

    #[test]
    fn the_flags_of_an_attributes_kind_are_no_part_of_it() {
        let message = build(16, 0, 0, &[], &[(3 | 0x8000, b"nested"), (4 | 0x4000, b"big-endian"), (5, b"")]);
        let message = Messages::new(&message).next().unwrap().unwrap();
        let read: Vec<_> = attributes(message.payload).collect();
        assert_eq!(read, [(3, b"nested".as_slice()), (4, b"big-endian"), (5, b"")]);
    }

    #[test]
    fn a_dump_is_asked_for_as_one() {
        let message = build_dump(18, 7, b"1234", &[(1, b"a")]);
        assert_eq!(message, build(18, NLM_F_REQUEST | NLM_F_DUMP, 7, b"1234", &[(1, b"a")]));
    }

    #[test]
    fn attributes_before_a_broken_one_are_kept() {
        for (name, broken) in [("too long", [9, 0, 2, 0, 1, 1, 1, 1]), ("too short", [3, 0, 2, 0, 1, 1, 1, 1])] {
            let mut broken = broken;
            let length = u16::from(broken[0]);
            broken[..2].copy_from_slice(&length.to_ne_bytes());
            let bytes = [&build(0, 0, 0, &[], &[(7, b"kept")])[HEADER_BYTES..], &broken].concat();
            assert_eq!(attributes(&bytes).collect::<Vec<_>>(), [(7, b"kept".as_slice())], "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in vec(any::<u8>(), 0..512)) {
            prop_assert!(Messages::new(&bytes).count() <= bytes.len() / HEADER_BYTES + 1);
            prop_assert!(attributes(&bytes).count() <= bytes.len() / ATTRIBUTE_HEADER_BYTES);
        }

        #[test]
        fn what_is_built_is_read(
            kind: u16, flags: u16, sequence: u32,
            header in vec(any::<u8>(), 0..4).prop_map(|words| words.repeat(4)),
            given in vec((0..0x4000_u16, vec(any::<u8>(), 0..40)), 0..8),
        ) {
            let given: Vec<(u16, &[u8])> = given.iter().map(|(kind, value)| (*kind, value.as_slice())).collect();
            let one = build(kind, flags, sequence, &header, &given);
            let datagram = [one.clone(), one].concat();
            let read: Vec<Message<'_>> = Messages::new(&datagram).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(read.len(), 2);
            for message in read {
                prop_assert_eq!((message.kind, message.flags, message.sequence, message.port), (kind, flags, sequence, 0));
                prop_assert_eq!(message.payload.get(..header.len()), Some(header.as_slice()));
                let attributes: Vec<_> = attributes(&message.payload[header.len()..]).collect();
                prop_assert_eq!(&attributes, &given);
            }
        }
    }
}
