//! Laws of fronts, sorting and hypervolume, each against a plain implementation.

use proptest::prelude::*;
use search::{
    Front, contributions, dominates,
    front::{crowding, front, sort, sort_best},
    hypervolume, reference_point,
};

/// Points of two to five objectives; whole numbers, so that ties and repeated points are common.
fn points(most: usize) -> impl Strategy<Value = Vec<Vec<f64>>> {
    (2usize..=5).prop_flat_map(move |width| points_of(width, most))
}

fn points_of(width: usize, most: usize) -> impl Strategy<Value = Vec<Vec<f64>>> {
    let value = prop_oneof![8 => (0..7i32).prop_map(f64::from), 1 => 0.0..7.0f64];
    prop::collection::vec(prop::collection::vec(value, width), 0..most)
}

/// As [`points`], with values that are no finite numbers among them.
fn wild_points() -> impl Strategy<Value = Vec<Vec<f64>>> {
    (1usize..=5).prop_flat_map(|width| {
        let odd = prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0]);
        let value = prop_oneof![6 => (0..4i32).prop_map(f64::from), 1 => odd];
        prop::collection::vec(prop::collection::vec(value, width), 0..24)
    })
}

fn plain_front(points: &[Vec<f64>]) -> Vec<usize> {
    let best = |i: &usize| !points.iter().any(|p| dominates(p, &points[*i]));
    (0..points.len()).filter(best).collect()
}

fn plain_sort(points: &[Vec<f64>]) -> Vec<Vec<usize>> {
    let mut left: Vec<usize> = (0..points.len()).collect();
    let mut ranks = Vec::new();
    while !left.is_empty() {
        let best = |i: &&usize| !left.iter().any(|j| dominates(&points[*j], &points[**i]));
        let rank: Vec<usize> = left.iter().filter(best).copied().collect();
        left.retain(|i| !rank.contains(i));
        ranks.push(rank);
    }
    ranks
}

