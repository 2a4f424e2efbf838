//! Numbers with units: `"4 MiB"`, `"30 min"`, `"2.5 kJ"`, `"3 MFLOP"`.

/// Units and how many base units (byte, second, joule, plain count) each is.
const UNITS: &[(&str, &str, f64)] = &[
    ("B", "B", 1.0),
    ("kB", "B", 1e3),
    ("KB", "B", 1e3),
    ("MB", "B", 1e6),
    ("GB", "B", 1e9),
    ("KiB", "B", 1024.0),
    ("MiB", "B", 1024.0 * 1024.0),
    ("GiB", "B", 1024.0 * 1024.0 * 1024.0),
    ("us", "s", 1e-6),
    ("ms", "s", 1e-3),
    ("s", "s", 1.0),
    ("sec", "s", 1.0),
    ("min", "s", 60.0),
    ("h", "s", 3600.0),
    ("d", "s", 86_400.0),
    ("uJ", "J", 1e-6),
    ("µJ", "J", 1e-6),
    ("mJ", "J", 1e-3),
    ("J", "J", 1.0),
    ("kJ", "J", 1e3),
    ("Wh", "J", 3600.0),
    ("kWh", "J", 3.6e6),
    ("FLOP", "FLOP", 1.0),
    ("kFLOP", "FLOP", 1e3),
    ("MFLOP", "FLOP", 1e6),
    ("GFLOP", "FLOP", 1e9),
    ("TFLOP", "FLOP", 1e12),
    ("PFLOP", "FLOP", 1e15),
    ("k", "", 1e3),
    ("K", "", 1e3),
    ("M", "", 1e6),
    ("G", "", 1e9),
];

/// Reads a number with a unit and gives it in `unit`.
///
/// `unit` is a metric's unit; what follows its slash (`J/token`) is taken as understood.
///
/// # Errors
/// A sentence that names the part that cannot be read and a unit that can.
pub fn parse(text: &str, unit: &str) -> Result<f64, String> {
    let text = text.trim();
    let split = text
        .find(|c: char| c.is_alphabetic() && c != 'e' && c != 'E')
        .unwrap_or(text.len());
    let (number, suffix) = (text[..split].trim().replace('_', ""), text[split..].trim());
    let number: f64 = number
        .parse()
        .ok()
        .filter(|x: &f64| x.is_finite())
        .ok_or_else(|| {
            format!(
                "'{text}' does not start with a number; write for example {}",
                example(unit)
            )
        })?;
    if suffix.is_empty() {
        return Ok(number);
    }
    let target = unit.split('/').next().unwrap_or(unit);
    let (target_kind, target_scale) = find(target).unwrap_or(("", 1.0));
    let suffix = suffix.split('/').next().unwrap_or(suffix).trim();
    match find(suffix) {
        Some((kind, scale)) if kind == target_kind || kind.is_empty() => Ok(number * scale / target_scale),
        _ => Err(format!(
            "'{suffix}' is not a unit for {}; write for example {}",
            describe(unit),
            example(unit)
        )),
    }
}

/// A unit with the prefix in which some value is short.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    /// The unit with its prefix, `MFLOP/token`; empty for plain numbers.
    pub unit: String,
    factor: f64,
}

