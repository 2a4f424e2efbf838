//! Whole numbers and names beside real numbers. Both problems are our own.

use super::{
    Benchmark,
    parts::{int, int_log, name, number, one_of, real, real_log, space},
};

const COLOURS: [&str; 6] = ["amber", "blue", "coral", "drab", "ebony", "fawn"];

/// ZDT1's front behind a distance in which every kind of parameter has its part.
///
/// The best shade is another one for each colour, and the best count depends on the rate.
pub(super) const RIPPLE: Benchmark = Benchmark {
    name: "ripple",
    doc: "convex front behind names, counts and rates that depend on each other; 7 mixed parameters, 2 objectives",
    paper: "our own, with the front of Zitzler et al. 2000",
    known: 1,
    ideal: &[0.0, 0.0],
    reference: &[1.1, 3.0],
    // under 1 - sqrt(f0)
    best_volume: 1.1 * 3.0 - 1.0 / 3.0,
    space: || {
        space(vec![
            real("place", 0.0, 1.0),
            one_of("colour", &COLOURS),
            one_of("shade", &[1, 2, 3, 4]),
            int("count", 0, 20),
            int_log("width", 1, 256),
            real_log("rate", 1e-4, 1.0),
            real("tilt", -1.0, 1.0),
        ])
    },
    evaluate: |c| {
        let of = |name| number(c, name, 0.0);
        let colour = COLOURS.iter().position(|k| *k == name(c, "colour")).unwrap_or(0);
        let hue = [0.9, 0.4, 1.3, 0.0, 0.6, 1.1][colour];
        let shade = 0.3 * (of("shade") - [2.0, 4.0, 1.0, 3.0, 2.0, 1.0][colour]).abs();
        // decades from 1e-4; the best is 1e-2
        let rate = of("rate").log10() + 4.0;
        let count = ((of("count") - (10.0 + 3.0 * (rate - 2.0)).round()) / 10.0).powi(2);
        let width = 0.1 * (of("width") / 32.0).log2().powi(2);
        let tilt = of("tilt");
        let hills = tilt * tilt + 0.1 * (1.0 - (6.0 * std::f64::consts::PI * tilt).cos());
        let g = 1.0 + hue + shade + count + width + 0.4 * (rate - 2.0).powi(2) + hills;
        let place = of("place");
        vec![place, g * (1.0 - (place / g).sqrt())]
    },
};

/// A face material: kg/m^3, Young's modulus in Pa, price per kg.
const FACES: [(&str, [f64; 3]); 4] = [
    ("aluminium", [2700.0, 70e9, 6.0]),
    ("carbon", [1550.0, 120e9, 45.0]),
    ("flax", [1250.0, 30e9, 14.0]),
    ("glass", [1900.0, 38e9, 9.0]),
];
/// A core material: kg/m^3, shear modulus in Pa, price per m^3.
const CORES: [(&str, [f64; 3]); 5] = [
    ("balsa", [150.0, 160e6, 2400.0]),
    ("cork", [200.0, 6e6, 1500.0]),
    ("foam", [60.0, 15e6, 900.0]),
    ("honeycomb", [48.0, 300e6, 6500.0]),
    ("plywood", [550.0, 500e6, 1300.0]),
];

/// A sandwich panel of 1.5 m under 2 kPa: mass, cost and deflection.
pub(super) const PANEL: Benchmark = Benchmark {
    name: "panel",
    doc: "mass, cost and deflection of a sandwich panel; 5 mixed parameters, 3 objectives",
    paper: "our own, by the formulas of a beam in bending and shear",
    known: 2,
    ideal: &[-0.09, 1.42, -4.3],
    // nine of ten random panels are better in each
    reference: &[1.32, 2.6, -1.17],
    // the largest that examples/best_volume.rs found, rounded up
    best_volume: 1.406,
    space: || {
        space(vec![
            one_of("face", &FACES.map(|f| f.0)),
            one_of("core", &CORES.map(|c| c.0)),
            int("plies", 1, 12),
            real_log("core_mm", 4.0, 80.0),
            int("ribs", 0, 6),
        ])
    },
    evaluate: |c| {
        let [face_density, young, per_kg] = of(&FACES, name(c, "face"));
        let [core_density, shear, per_m3] = of(&CORES, name(c, "core"));
        let (face, core) = (
            number(c, "plies", 1.0) * 0.25e-3,
            number(c, "core_mm", 4.0) * 1e-3,
        );
        let ribs = number(c, "ribs", 0.0);
        let faces_kg = 2.0 * face * face_density;
        let mass = faces_kg + core * core_density + 0.35 * ribs;
        let cost = faces_kg * per_kg + core * per_m3 + 4.0 * ribs + 15.0;
        let (span, load) = (1.5f64, 2000.0);
        let bending = young * face * (core + face).powi(2) / 2.0 * (1.0 + 0.2 * ribs);
        let stiff = shear * (core + face).powi(2) / core * (1.0 + 0.35 * ribs);
        let deflection = 5.0 * load * span.powi(4) / (384.0 * bending) + load * span.powi(2) / (8.0 * stiff);
        vec![mass.log10(), cost.log10(), deflection.log10()]
    },
};

fn of(materials: &[(&str, [f64; 3])], name: &str) -> [f64; 3] {
    materials
        .iter()
        .find(|(n, _)| *n == name)
        .map_or([f64::NAN; 3], |(_, values)| *values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmark::tests::{assert_front, with};

    #[test]
    fn the_front_of_ripple_is_that_of_its_best_names() {
        let points = (0..=4000).map(|i| {
            RIPPLE.evaluate(&with(&[
                ("place", (f64::from(i) / 4000.0).into()),
                ("colour", "drab".into()),
                ("shade", 3.into()),
                ("count", 10.into()),
                ("width", 32.into()),
                ("rate", 1e-2.into()),
                ("tilt", 0.0.into()),
            ]))
        });
        assert_front(&RIPPLE, &points.collect::<Vec<_>>(), 0.999);
    }

    #[test]
    fn all_panels_together_reach_the_volume() {
        let mut points = Vec::new();
        for (face, core) in FACES.iter().flat_map(|f| CORES.iter().map(move |c| (f.0, c.0))) {
            for (plies, ribs) in (1..=12).flat_map(|p| (0..=6).map(move |r| (p, r))) {
                points.extend((0..=120).map(|i| {
                    PANEL.evaluate(&with(&[
                        ("face", face.into()),
                        ("core", core.into()),
                        ("plies", plies.into()),
                        (
                            "core_mm",
                            (4.0 * 20f64.powf(f64::from(i) / 120.0)).min(80.0).into(),
                        ),
                        ("ribs", ribs.into()),
                    ]))
                }));
            }
        }
        assert_front(&PANEL, &points, 0.98);
    }

    #[test]
    fn a_panel_worked_by_hand() {
        let panel = with(&[
            ("face", "aluminium".into()),
            ("core", "foam".into()),
            ("plies", 4.into()),
            ("core_mm", 20.0.into()),
            ("ribs", 0.into()),
        ]);
        let f: Vec<f64> = PANEL.evaluate(&panel).iter().map(|v| 10f64.powf(*v)).collect();
        // 5.4 kg of faces and 1.2 kg of core; 32.4 + 18 + 15; 8.54 mm from bending and 1.7 mm from shear
        assert!((f[0] - 6.6).abs() < 1e-9 && (f[1] - 65.4).abs() < 1e-9, "{f:?}");
        assert!((f[2] - 10.24e-3).abs() < 2e-5, "{f:?}");
    }
}
