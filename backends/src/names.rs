//! Unique names.

use std::sync::Arc;

use rustc_hash::FxHashMap;

/// Maximum length in bytes of names that users do not see: a long name that is copied to many nodes must not exhaust
/// memory.
const LONGEST: usize = 1 << 10;

/// The set of used names.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// With the number that was last appended to each.
    taken: FxHashMap<Arc<str>, usize>,
}

impl Names {
    /// Marks a name as used.
    pub(crate) fn reserve(&mut self, name: &str) {
        self.taken.entry(name.into()).or_default();
    }

    /// Marks a name as used; true if it was free.
    pub(crate) fn take(&mut self, name: &str) -> bool {
        let free = !self.taken.contains_key(name);
        if free {
            self.taken.insert(name.into(), 0);
        }
        free
    }

    /// A free name similar to `wanted`, which is marked as used.
    pub(crate) fn unique(&mut self, wanted: &str) -> Arc<str> {
        let end = (0..=LONGEST.min(wanted.len())).rev().find(|&i| wanted.is_char_boundary(i)).unwrap_or(0);
        let wanted = &wanted[..end];
        let Some(last) = self.taken.get(wanted).copied() else {
            let name: Arc<str> = wanted.into();
            self.taken.insert(Arc::clone(&name), 0);
            return name;
        };
        let mut number = last;
        let name: Arc<str> = loop {
            number += 1;
            let name = format!("{wanted}_{number}");
            if !self.taken.contains_key(name.as_str()) {
                break name.into();
            }
        };
        self.taken.insert(wanted.into(), number);
        self.taken.insert(Arc::clone(&name), 0);
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_given_once() {
        let mut names = Names::default();
        names.reserve("y_1");
        let given: Vec<Arc<str>> = ["y", "y", "y", "y_1", "y"].iter().map(|n| names.unique(n)).collect();
        assert_eq!(given.iter().map(|n| &**n).collect::<Vec<_>>(), ["y", "y_2", "y_3", "y_1_1", "y_4"]);
        assert!(!names.take("y_4") && names.take("z") && !names.take("z"));
    }

    #[test]
    fn long_names_are_cut() {
        let mut names = Names::default();
        let long = "é".repeat(LONGEST);
        assert_eq!(&*names.unique(&long), "é".repeat(LONGEST / 2));
        assert_eq!(&*names.unique(&long), format!("{}_1", "é".repeat(LONGEST / 2)));
    }
}
