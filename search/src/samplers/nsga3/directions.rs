//! Reference directions: evenly spread points of the simplex (Das and Dennis 1998).

/// About `wanted` directions or more, each of coordinates that sum up to 1.
///
/// One layer, or from the number of objectives on at which one layer of that size has no inner points, an outer one and
/// an inner one of half the width.
pub(super) fn directions(objectives: usize, wanted: usize) -> Vec<Vec<f64>> {
    if objectives == 1 {
        return vec![vec![1.0]];
    }
    let mut divisions = 1;
    while layer(objectives, divisions).len() < wanted {
        divisions += 1;
    }
    if divisions >= objectives {
        return layer(objectives, divisions);
    }
    // the largest outer layer within the wish, filled up by an inner one
    let outer = (divisions - 1).max(1);
    let mut all = layer(objectives, outer);
    let center = 1.0 / objectives as f64;
    let inner = layer(objectives, outer.div_ceil(2)).into_iter();
    all.extend(inner.map(|d| d.into_iter().map(|x| 0.5 * (x + center)).collect()));
    all
}

/// All points of the simplex whose coordinates are multiples of one part in `divisions`.
fn layer(objectives: usize, divisions: usize) -> Vec<Vec<f64>> {
    let mut open: Vec<(Vec<f64>, usize)> = vec![(Vec::new(), divisions)];
    for last in (0..objectives).map(|i| i + 1 == objectives) {
        let mut longer = Vec::new();
        for (point, left) in open {
            for take in if last { left..=left } else { 0..=left } {
                let mut next = point.clone();
                next.push(take as f64 / divisions as f64);
                longer.push((next, left - take));
            }
        }
        open = longer;
    }
    open.into_iter().map(|(point, _)| point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paper_s_numbers_of_directions() {
        // Deb and Jain 2014, table I: three objectives in 12 parts, five in 6, eight in 3 outer and 2 inner
        assert_eq!(layer(3, 12).len(), 91);
        assert_eq!(layer(5, 6).len(), 210);
        assert_eq!(layer(8, 3).len() + layer(8, 2).len(), 156);
        // figure 3: three objectives in four parts
        assert_eq!(directions(3, 15), layer(3, 4));
    }

    #[test]
    fn directions_are_distinct_points_of_the_simplex() {
        for objectives in 1..12 {
            let all = directions(objectives, 16);
            assert!(all.len() < 100, "{objectives}: {}", all.len());
            for (i, d) in all.iter().enumerate() {
                assert_eq!(d.len(), objectives);
                assert!((d.iter().sum::<f64>() - 1.0).abs() < 1e-12 && d.iter().all(|x| *x >= 0.0));
                assert!(!all[..i].contains(d), "{d:?} twice");
            }
        }
    }
}
