//! Numbers as whole numbers of the same order, which sort without a branch for each comparison.

/// A key that is less exactly where the value is; NaN counts as infinity, and both zeros are equal.
fn key(value: f64) -> u64 {
    let value = if value.is_nan() {
        f64::INFINITY
    } else {
        value + 0.0
    };
    let bits = value.to_bits();
    // the negative ones backwards and below the others
    bits ^ (((bits as i64 >> 63) as u64) | 1 << 63)
}

/// The value of a [`key`].
fn value(key: u64) -> f64 {
    f64::from_bits(key ^ (((!key as i64 >> 63) as u64) | 1 << 63))
}

/// The positions of the values in ascending order; of equal ones, the first comes first.
pub(crate) fn sorted_column(values: impl Iterator<Item = f64>) -> Vec<usize> {
    let keys: Vec<u64> = values.map(key).collect();
    // a position in place of each key's last bits: one word to sort instead of two
    let last = keys.len().next_power_of_two() as u64 - 1;
    let mut words: Vec<u64> = keys.iter().zip(0..).map(|(key, at)| key & !last | at).collect();
    words.sort_unstable();
    let mut order: Vec<usize> = words.into_iter().map(|word| (word & last) as usize).collect();
    if !order.is_sorted_by_key(|at| keys[*at]) {
        // a few that differ in their last bits only; made for such, this sort takes about one pass
        order.sort_by_key(|at| keys[*at]);
    }
    order
}

/// The pairs in ascending order of the first value, then of the second.
pub(crate) fn sorted_pairs(pairs: impl Iterator<Item = (f64, f64)>) -> impl Iterator<Item = (f64, f64)> {
    let mut keys: Vec<u128> = pairs
        .map(|(a, b)| u128::from(key(a)) << 64 | u128::from(key(b)))
        .collect();
    keys.sort_unstable();
    keys.into_iter()
        .map(|k| (value((k >> 64) as u64), value(k as u64)))
}

#[cfg(test)]
mod tests {
    use super::{key, sorted_column, value};

    #[test]
    fn columns_sort_to_the_last_bit_and_ties_stay_in_order() {
        let close = [
            1.0,
            f64::from_bits(1.0f64.to_bits() - 1),
            1.0,
            f64::from_bits(1.0f64.to_bits() + 1),
        ];
        assert_eq!(sorted_column(close.into_iter()), [1, 0, 2, 3]);
        let odd = [
            f64::NAN,
            0.0,
            -2.5,
            f64::INFINITY,
            -0.0,
            f64::NEG_INFINITY,
            3e-320,
        ];
        assert_eq!(sorted_column(odd.into_iter()), [5, 2, 1, 4, 6, 0, 3]);
        assert_eq!(sorted_column(std::iter::empty()), [0usize; 0]);
    }

    #[test]
    fn a_key_gives_its_value_back() {
        for v in [
            0.0,
            -1.5,
            7.25,
            f64::MIN,
            f64::MAX,
            f64::NEG_INFINITY,
            f64::INFINITY,
        ] {
            assert_eq!(value(key(v)), v);
        }
    }
}
