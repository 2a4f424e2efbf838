//! `markov`: text from a random Markov chain whose entropy rate is known.
//!
//! No model can have a smaller expected loss than the entropy rate, and a model that has learnt the chain reaches it: a
//! floor to hold trained models against. With order k the next letter depends on the last k letters.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Gamma};
use spaces::CorpusInfo;

use super::{
    Content, Corpus, DataAccess, DataError, Loaded, Options, Origin, TokenizerSpec,
    files::split_text,
    options::{choice, real, seed, validation_fraction, whole},
};

/// Letters of a chain.
pub(super) struct Markov;

/// One byte each.
const LETTERS: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// Share of every transition that is uniform: it keeps the chain irreducible and lets the power iteration converge.
const UNIFORM: f64 = 0.02;

impl Corpus for Markov {
    fn info(&self) -> CorpusInfo {
        CorpusInfo {
            name: "markov".into(),
            doc: "letters of a random Markov chain with known entropy rate, the floor of every model's loss"
                .into(),
            needs_path: false,
            takes_tokenizer: false,
            options: vec![
                choice("order", "how many letters the next one depends on", [1i64, 2]),
                whole("symbols", "distinct letters", "", [2, 62], 16),
                real(
                    "concentration",
                    "how even the transitions are; small is easy to foretell",
                    [0.05, 10.0],
                    0.3,
                ),
                whole("length", "letters of the text", "", [1_000, 20_000_000], 500_000),
                validation_fraction(),
                seed(),
            ],
        }
    }

    fn load(&self, options: &Options, _: &DataAccess) -> Result<Loaded, DataError> {
        let mut rng = ChaCha8Rng::seed_from_u64(options.usize("seed") as u64);
        let chain = Chain::random(
            options.usize("order"),
            options.usize("symbols"),
            options.f64("concentration"),
            &mut rng,
        );
        let stationary = chain.stationary();
        let text = chain.sample(&stationary, options.usize("length"), &mut rng);
        let text: String = text.iter().map(|s| char::from(LETTERS[*s])).collect();
        let (train, valid) = split_text(&text, options.f64("validation_fraction"));
        Ok(Loaded {
            origin: Origin::Generated,
            notes: vec![],
            content: Content::Text {
                train,
                valid,
                tokenizer: TokenizerSpec::Char,
                loss_floor: Some(chain.entropy_rate(&stationary)),
            },
        })
    }
}

/// Transition probabilities; a state is the last `order` symbols as digits to the base `symbols`.
struct Chain {
    symbols: usize,
    /// For each state, the probability of each next symbol.
    rows: Vec<Vec<f64>>,
}

impl Chain {
    /// Transitions from a symmetric Dirichlet distribution, as normalised gamma variables.
    fn random(order: usize, symbols: usize, concentration: f64, rng: &mut ChaCha8Rng) -> Self {
        let gamma = Gamma::new(concentration, 1.0).expect("the declared range is above 0");
        let rows = (0..symbols.pow(order as u32))
            .map(|_| {
                // the smallest number stands in for draws that underflow, so that no row sums to 0
                let weights: Vec<f64> = (0..symbols)
                    .map(|_| gamma.sample(rng).max(f64::MIN_POSITIVE))
                    .collect();
                let sum: f64 = weights.iter().sum();
                let even = UNIFORM / symbols as f64;
                weights.iter().map(|w| (1.0 - UNIFORM) * w / sum + even).collect()
            })
            .collect();
        Chain { symbols, rows }
    }

    fn next(&self, state: usize, symbol: usize) -> usize {
        (state * self.symbols + symbol) % self.rows.len()
    }

    /// Long-run probability of each state, by power iteration.
    fn stationary(&self) -> Vec<f64> {
        let n = self.rows.len();
        let mut now = vec![1.0 / n as f64; n];
        // the uniform share shrinks the distance to the limit by at least 2 % with every `order` steps
        for _ in 0..5_000 {
            let mut then = vec![0.0; n];
            for (state, row) in self.rows.iter().enumerate() {
                for (symbol, p) in row.iter().enumerate() {
                    then[self.next(state, symbol)] += now[state] * p;
                }
            }
            let change: f64 = now.iter().zip(&then).map(|(a, b)| (a - b).abs()).sum();
            now = then;
            if change < 1e-14 {
                break;
            }
        }
        now
    }

