//! Models that give logits after some of their layers, for training all of them and for serving the first that is sure.

use burn::tensor::{Bool, Int, Tensor, TensorData};

use super::{Inputs, Memory, Model, attention::Sight, halves::both, reversible::Stream, whole::Entered};
use crate::{
    counter,
    ops::{Lengths, Ops},
    techniques::dynamic::early_exit::{EXITS_ACTIVITY, EarlyExit, Heard, similarity},
};

/// What serving texts, or tokens of texts that are written, gives.
pub struct Exited<B: Ops> {
    /// `[rows, scored, outputs]`
    pub logits: Tensor<B, 3>,
    /// Layers that each row went through, or else each token, row after row.
    pub depths: Vec<usize>,
}

/// What an exit says.
struct Said<B: Ops> {
    /// Whether it is sure of each text, or of each token.
    sure: Vec<bool>,
    /// Its logits, where it took them to know.
    logits: Option<Tensor<B, 3>>,
}

impl<B: Ops> Model<B> {
    /// The logits of each depth at which a text or token can leave, `[rows, scored, outputs]`, those of the last layer last,
    /// and the sum of the routers' balance losses.
    ///
    /// # Panics
    /// If the model has no exits or rows are longer than the plan's context.
    pub fn forward_at_exits(
        &self,
        inputs: impl Into<Inputs<B>>,
    ) -> (Vec<Tensor<B, 3>>, Option<Tensor<B, 1>>) {
        let exits = self.exits.expect("only a model with exits is asked for them");
        let Entered { x, angles, lengths } = self.enter(inputs.into());
        let (mut x, mut auxiliary, mut all) = (Stream::One(x), None, vec![]);
        let layers = self.blocks.len();
        for (i, block) in self.blocks.iter().enumerate() {
            let (y, more) = x.through(block, angles.clone(), None);
            auxiliary = both(auxiliary, more);
            if exits.is_after(i + 1, layers) {
                all.push(self.logits(y.clone().end(), lengths.as_ref()));
            }
            x = y;
        }
        all.push(self.logits(x.end(), lengths.as_ref()));
        (all, auxiliary)
    }

    /// Class logits of texts, each from the first exit that is sure enough. Later blocks are given only the texts that are
    /// left; waits for the device at each exit.
    ///
    /// # Panics
    /// As [`Model::forward_at_exits`].
    pub fn serve(&self, inputs: impl Into<Inputs<B>>) -> Exited<B> {
        let exits = self.exits.expect("only a model with exits is asked for them");
        let Entered {
            mut x,
            mut angles,
            mut lengths,
        } = self.enter(inputs.into());
        let (rows, layers) = (x.dims()[0], self.blocks.len());
        let mut left: Vec<usize> = (0..rows).collect();
        let mut heard = vec![Heard::default(); rows];
        let (mut gone, mut parts, mut depths) = (vec![], vec![], vec![layers; rows]);
        for (i, block) in self.blocks.iter().enumerate() {
            x = Stream::One(x).through(block, angles.clone(), None).0.end();
            let depth = i + 1;
            if !exits.is_after(depth, layers) {
                continue;
            }
            let Said { sure, logits } = self.ask(exits, None, x.clone(), lengths.as_ref(), &mut heard);
            let of = |wanted: bool| {
                (0..left.len())
                    .filter(|row| sure[*row] == wanted)
                    .collect::<Vec<_>>()
            };
            let (leaving, staying) = (of(true), of(false));
            if leaving.is_empty() {
                continue;
            }
            counter::add_activity(EXITS_ACTIVITY, leaving.len());
            let logits = logits.expect("a text leaves by its logits");
            parts.push(select(logits, &leaving));
            for row in leaving {
                depths[left[row]] = depth;
                gone.push(left[row]);
            }
            left = staying.iter().map(|row| left[*row]).collect();
            heard = staying.iter().map(|row| heard[*row]).collect();
            if left.is_empty() {
                break;
            }
            x = select(x, &staying);
            lengths = lengths.map(|all| Lengths::new(staying.iter().map(|row| all.of(*row)).collect()));
            angles.sight = Sight::BothWays(lengths.clone());
        }
        if !left.is_empty() {
            parts.push(self.logits(x, lengths.as_ref()));
            gone.append(&mut left);
        }
        // in the order of the rows again
        let mut places = vec![0; rows];
        for (place, row) in gone.into_iter().enumerate() {
            places[row] = place;
        }
        Exited {
            logits: select(Tensor::cat(parts, 0), &places),
            depths,
        }
    }

