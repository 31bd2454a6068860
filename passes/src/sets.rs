//! Disjoint sets (union-find).

use std::hash::Hash;

use rustc_hash::FxHashMap;

/// Disjoint sets of keys. A key that was never joined is a set of its own.
#[derive(Debug)]
pub(crate) struct Sets<K> {
    parent: FxHashMap<K, K>,
}

impl<K> Default for Sets<K> {
    fn default() -> Self {
        Sets { parent: FxHashMap::default() }
    }
}

impl<K: Copy + Eq + Hash + Ord> Sets<K> {
    /// The representative of a set: its smallest key.
    pub(crate) fn root(&self, mut k: K) -> K {
        while let Some(&p) = self.parent.get(&k) {
            k = p;
        }
        k
    }

    /// Joins two sets.
    pub(crate) fn join(&mut self, a: K, b: K) {
        let (a, b) = (self.root(a), self.root(b));
        if a != b {
            self.parent.insert(a.max(b), a.min(b));
        }
    }
}
