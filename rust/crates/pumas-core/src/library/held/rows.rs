//! A set of models, as the numbers of their rows: one bit each.

const BITS: usize = u64::BITS as usize;

/// Row numbers below an end that all sets of one library share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::library) struct Rows {
    bits: Vec<u64>,
}

impl Rows {
    /// No row; later ones are below `end`.
    pub(in crate::library) fn none(end: usize) -> Self {
        Self {
            bits: vec![0; end.div_ceil(BITS)],
        }
    }

    /// Adds a row; one that is beyond the end is no model's.
    pub(in crate::library) fn insert(&mut self, row: usize) {
        if let Some(bits) = self.bits.get_mut(row / BITS) {
            *bits |= 1 << (row % BITS);
        }
    }

    pub(super) fn remove(&mut self, row: usize) {
        if let Some(bits) = self.bits.get_mut(row / BITS) {
            *bits &= !(1 << (row % BITS));
        }
    }

    pub(in crate::library) fn contains(&self, row: usize) -> bool {
        self.bits
            .get(row / BITS)
            .is_some_and(|bits| bits & (1 << (row % BITS)) != 0)
    }

    pub(in crate::library) fn count(&self) -> usize {
        self.bits.iter().map(|bits| bits.count_ones() as usize).sum()
    }

    /// Adds the other set's rows.
    pub(super) fn add(&mut self, other: &Self) {
        self.join(other, |mine, theirs| mine | theirs);
    }

    /// Keeps those rows that the other set has, too.
    pub(super) fn keep(&mut self, other: &Self) {
        self.join(other, |mine, theirs| mine & theirs);
    }

    /// Removes the other set's rows.
    pub(super) fn leave_out(&mut self, other: &Self) {
        self.join(other, |mine, theirs| mine & !theirs);
    }

    fn join(&mut self, other: &Self, bits: impl Fn(u64, u64) -> u64) {
        for (mine, theirs) in self.bits.iter_mut().zip(&other.bits) {
            *mine = bits(*mine, *theirs);
        }
    }

    /// From the highest number, which is the newest row, to the lowest.
    pub(in crate::library) fn newest_first(&self) -> impl Iterator<Item = usize> + '_ {
        self.bits.iter().enumerate().rev().flat_map(|(place, bits)| {
            let mut left = *bits;
            std::iter::from_fn(move || {
                let highest = BITS.checked_sub(left.leading_zeros() as usize + 1)?;
                left &= !(1 << highest);
                Some(place * BITS + highest)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const END: usize = 200;

    fn of(rows: &BTreeSet<usize>) -> Rows {
        let mut set = Rows::none(END);
        for row in rows {
            set.insert(*row);
        }
        set
    }

    proptest! {
        #[test]
        fn sets_of_rows_are_sets(
            a in proptest::collection::btree_set(0..END, 0..60),
            b in proptest::collection::btree_set(0..END, 0..60),
        ) {
            let with = |change: fn(&mut Rows, &Rows)| {
                let mut rows = of(&a);
                change(&mut rows, &of(&b));
                rows.newest_first().collect::<Vec<_>>()
            };
            let down = |rows: BTreeSet<usize>| rows.into_iter().rev().collect::<Vec<_>>();
            prop_assert_eq!(with(Rows::add), down(&a | &b));
            prop_assert_eq!(with(Rows::keep), down(&a & &b));
            prop_assert_eq!(with(Rows::leave_out), down(&a - &b));
            prop_assert_eq!(of(&a).count(), a.len());
            prop_assert!((0..END).all(|row| of(&a).contains(row) == a.contains(&row)));
        }
    }

    #[test]
    fn rows_come_and_go() {
        let mut rows = of(&BTreeSet::from([0, 63, 64, 199]));
        rows.remove(63);
        rows.insert(100_000);
        rows.remove(100_000);
        assert!(!rows.contains(100_000));
        assert_eq!(rows.newest_first().collect::<Vec<_>>(), [199, 64, 0]);
    }
}
