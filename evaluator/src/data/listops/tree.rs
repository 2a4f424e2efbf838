//! The published ListOps generator, and what an expression is worth.
//!
//! Long Range Arena, arXiv 2011.04006.

use rand::{Rng, RngExt};

/// Words by token id: padding, the ten digits, operators, the closing bracket, the question.
pub(super) const WORDS: [&str; 17] = [
    "<pad>", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "[MIN", "[MAX", "[MED", "[SM", "]", "=",
];
/// Token of the digit 0; the others follow.
pub(super) const ZERO: u8 = 1;
/// Token of `[MIN`; the other operators follow.
pub(super) const MIN: u8 = 11;
const MAX: u8 = 12;
const MED: u8 = 13;
const SM: u8 = 14;
/// Token of `]`.
pub(super) const CLOSE: u8 = 15;
/// Token of `=`, which asks for the value.
pub(super) const EQUALS: u8 = 16;

/// Probability that a place below the deepest level becomes an operator.
const OPERATOR: f64 = 0.25;

/// What shapes an expression.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Levels of nesting, the root being level 1.
    pub(super) max_depth: usize,
    /// Most arguments of an operator; the fewest are two.
    pub(super) max_args: usize,
    /// Only expressions with more tokens are kept.
    pub(super) min_length: usize,
    /// Only expressions with fewer tokens are kept.
    pub(super) max_length: usize,
}

impl Shape {
    /// One random expression, or `None` if its length does not qualify.
    pub(super) fn attempt(&self, rng: &mut impl Rng) -> Option<Vec<u8>> {
        let mut tokens = vec![];
        self.grow(rng, 1, &mut tokens);
        (self.min_length < tokens.len() && tokens.len() < self.max_length).then_some(tokens)
    }

    fn grow(&self, rng: &mut impl Rng, depth: usize, tokens: &mut Vec<u8>) {
        // too long already: what would follow cannot make it qualify
        if tokens.len() >= self.max_length {
            return;
        }
        if depth >= self.max_depth || rng.random::<f64>() > OPERATOR {
            tokens.push(ZERO + rng.random_range(0..10u8));
            return;
        }
        tokens.push(rng.random_range(MIN..=SM));
        for _ in 0..rng.random_range(2..=self.max_args) {
            self.grow(rng, depth + 1, tokens);
        }
        tokens.push(CLOSE);
    }
}

/// The digit that an expression is worth; `None` if the tokens are no expression.
pub(super) fn value(tokens: &[u8]) -> Option<u8> {
    let mut open: Vec<(u8, Vec<u8>)> = vec![];
    for (i, token) in tokens.iter().enumerate() {
        let value = match *token {
            operator @ MIN..=SM => {
                open.push((operator, vec![]));
                continue;
            }
            CLOSE => {
                let (operator, arguments) = open.pop()?;
                apply(operator, arguments)?
            }
            digit if (ZERO..ZERO + 10).contains(&digit) => digit - ZERO,
            _ => return None,
        };
        match open.last_mut() {
            Some((_, arguments)) => arguments.push(value),
            None if i + 1 == tokens.len() => return Some(value),
            None => return None,
        }
    }
    None
}

