//! Meters: what is measured on the exported model and on its training.
//!
//! A meter is one file and one line in the list below. It names its metrics, so the catalogue knows what can be asked for.

mod decoding;
mod drafted;
mod exits;
mod flops;
mod latency;
mod loss;
mod memory;
mod pass;
mod size;
mod training;

use std::path::Path;

use burn::tensor::{Int, Tensor, TensorData};
use spaces::{Evidence, Measurement};

use crate::{
    EvaluationError,
    data::{Dataset, Form, Rows},
    device::Device,
    energy::Source,
    model::{Inputs, Memory, Model},
    ops::Ops,
    plan::Plan,
    techniques::dynamic::early_exit::calibration::HeldOut,
    training::{Record, to_device},
};

/// Texts that are timed where texts leave early.
const TIMED_TEXTS: usize = 64;

/// What was recorded while the model was trained.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TrainingRun {
    /// Steps, tokens, work, time and energy of everything that was trained or judged.
    pub(crate) record: Record,
    /// The part of it that this trial spent itself; results of stages that others made cost it nothing.
    pub(crate) spent: Record,
    /// The most memory the process held.
    pub(crate) peak_bytes: Option<u64>,
    /// Steps after which the main training was stopped, if it was before its end.
    pub(crate) stopped_at: Option<u64>,
}

/// A model under measurement.
pub(crate) struct Subject<'a, B: Ops> {
    /// The model, read back from its files.
    pub(crate) model: &'a Model<B>,
    pub(crate) plan: &'a Plan,
    pub(crate) data: &'a Dataset,
    /// The folder of its files.
    pub(crate) bundle: &'a Path,
    pub(crate) device: &'a Device,
    /// `None` where the model was not trained just now.
    pub(crate) training: Option<&'a TrainingRun>,
    pub(crate) energy: &'a mut dyn Source,
    /// Last step of the training, for the rows.
    pub(crate) step: u64,
}

macro_rules! meters {
    ($($module:ident),+ $(,)?) => {
        /// Every metric that some meter yields.
        pub(crate) fn metrics() -> Vec<&'static str> {
            let mut all = vec![];
            $(all.extend_from_slice($module::METRICS);)+
            all
        }

        /// Runs every meter.
        pub(crate) fn measure<B: Ops>(subject: &mut Subject<B>) -> Result<Vec<Measurement>, EvaluationError> {
            let mut all = vec![];
            $(all.extend($module::measure(subject)?);)+
            Ok(all)
        }
    };
}

meters! { loss, size, flops, memory, latency, decoding, training }

impl<B: Ops> Subject<'_, B> {
    fn row(&self, metric: &str, value: f64, evidence: Evidence, source: impl Into<String>) -> Measurement {
        Measurement {
            metric: metric.into(),
            step: self.step,
            value,
            spread: None,
            evidence,
            source: source.into(),
        }
    }

    /// How its rows are cut.
    fn rows(&self) -> Rows {
        Rows {
            context: self.plan.served.context,
            form: self.plan.served.kind.form(),
        }
    }

    /// Whether it decodes; other kinds read a whole example in one pass.
    fn decodes(&self) -> bool {
        self.plan.served.kind.writes()
    }

    /// What is read of a held-out example, its rows filled to the full length: `[rows, n]`.
    fn example(&self) -> Tensor<B, 2, Int> {
        let Rows { context, form } = self.rows();
        let tokens = self
            .data
            .validation(1, self.rows(), 1)
            .next()
            .map(|batch| batch.inputs);
        let shape = [form.texts(), form.read(context)];
        let mut tokens: Vec<i32> = tokens.into_iter().flatten().map(|t| t as i32).collect();
        tokens.resize(shape[0] * shape[1], 0);
        Tensor::from_data(TensorData::new(tokens, shape), &self.model.device())
    }

    /// Held-out texts of which half told where texts leave early.
    fn held_out(&self) -> HeldOut<'_> {
        HeldOut {
            data: self.data,
            rows: self.rows(),
            tokens: self.plan.validation_tokens,
        }
    }

    /// What is read where passes are timed: [`Subject::example`], or held-out texts as they are where they leave early.
    fn examples(&self) -> Vec<Inputs<B>> {
        if self.model.exits.is_none() {
            return vec![self.example().into()];
        }
        let device = self.model.device();
        let held_out = self.held_out();
        let texts = held_out.one_by_one().take(TIMED_TEXTS);
        texts.map(|text| to_device::<B>(text, &device).0).collect()
    }

    /// A held-out prompt: half a context, of which the other half is decoded, or a whole text with gaps.
    fn prompt(&self) -> Prompt<B> {
        let example = self.example();
        match self.rows().form {
            Form::Spans(corruption) => Prompt {
                read: Some(example),
                tokens: token(corruption.start, &self.model.device()),
            },
            Form::NextToken | Form::Class | Form::Pair => Prompt {
                read: None,
                tokens: example.narrow(1, 0, (self.plan.served.context / 2).max(1)),
            },
        }
    }

    fn memory(&self) -> Memory<B> {
        let served = &self.plan.served;
        self.model.memory(served, 1, served.capacity())
    }
}

