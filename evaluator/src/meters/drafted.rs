//! Writing with a draft: the most likely text, as plain decoding has it, in fewer calls of the model.

use std::time::Instant;

use spaces::{Evidence, Measurement};

use super::{Subject, median_and_spread};
use crate::{
    EvaluationError, counter,
    decoding::{Choice, Draft, Reader, Written, write_on},
    energy,
    model::{Model, ModelPlan},
    ops::Ops,
    pool::awake,
    techniques::dynamic::draft::{ACTIVITY, DraftPlan},
};

/// Writes so many tokens after a prompt, and tells `grown` how many there are each time that there are more.
pub(super) fn write<B: Ops>(
    (model, plan): (&Model<B>, &ModelPlan),
    draft: DraftPlan,
    mut text: Vec<u32>,
    tokens: usize,
    grown: &mut dyn FnMut(usize),
) -> Result<Written, EvaluationError> {
    let mut guesses = draft.open::<B>(plan).map_err(EvaluationError::Invalid)?;
    let prompt = text.len();
    let mut reader = Reader::new(model, plan, prompt);
    let written = write_on(
        &mut reader,
        &mut text,
        tokens,
        Some((guesses.as_mut() as &mut dyn Draft<B>, draft.tokens)),
        &mut Choice::new(0.0, 0),
        &mut |text| {
            grown(text.len() - prompt);
            Ok(())
        },
    )?;
    let counts = [written.calls, written.tokens, written.scored, written.accepted];
    for (name, n) in ACTIVITY.into_iter().zip(counts) {
        counter::add_activity(name, n);
    }
    Ok(written)
}

impl<B: Ops> Subject<'_, B> {
    /// The tokens of the held-out prompt that text is written after.
    fn prompt_tokens(&self) -> Vec<u32> {
        let tokens = self.prompt().tokens.into_data();
        tokens.iter::<i64>().map(|token| token as u32).collect()
    }

    fn write_after(
        &self,
        draft: DraftPlan,
        prompt: Vec<u32>,
        tokens: usize,
        grown: &mut dyn FnMut(usize),
    ) -> Result<Written, EvaluationError> {
        write((self.model, &self.plan.served), draft, prompt, tokens, grown)
    }
}

/// Time to the first tokens and of each later one: `time_to_first_token_ms` and `latency_ms_per_token`.
pub(super) fn latency<B: Ops>(
    s: &Subject<B>,
    draft: DraftPlan,
    (warm_up, repetitions, most): (usize, usize, usize),
) -> Result<Vec<Measurement>, EvaluationError> {
    let prompt = s.prompt_tokens();
    let tokens = most.min(s.plan.served.context - prompt.len());
    let (mut first, mut later) = (vec![], vec![]);
    let mut all = Written::default();
    awake(|| {
        for repetition in 0..warm_up + repetitions {
            let started = Instant::now();
            let mut begun = None;
            let written = s.write_after(draft, prompt.clone(), tokens, &mut |n| {
                begun.get_or_insert((started.elapsed().as_secs_f64(), n));
            })?;
            let whole = started.elapsed().as_secs_f64();
            if let (Some((until, n)), true) = (begun, repetition >= warm_up) {
                first.push(until * 1e3);
                if tokens > n {
                    later.push((whole - until) * 1e3 / (tokens - n) as f64);
                }
                all = written;
            }
        }
        Ok::<_, EvaluationError>(())
    })?;
    let protocol = format!(
        "clock: batch 1, prompt {}, {}, {:.2} tokens for each call, {warm_up} warm-up, ",
        prompt.len(),
        draft.words(),
        all.tokens_per_call()
    );
    let mut rows = vec![];
    for (metric, times) in [
        ("time_to_first_token_ms", &mut first),
        ("latency_ms_per_token", &mut later),
    ] {
        if times.is_empty() {
            continue; // the first call wrote everything
        }
        let source = format!("{protocol}median of {}", times.len());
        let (median, spread) = median_and_spread(times);
        rows.push(Measurement {
            spread: Some(spread),
            ..s.row(metric, median, Evidence::Measured, source)
        });
    }
    Ok(rows)
}

/// Texts for as long as the energy counter needs: what they took, and the tokens that were written.
pub(super) fn work<B: Ops>(
    s: &mut Subject<B>,
    draft: DraftPlan,
) -> Result<(energy::Reading, u64), EvaluationError> {
    let (prompt, window) = (s.prompt_tokens(), s.energy.shortest_window());
    let (model, plan) = (s.model, &s.plan.served);
    let tokens = (plan.context - prompt.len()).max(1);
    let mut done = 0u64;
    let measured = energy::measure(s.energy, || {
        awake(|| {
            let started = Instant::now();
            while started.elapsed() < window || done == 0 {
                let written = write((model, plan), draft, prompt.clone(), tokens, &mut |_| ())?;
                done += written.tokens as u64;
            }
            Ok::<_, EvaluationError>(())
        })
    });
    let (result, reading) = measured.map_err(EvaluationError::Device)?;
    result?;
    Ok((reading, done))
}

/// Executed work of a token, over a whole context written after one token.
pub(super) fn flops<B: Ops>(s: &Subject<B>, draft: DraftPlan) -> Result<Measurement, EvaluationError> {
    let first = s.prompt_tokens()[..1].to_vec();
    let tokens = s.plan.served.context - 1;
    let (written, macs) = counter::count_macs(|| s.write_after(draft, first, tokens, &mut |_| ()));
    let written = written?;
    let source = format!(
        "operation_counter: {tokens} tokens in {} calls, {}, {} of {} kept",
        written.calls,
        draft.words(),
        written.accepted,
        written.scored
    );
    let per_token = 2.0 * macs as f64 / tokens as f64;
    Ok(s.row("inference_flops_per_token", per_token, Evidence::Measured, source))
}
