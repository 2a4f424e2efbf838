//! Spaces in which a choice decides which other parameters there are. Both problems are our own.

use spaces::Candidate;

use super::{
    Benchmark,
    parts::{int, int_log, name, number, one_of, real, real_log, space, when},
};

/// Four kinds with parameters of their own: each of three is best on its third of the front, the fourth nowhere.
pub(super) const BRANCHES: Benchmark = Benchmark {
    name: "branches",
    doc: "each kind has its own parameters and its own third of the front; 12 mixed parameters, 2 objectives",
    paper: "our own, with the front of Zitzler et al. 2000",
    known: 1,
    ideal: &[0.0, 0.0],
    reference: &[1.1, 1.5],
    // under 1 - sqrt(f0)
    best_volume: 1.1 * 1.5 - 1.0 / 3.0,
    space: || {
        space(vec![
            real("place", 0.0, 1.0),
            one_of("kind", &["even", "flat", "idle", "steep"]),
            when("kind == 'steep'", real("bend", -2.0, 2.0)),
            when("kind == 'steep'", real("lean", -2.0, 2.0)),
            when("kind == 'steep'", real_log("rate", 1e-4, 1.0)),
            when("kind == 'even'", int("teeth", 3, 40)),
            when(
                "kind == 'even'",
                one_of("mesh", &["cross", "helix", "plain", "worm"]),
            ),
            when("kind == 'even'", real("play", 0.0, 1.0)),
            when("kind == 'flat'", int_log("rounds", 1, 1000)),
            when("kind == 'flat'", one_of("polish", &[false, true])),
            when("polish == true", real("depth", 0.0, 1.0)),
            when("depth >= 0.5", int("passes", 1, 9)),
        ])
    },
    evaluate: |c| {
        let place = number(c, "place", 0.0);
        let (outside, distance) = branch(c, place);
        vec![
            place,
            (1.0 - place.sqrt()) * (1.0 + 0.3 * distance) + 2.0 * outside.max(0.0) + 0.2 * distance,
        ]
    },
};

/// How far a place is from the kind's third, and how far the kind's own parameters are from their best.
fn branch(c: &Candidate, place: f64) -> (f64, f64) {
    let of = |name| number(c, name, 0.0);
    let third = 1.0 / 3.0;
    match name(c, "kind") {
        "steep" => {
            // a bent valley
            let valley = (of("lean") - of("bend").powi(2) + 0.5).powi(2);
            let distance = valley + (of("bend") - 1.0).powi(2) + (of("rate").log10() + 2.5).powi(2);
            (place - third, distance)
        }
        "even" => {
            let mesh = match name(c, "mesh") {
                "helix" => 0.0,
                "plain" => 0.5,
                "cross" => 0.8,
                _ => 1.5,
            };
            let distance = mesh + ((of("teeth") - 17.0) / 8.0).powi(2) + 4.0 * (of("play") - 0.2).powi(2);
            ((third - place).max(place - 2.0 * third), distance)
        }
        "flat" => {
            let rounds = (of("rounds").log10() - 2.0).powi(2);
            let polish = match c.get("depth") {
                None => 0.6,
                Some(_) => 2.0 * (of("depth") - 0.8).powi(2) + 0.1 * (of("passes") - 6.0).abs(),
            };
            (2.0 * third - place, rounds + polish)
        }
        // nothing to tune and nothing to gain
        _ => (0.0, 1.5),
    }
}

const KINDS: [&str; 4] = ["gelu", "relu", "sine", "tanh"];

/// A tower of up to five layers: its cost, and what it cannot learn.
pub(super) const TOWER: Benchmark = Benchmark {
    name: "tower",
    doc: "width and kind of each of up to five layers; 12 mixed parameters, 2 objectives",
    paper: "our own",
    known: 1,
    ideal: &[2.204_119, 0.2],
    // nine of ten random towers are better in each
    reference: &[4.85, 0.87],
    // the largest that examples/best_volume.rs found, rounded up
    best_volume: 0.974,
    space: || {
        let mut parameters = vec![int("layers", 1, 5)];
        for i in 1..=5 {
            let active = format!("layers >= {i}");
            parameters.push(when(&active, int_log(&format!("width{i}"), 4, 512)));
            parameters.push(when(&active, one_of(&format!("kind{i}"), &KINDS)));
        }
        parameters.push(when("layers >= 3", one_of("skip", &[false, true])));
        space(parameters)
    },
    evaluate: |c| {
        let layers = number(c, "layers", 1.0) as usize;
        let skip = c.get("skip") == Some(&true.into());
        let (mut cost, mut left, mut before) = (0.0, 1.0, 32.0);
        for i in 1..=layers {
            let width = number(c, &format!("width{i}"), 4.0);
            let kind = KINDS
                .iter()
                .position(|k| *k == name(c, &format!("kind{i}")))
                .unwrap_or(0);
            // which kind suits a layer depends on how deep it is
            let suits =
                [[0.8, 1.0, 0.5, 0.6], [1.0, 0.9, 0.6, 0.5], [0.7, 0.6, 1.0, 0.8]][(i - 1).min(2)][kind];
            // wide beside narrow cannot use its width
            let useful = width.min(4.0 * before);
            left *= 1.0 - suits * 0.5 * (1.0 - (useful / 4.0).powf(-0.35)) / (i as f64).sqrt();
            cost += before * width;
            before = width;
        }
        let unstable = if skip {
            0.004
        } else {
            0.015 * (layers as f64 - 2.0).max(0.0)
        };
        cost += before * 8.0 * if skip { 1.3 } else { 1.0 };
        vec![cost.log10(), left + unstable]
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmark::tests::{assert_front, with};

    #[test]
    fn each_kind_has_its_third_of_the_front() {
        let steep = [
            ("bend", 1.0.into()),
            ("lean", 0.5.into()),
            ("rate", 10f64.powf(-2.5).into()),
        ];
        let even = [
            ("teeth", 17.into()),
            ("mesh", "helix".into()),
            ("play", 0.2.into()),
        ];
        let flat = [
            ("rounds", 100.into()),
            ("polish", true.into()),
            ("depth", 0.8.into()),
            ("passes", 6.into()),
        ];
        let mut points = Vec::new();
        for (kind, own) in [
            ("steep", &steep[..]),
            ("even", &even),
            ("flat", &flat),
            ("idle", &[]),
        ] {
            let all: Vec<_> = (0..=2000)
                .map(|i| {
                    let shared = [("place", (f64::from(i) / 2000.0).into()), ("kind", kind.into())];
                    let candidate = with(&[&shared[..], own].concat());
                    assert_eq!(BRANCHES.space().check(&candidate), Ok(()));
                    BRANCHES.evaluate(&candidate)
                })
                .collect();
            // alone none is enough
            assert!(BRANCHES.quality(&all) < 0.97, "{kind}");
            points.extend(all);
        }
        assert_front(&BRANCHES, &points, 0.999);
    }

    #[test]
    fn a_tower_worked_by_hand() {
        let tower = with(&[
            ("layers", 1.into()),
            ("width1", 4.into()),
            ("kind1", "relu".into()),
        ]);
        // 32 * 4 + 4 * 8 and nothing learnt
        let f = TOWER.evaluate(&tower);
        assert!((f[0] - 160f64.log10()).abs() < 1e-12 && f[1] == 1.0, "{f:?}");
    }
}
