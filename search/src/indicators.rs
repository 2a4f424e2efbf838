//! How well a set of points stands for a known front. Every value is to be minimised.

/// Mean distance from the points of the known front to the set (IGD); 0 for the front itself.
///
/// Infinite for an empty set, NaN for an empty front.
pub fn igd<P: AsRef<[f64]>, Q: AsRef<[f64]>>(set: &[P], known: &[Q]) -> f64 {
    mean_of_nearest(set, known, |a, z| a - z)
}

/// Mean distance by which the set is worse than the known front (IGD+, Ishibuchi et al. 2015).
///
/// Unlike [`igd`], being better than the front costs nothing. Infinite for an empty set, NaN for an empty front.
pub fn igd_plus<P: AsRef<[f64]>, Q: AsRef<[f64]>>(set: &[P], known: &[Q]) -> f64 {
    mean_of_nearest(set, known, |a, z| (a - z).max(0.0))
}

/// By how much every point of the set has to improve to weakly dominate the known front (Zitzler et al. 2003).
///
/// Infinite for an empty set, negative infinite for an empty front.
pub fn additive_epsilon<P: AsRef<[f64]>, Q: AsRef<[f64]>>(set: &[P], known: &[Q]) -> f64 {
    let needed = |z: &Q| {
        let worst = |a: &P| gaps(a, z).fold(f64::NEG_INFINITY, f64::max);
        set.iter().map(worst).fold(f64::INFINITY, f64::min)
    };
    known.iter().map(needed).fold(f64::NEG_INFINITY, f64::max)
}

fn gaps<P: AsRef<[f64]>, Q: AsRef<[f64]>>(a: &P, z: &Q) -> impl Iterator<Item = f64> {
    a.as_ref().iter().zip(z.as_ref()).map(|(a, z)| a - z)
}

fn mean_of_nearest<P: AsRef<[f64]>, Q: AsRef<[f64]>>(
    set: &[P],
    known: &[Q],
    gap: impl Fn(f64, f64) -> f64,
) -> f64 {
    let nearest = |z: &Q| {
        let squared = |a: &P| -> f64 {
            let pairs = a.as_ref().iter().zip(z.as_ref());
            pairs.map(|(a, z)| gap(*a, *z).powi(2)).sum()
        };
        set.iter().map(squared).fold(f64::INFINITY, f64::min).sqrt()
    };
    known.iter().map(nearest).sum::<f64>() / known.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        let (front, set) = ([[1.0, 3.0], [3.0, 1.0]], [[1.5, 1.5]]);
        assert!((igd_plus(&set, &front) - 0.5).abs() < 1e-12);
        assert!((igd(&set, &front) - 2.5f64.sqrt()).abs() < 1e-12);
        let front = [[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]];
        assert_eq!(additive_epsilon(&[[2.0, 3.0], [3.0, 2.0]], &front), 1.0);
        assert_eq!(additive_epsilon(&front, &front), 0.0);
        assert_eq!(igd_plus(&front, &front), 0.0);
    }

    #[test]
    fn empty_sets_are_infinitely_bad() {
        let (front, none) = ([[1.0, 3.0]], [[0.0; 2]; 0]);
        assert_eq!(igd(&none, &front), f64::INFINITY);
        assert_eq!(igd_plus(&none, &front), f64::INFINITY);
        assert_eq!(additive_epsilon(&none, &front), f64::INFINITY);
        assert!(igd(&front, &none).is_nan());
    }
}
