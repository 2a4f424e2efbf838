//! Filling the gaps of a text with a model that was trained to.

use burn::tensor::{Int, Tensor, TensorData};

use crate::{
    EvaluationError,
    bundle_use::Sampling,
    data::{Corruption, Form, Tokenizer},
    decoding::{Choice, Laws},
    model::{Model, ModelPlan},
    ops::Ops,
};

/// What stands for a gap, as do more of the same sign.
const GAP: &str = "___";

/// A text with gaps, as the model reads it.
struct Gaps<'a> {
    /// The text around the gaps, one piece more than there are gaps.
    pieces: Vec<&'a str>,
    /// Tokens of the pieces, and a sentinel for each gap.
    read: Vec<u32>,
}

impl<'a> Gaps<'a> {
    fn read(
        prompt: &'a str,
        plan: &ModelPlan,
        corruption: Corruption,
        tokenizer: &Tokenizer,
    ) -> Result<Self, EvaluationError> {
        let pieces = pieces(prompt);
        let (gaps, known) = (pieces.len() - 1, plan.kind.more_tokens() - 2);
        if gaps == 0 {
            let message =
                "the prompt has no gap, and this model fills gaps; write ___ where text is to be filled in";
            return Err(EvaluationError::Invalid(message.into()));
        }
        if gaps > known {
            return Err(EvaluationError::Invalid(format!(
                "the prompt has {gaps} gaps and this model was trained on {known}; use fewer gaps"
            )));
        }
        let mut read = tokenizer.encode(pieces[0])?;
        for (gap, piece) in pieces[1..].iter().enumerate() {
            read.push(corruption.sentinel(gap));
            read.extend(tokenizer.encode(piece)?);
        }
        let most = corruption.read(plan.context);
        if read.len() > most {
            return Err(EvaluationError::Invalid(format!(
                "the prompt is {} tokens and this model reads {most} at once; use a shorter prompt",
                read.len()
            )));
        }
        Ok(Gaps { pieces, read })
    }
}

/// The text around the gaps of a prompt.
fn pieces(prompt: &str) -> Vec<&str> {
    let (mut pieces, mut rest) = (vec![], prompt);
    while let Some((piece, after)) = rest.split_once(GAP) {
        pieces.push(piece);
        rest = after.trim_start_matches('_');
    }
    pieces.push(rest);
    pieces
}

/// Hands over a prompt piece after piece, each gap filled until the model ends it or one token is left for each later gap.
pub(crate) fn fill<B: Ops>(
    (model, plan): (&Model<B>, &ModelPlan),
    tokenizer: &Tokenizer,
    prompt: &str,
    sampling: Sampling,
    write: &mut dyn FnMut(&str),
) -> Result<(), EvaluationError> {
    let Form::Spans(corruption) = plan.kind.form() else {
        unreachable!("only a model of gaps is asked to fill them");
    };
    let gaps = Gaps::read(prompt, plan, corruption, tokenizer)?;
    let count = gaps.pieces.len() - 1;
    let row = |ids: &[u32]| {
        let ids: Vec<i32> = ids.iter().map(|id| *id as i32).collect();
        let n = ids.len();
        Tensor::<B, 2, Int>::from_data(TensorData::new(ids, [1, n]), &model.device())
    };
    // the beginning and a sentinel for each gap take room too
    let mut left = sampling.tokens.min(plan.capacity() - 1 - count);
    let mut choice = Choice::new(sampling.temperature, sampling.seed);
    let mut memory = model.memory(plan, 1, plan.capacity());
    model.read(row(&gaps.read), &mut memory);
    model.extend(row(&[corruption.start]), &mut memory);
    write(gaps.pieces[0]);
    for (gap, piece) in gaps.pieces[1..].iter().enumerate() {
        let mut logits = model.extend(row(&[corruption.sentinel(gap)]), &mut memory);
        let mut span = vec![];
        while span.len() + (count - 1 - gap) < left {
            let laws = Laws::read(allowed(logits, corruption, gap, span.len()), choice.temperature);
            let chosen = laws.at(0).draw(&mut choice.random);
            if chosen == corruption.start {
                break;
            }
            span.push(chosen);
            logits = model.extend(row(&[chosen]), &mut memory);
        }
        left -= span.len();
        write(&tokenizer.decode(&span)?);
        write(piece);
    }
    Ok(())
}

/// Logits `[1, start]` of the text's tokens, and once the gap holds one also, last, that of the sentinel which ends it.
fn allowed<B: Ops>(logits: Tensor<B, 2>, corruption: Corruption, gap: usize, held: usize) -> Tensor<B, 2> {
    let text = logits.clone().narrow(1, 0, corruption.start as usize);
    if held == 0 {
        return text;
    }
    let end = logits.narrow(1, corruption.sentinel(gap + 1) as usize, 1);
    Tensor::cat(vec![text, end], 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_underscores_is_one_gap() {
        assert_eq!(pieces("a ___ b"), ["a ", " b"]);
        assert_eq!(pieces("______x_y__z___"), ["", "x_y__z", ""]);
        assert_eq!(pieces("nothing"), ["nothing"]);
    }
}
