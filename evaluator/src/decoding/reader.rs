//! A model that reads a text as it grows, and takes back what turned out not to be the text.

use burn::tensor::{Int, Tensor, TensorData};

use crate::{
    model::{Memory, Model, ModelPlan},
    ops::Ops,
};

/// A model of a kind that writes, and what it remembers of a text.
#[derive(Debug)]
pub struct Reader<'a, B: Ops> {
    model: &'a Model<B>,
    plan: &'a ModelPlan,
    memory: Memory<B>,
    /// Tokens that the memory holds.
    held: Vec<u32>,
    /// Number of the first of them in the text.
    start: usize,
    /// An earlier memory, where a memory cannot be cut short.
    mark: Option<Memory<B>>,
}

impl<'a, B: Ops> Reader<'a, B> {
    /// A reader of a text of so many tokens, of which it reads those that fit its context.
    pub fn new(model: &'a Model<B>, plan: &'a ModelPlan, length: usize) -> Self {
        Reader {
            model,
            plan,
            memory: model.memory(plan, 1, plan.context),
            held: vec![],
            start: length.saturating_sub(plan.context),
            mark: None,
        }
    }

    /// The model.
    pub fn model(&self) -> &'a Model<B> {
        self.model
    }

    /// Forgets what is not in `text`, and gives what is not read of it, which is its last token at least. Once the text no
    /// longer fits the context it is read anew from the later half of a context.
    pub fn follow<'t>(&mut self, text: &'t [u32]) -> &'t [u32] {
        let context = self.plan.context;
        if text.len() - self.start > context {
            self.forget();
            self.start = text.len() - context.div_ceil(2);
        }
        let text = &text[self.start..];
        let (held, most) = (self.held.iter(), text.len() - 1);
        let common = held.zip(&text[..most]).take_while(|(a, b)| a == b).count();
        if common < self.held.len() {
            self.go_back(common);
        }
        self.mark = None;
        &text[self.held.len()..]
    }

    /// How many tokens fit after a text that it follows.
    pub fn room(&self, text: &[u32]) -> usize {
        self.plan.context - (text.len() - self.start)
    }

    /// Keeps a way back to what is read by now.
    pub fn mark(&mut self) {
        self.mark = (!self.model.remembers_each_token()).then(|| self.memory.clone());
    }

    /// Reads on and gives logits after the last `scored` tokens, `[scored, vocabulary]`.
    pub fn read(&mut self, tokens: &[u32], scored: usize) -> Tensor<B, 2> {
        self.held.extend(tokens);
        self.model
            .extend_scored(row(tokens, self.model), scored, &mut self.memory)
            .squeeze_dim::<2>(0)
    }

    /// Has `work` read on with the first `layers` blocks alone, and undoes it.
    pub fn with_first<T>(&mut self, layers: usize, work: impl FnOnce(&Model<B>, &mut Memory<B>) -> T) -> T {
        if !self.model.remembers_each_token() {
            return work(self.model, &mut self.memory.first(layers));
        }
        let mut first = self.memory.lend_first(layers);
        let done = work(self.model, &mut first);
        self.memory.take_back(first);
        done
    }

    fn go_back(&mut self, position: usize) {
        if self.model.remembers_each_token() {
            self.memory.truncate(position);
            self.held.truncate(position);
            return;
        }
        match self.mark.take() {
            Some(mark) if mark.position() <= position => {
                self.held.truncate(mark.position());
                self.memory = mark;
            }
            _ => self.forget(),
        }
    }

    fn forget(&mut self) {
        self.memory = self.model.memory(self.plan, 1, self.plan.context);
        self.held.clear();
        self.mark = None;
    }
}

/// Tokens as a row, `[1, n]`.
pub(super) fn row<B: Ops>(tokens: &[u32], model: &Model<B>) -> Tensor<B, 2, Int> {
    let ids: Vec<i32> = tokens.iter().map(|token| *token as i32).collect();
    let n = ids.len();
    Tensor::from_data(TensorData::new(ids, [1, n]), &model.device())
}