impl Scale {
    /// The scale that suits a value given in `unit`.
    pub fn of(value: f64, unit: &str) -> Scale {
        let (head, tail) = match unit.split_once('/') {
            Some((head, tail)) => (head, format!("/{tail}")),
            None => (unit, String::new()),
        };
        let scales: &[(&str, f64)] = match head {
            "B" => &[
                ("GiB", 1073741824.0),
                ("MiB", 1048576.0),
                ("KiB", 1024.0),
                ("B", 1.0),
            ],
            "FLOP" => &[
                ("PFLOP", 1e15),
                ("TFLOP", 1e12),
                ("GFLOP", 1e9),
                ("MFLOP", 1e6),
                ("kFLOP", 1e3),
                ("FLOP", 1.0),
            ],
            "J" => &[("kJ", 1e3), ("J", 1.0), ("mJ", 1e-3), ("µJ", 1e-6)],
            "s" => &[("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3)],
            "parameters" => &[("M", 1e6), ("k", 1e3), ("", 1.0)],
            _ => &[],
        };
        let (name, factor) = scales
            .iter()
            .find(|(_, s)| value.abs() >= *s)
            .or(scales.last())
            .copied()
            .unwrap_or((head, 1.0));
        let unit = match name {
            "fraction" | "x" | "" => String::new(),
            _ => format!("{name}{tail}"),
        };
        Scale { unit, factor }
    }

    /// The number of a value in this scale: short, without its unit.
    pub fn number(&self, value: f64) -> String {
        let shown = value / self.factor;
        if shown == shown.trunc() && shown.abs() < 1e6 {
            format!("{shown:.0}")
        } else if shown.abs() >= 100.0 {
            format!("{shown:.1}")
        } else if shown.abs() >= 0.01 {
            format!("{shown:.3}")
        } else {
            format!("{shown:.3e}")
        }
    }
}

/// Writes a value with a prefix that keeps it short: `1.5 MiB`, `3.2 MFLOP/token`, `12.4 ms`.
pub fn format(value: f64, unit: &str) -> String {
    let scale = Scale::of(value, unit);
    format!("{} {}", scale.number(value), scale.unit)
        .trim_end()
        .to_owned()
}

fn find(unit: &str) -> Option<(&'static str, f64)> {
    let unit = unit
        .strip_suffix('s')
        .filter(|u| u.ends_with("FLOP"))
        .unwrap_or(unit);
    UNITS
        .iter()
        .find(|(name, ..)| *name == unit)
        .map(|(_, kind, scale)| (*kind, *scale))
}

fn describe(unit: &str) -> &str {
    match find(unit.split('/').next().unwrap_or(unit)) {
        Some(("B", _)) => "bytes",
        Some(("s", _)) => "a time",
        Some(("J", _)) => "an energy",
        Some(("FLOP", _)) => "operations",
        _ => "a plain number",
    }
}

fn example(unit: &str) -> &str {
    match describe(unit) {
        "bytes" => "\"4 MiB\"",
        "a time" => "\"30 min\"",
        "an energy" => "\"2 kJ\"",
        "operations" => "\"3 MFLOP\"",
        _ => "1.5",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_converted() {
        assert_eq!(parse("4 MiB", "B"), Ok(4194304.0));
        assert_eq!(parse("30 min", "s"), Ok(1800.0));
        assert_eq!(parse("2s", "ms"), Ok(2000.0));
        assert_eq!(parse("1.5e3", "B"), Ok(1500.0));
        assert_eq!(parse("2_000_000", "tokens"), Ok(2e6));
        assert_eq!(parse("3 MFLOPs/token", "FLOP/token"), Ok(3e6));
        assert_eq!(parse("2M", "parameters"), Ok(2e6));
        assert_eq!(parse("1 mJ", "J/token"), Ok(1e-3));
    }

    #[test]
    fn a_wrong_unit_is_named_with_a_right_one() {
        assert!(
            parse("4 parsecs", "B")
                .unwrap_err()
                .contains("'parsecs' is not a unit for bytes")
        );
        assert!(parse("much", "s").unwrap_err().contains("\"30 min\""));
        assert!(parse("4 MiB", "s").is_err());
    }

    #[test]
    fn values_are_short() {
        assert_eq!(format(4194304.0, "B"), "4 MiB");
        assert_eq!(format(0.00234, "J/token"), "2.340 mJ/token");
        assert_eq!(format(819200.0, "FLOP/token"), "819.2 kFLOP/token");
        assert_eq!(format(1.8734, "nats/token"), "1.873 nats/token");
        assert_eq!(format(0.25, "fraction"), "0.250");
        assert_eq!(format(2e-6, "J"), "2 µJ");
        assert_eq!(parse("2 µJ", "J"), Ok(2e-6));
        let scale = Scale::of(4e6, "FLOP/token");
        assert_eq!(
            (scale.number(2.5e5).as_str(), scale.unit.as_str()),
            ("0.250", "MFLOP/token")
        );
    }
}
