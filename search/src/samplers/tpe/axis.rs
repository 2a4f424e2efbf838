//! The kernels of one parameter on the unit interval.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use spaces::Domain;

use crate::normal;

/// Finite domains with more values than this are treated as a continuum: their slices are narrower than any kernel.
const SLICES: u64 = 64;

/// Least width of a kernel on the unit interval.
const LEAST_WIDTH: f64 = 0.005;
/// Scott's constant for Gaussians (Scott 1992).
const SCOTT: f64 = 1.06;
/// How much of a name's kernel is spread over all names while trials are few.
const SMOOTHING: f64 = 0.2;

/// How the values of a parameter lie on the unit interval.
pub(super) enum Axis {
    /// A continuum: truncated Gaussians.
    Real,
    /// Ordered values, value `k` between edge `k` and edge `k + 1`: truncated Gaussians integrated over the slices.
    Slices(Vec<f64>),
    /// So many values without an order: all others are equally far.
    Names(usize),
}

impl Axis {
    pub(super) fn new(domain: &Domain) -> Axis {
        match domain.cardinality() {
            Some(n) if !domain.is_ordered() => Axis::Names(n as usize),
            Some(n) if n <= SLICES => Axis::Slices(edges(domain, n)),
            _ => Axis::Real,
        }
    }

    /// Number of values; 0 for a continuum.
    pub(super) fn values(&self) -> usize {
        match self {
            Axis::Real => 0,
            Axis::Slices(edges) => edges.len() - 1,
            Axis::Names(n) => *n,
        }
    }

    /// Which value holds a point of the interval; 0 for a continuum.
    pub(super) fn slot(&self, unit: f64) -> usize {
        match self {
            Axis::Real => 0,
            Axis::Slices(edges) => edges[1..edges.len() - 1].partition_point(|edge| *edge <= unit),
            Axis::Names(n) => ((unit * *n as f64) as usize).min(n - 1),
        }
    }

    /// Logarithm of the share that a value has of a uniform prior, of its density for a continuum.
    pub(super) fn log_prior(&self, slot: usize) -> f64 {
        match self {
            Axis::Real => 0.0,
            Axis::Slices(edges) => (edges[slot + 1] - edges[slot]).ln(),
            Axis::Names(n) => -(*n as f64).ln(),
        }
    }

    /// Width of the kernels around those values, by Scott's rule; for names the share that is spread over all.
    pub(super) fn width(&self, values: impl Iterator<Item = f64> + Clone, dimensions: usize) -> f64 {
        let n = values.clone().count() as f64;
        if n == 0.0 {
            return 1.0;
        }
        let shrink = (n + 1.0).powf(-1.0 / (dimensions as f64 + 4.0));
        let Axis::Slices(edges) = self else {
            return match self {
                Axis::Names(_) => SMOOTHING * shrink,
                _ => (SCOTT * spread(values, n) * shrink).max(LEAST_WIDTH),
            };
        };
        // a kernel narrower than half a slice would never leave it
        let half = 0.5 / (edges.len() - 1) as f64;
        (SCOTT * spread(values, n) * shrink).max(half)
    }

    /// The logarithms of the probabilities of each value `to` under the kernel around each value `at`, by `at`.
    pub(super) fn table(&self, width: f64) -> Vec<f64> {
        let n = self.values();
        let pairs = (0..n).flat_map(|at| (0..n).map(move |to| (at, to)));
        match self {
            Axis::Real => Vec::new(),
            Axis::Names(n) => {
                let other = width / *n as f64;
                pairs
                    .map(|(at, to)| if at == to { 1.0 - width + other } else { other }.ln())
                    .collect()
            }
            Axis::Slices(edges) => {
                let mut table = Vec::with_capacity(n * n);
                for at in 0..n {
                    let middle = 0.5 * (edges[at] + edges[at + 1]);
                    let below: Vec<f64> = edges
                        .iter()
                        .map(|e| normal::below((e - middle) / width))
                        .collect();
                    let whole = below[n] - below[0];
                    // far slices keep a probability that a logarithm can express
                    table.extend(below.windows(2).map(|w| ((w[1] - w[0]) / whole).max(1e-30).ln()));
                }
                table
            }
        }
    }

    /// A draw from the kernel of width `width` around `at`.
    pub(super) fn draw(&self, at: f64, width: f64, rng: &mut ChaCha8Rng) -> f64 {
        match self {
            Axis::Names(_) => {
                if rng.random_bool(width.clamp(0.0, 1.0)) {
                    rng.random()
                } else {
                    at
                }
            }
            Axis::Real | Axis::Slices(_) => loop {
                // at least a third of the draws fall into the interval, as the kernel stands inside it
                let x = at + width * standard_normal(rng);
                if (0.0..=1.0).contains(&x) {
                    return x;
                }
            },
        }
    }
}