    /// [`Model::extend`] with one token of one text, which leaves at the first exit that is sure: logits `[1, 1, vocabulary]`.
    /// The layers that it skips take its keys and values from the state that it left with, so that later tokens see it in
    /// all of them (2207.07061). Waits for the device at each exit.
    ///
    /// # Panics
    /// As [`Model::extend`]; also if the model has no exits, or the memory is one of the first blocks alone.
    pub fn extend_until_sure(&self, token: Tensor<B, 2, Int>, memory: &mut Memory<B>) -> Exited<B> {
        let exits = self.exits.expect("only a model with exits is asked for them");
        let layers = self.blocks.len();
        let angles = self.angles(memory.position, 1, Sight::Back);
        memory.position += 1;
        let mut x = self.embed(token);
        let mut heard = [Heard::default()];
        for (i, block) in self.blocks.iter().enumerate() {
            let (depth, before) = (i + 1, exits.compared(&x));
            let state = Some(&mut memory.states[i]);
            x = Stream::One(x).through(block, angles.clone(), state).0.end();
            if !exits.is_after(depth, layers) {
                continue;
            }
            let Said { sure, logits } = self.ask(exits, before, x.clone(), None, &mut heard);
            if !sure[0] {
                continue;
            }
            counter::add_activity(EXITS_ACTIVITY, 1);
            for (block, state) in self.blocks.iter().zip(&mut memory.states).skip(depth) {
                block.append(x.clone(), &angles, state);
            }
            return Exited {
                logits: logits.unwrap_or_else(|| self.logits(x, None)),
                depths: vec![depth],
            };
        }
        Exited {
            logits: self.logits(x, None),
            depths: vec![layers],
        }
    }

    /// What [`Model::extend_until_sure`] gives of each token of whole rows, if one follows the other from an empty memory. It
    /// is found layer by layer for all of them: a token that has left keeps its state, and later layers take keys and values
    /// from that. Nothing is saved.
    ///
    /// # Panics
    /// If rows are longer than the plan's context.
    pub fn serve_at_once(&self, exits: EarlyExit, inputs: impl Into<Inputs<B>>) -> Exited<B> {
        let Entered { mut x, angles, .. } = self.enter(inputs.into());
        let ([rows, n, width], layers) = (x.dims(), self.blocks.len());
        let mut depths = vec![layers; rows * n];
        let (mut gone, mut heard) = (vec![false; rows * n], vec![Heard::default(); rows * n]);
        for (i, block) in self.blocks.iter().enumerate() {
            let (depth, before) = (i + 1, x.clone());
            x = Stream::One(x).through(block, angles.clone(), None).0.end();
            if gone.contains(&true) {
                let kept = TensorData::new(gone.clone(), [rows, n, 1]);
                let kept = Tensor::<B, 3, Bool>::from_data(kept, &x.device());
                x = x.mask_where(kept.expand([rows, n, width]), before.clone());
            }
            if !exits.is_after(depth, layers) {
                continue;
            }
            let said = self.ask(exits, exits.compared(&before), x.clone(), None, &mut heard);
            for (token, sure) in said.sure.into_iter().enumerate() {
                if sure && !gone[token] {
                    (gone[token], depths[token]) = (true, depth);
                }
            }
        }
        Exited {
            logits: self.logits(x, None),
            depths,
        }
    }

    /// What an exit says of a stream `x [rows, n, width]`, which was `before` the last layer where that is compared, after what
    /// was `heard` of each text or token; waits for the device.
    fn ask(
        &self,
        exits: EarlyExit,
        before: Option<Tensor<B, 3>>,
        x: Tensor<B, 3>,
        lengths: Option<&Lengths>,
        heard: &mut [Heard],
    ) -> Said<B> {
        let is_met = |confidence| exits.threshold.is_met(confidence);
        if let Some(before) = before {
            let width = x.dims()[2];
            let [before, after] = [before, x].map(to_host);
            let pairs = before.chunks_exact(width).zip(after.chunks_exact(width));
            return Said {
                sure: pairs
                    .map(|(before, after)| is_met(similarity(before, after)))
                    .collect(),
                logits: None,
            };
        }
        let logits = self.logits(x, lengths);
        let outputs = logits.dims()[2];
        let values = to_host(logits.clone());
        let places = exits.places(self.blocks.len());
        let confidences = values
            .chunks_exact(outputs)
            .zip(heard)
            .map(|(logits, heard)| exits.criterion.confidence(logits, heard, places));
        Said {
            sure: confidences.map(is_met).collect(),
            logits: Some(logits),
        }
    }
}