    /// Mean uncertainty of the next symbol, in nats.
    fn entropy_rate(&self, stationary: &[f64]) -> f64 {
        let entropy = |row: &[f64]| -row.iter().map(|p| p * p.ln()).sum::<f64>();
        stationary
            .iter()
            .zip(&self.rows)
            .map(|(w, row)| w * entropy(row))
            .sum()
    }

    fn sample(&self, stationary: &[f64], length: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
        let mut state = pick(stationary, rng);
        (0..length)
            .map(|_| {
                let symbol = pick(&self.rows[state], rng);
                state = self.next(state, symbol);
                symbol
            })
            .collect()
    }
}

fn pick(probabilities: &[f64], rng: &mut ChaCha8Rng) -> usize {
    let mut rest = rng.random::<f64>();
    for (i, p) in probabilities.iter().enumerate() {
        rest -= p;
        if rest < 0.0 {
            return i;
        }
    }
    probabilities.len() - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Dataset, tests::spec};

    #[test]
    fn the_entropy_rate_of_a_known_chain() {
        // leaves 0 with probability 1/4 and 1 with 1/2: it is in 0 two thirds of the time
        let chain = Chain {
            symbols: 2,
            rows: vec![vec![0.75, 0.25], vec![0.5, 0.5]],
        };
        let stationary = chain.stationary();
        assert!((stationary[0] - 2.0 / 3.0).abs() < 1e-12);
        let h = |p: f64| -p * p.ln() - (1.0 - p) * (1.0 - p).ln();
        let expected = 2.0 / 3.0 * h(0.75) + 1.0 / 3.0 * h(0.5);
        assert!((chain.entropy_rate(&stationary) - expected).abs() < 1e-12);
    }

    #[test]
    fn the_true_chain_reaches_the_floor_and_frequencies_do_not() {
        for order in [1, 2] {
            let mut rng = ChaCha8Rng::seed_from_u64(5);
            let chain = Chain::random(order, 12, 0.3, &mut rng);
            let stationary = chain.stationary();
            let floor = chain.entropy_rate(&stationary);
            let text = chain.sample(&stationary, 200_000, &mut rng);
            let mut state = text[..order].iter().fold(0, |state, s| chain.next(state, *s));
            let losses: Vec<f64> = text[order..]
                .iter()
                .map(|s| {
                    let loss = -chain.rows[state][*s].ln();
                    state = chain.next(state, *s);
                    loss
                })
                .collect();
            let mean = losses.iter().sum::<f64>() / losses.len() as f64;
            // batch means, because neighbouring losses are correlated
            let means: Vec<f64> = losses
                .chunks(1_000)
                .map(|c| c.iter().sum::<f64>() / c.len() as f64)
                .collect();
            let variance = means.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / means.len() as f64;
            let error = (variance / means.len() as f64).sqrt();
            assert!((mean - floor).abs() < 4.0 * error, "{mean} {floor} {error}");
        }
    }

    #[test]
    fn facts_hold_the_floor_below_the_baseline() {
        for order in [1i64, 2] {
            let options = [("order", order.into()), ("length", 50_000.into())];
            let data = Dataset::load(&spec("markov", &options), &DataAccess::anywhere()).unwrap();
            let facts = data.facts();
            let floor = facts.loss_floor.unwrap();
            assert!(
                0.1 < floor && floor < facts.baseline.loss - 0.1,
                "{floor} {:?}",
                facts.baseline
            );
            assert!(facts.baseline.loss < 16f64.ln() + 0.01);
            assert_eq!((facts.vocab, facts.bytes_per_token), (16, Some(1.0)));
            assert_eq!((facts.train_tokens, facts.valid_tokens), (45_000, 5_000));
        }
    }
}
