// SPDX-License-Identifier: BSD-3-Clause
//! Device arguments, by DPDK's own parser.

// UNSAFETY: walks a list that C allocated.
#![expect(unsafe_code)]

use std::ffi::{CStr, CString};
use std::ptr;

use super::{Errno, sys};
use crate::address::MacAddr;

/// A key, and its value if it has one.
pub type Pair = (CString, Option<CString>);

/// Splits `key=value,…` as every PMD does; a key without `=` has no value. `None` when `rte_kvargs_parse` refuses the
/// text: malformed, or more than 32 pairs (`RTE_KVARGS_MAX`).
///
/// # Errors
/// `ENOMEM`.
pub fn parse(arguments: &CStr) -> Result<Option<Vec<Pair>>, Errno> {
    // SAFETY: a NUL-terminated string; a null list of keys accepts every key.
    let split = |text: &CStr| unsafe { sys::rte_kvargs_parse(text.as_ptr(), ptr::null()) };
    let mut list = split(arguments);
    if list.is_null() {
        // It does not say whether that is for lack of memory.
        let nothing = split(c"");
        if nothing.is_null() {
            return Err(Errno(libc::ENOMEM));
        }
        // SAFETY: made by rte_kvargs_parse, freed once.
        unsafe { sys::rte_kvargs_free(nothing) };
        list = split(arguments);
    }
    // SAFETY: null, or a list that is ours until it is freed below.
    let Some(count) = unsafe { list.as_ref() }.map(|list| list.count) else { return Ok(None) };
    // SAFETY: as above.
    let pairs = unsafe { &(*list).pairs };
    let copied = pairs
        .iter()
        .take(usize::try_from(count).unwrap_or(0))
        .filter_map(|pair| {
            // SAFETY: null or a string inside the list, which lives until it is freed below.
            let key = unsafe { super::copy_cstr(pair.key) };
            // SAFETY: as above.
            let value = unsafe { super::copy_cstr(pair.value) };
            Some((key?, value))
        })
        .collect();
    // SAFETY: made by rte_kvargs_parse, freed once, nothing of it is kept.
    unsafe { sys::rte_kvargs_free(list) };
    Ok(Some(copied))
}

/// Reads an Ethernet address in any form that `rte_ether_unformat_addr` of this DPDK takes.
pub fn parse_mac(text: &CStr) -> Option<MacAddr> {
    let mut address = sys::rte_ether_addr::default();
    // SAFETY: a NUL-terminated string, and a place for six bytes.
    let returned = unsafe { sys::rte_ether_unformat_addr(text.as_ptr(), &raw mut address) };
    (returned == 0).then_some(MacAddr(address.addr_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_without_value_are_told_from_empty_values() {
        let pairs = parse(c"iface=eth1,force,mac=").unwrap().expect("well formed");
        let want = [(c"iface", Some(c"eth1")), (c"force", None), (c"mac", Some(c""))];
        let want: Vec<_> = want.iter().map(|(k, v)| ((*k).to_owned(), v.map(CStr::to_owned))).collect();
        assert_eq!(pairs, want);
    }

    #[test]
    fn more_than_32_pairs_are_refused() {
        let text = CString::new(["force=1"; 33].join(",")).unwrap();
        assert_eq!(parse(&text), Ok(None));
        assert_eq!(parse(c""), Ok(Some(Vec::new())));
    }

    #[test]
    fn addresses_are_read_in_both_forms_and_cases() {
        let want = Some(MacAddr([0x00, 0x15, 0x5d, 0xab, 0xcd, 0xef]));
        for text in [c"00:15:5d:ab:cd:ef", c"00:15:5D:AB:CD:EF", c"0015:5dab:cdef"] {
            assert_eq!(parse_mac(text), want, "{text:?}");
        }
        assert_eq!(parse_mac(c"00:15:5d:ab:cd"), None);
        assert_eq!(parse_mac(c"eth1"), None);
    }
}
