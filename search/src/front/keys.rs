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
    let mut keys: Vec<u128> = values
        .zip(0u128..)
        .map(|(v, at)| u128::from(key(v)) << 64 | at)
        .collect();
    keys.sort_unstable();
    keys.into_iter().map(|k| k as u64 as usize).collect()
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
