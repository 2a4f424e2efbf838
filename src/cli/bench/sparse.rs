//! `parsimony bench sparse`: from which sparsity on products with sparse matrices are faster than dense ones.

use clap::Args;
use evaluator::{
    SparseProduct,
    device::DeviceChoice,
    techniques::sparsity::{Pattern, SparseForm},
};
use serde::Serialize;
use serde_json::json;

use super::models::as_in_trials;
use crate::{
    errors::BadInput,
    output::{Format, right, say, table, write_json, write_out},
};

/// Rows of inputs: one, as in decoding, and many, as in reading.
const INPUTS: [usize; 2] = [1, 64];

/// Times products with sparse matrices of growing sparsity beside the dense one, and says from where on they are faster
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  parsimony bench sparse\n  parsimony bench sparse --width 4096 --format json"
)]
pub(super) struct Sparse {
    /// Rows and columns of the matrix, a multiple of 8
    #[arg(long, value_name = "N", default_value = "1024", value_parser = clap::value_parser!(u16).range(8..=16_384))]
    width: u16,
    /// Least time spent on each product in seconds
    #[arg(long, value_name = "S", default_value = "0.3")]
    seconds: f64,
    /// Where to compute: auto, cpu or cuda:N
    #[arg(long, env = "PARSIMONY_DEVICE", default_value = "cpu", value_parser = clap::value_parser!(DeviceChoice))]
    device: DeviceChoice,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Debug, Serialize)]
struct Row {
    sparsity: f64,
    pattern: Pattern,
    /// Bytes over those of the dense matrix.
    bytes: f64,
    /// One for each number of inputs.
    products: Vec<Point>,
}

#[derive(Debug, Serialize)]
struct Point {
    inputs: usize,
    dense_us: f64,
    sparse_us: f64,
}

impl Point {
    /// Time over that of the dense product.
    fn time(&self) -> f64 {
        self.sparse_us / self.dense_us
    }
}

