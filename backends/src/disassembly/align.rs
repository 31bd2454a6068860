//! Alignment of two lists: which entries correspond.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

/// Indices of corresponding entries of two lists.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    /// Corresponding entries, in the order of the first list.
    pub(super) both: Vec<(usize, usize)>,
    /// Entries only in the first list.
    pub(super) first: Vec<usize>,
    /// Entries only in the second list.
    pub(super) second: Vec<usize>,
}

/// The key by which an entry is paired.
#[derive(Clone, Debug, Default)]
pub(super) struct Key<'k> {
    /// A name that identifies the entry, if there is one.
    pub(super) name: Option<String>,
    /// Entries without a partner of the same name are paired in order if they have the same kind.
    pub(super) kind: Option<&'k str>,
}

impl Key<'_> {
    /// An entry that is paired only by its name.
    pub(super) fn named(name: Option<String>) -> Self {
        Key { name, kind: None }
    }
}

/// Pairs entries of the same name in order. Unpaired entries between two such pairs are paired in order by kind.
pub(super) fn align(first: &[Key<'_>], second: &[Key<'_>]) -> Pairs {
    let mut places: FxHashMap<&str, VecDeque<usize>> = FxHashMap::default();
    for (j, key) in second.iter().enumerate() {
        if let Some(name) = &key.name {
            places.entry(name).or_default().push_back(j);
        }
    }
    let own = |key: &Key<'_>| places.get_mut(key.name.as_deref()?)?.pop_front();
    let mut partner: Vec<Option<usize>> = first.iter().map(own).collect();
    let mut met = vec![false; second.len()];
    partner.iter().flatten().for_each(|&j| met[j] = true);
    // The end of the gap before the next pair by name, for each index of the second list.
    let mut end = vec![second.len(); second.len() + 1];
    for j in (0..second.len()).rev() {
        end[j] = if met[j] { j } else { end[j + 1] };
    }
    let mut free: FxHashMap<&str, VecDeque<usize>> = FxHashMap::default();
    for (j, key) in second.iter().enumerate().filter(|(j, _)| !met[*j]) {
        free.entry(key.kind.unwrap_or_default()).or_default().push_back(j);
    }
    // Both lists are processed gap by gap.
    let mut next = 0;
    for (i, key) in first.iter().enumerate() {
        if let Some(j) = partner[i] {
            next = j + 1;
            continue;
        }
        let Some(queue) = key.kind.and_then(|kind| free.get_mut(kind)) else { continue };
        while queue.front().is_some_and(|&j| j < next) {
            queue.pop_front();
        }
        if let Some(j) = queue.front().copied().filter(|&j| j < end[next]) {
            queue.pop_front();
            (partner[i], met[j], next) = (Some(j), true, j + 1);
        }
    }
    let mut pairs = Pairs::default();
    for (i, partner) in partner.into_iter().enumerate() {
        match partner {
            Some(j) => pairs.both.push((i, j)),
            None => pairs.first.push(i),
        }
    }
    pairs.second = (0..second.len()).filter(|&j| !met[j]).collect();
    pairs
}

impl Pairs {
    /// All entries: those of the first list in order, then those only in the second.
    pub(super) fn in_order(&self) -> impl Iterator<Item = (Option<usize>, Option<usize>)> {
        let mut all: Vec<(Option<usize>, Option<usize>)> = self.both.iter().map(|&(i, j)| (Some(i), Some(j))).collect();
        all.extend(self.first.iter().map(|&i| (Some(i), None)));
        all.sort_unstable_by_key(|(i, _)| *i);
        all.extend(self.second.iter().map(|&j| (None, Some(j))));
        all.into_iter()
    }
}
