//! An axis: which values it spans, linear or logarithmic, and which it names.

use spaces::metric;

/// An axis of a plot.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    /// What is written beside it.
    pub title: String,
    /// Even in the logarithm.
    pub log: bool,
    low: f64,
    high: f64,
    /// One of the unit that is shown, in the metric's own.
    unit: f64,
}

/// Units that a value may be shown in, by the head of the metric's unit.
const SHOWN: &[(&str, &[(&str, f64)])] = &[
    (
        "B",
        &[
            ("B", 1.0),
            ("KiB", 1024.0),
            ("MiB", 1_048_576.0),
            ("GiB", 1_073_741_824.0),
        ],
    ),
    (
        "FLOP",
        &[
            ("FLOP", 1.0),
            ("kFLOP", 1e3),
            ("MFLOP", 1e6),
            ("GFLOP", 1e9),
            ("TFLOP", 1e12),
            ("PFLOP", 1e15),
        ],
    ),
    (
        "J",
        &[("µJ", 1e-6), ("mJ", 1e-3), ("J", 1.0), ("kJ", 1e3), ("MJ", 1e6)],
    ),
    (
        "parameters",
        &[("parameters", 1.0), ("thousand", 1e3), ("million", 1e6)],
    ),
];

/// A range this wide is shown in the logarithm.
const WIDE: f64 = 30.0;

impl Scale {
    /// The axis of a metric that shows all the values; `None` without any.
    pub fn of_metric(name: &str, values: &[f64]) -> Option<Scale> {
        let (least, most) = span(values)?;
        let own = metric(name).map_or("", |m| m.unit);
        let (head, tail) = own
            .split_once('/')
            .map_or((own, String::new()), |(h, t)| (h, format!("/{t}")));
        let shown = SHOWN
            .iter()
            .find(|(unit, _)| *unit == head)
            .map(|(_, units)| *units);
        // the largest unit in which the largest value is at least 1
        let (unit, scale) = shown
            .and_then(|units| {
                units
                    .iter()
                    .rev()
                    .find(|(_, s)| most.abs() >= *s)
                    .or(units.first())
            })
            .copied()
            .unwrap_or((head, 1.0));
        let better = metric(name).map_or("", |m| match m.direction {
            spaces::Direction::Minimize => "less is better",
            spaces::Direction::Maximize => "more is better",
        });
        let unit_text = match unit {
            "fraction" | "x" => String::new(),
            unit => format!("{unit}{tail}"),
        };
        let notes: Vec<&str> = [unit_text.as_str(), better]
            .into_iter()
            .filter(|t| !t.is_empty())
            .collect();
        let log = least > 0.0 && most / least > WIDE;
        let title = match notes.is_empty() {
            true => name.to_owned(),
            false => format!("{name} ({})", notes.join(", ")),
        };
        Some(Scale::new(title, least, most, log, scale))
    }

    /// A linear axis of plain numbers from 0.
    pub fn from_zero(title: &str, most: f64) -> Scale {
        let mut scale = Scale::new(title.to_owned(), 0.0, most, false, 1.0);
        scale.low = 0.0;
        scale
    }

    /// An axis of plain numbers that shows all the values, even in the logarithm if `log`.
    pub fn of_values(title: &str, values: &[f64], log: bool) -> Scale {
        let (least, most) = span(values).unwrap_or((1.0, 1.0));
        // a logarithm needs a range, and none that touches zero
        Scale::new(
            title.to_owned(),
            least,
            most,
            log && 0.0 < least && least < most,
            1.0,
        )
    }

    /// Leaves a little room at both ends.
    fn new(title: String, least: f64, most: f64, log: bool, unit: f64) -> Scale {
        let (low, high) = if log {
            let room = (most / least).ln() * 0.04;
            (least * (-room).exp(), most * room.exp())
        } else {
            let room = match (most - least, most.abs()) {
                (range, _) if range > 0.0 => 0.05 * range,
                (_, size) if size > 0.0 => 0.1 * size,
                _ => 1.0,
            };
            (least - room, most + room)
        };
        Scale {
            title,
            log,
            low,
            high,
            unit,
        }
    }