/// Standard deviation, with the prior's as one observation more.
fn spread(values: impl Iterator<Item = f64> + Clone, n: f64) -> f64 {
    let mean = values.clone().sum::<f64>() / n;
    let squares: f64 = values.map(|v| (v - mean).powi(2)).sum();
    ((squares + 1.0 / 12.0) / (n + 1.0)).sqrt()
}

/// Logarithm of the height of the Gaussian around `at` that is truncated to the unit interval.
pub(super) fn log_height(at: f64, width: f64) -> f64 {
    let inside = normal::below((1.0 - at) / width) - normal::below(-at / width);
    -(inside * width * (2.0 * std::f64::consts::PI).sqrt()).ln()
}

/// One standard normal number, by Box and Muller's transformation.
fn standard_normal(rng: &mut ChaCha8Rng) -> f64 {
    let (radius, turn): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    (-2.0 * radius.ln()).sqrt() * (2.0 * std::f64::consts::PI * turn).cos()
}

fn edges(domain: &Domain, n: u64) -> Vec<f64> {
    let at = |k: u64| match domain {
        Domain::Int {
            low, high, log: true, ..
        } => {
            let (a, b) = ((*low as f64 - 0.5).ln(), (*high as f64 + 0.5).ln());
            ((*low as f64 - 0.5 + k as f64).ln() - a) / (b - a)
        }
        _ => k as f64 / n as f64,
    };
    (0..=n).map(at).collect()
}

#[cfg(test)]
mod tests {
    use spaces::Value;

    use super::*;
    use crate::proposal_rng;

    fn domains() -> Vec<Domain> {
        vec![
            Domain::int(1, 40, true, 1).unwrap(),
            Domain::int(64, 256, false, 32).unwrap(),
            Domain::float(0.0, 1.0, false, Some(0.25)).unwrap(),
            Domain::categorical([16, 8, 4].map(Value::Int).to_vec()).unwrap(),
            Domain::categorical(["a", "b", "c"].map(Value::from).to_vec()).unwrap(),
            Domain::int(3, 3, false, 1).unwrap(),
        ]
    }

    #[test]
    fn each_kernel_and_the_prior_are_distributions() {
        for domain in domains() {
            let axis = Axis::new(&domain);
            let n = axis.values();
            let prior: f64 = (0..n).map(|slot| axis.log_prior(slot).exp()).sum();
            assert!((prior - 1.0).abs() < 1e-12, "{domain}: {prior}");
            for around in axis.table(0.1).chunks(n) {
                let sum: f64 = around.iter().map(|p| p.exp()).sum();
                assert!((sum - 1.0).abs() < 1e-9, "{domain}: {sum}");
            }
        }
    }

    #[test]
    fn a_slot_is_the_value_that_the_domain_gives() {
        for domain in domains() {
            let axis = Axis::new(&domain);
            let mut met = std::collections::BTreeMap::new();
            for i in 0..1000 {
                // not on an edge, where rounding decides
                let unit = (f64::from(i) + 0.3) / 1000.0;
                let value = domain.from_unit(unit).to_string();
                assert_eq!(
                    *met.entry(axis.slot(unit)).or_insert(value.clone()),
                    value,
                    "{domain}"
                );
            }
            assert_eq!(met.len(), axis.values());
        }
    }

    #[test]
    fn draws_follow_the_table() {
        for domain in domains() {
            let (axis, mut rng) = (Axis::new(&domain), proposal_rng(0, 0));
            let (n, at) = (axis.values(), 0.5);
            // real kernels stand at a value's own place, which for a logarithmic slice is not its middle
            if matches!(domain, Domain::Int { log: true, .. }) || n % 2 == 0 {
                continue;
            }
            let mut met = vec![0.0; n];
            (0..20_000).for_each(|_| met[axis.slot(axis.draw(at, 0.3, &mut rng))] += 1.0 / 20_000.0);
            let table = axis.table(0.3);
            for (to, share) in met.iter().enumerate() {
                let expected = table[axis.slot(at) * n + to].exp();
                assert!(
                    (share - expected).abs() < 0.015,
                    "{domain} {to}: {share} {expected}"
                );
            }
        }
    }

    #[test]
    fn a_truncated_gaussian_has_mass_one() {
        for (at, width) in [(0.0, 0.1), (0.4, 0.05), (1.0, 1.0)] {
            let density = |x: f64| (log_height(at, width) - 0.5 * ((x - at) / width).powi(2)).exp();
            let mass: f64 = (0..10_000)
                .map(|i| density((f64::from(i) + 0.5) / 1e4) / 1e4)
                .sum();
            assert!((mass - 1.0).abs() < 1e-5, "{mass}");
        }
    }
}
