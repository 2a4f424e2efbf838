//! A set of small whole numbers that finds neighbours: bits, and above them bits for the words that are not empty.

/// Numbers below a bound; each question costs one step for every factor of 64 in the bound.
pub(super) struct Ranks {
    /// The words of the numbers first, last the one word that summarises all.
    levels: Vec<Vec<u64>>,
}

impl Ranks {
    pub(super) fn new(bound: usize) -> Ranks {
        let mut words = bound.div_ceil(64).max(1);
        let mut levels = vec![vec![0; words]];
        while words > 1 {
            words = words.div_ceil(64);
            levels.push(vec![0; words]);
        }
        Ranks { levels }
    }

    pub(super) fn insert(&mut self, mut number: usize) {
        for level in &mut self.levels {
            level[number / 64] |= 1 << (number % 64);
            number /= 64;
        }
    }

    /// Takes the number out, if it is in.
    pub(super) fn remove(&mut self, mut number: usize) {
        for level in &mut self.levels {
            level[number / 64] &= !(1 << (number % 64));
            number /= 64;
            if level[number] != 0 {
                return;
            }
        }
    }

    /// The least number of the set that is at least `number`.
    pub(super) fn first_from(&self, mut number: usize) -> Option<usize> {
        for (depth, level) in self.levels.iter().enumerate() {
            let rest = level.get(number / 64)? & (u64::MAX << (number % 64));
            if rest != 0 {
                number = number / 64 * 64 + rest.trailing_zeros() as usize;
                let down = self.levels[..depth].iter().rev();
                return Some(down.fold(number, |word, level| {
                    word * 64 + level[word].trailing_zeros() as usize
                }));
            }
            number = number / 64 + 1;
        }
        None
    }

    /// The greatest number of the set that is at most `number`, itself below the bound.
    pub(super) fn last_up_to(&self, mut number: usize) -> Option<usize> {
        for (depth, level) in self.levels.iter().enumerate() {
            let rest = level[number / 64] & (u64::MAX >> (63 - number % 64));
            if rest != 0 {
                number = number / 64 * 64 + rest.ilog2() as usize;
                let down = self.levels[..depth].iter().rev();
                return Some(down.fold(number, |word, level| word * 64 + level[word].ilog2() as usize));
            }
            number = (number / 64).checked_sub(1)?;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Ranks;

    #[test]
    fn neighbours_are_those_of_an_ordered_set() {
        let (bound, mut ranks, mut plain) = (70_000, Ranks::new(70_000), BTreeSet::new());
        let mut number = 1usize;
        for step in 0..4000 {
            number = (number * 48_271 + step) % 2_147_483_647;
            let at = number % bound;
            if step % 3 == 2 {
                let gone = plain.range(at..).next().copied().unwrap_or(at);
                plain.remove(&gone);
                ranks.remove(gone);
            } else {
                plain.insert(at);
                ranks.insert(at);
            }
            let ask = (number / 7) % bound;
            assert_eq!(ranks.first_from(ask), plain.range(ask..).next().copied());
            assert_eq!(ranks.last_up_to(ask), plain.range(..=ask).next_back().copied());
        }
    }
}