    /// Where the value lies, from 0 at the low end to 1 at the high one.
    pub fn place(&self, value: f64) -> f64 {
        if self.log {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    /// The values to be named, each with its text.
    pub fn ticks(&self) -> Vec<(f64, String)> {
        let (low, high) = (self.low / self.unit, self.high / self.unit);
        let values = if self.log {
            decades(low, high)
        } else {
            steps(low, high)
        };
        values.into_iter().map(|v| (v * self.unit, label(v))).collect()
    }
}

/// The least and the most of the finite values.
fn span(values: &[f64]) -> Option<(f64, f64)> {
    let finite = values.iter().copied().filter(|v| v.is_finite());
    let ends = |(low, high): (f64, f64), v: f64| (low.min(v), high.max(v));
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), ends);
    (low <= high).then_some((low, high))
}

/// Three to eight round values.
fn steps(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / 8.0;
    let magnitude = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|f| f * magnitude)
        .find(|s| *s >= rough * 0.999)
        .unwrap_or(rough);
    let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
    (first..=last).map(|i| i as f64 * step).collect()
}

/// Powers of ten, with 2 and 5 of each between where they are few.
fn decades(low: f64, high: f64) -> Vec<f64> {
    let within = |v: &f64| (low..=high).contains(v);
    let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let plain: Vec<f64> = powers.clone().map(|e| 10f64.powi(e)).filter(within).collect();
    if plain.len() > 3 {
        // at most about eight
        let every = plain.len().div_ceil(8);
        return plain.into_iter().step_by(every).collect();
    }
    let between = powers.flat_map(|e| [1.0, 2.0, 5.0].map(|f| f * 10f64.powi(e)));
    between.filter(within).collect()
}

/// The value as short as it is exact to a part in a million.
fn label(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    if !(1e-4..1e7).contains(&value.abs()) {
        return format!("{value:.1e}").replace(".0e", "e");
    }
    let digits = (6 - value.abs().log10().floor() as i32).clamp(0, 10) as usize;
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(scale: &Scale) -> Vec<String> {
        scale.ticks().into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn linear_axes_name_round_values_in_a_fitting_unit() {
        let scale = Scale::of_metric("model_bytes", &[1.1e6, 4.3e6]).unwrap();
        assert_eq!(scale.title, "model_bytes (MiB, less is better)");
        assert_eq!(texts(&scale), ["1", "1.5", "2", "2.5", "3", "3.5", "4"]);
        let loss = Scale::of_metric("validation_loss", &[1.87, 1.91]).unwrap();
        assert_eq!(texts(&loss), ["1.87", "1.88", "1.89", "1.9", "1.91"]);
        let accuracy = Scale::of_metric("accuracy", &[0.5, 1.0]).unwrap();
        assert_eq!(accuracy.title, "accuracy (more is better)");
        assert!(accuracy.place(0.5) > 0.0 && accuracy.place(1.0) < 1.0);
    }

    #[test]
    fn a_wide_range_is_logarithmic() {
        let scale = Scale::of_metric("inference_flops_per_token", &[2e4, 3e7]).unwrap();
        assert!(scale.log);
        assert_eq!(
            texts(&scale),
            ["0.02", "0.05", "0.1", "0.2", "0.5", "1", "2", "5", "10", "20"]
        );
        let wider = Scale::of_metric("inference_flops_per_token", &[2e1, 3e7]).unwrap();
        assert_eq!(texts(&wider), ["0.0001", "0.001", "0.01", "0.1", "1", "10"]);
        let middle = scale.place((2e4f64 * 3e7).sqrt());
        assert!((middle - 0.5).abs() < 1e-12);
        assert!(
            !Scale::of_metric("inference_flops_per_token", &[2e4, 3e5])
                .unwrap()
                .log
        );
    }

    #[test]
    fn nothing_and_one_value_are_no_trouble() {
        assert_eq!(Scale::of_metric("validation_loss", &[]), None);
        assert_eq!(Scale::of_metric("validation_loss", &[f64::NAN]), None);
        let single = Scale::of_metric("validation_loss", &[2.0]).unwrap();
        assert!((single.place(2.0) - 0.5).abs() < 1e-12);
        assert!(!single.ticks().is_empty());
        let large = Scale::from_zero("hypervolume", 3.2e13);
        assert_eq!(texts(&large)[..3], ["0", "5e12", "1e13"]);
        let zero = Scale::of_metric("attack_queries", &[0.0]).unwrap();
        assert!((zero.place(0.0) - 0.5).abs() < 1e-12);
        assert_eq!(
            texts(&Scale::from_zero("trials", 12.0)),
            ["0", "2", "4", "6", "8", "10", "12"]
        );
    }
}