impl EarlyExit {
    /// The stream before a layer, where an exit compares it with that behind.
    fn compared<B: Ops>(self, x: &Tensor<B, 3>) -> Option<Tensor<B, 3>> {
        (!self.criterion.asks_the_head()).then(|| x.clone())
    }
}

/// The values of a tensor; waits for the device.
fn to_host<B: Ops>(x: Tensor<B, 3>) -> Vec<f32> {
    x.into_data().into_vec().expect("floats are of 32 bits")
}

/// These rows of `x [rows, ..]`.
fn select<B: Ops>(x: Tensor<B, 3>, rows: &[usize]) -> Tensor<B, 3> {
    let ids: Vec<i32> = rows.iter().map(|row| *row as i32).collect();
    let n = ids.len();
    let ids = Tensor::<B, 1, Int>::from_data(TensorData::new(ids, [n]), &x.device());
    x.select(0, ids)
}

#[cfg(test)]
mod tests {
    use burn::{backend::Flex, module::Param};
    use spaces::study::config_from_toml;

    use super::*;
    use crate::{
        model::{Initial, ModelPlan, TensorMut, each_tensor},
        plan::Plan,
        techniques::dynamic::early_exit::Threshold,
    };

    /// A decoder of four layers with random weights, an exit after each.
    fn model(more: &str) -> (Model<Flex>, ModelPlan) {
        let text = format!(
            "[data]\ncorpus = 'markov'\n[fixed]\ncontext = 12\nlayers = 4\nwidth = 16\nheads = 2\ntokens = 100\n\
             early_exit = 'max_prob'\n{more}\n"
        );
        let config = config_from_toml(&text, &crate::catalog()).unwrap();
        let plan = Plan::read(&config, 11, None).unwrap().served;
        let mut model = Model::<Flex>::new(&plan, 5, &Default::default());
        let mut initial = Initial::<Flex>::new(9, 1, Default::default());
        each_tensor(&mut model, &mut |_, tensor| {
            if let TensorMut::Matrix(param) = tensor {
                let [out, input] = param.dims();
                *param = Param::from_tensor(initial.normal(out, input, 0.4));
            }
        });
        (model, plan)
    }

    fn token(id: i32) -> Tensor<Flex, 2, Int> {
        Tensor::from_data(TensorData::new(vec![id], [1, 1]), &Default::default())
    }

    #[test]
    fn layers_that_a_token_skips_remember_what_they_make_of_its_last_state() {
        for more in ["", "kv_heads = 1", "attention = 'sliding_window'\nwindow = 3"] {
            let (mut model, plan) = model(more);
            let exits = model.exits.as_mut().unwrap();
            exits.threshold = Threshold::ALWAYS;
            let mut memory = model.memory(&plan, 1, plan.context);
            for position in 0..7 {
                let id = (position * 5 + 1) as i32 % 11;
                model.extend_until_sure(token(id), &mut memory);
                // the state that it left with: all tokens leave after the first layer, so that layer is the whole model
                let ids: Vec<i32> = (0..=position).map(|i| (i * 5 + 1) as i32 % 11).collect();
                let n = ids.len();
                let ids = Tensor::from_data(TensorData::new(ids, [1, n]), &Default::default());
                let (x, angles) = (model.embed(ids), model.angles(0, n, Sight::Back));
                let x = Stream::One(x).through(&model.blocks[0], angles, None).0.end();
                let left = x.narrow(1, position, 1);
                let at = model.angles(position, 1, Sight::Back);
                for (block, state) in model.blocks.iter().zip(&memory.states).skip(1) {
                    assert_eq!(state.attention.taken, position + 1, "{more}");
                    let ([_, key], _) = block.looks(left.clone(), &at).unwrap();
                    let rows = state.attention.parts[0].dims()[1];
                    for (part, expected) in [key, block.values(left.clone())].into_iter().enumerate() {
                        let found = state.attention.parts[part].clone().narrow(1, position % rows, 1);
                        let apart: f32 = (found - expected).abs().max().into_scalar();
                        assert!(apart < 1e-4, "{more}, token {position}: {apart}");
                    }
                }
            }
        }
    }
}
