//! Numbers and limits as people read them.

use spaces::{Limit, metric, quantity};

/// A metric's value with its unit, short: `4.123 MiB`.
pub(crate) fn short(name: &str, value: f64) -> String {
    quantity::format(value, metric(name).map_or("", |m| m.unit))
}

/// A metric's value such that it can be typed in as a limit: `4323456 B (4.123 MiB)`.
pub(crate) fn exact(name: &str, value: f64) -> String {
    let unit = metric(name).map_or("", |m| m.unit);
    let short = short(name, value);
    match unit {
        "" | "fraction" | "x" => value.to_string(),
        _ if short.ends_with(&format!(" {unit}")) => format!("{value} {unit}"),
        _ => format!("{value} {unit} ({short})"),
    }
}

/// The limit as it would be written: `model_bytes <= 4 MiB`.
pub(crate) fn limit_text(Limit { metric, min, max }: &Limit) -> String {
    let part = |end: &Option<f64>, operator| end.map(|v| format!("{metric} {operator} {}", short(metric, v)));
    let parts: Vec<String> = [part(min, ">="), part(max, "<=")].into_iter().flatten().collect();
    parts.join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_values_are_readable_and_exact() {
        let limit = Limit::parse("model_bytes<=4 MiB").unwrap();
        assert_eq!(limit_text(&limit), "model_bytes <= 4 MiB");
        assert_eq!(exact("model_bytes", 4323456.0), "4323456 B (4.123 MiB)");
        assert_eq!(exact("accuracy", 0.25), "0.25");
        assert_eq!(exact("unheard_of", 12.5), "12.5");
    }
}
