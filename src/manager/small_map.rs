// SPDX-License-Identifier: BSD-3-Clause
//! A map of few entries: a sorted list. The standard library's makes kilobytes of code of each kind of keys and values.

use std::borrow::Borrow;

/// A map with the methods of [`BTreeMap`](std::collections::BTreeMap).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SmallMap<K, V>(Vec<(K, V)>);

impl<K, V> SmallMap<K, V> {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }
}

impl<K, V> Default for SmallMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Ord, V> SmallMap<K, V> {
    fn place<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        self.0.binary_search_by(|(known, _)| known.borrow().cmp(key))
    }

    pub(super) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.0.get(self.place(key).ok()?).map(|(_, value)| value)
    }

    pub(super) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let place = self.place(key).ok()?;
        self.0.get_mut(place).map(|(_, value)| value)
    }

    pub(super) fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.place(key).is_ok()
    }

    /// Puts a value in the place of what was there.
    pub(super) fn insert(&mut self, key: K, value: V) {
        self.remove(&key);
        self.insert_new(key, value);
    }

    /// Adds what is not known. Returns whether it was not.
    pub(super) fn insert_new(&mut self, key: K, value: V) -> bool {
        let place = self.place(&key);
        if let Err(place) = place {
            self.0.insert(place, (key, value));
        }
        place.is_err()
    }

    pub(super) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let place = self.place(key).ok()?;
        Some(self.0.remove(place).1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    pub(super) fn extend(&mut self, more: Self) {
        for (key, value) in more.0 {
            self.insert_new(key, value);
        }
    }

    /// Makes a map of other values, of those keys for which there is one.
    pub(super) fn map<A>(&self, mut value: impl FnMut(&K, &V) -> Option<A>) -> SmallMap<K, A>
    where
        K: Copy,
    {
        SmallMap(self.0.iter().filter_map(|(key, known)| Some((*key, value(key, known)?))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn what_else_a_map_does() {
        let mut map = SmallMap::default();
        assert!(map.is_empty());
        assert!(map.insert_new(3, 'c') && map.insert_new(1, 'a') && !map.insert_new(3, 'x'));
        assert!(!map.is_empty() && map.keys().eq(&[1, 3]) && map.values().eq(&['a', 'c']));
        *map.get_mut(&3).unwrap() = 'C';
        assert_eq!(map.get_mut(&2), None);
        map.values_mut().for_each(|value| value.make_ascii_uppercase());
        let mut more = SmallMap::new();
        more.insert(2, 'b');
        more.insert(3, 'y');
        map.extend(more);
        assert!(map.iter().eq([(&1, &'A'), (&2, &'b'), (&3, &'C')]));
        assert!(map.map(|key, value| (*key > 1).then_some(*value)).iter().eq([(&2, &'b'), (&3, &'C')]));
    }

    proptest! {
        #[test]
        fn it_is_a_map(changes: Vec<(u8, Option<u8>)>) {
            let (mut map, mut model) = (SmallMap::new(), BTreeMap::new());
            for (key, value) in changes {
                match value {
                    Some(value) => {
                        map.insert(key, value);
                        model.insert(key, value);
                    }
                    None => assert_eq!(map.remove(&key), model.remove(&key)),
                }
                assert!(map.iter().eq(model.iter()));
                assert_eq!(map.get(&key), model.get(&key));
                assert_eq!(map.contains_key(&key), model.contains_key(&key));
            }
        }
    }
}