impl Sparse {
    pub(super) fn run(self) -> anyhow::Result<()> {
        as_in_trials()?;
        if !self.width.is_multiple_of(8) {
            let message = format!(
                "--width {} is no multiple of 8, as patterns need; use {}",
                self.width,
                self.width / 8 * 8
            );
            return Err(BadInput::error(message));
        }
        if !(0.01..=600.0).contains(&self.seconds) {
            let message = format!("--seconds {} is no time; use 0.01 to 600", self.seconds);
            return Err(BadInput::error(message));
        }
        let free = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95].map(|share| (share, Pattern::Free));
        let patterns = [(0.5, Pattern::TwoOfFour), (0.5, Pattern::FourOfEight)];
        let mut rows = vec![];
        for (share, pattern) in free.into_iter().chain(patterns) {
            let form = SparseForm {
                share,
                pattern,
                ..SparseForm::default()
            };
            rows.push(self.row(form)?);
        }
        self.print(&rows)
    }

    fn row(&self, form: SparseForm) -> anyhow::Result<Row> {
        let (mut bytes, mut products) = (0.0, vec![]);
        for inputs in INPUTS {
            let SparseProduct {
                dense_s,
                sparse_s,
                dense_bytes,
                sparse_bytes,
            } = evaluator::sparse_product(form, self.width.into(), inputs, self.seconds, self.device)?;
            bytes = sparse_bytes as f64 / dense_bytes as f64;
            products.push(Point {
                inputs,
                dense_us: 1e6 * dense_s,
                sparse_us: 1e6 * sparse_s,
            });
        }
        Ok(Row {
            sparsity: form.share,
            pattern: form.pattern,
            bytes,
            products,
        })
    }

    fn print(&self, rows: &[Row]) -> anyhow::Result<()> {
        let even: Vec<Option<f64>> = (0..INPUTS.len()).map(|i| break_even(rows, i)).collect();
        match self.format {
            Format::Json => {
                let even: Vec<_> = INPUTS
                    .iter()
                    .zip(even)
                    .map(|(inputs, sparsity)| json!({ "inputs": inputs, "sparsity": sparsity }))
                    .collect();
                write_json(&json!({ "width": self.width, "products": rows, "break_even": even }))
            }
            Format::Csv => {
                let mut text = "sparsity,pattern,bytes,inputs,dense_us,sparse_us\n".to_owned();
                for row in rows {
                    for p in &row.products {
                        let numbers = [row.bytes, p.inputs as f64, p.dense_us, p.sparse_us];
                        let numbers = numbers.map(|n| n.to_string()).join(",");
                        text += &format!("{},{},{numbers}\n", row.sparsity, row.pattern.name());
                    }
                }
                Ok(write_out(text)?)
            }
            Format::Table => {
                let times = INPUTS
                    .iter()
                    .flat_map(|n| [format!("µs for {n}"), "of dense".to_owned()]);
                let head = ["sparsity", "pattern", "bytes of dense"].map(String::from);
                let mut sheet = table(head.into_iter().chain(times));
                for row in rows {
                    let times = row
                        .products
                        .iter()
                        .flat_map(|p| [format!("{:.1}", p.sparse_us), format!("{:.2}", p.time())]);
                    let what = [
                        format!("{:.2}", row.sparsity),
                        row.pattern.name().to_owned(),
                        format!("{:.3}", row.bytes),
                    ];
                    sheet.add_row(what.into_iter().chain(times));
                }
                right(&mut sheet, 2..3 + 2 * INPUTS.len());
                let dense = INPUTS.iter().enumerate().map(|(i, n)| {
                    let shortest = rows
                        .iter()
                        .map(|r| r.products[i].dense_us)
                        .fold(f64::INFINITY, f64::min);
                    let said = even[i].map_or("slower at each of these".to_owned(), |s| {
                        format!("faster from a sparsity of {s:.2} on")
                    });
                    format!("{n} rows of inputs: dense {shortest:.1} µs, free pattern {said}.")
                });
                let dense: Vec<String> = dense.collect();
                say(format!(
                    "{sheet}\nA matrix of {0} x {0} weights; \"of dense\" is the shortest time over the shortest of the dense product beside it.\n{1}",
                    self.width,
                    dense.join("\n")
                ));
                Ok(())
            }
        }
    }
}

/// The sparsity of a free pattern from which on all that was measured is faster than dense, between two measured ones by a straight
/// line; `None` if the sparsest is slower.
fn break_even(rows: &[Row], inputs: usize) -> Option<f64> {
    let free = rows.iter().filter(|row| row.pattern == Pattern::Free);
    let points: Vec<(f64, f64)> = free
        .map(|row| (row.sparsity, row.products[inputs].time()))
        .collect();
    let slower = points.iter().rposition(|(_, time)| *time > 1.0);
    let Some(slower) = slower else {
        return points.first().map(|(sparsity, _)| *sparsity);
    };
    let (faster, (s, time)) = (points.get(slower + 1)?, points[slower]);
    Some(s + (faster.0 - s) * (time - 1.0) / (time - faster.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_break_even_lies_where_times_are_equal() {
        let rows = |times: &[f64]| -> Vec<Row> {
            let row = |(i, time): (usize, &f64)| Row {
                sparsity: 0.5 + 0.1 * i as f64,
                pattern: Pattern::Free,
                bytes: 0.5,
                products: vec![Point {
                    inputs: 1,
                    dense_us: 1.0,
                    sparse_us: *time,
                }],
            };
            times.iter().enumerate().map(row).collect()
        };
        let even = break_even(&rows(&[1.4, 1.2, 0.8]), 0).unwrap();
        assert!((even - 0.65).abs() < 1e-9, "{even}");
        assert_eq!(break_even(&rows(&[0.9, 0.8]), 0), Some(0.5));
        assert_eq!(break_even(&rows(&[1.2, 1.1]), 0), None);
    }
}
