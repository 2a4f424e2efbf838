//! Span corruption (1910.10683 §3.1.4): spans of a text are taken out, and what was taken out is to be written.
//!
//! Of `n` tokens `round(n rate)` are noise, in `round(noise / mean_span)` spans with text between them, and every choice of
//! such spans is as likely as any other. What is read has a sentinel in the place of each span; what is written is each
//! sentinel with its span, and one sentinel more at the end.
//!
//! T5's code lets every text begin with what is kept and end with noise. A model that was never shown a gap with text to its
//! end does not fill one, so here a text begins and ends either way.

use rand::{Rng, seq::index::sample};
use serde::{Deserialize, Serialize};

/// How texts are corrupted, and which ids beyond the text's own stand for what.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Corruption {
    /// Share of tokens that are noise.
    pub rate: f64,
    /// Mean tokens of a span.
    pub mean_span: f64,
    /// The id that writing begins with, the first one beyond those of the text; sentinels follow it.
    pub start: u32,
}

/// A corrupted text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corrupted {
    /// What is read: the text, each span of noise replaced by its sentinel.
    pub read: Vec<u32>,
    /// What is to be written: each sentinel, followed by its span, and a last sentinel.
    pub written: Vec<u32>,
}

impl Corruption {
    /// Tokens of noise and spans of a text of `n >= 2` tokens; at least one of each, and a token of text between spans.
    pub fn noise(&self, n: usize) -> (usize, usize) {
        let noise = ((n as f64 * self.rate).round() as usize).clamp(1, n - 1);
        let spans = (noise as f64 / self.mean_span).round() as usize;
        (noise, spans.clamp(1, noise.min(n - noise + 1)))
    }

    /// Tokens that are read of a text of `n`.
    pub fn read(&self, n: usize) -> usize {
        let (noise, spans) = self.noise(n);
        n - noise + spans
    }

    /// Tokens that are written of a text of `n`.
    pub fn written(&self, n: usize) -> usize {
        let (noise, spans) = self.noise(n);
        noise + spans + 1
    }

    /// Sentinels that a text of `n` needs.
    pub fn sentinels(&self, n: usize) -> usize {
        self.noise(n).1 + 1
    }

    /// The id of a sentinel, from 0.
    pub fn sentinel(&self, i: usize) -> u32 {
        self.start + 1 + i as u32
    }

    /// Corrupts a text of at least two tokens.
    pub fn corrupt(&self, text: &[u32], rng: &mut impl Rng) -> Corrupted {
        let (noise, spans) = self.noise(text.len());
        let taken = segments(noise, spans, rng);
        // at both ends there may be nothing: as with a token more there that is not part of the text
        let mut kept = segments(text.len() - noise + 2, spans + 1, rng);
        kept[0] -= 1;
        let (mut read, mut written) = (vec![], vec![]);
        let mut rest = text;
        for (i, (kept, taken)) in kept.into_iter().zip(taken).enumerate() {
            let (here, after) = rest.split_at(kept);
            let (span, after) = after.split_at(taken);
            read.extend_from_slice(here);
            read.push(self.sentinel(i));
            written.push(self.sentinel(i));
            written.extend_from_slice(span);
            rest = after;
        }
        read.extend_from_slice(rest);
        written.push(self.sentinel(spans));
        Corrupted { read, written }
    }
}

