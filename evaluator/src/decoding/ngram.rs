//! Prompt lookup (2304.04487, and as `prompt_lookup` in other libraries): what followed the same words before.

use super::{Choice, Draft, Guess, Reader};
use crate::ops::Ops;

/// Tokens of an n-gram at most; longer ones are hardly surer.
const LONGEST: usize = 8;

/// Finds the longest end of the text that stands in it before, the latest where there are several, and guesses what
/// followed it there.
#[derive(Clone, Copy, Debug)]
pub struct Ngram;

impl<B: Ops> Draft<B> for Ngram {
    fn guess(
        &mut self,
        text: &[u32],
        _: &[u32],
        most: usize,
        _: &mut Reader<B>,
        _: &mut Choice,
    ) -> Vec<Guess> {
        let followed = followed(text);
        let guesses = followed.iter().take(most);
        guesses
            .map(|token| Guess {
                token: *token,
                shares: None,
            })
            .collect()
    }
}

/// What stands after the longest end of the text that stands in it before.
fn followed(text: &[u32]) -> &[u32] {
    let mut best = (0, text.len());
    for end in (1..text.len()).rev() {
        let back = text[..end].iter().rev().zip(text.iter().rev());
        let length = back.take(LONGEST).take_while(|(a, b)| a == b).count();
        if length > best.0 {
            best = (length, end);
        }
        if length == LONGEST {
            break;
        }
    }
    &text[best.1..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_end_counts_and_of_those_the_latest() {
        assert_eq!(followed(&[1, 2, 3, 4, 2, 5, 1, 2]), [3, 4, 2, 5, 1, 2]);
        assert_eq!(followed(&[1, 2, 3, 1, 2, 4, 1, 2]), [4, 1, 2]);
        assert_eq!(followed(&[7, 7]), [7]);
        assert!(followed(&[1, 2, 3]).is_empty());
        assert!(followed(&[1]).is_empty());
    }
}