fn apply(operator: u8, mut arguments: Vec<u8>) -> Option<u8> {
    match operator {
        MIN => arguments.into_iter().min(),
        MAX => arguments.into_iter().max(),
        MED => {
            arguments.sort_unstable();
            let middle = arguments.len() / 2;
            let upper = *arguments.get(middle)?;
            // the mean of the two middle values is truncated, as the published labels are
            Some(if arguments.len() % 2 == 1 {
                upper
            } else {
                (arguments[middle - 1] + upper) / 2
            })
        }
        SM if !arguments.is_empty() => {
            Some((arguments.iter().map(|a| u32::from(*a)).sum::<u32>() % 10) as u8)
        }
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    pub(crate) fn tokens(text: &str) -> Vec<u8> {
        text.split_whitespace()
            .map(|word| WORDS.iter().position(|w| *w == word).unwrap() as u8)
            .collect()
    }

    /// Recursive descent over the words, by another method than the stack above.
    fn independent(words: &mut dyn Iterator<Item = &'static str>) -> Option<f64> {
        let word = words.next().unwrap();
        if word == "]" {
            return None;
        }
        if let Ok(digit) = word.parse::<f64>() {
            return Some(digit);
        }
        let mut arguments = vec![];
        while let Some(argument) = independent(words) {
            arguments.push(argument);
        }
        arguments.sort_by(f64::total_cmp);
        let n = arguments.len();
        Some(match word {
            "[MIN" => arguments[0],
            "[MAX" => arguments[n - 1],
            "[MED" => ((arguments[(n - 1) / 2] + arguments[n / 2]) / 2.0).trunc(),
            "[SM" => arguments.iter().sum::<f64>().rem_euclid(10.0),
            other => panic!("{other}"),
        })
    }

    const SMALL: Shape = Shape {
        max_depth: 5,
        max_args: 5,
        min_length: 16,
        max_length: 64,
    };

    proptest! {
        #[test]
        fn labels_equal_an_independent_evaluator(seed: u64) {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let shape = Shape { min_length: 0, max_args: 10, ..SMALL };
            for tokens in (0..50).filter_map(|_| shape.attempt(&mut rng)) {
                let mut words = tokens.iter().map(|t| WORDS[usize::from(*t)]);
                prop_assert_eq!(value(&tokens).map(f64::from), independent(&mut words));
                prop_assert!(words.next().is_none());
            }
        }
    }

    #[test]
    fn hand_cases() {
        for (text, expected) in [
            ("7", Some(7)),
            ("[MAX 2 9 [MIN 4 7 ] 0 ]", Some(9)),
            ("[SM 5 6 7 ]", Some(8)),
            ("[MED 1 2 ]", Some(1)),
            ("[MED 1 2 4 9 ]", Some(3)),
            ("[MED 9 1 5 ]", Some(5)),
            ("[MIN ]", None),
            ("[SM ]", None),
            ("[MED ]", None),
            ("[MIN 1 2", None),
            ("1 2", None),
            ("1 ]", None),
            ("=", None),
            ("", None),
        ] {
            assert_eq!(value(&tokens(text)), expected, "{text}");
        }
    }

    /// Acceptance rate and mean length of what is accepted.
    fn statistics(shape: Shape, attempts: usize) -> (f64, f64, Vec<Vec<u8>>) {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let kept: Vec<_> = (0..attempts).filter_map(|_| shape.attempt(&mut rng)).collect();
        let length: usize = kept.iter().map(Vec::len).sum();
        (
            kept.len() as f64 / attempts as f64,
            length as f64 / kept.len() as f64,
            kept,
        )
    }

    #[test]
    fn the_official_settings_have_their_known_statistics() {
        let official = Shape {
            max_depth: 10,
            max_args: 10,
            min_length: 500,
            max_length: 2000,
        };
        let (acceptance, length, kept) = statistics(official, 60_000);
        assert!((acceptance - 0.083).abs() < 0.005, "{acceptance}");
        assert!((length - 1036.0).abs() < 25.0, "{length}");
        let share = |label| {
            let n = kept.iter().filter(|t| value(t) == Some(label)).count();
            n as f64 / kept.len() as f64
        };
        assert!((share(0) - 0.168).abs() < 0.02 && (share(9) - 0.169).abs() < 0.02);
        assert!((1..9).all(|label| (0.06..0.105).contains(&share(label))));
        for operator in MIN..=SM {
            let roots = kept.iter().filter(|t| t[0] == operator).count() as f64 / kept.len() as f64;
            assert!((roots - 0.25).abs() < 0.03, "{roots}");
        }
    }

    #[test]
    fn small_settings_have_their_known_statistics() {
        let (acceptance, length, _) = statistics(SMALL, 200_000);
        assert!((acceptance - 0.091).abs() < 0.004, "{acceptance}");
        assert!((length - 29.5).abs() < 0.5, "{length}");
        let smaller = Shape {
            max_depth: 4,
            min_length: 8,
            max_length: 48,
            ..SMALL
        };
        let (acceptance, length, _) = statistics(smaller, 200_000);
        assert!((acceptance - 0.142).abs() < 0.004, "{acceptance}");
        assert!((length - 18.3).abs() < 0.3, "{length}");
    }

    #[test]
    fn leaf_digits_are_uniform() {
        let (_, _, kept) = statistics(SMALL, 100_000);
        let mut counts = [0f64; 10];
        for token in kept.iter().flatten().filter(|t| (ZERO..MIN).contains(t)) {
            counts[usize::from(*token - ZERO)] += 1.0;
        }
        let expected = counts.iter().sum::<f64>() / 10.0;
        let chi_square: f64 = counts.iter().map(|n| (n - expected).powi(2) / expected).sum();
        // the 99.9 % quantile with nine degrees of freedom
        assert!(expected > 1e4 && chi_square < 27.88, "{chi_square}");
    }
}