/// What stands before the tokens that are decoded.
#[derive(Clone)]
pub(crate) struct Prompt<B: Ops> {
    /// What a half that reads is given, `[1, n]`.
    pub(crate) read: Option<Tensor<B, 2, Int>>,
    /// The tokens that writing goes on from, `[1, n]`.
    pub(crate) tokens: Tensor<B, 2, Int>,
}

impl<B: Ops> Prompt<B> {
    /// Tokens that writing goes on from.
    fn length(&self) -> usize {
        self.tokens.dims()[1]
    }

    /// What was read, for people.
    fn words(&self) -> String {
        match &self.read {
            Some(read) => format!("{} tokens read", read.dims()[1]),
            None => format!("prompt {}", self.length()),
        }
    }

    /// Reads it into an empty memory and gives the most likely next token, `[1, 1]`; waits for the device.
    pub(crate) fn first_token(&self, model: &Model<B>, memory: &mut Memory<B>) -> Tensor<B, 2, Int> {
        if let Some(read) = &self.read {
            model.read(read.clone(), memory);
        }
        next_token(model, self.tokens.clone(), memory)
    }
}

/// Whether a metric tells how well what is asked is foretold.
pub(crate) fn of_quality(metric: &str) -> bool {
    loss::METRICS.contains(&metric)
}

/// One token, `[1, 1]`.
fn token<B: Ops>(id: u32, device: &B::Device) -> Tensor<B, 2, Int> {
    Tensor::from_data(TensorData::new(vec![id as i32], [1, 1]), device)
}

/// Takes in a token and gives the most likely next one, `[1, 1]`; waits for the device.
pub(crate) fn next_token<B: Ops>(
    model: &Model<B>,
    tokens: Tensor<B, 2, Int>,
    memory: &mut Memory<B>,
) -> Tensor<B, 2, Int> {
    let device = tokens.device();
    let chosen = model.extend(tokens, memory).argmax(1);
    let id = chosen.into_data().iter::<i64>().next().unwrap_or(0);
    token(id as u32, &device)
}

/// Median and half the distance between the quartiles.
pub(crate) fn median_and_spread(values: &mut [f64]) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |q: f64| values[((values.len() - 1) as f64 * q).round() as usize];
    (at(0.5), 0.5 * (at(0.75) - at(0.25)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_in_the_vocabulary_once() {
        let mut names = metrics();
        assert!(names.iter().all(|n| spaces::metric(n).is_some()));
        names.sort_unstable();
        assert!(names.windows(2).all(|w| w[0] != w[1]));
    }

    #[test]
    fn the_spread_is_half_the_middle_half() {
        assert_eq!(median_and_spread(&mut [5.0, 1.0, 3.0, 2.0, 4.0]), (3.0, 1.0));
    }
}