/// Adds up the cells of the grid that the points' coordinates span.
fn plain_hypervolume(points: &[Vec<f64>], reference: &[f64]) -> f64 {
    let inside: Vec<&Vec<f64>> = points
        .iter()
        .filter(|p| p.iter().zip(reference).all(|(p, r)| p < r))
        .collect();
    let axes: Vec<Vec<f64>> = (0..reference.len())
        .map(|k| {
            let mut axis: Vec<f64> = inside.iter().map(|p| p[k]).chain([reference[k]]).collect();
            axis.sort_by(f64::total_cmp);
            axis.dedup();
            axis
        })
        .collect();
    let cells: usize = axes.iter().map(|a| a.len() - 1).product();
    let mut total = 0.0;
    for mut cell in 0..cells {
        let (mut low, mut size) = (Vec::new(), 1.0);
        for axis in &axes {
            let at = cell % (axis.len() - 1);
            cell /= axis.len() - 1;
            low.push(axis[at]);
            size *= axis[at + 1] - axis[at];
        }
        if inside.iter().any(|p| p.iter().zip(&low).all(|(p, l)| p <= l)) {
            total += size;
        }
    }
    total
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn front_and_sort_equal_the_plain_ones(points in prop_oneof![points(60), wild_points()]) {
        prop_assert_eq!(front(&points), plain_front(&points));
        let ranks = plain_sort(&points);
        prop_assert_eq!(&sort(&points), &ranks);
        for enough in [0, 1, points.len() / 2, points.len()] {
            let best = sort_best(&points, enough);
            prop_assert_eq!(&best[..], &ranks[..best.len()]);
            let held: usize = best.iter().map(Vec::len).sum();
            prop_assert!(held >= enough.min(points.len()));
            prop_assert!(best.is_empty() || held - best[best.len() - 1].len() < enough);
        }
    }

    #[test]
    fn a_growing_front_holds_what_the_whole_front_holds(points in points(60)) {
        let mut grown = Front::default();
        for (i, p) in points.iter().enumerate() {
            let joined = grown.insert(p.clone(), i);
            prop_assert_eq!(joined, front(&points[..=i]).contains(&i));
        }
        let mut members: Vec<usize> = grown.members().iter().map(|(_, i)| *i).collect();
        members.sort_unstable();
        prop_assert_eq!(members, front(&points));
    }

    #[test]
    fn members_of_a_front_do_not_dominate_each_other_and_cover_the_rest(points in points(40)) {
        let members = front(&points);
        for i in 0..points.len() {
            let covered = members.iter().any(|m| dominates(&points[*m], &points[i]));
            prop_assert_eq!(covered, !members.contains(&i));
        }
    }

    #[test]
    fn crowding_is_infinite_at_both_ends_of_each_objective_and_only_there(points in points(40)) {
        let members = front(&points);
        let crowding = crowding(&points, &members);
        let mut may_be_infinite = vec![false; members.len()];
        let width = points.first().map_or(0, Vec::len);
        let columns = (0..width).map(|k| members.iter().map(|j| points[*j][k]).collect::<Vec<f64>>());
        for column in columns {
            let least = column.iter().copied().fold(f64::MAX, f64::min);
            let most = column.iter().copied().fold(f64::MIN, f64::max);
            for end in [least, most].into_iter().filter(|_| least < most) {
                let there: Vec<usize> = (0..column.len()).filter(|i| column[*i] == end).collect();
                prop_assert!(there.iter().any(|i| crowding[*i].is_infinite()));
                there.iter().for_each(|i| may_be_infinite[*i] = true);
            }
        }
        for (d, end) in crowding.iter().zip(may_be_infinite) {
            prop_assert!(*d >= 0.0 && (d.is_finite() || end));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_hypervolume_equals_the_plain_one(points in points(9), corner in 3..9i32) {
        let width = points.first().map_or(2, Vec::len);
        let reference = vec![f64::from(corner); width];
        let volume = hypervolume(&points, &reference);
        prop_assert!(close(volume, plain_hypervolume(&points, &reference)), "{volume}");
    }

    #[test]
    fn it_grows_with_a_new_point_by_what_that_point_alone_dominates(points in points(12)) {
        if let Some((last, before)) = points.split_last() {
            let reference = vec![6.0; last.len()];
            let (small, large) = (hypervolume(before, &reference), hypervolume(&points, &reference));
            prop_assert!(large >= small - 1e-9);
            let alone = contributions(&points, &reference);
            prop_assert!(close(large - small, *alone.last().unwrap()), "{small} {large} {alone:?}");
            if before.iter().any(|p| dominates(p, last)) {
                prop_assert!(close(large, small));
            }
        }
    }

    #[test]
    fn a_contribution_is_what_the_volume_loses(
        points in (2usize..=6).prop_flat_map(|width| points_of(width, 14)),
        corner in 3..8i32,
    ) {
        let reference = vec![f64::from(corner); points.first().map_or(2, Vec::len)];
        let all = hypervolume(&points, &reference);
        for (i, alone) in contributions(&points, &reference).into_iter().enumerate() {
            let mut others = points.clone();
            others.remove(i);
            let lost = all - hypervolume(&others, &reference);
            prop_assert!(close(lost, alone) && alone >= 0.0, "{lost} {alone} of {i}");
        }
    }

    #[test]
    fn an_objective_that_does_not_vary_changes_nothing(
        points in (2usize..=5).prop_flat_map(|width| points_of(width, 150)),
        before: bool,
    ) {
        let width = points.first().map_or(2, Vec::len);
        let (mut flat, mut reference) = (points.clone(), vec![6.5; width]);
        let volume = hypervolume(&points, &reference);
        let alone = contributions(&points, &reference);
        let at = if before { 0 } else { width };
        flat.iter_mut().for_each(|p| p.insert(at, 3.0));
        reference.insert(at, 4.0);
        prop_assert!(close(volume, hypervolume(&flat, &reference)), "{volume}");
        for (a, b) in alone.iter().zip(contributions(&flat, &reference)) {
            prop_assert!(close(*a, b), "{a} {b}");
        }
    }

    #[test]
    fn neither_order_nor_units_matter(points in points(12), scale in 1e-3..1e3f64, shift in -9.0..9.0f64) {
        let width = points.first().map_or(2, Vec::len);
        let volume = hypervolume(&points, &vec![6.0; width]);
        let turned: Vec<Vec<f64>> =
            points.iter().rev().map(|p| p.iter().rev().map(|v| v * scale + shift).collect()).collect();
        let scaled = hypervolume(&turned, &vec![6.0 * scale + shift; width]);
        prop_assert!(close(volume, scaled / scale.powi(width as i32)), "{volume} {scaled}");
    }
}

#[test]
fn crowding_adds_the_room_between_the_neighbours() {
    let points = [[0.0, 10.0], [1.0, 4.0], [2.0, 2.0], [4.0, 0.0]];
    let inner = [2.0 / 4.0 + 8.0 / 10.0, 3.0 / 4.0 + 4.0 / 10.0];
    assert_eq!(
        crowding(&points, &[0, 1, 2, 3]),
        [f64::INFINITY, inner[0], inner[1], f64::INFINITY]
    );
    assert!(crowding(&points, &[]).is_empty());
}

#[test]
fn known_volumes() {
    let two = [[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]];
    assert_eq!(hypervolume(&two, &[4.0, 4.0]), 6.0);
    assert_eq!(contributions(&two, &[4.0, 4.0]), [1.0, 1.0, 1.0]);
    let three = [[1.0, 2.0, 3.0], [2.0, 3.0, 1.0], [3.0, 1.0, 2.0]];
    assert_eq!(hypervolume(&three, &[4.0; 3]), 13.0);
    assert_eq!(hypervolume(&[[1.0], [0.25]], &[2.0]), 1.75);
    // one point on each axis at 1: together all of the cube up to 2, except where every coordinate is below 1
    for width in 4..=6i32 {
        let on_axis = |i: i32| {
            (0..width)
                .map(|k| f64::from(u8::from(k == i)))
                .collect::<Vec<f64>>()
        };
        let points: Vec<Vec<f64>> = (0..width).map(on_axis).collect();
        assert!(close(
            hypervolume(&points, &vec![2.0; width as usize]),
            2f64.powi(width) - 1.0
        ));
    }
}

#[test]
fn the_reference_and_odd_values_bound_the_volume() {
    let none: [[f64; 2]; 0] = [];
    assert_eq!(hypervolume(&none, &[1.0, 1.0]), 0.0);
    assert_eq!(
        hypervolume(&[[1.0, 0.0], [0.5, 2.0], [f64::NAN, 0.0]], &[1.0, 1.0]),
        0.0
    );
    assert_eq!(
        hypervolume(&[[f64::INFINITY, 0.0], [0.5, 0.5]], &[1.0, 1.0]),
        0.25
    );
    assert_eq!(
        hypervolume(&[[f64::NEG_INFINITY, 0.5]], &[1.0, 1.0]),
        f64::INFINITY
    );
    assert_eq!(hypervolume(&[[0.5, 0.5]], &[f64::INFINITY, 1.0]), f64::INFINITY);
    let alone = contributions(
        &[[0.5, 0.5], [0.5, 0.5], [0.25, 0.75], [2.0, 0.0], [f64::NAN, 0.0]],
        &[1.0, 1.0],
    );
    assert_eq!(alone, [0.0, 0.0, 0.0625, 0.0, 0.0]);
}

#[test]
fn an_endless_point_takes_from_the_others_what_it_covers() {
    let points = [
        [f64::NEG_INFINITY, 0.75, 0.5],
        [0.5, 0.25, 0.5],
        [0.5, 0.75, 0.5],
        [f64::NEG_INFINITY, 0.875, 0.75],
    ];
    for width in 2..=3 {
        let points = points.map(|p| p[..width].to_vec());
        let alone = contributions(&points, &[1.0; 3][..width]);
        assert_eq!(alone[1], 0.5f64.powi(width as i32));
        assert_eq!((alone[0], alone[2]), (f64::INFINITY, 0.0));
    }
}

#[test]
fn the_reference_point_stands_still_once_enough_trials_have_finished() {
    let values = |n: usize| {
        (0..n)
            .map(|i| [i as f64, 100.0 - i as f64, 5.0, 0.0])
            .collect::<Vec<_>>()
    };
    assert_eq!(reference_point(values(0)), None);
    let first = reference_point(values(16)).unwrap();
    assert_eq!(first, [16.5, 101.5, 5.5, 1.0]);
    assert_eq!(reference_point(values(500)), Some(first));
}
