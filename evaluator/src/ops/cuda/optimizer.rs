//! The optimizer's work, many tensors a launch; see `optimizer.cu`.

use burn::backend::Cuda;

use super::launch::{GpuTensor, Kernel, Sizes, Source, floats, fresh_floats};
use crate::ops::{AdamWOp, AdamWStep, AdamWUpdate, NormOp, wrap};

static SOURCE: Source = Source::new(include_str!("optimizer.cu"));

/// Tensors of a launch; the same number stands in the source.
const TENSORS: usize = 16;
const THREADS: usize = 256;
/// Partial sums of squares of a tensor.
const SQUARES: usize = 64;
/// Blocks of a tensor at most: a few for each of a large GPU's multiprocessors.
const BLOCKS: usize = 1024;

/// What `struct Sizes` holds: elements of each tensor, where partial sums begin, factors of each, and a step's numbers.
fn sizes(tensors: &[GpuTensor], first: usize, keep: &[f32], step: [f32; 7]) -> Sizes {
    let mut numbers = [0; TENSORS + 1];
    for (n, x) in numbers.iter_mut().zip(tensors) {
        *n = x.meta.num_elements();
    }
    numbers[TENSORS] = first;
    let mut factors = [0.0; TENSORS];
    factors[..keep.len()].copy_from_slice(keep);
    let [a, b, c, d, e, f, g] = step;
    let pairs = factors.chunks_exact(2).map(|pair| (pair[0], pair[1]));
    let pairs = pairs.chain([(a, b), (c, d), (e, f), (g, 0.0)]);
    pairs.fold(Sizes::of(&numbers), |sizes, (first, second)| {
        sizes.floats(first, second)
    })
}

/// A launch's places, one for each tensor; those past the last tensor are of no elements and never read.
fn places<T>(tensors: &[T]) -> impl Iterator<Item = &T> {
    (0..TENSORS).map(|i| tensors.get(i).unwrap_or(&tensors[0]))
}

impl AdamWOp for Cuda {
    fn adamw_steps(updates: Vec<AdamWUpdate<Self>>, step: AdamWStep) -> Vec<[GpuTensor; 3]> {
        // in place, where nothing else holds the memory
        let own = |x: GpuTensor| if x.can_mut() { floats(x) } else { floats(x).copy() };
        let mut states = Vec::with_capacity(updates.len());
        let (mut gradients, mut keep) = (vec![], vec![]);
        for update in updates {
            states.push(update.state.map(own));
            gradients.push(floats(update.gradient));
            keep.push(1.0 - step.learning_rate * update.weight_decay);
        }
        let (c1, c2) = step.corrections();
        let numbers = [
            step.gradient_scale,
            step.beta1,
            step.beta2,
            c1,
            c2,
            step.epsilon,
            step.learning_rate,
        ];
        let groups = states.chunks(TENSORS).zip(gradients.chunks(TENSORS));
        for ((states, gradients), keep) in groups.zip(keep.chunks(TENSORS)) {
            let largest = gradients.iter().map(|x| x.meta.num_elements()).max().unwrap_or(0);
            let blocks = largest.div_ceil(4 * THREADS).min(BLOCKS);
            let tensors = places(states).zip(places(gradients));
            let tensors: Vec<&GpuTensor> = tensors.flat_map(|([w, m, v], g)| [w, m, v, g]).collect();
            let sizes = sizes(gradients, 0, keep, numbers);
            Kernel::new(&SOURCE, "adamw_steps", THREADS).launch([blocks, states.len(), 1], &tensors, sizes);
        }
        states
    }
}

impl NormOp for Cuda {
    fn sum_of_squares(tensors: Vec<GpuTensor>) -> f64 {
        let tensors: Vec<GpuTensor> = tensors.into_iter().map(floats).collect();
        let partial = fresh_floats(&tensors[0], &[tensors.len() * SQUARES]);
        for (i, group) in tensors.chunks(TENSORS).enumerate() {
            let sizes = sizes(group, i * TENSORS * SQUARES, &[], [0.0; 7]);
            let tensors: Vec<&GpuTensor> = places(group).chain([&partial]).collect();
            Kernel::new(&SOURCE, "squares", THREADS).launch([SQUARES, group.len(), 1], &tensors, sizes);
        }
        wrap::<Self, 1>(partial).into_data().iter::<f64>().sum()
    }
}