/// Lengths of `count` segments of `n` things, at least one in each.
fn segments(n: usize, count: usize, rng: &mut impl Rng) -> Vec<usize> {
    let mut ends = sample(rng, n - 1, count - 1).into_vec();
    ends.sort_unstable();
    let ends = ends.into_iter().map(|i| i + 1).chain([n]);
    let mut start = 0;
    ends.map(|end| {
        let length = end - start;
        start = end;
        length
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const START: u32 = 1000;

    fn corruption(rate: f64, mean_span: f64) -> Corruption {
        Corruption {
            rate,
            mean_span,
            start: START,
        }
    }

    /// The text again, from what is read and what is written.
    fn restored(corrupted: &Corrupted) -> Vec<u32> {
        let mut spans: Vec<Vec<u32>> = vec![];
        for token in &corrupted.written {
            if *token > START {
                assert_eq!(
                    *token,
                    START + 1 + spans.len() as u32,
                    "sentinels come in their order"
                );
                spans.push(vec![]);
            } else {
                spans.last_mut().unwrap().push(*token);
            }
        }
        assert_eq!(spans.pop(), Some(vec![]), "nothing follows the last sentinel");
        let mut all = vec![];
        let mut spans = spans.into_iter();
        for token in &corrupted.read {
            if *token > START {
                all.extend(spans.next().unwrap());
            } else {
                all.push(*token);
            }
        }
        assert_eq!(spans.next(), None);
        all
    }

    proptest! {
        #[test]
        fn what_is_read_and_written_together_is_the_text(
            n in 2usize..300, rate in 0.1f64..0.8, mean_span in 1.0f64..8.0, seed: u64,
        ) {
            let text: Vec<u32> = (0..n as u32).map(|i| i * i % 997).collect();
            let corruption = corruption(rate, mean_span);
            let (noise, spans) = corruption.noise(n);
            prop_assert!((noise as f64 - n as f64 * rate).abs() <= 0.5 || noise == 1 || noise == n - 1);
            let got = corruption.corrupt(&text, &mut ChaCha8Rng::seed_from_u64(seed));
            prop_assert_eq!(restored(&got), text);
            prop_assert_eq!(got.written.len(), noise + spans + 1);
            prop_assert_eq!(got.read.len(), n - noise + spans);
            prop_assert_eq!((got.read.len(), got.written.len()), (corruption.read(n), corruption.written(n)));
            let gaps: Vec<usize> = (0..got.read.len()).filter(|i| got.read[*i] > START).collect();
            prop_assert!(gaps.windows(2).all(|w| w[1] > w[0] + 1), "there is text between gaps");
            let last = got.written.iter().max().unwrap();
            prop_assert_eq!(*last as usize, START as usize + corruption.sentinels(n));
        }

        #[test]
        fn a_shorter_text_never_needs_more_room(n in 3usize..400, rate in 0.1f64..0.8, mean_span in 1.0f64..8.0) {
            let c = corruption(rate, mean_span);
            prop_assert!(c.read(n - 1) <= c.read(n) && c.written(n - 1) <= c.written(n));
            prop_assert!(c.sentinels(n - 1) <= c.sentinels(n));
        }
    }

    #[test]
    fn the_usual_numbers_are_those_of_the_paper() {
        // 512 tokens at 15 % in spans of 3: 77 tokens of noise in 26 spans
        let c = corruption(0.15, 3.0);
        assert_eq!(c.noise(512), (77, 26));
        assert_eq!((c.read(512), c.written(512)), (461, 104));
        assert_eq!(
            corruption(0.8, 1.0).noise(10),
            (8, 3),
            "spans have text between them"
        );
    }

    /// Within 4.5 standard deviations of a binomial count.
    fn is_likely(hits: usize, draws: usize, p: f64) -> bool {
        let deviation = (draws as f64 * p * (1.0 - p)).sqrt();
        (hits as f64 - draws as f64 * p).abs() < 4.5 * deviation
    }

    #[test]
    fn every_division_is_as_likely_as_any_other() {
        // 9 things in 3 parts: the first is j in 8 - j of 28 ways, and so is each of the others
        let (draws, mut rng) = (20_000, ChaCha8Rng::seed_from_u64(5));
        let mut seen = [[0usize; 8]; 3];
        for _ in 0..draws {
            for (part, length) in segments(9, 3, &mut rng).into_iter().enumerate() {
                seen[part][length] += 1;
            }
        }
        for part in seen {
            for (length, hits) in part.into_iter().enumerate().skip(1) {
                assert!(
                    is_likely(hits, draws, (8 - length) as f64 / 28.0),
                    "{length}: {hits}"
                );
            }
        }
    }

    #[test]
    fn tokens_within_a_text_are_noise_as_often_as_the_rate_says() {
        let (draws, n) = (4000, 240);
        let text: Vec<u32> = (0..n).collect();
        for (rate, mean_span) in [(0.15, 3.0), (0.5, 5.0)] {
            let mut rng = ChaCha8Rng::seed_from_u64(11);
            let mut noise = vec![0usize; n as usize];
            for _ in 0..draws {
                let got = corruption(rate, mean_span).corrupt(&text, &mut rng);
                let spans = got.written.iter().filter(|t| **t < START);
                spans.for_each(|t| noise[*t as usize] += 1);
            }
            assert_eq!(
                noise.iter().sum::<usize>(),
                draws * (f64::from(n) * rate).round() as usize
            );
            for (at, hits) in noise.iter().enumerate().skip(80).take(80) {
                assert!(is_likely(*hits, draws, rate), "{rate} at {at}: {}", hits);
            }
            // one of the spans lies in each of as many places as there are tokens kept and one
            let (taken, spans) = corruption(rate, mean_span).noise(n as usize);
            let at_end = spans as f64 / (n as usize - taken + 1) as f64;
            for end in [noise[0], noise[n as usize - 1]] {
                assert!(is_likely(end, draws, at_end), "{rate} at an end: {end}");
            }
        }
    }
}
