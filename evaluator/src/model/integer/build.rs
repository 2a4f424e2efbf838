//! How a model in whole numbers is made of packed matrices, norms of floats, and steps.

#![expect(
    clippy::float_arithmetic,
    reason = "factors are made of floats here, before anything is computed"
)]

use std::sync::Arc;

use burn::{
    module::Param,
    tensor::{Tensor, backend::Backend},
};

use super::{
    Dyadic, HeadShape, Integer, IntegerBlock, IntegerModel, IntegerNorm, LOGIT_BITS, Product, STREAM_LIMIT,
    Steps, Turns, steps::BlockSteps,
};
use crate::{
    model::{AttentionPlan, Block, Matrix, Model, ModelPlan, NORM_EPSILON, ROPE_THETA},
    ops::{Ops, integer::FRACTION_BITS},
    techniques::feed_forward::FeedForward,
};

/// What gates are cut off at: 256, so that their products have 44 bits.
const GATE_LIMIT: i32 = 1 << 22;

/// What one is worth in numbers with so many binary digits after the point.
fn step_of(bits: u32) -> f64 {
    1.0 / f64::from(1u32 << bits)
}

impl IntegerModel {
    /// Of a model whose matrices are [`Matrix::Integer`].
    pub(super) fn build<B: Ops>(model: &Model<B>, plan: &ModelPlan, steps: &Steps) -> Self {
        let stream = f64::from(steps.stream);
        let embedding = integer(&model.embedding);
        let entry = embedding.steps.iter();
        let leading = model.own.last().filter(|_| plan.kind.leading() > 0);
        let leading = leading.and_then(Matrix::as_dense).map(|token| {
            let values = token.into_data();
            let limit = f64::from(STREAM_LIMIT);
            let whole = |x: f64| (x / stream).round().clamp(-limit, limit) as i32;
            values.iter::<f64>().map(whole).collect()
        });
        let both_ways = plan.kind.sees_both_ways();
        let head = if both_ways {
            &model.own[0]
        } else {
            &model.embedding
        };
        let depth = plan.layers.first().map_or(2, |layer| layer.attention.depth);
        let blocks = model.blocks.iter().zip(&plan.layers).zip(&steps.blocks);
        IntegerModel {
            entry: entry
                .map(|step| Dyadic::nearest(step.to_f64() / stream))
                .collect(),
            embedding: embedding.codes.clone(),
            leading: leading.unwrap_or_default(),
            blocks: blocks
                .map(|((block, layer), steps)| of_block(block, &layer.attention, *steps, stream))
                .collect(),
            norm: norm(&model.norm, stream, steps.head),
            head: product(head, steps.head, step_of(LOGIT_BITS), i32::MAX),
            turns: Turns::new(plan.positions(), depth, ROPE_THETA),
            both_ways,
        }
    }
}

fn of_block<B: Ops>(block: &Block<B>, plan: &AttentionPlan, steps: BlockSteps, stream: f64) -> IntegerBlock {
    let FeedForward::Dense(network) = &block.feed_forward else {
        unreachable!("only networks that are gated and dense are packed so")
    };
    let attention = &block.attention;
    let key = attention
        .key
        .as_ref()
        .expect("full attention has keys of its own");
    let [queries, keys, values, attended] =
        [steps.queries, steps.keys, steps.values, steps.attended].map(f64::from);
    // finer before they are turned
    let turned = |step: f64| step / f64::from(Turns::STEPS);
    let to_stream = |matrix, from| product(matrix, from, stream, STREAM_LIMIT);
    let gate = step_of(FRACTION_BITS);
    let root = (plan.depth as f64).sqrt();
    IntegerBlock {
        attention_norm: norm(&block.attention_norm, stream, steps.attention),
        query: product(&attention.query, steps.attention, turned(queries), i32::MAX),
        key: product(key, steps.attention, turned(keys), i32::MAX),
        value: product(&attention.value, steps.attention, values, 127),
        output: to_stream(&attention.output, steps.attended),
        shape: HeadShape {
            heads: plan.heads,
            kv_heads: plan.kv_heads,
            depth: plan.depth,
        },
        to_scores: Dyadic::nearest(queries * keys / root / gate),
        to_output: Dyadic::of_weighted(values, attended),
        feed_forward_norm: norm(&block.feed_forward_norm, stream, steps.feed_forward),
        gate: product(&network.gate, steps.feed_forward, gate, GATE_LIMIT),
        up: product(&network.up, steps.feed_forward, gate, GATE_LIMIT),
        down: to_stream(&network.down, steps.neurons),
        to_down: Dyadic::nearest(gate * gate / f64::from(steps.neurons)),
    }
}

fn integer<B: Backend>(matrix: &Matrix<B>) -> &Integer<B> {
    match matrix {
        Matrix::Integer(matrix) => matrix,
        _ => unreachable!("every matrix of a model in whole numbers is packed so"),
    }
}

/// A product with a matrix that is given numbers of one step and gives those of another.
fn product<B: Backend>(matrix: &Matrix<B>, from: f32, to: f64, limit: i32) -> Product {
    let matrix = integer(matrix);
    let factors = matrix.steps.iter();
    let factors = factors.map(|step| Dyadic::nearest(step.to_f64() * f64::from(from) / to));
    Product::new(Arc::clone(&matrix.codes), factors.collect(), limit)
}

/// A norm of the stream that gives numbers of a step.
fn norm<B: Backend>(scale: &Param<Tensor<B, 1>>, stream: f64, to: f32) -> IntegerNorm {
    let gains = scale.val().into_data();
    let gains: Vec<f64> = gains.iter::<f64>().map(|gain| gain / f64::from(to)).collect();
    IntegerNorm::new(&gains, NORM_EPSILON / (stream * stream))
}
