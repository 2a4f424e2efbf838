//! The kernels for processors, divided among threads by sequence, and by head where biases allow.

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::TensorMetadata,
};
use rayon::prelude::*;

use super::{
    AftBias, AftOp,
    biases::Biases,
    recall::{Ring, recall},
    sequence::{Gradients, View, backward_task, forward_task},
};
use crate::{
    counter,
    ops::{contiguous, cpu_tensor, heads::interleave, simd, values},
};

/// Sizes of one call. Biases of products are the same for all heads, so they are not divided among tasks.
#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    n: usize,
    channels: usize,
    tasks: usize,
}

impl Sizes {
    fn of(k: &FlexTensor, bias: AftBias) -> Self {
        let shape = k.shape();
        Sizes {
            batch: shape[0],
            n: shape[1],
            channels: shape[2] * shape[3],
            tasks: match bias {
                AftBias::None | AftBias::Conv(_) => shape[2],
                AftBias::Full | AftBias::Local(_) => 1,
            },
        }
    }

    /// Channels of one task.
    fn width(&self) -> usize {
        self.channels / self.tasks
    }

    /// What one task sees of a tensor `[b, n, channels]`.
    fn view<'a>(&self, x: &'a FlexTensor, task: usize) -> View<'a> {
        let (b, part) = (task / self.tasks, task % self.tasks);
        View {
            values: &values(x)[b * self.n * self.channels + part * self.width()..],
            stride: self.channels,
            width: self.width(),
        }
    }

    /// Puts the columns of each task in their place.
    fn join<'a>(&self, parts: impl Iterator<Item = &'a [f32]>) -> Vec<f32> {
        interleave(parts, self.tasks, self.width())
    }
}

impl AftOp for Flex {
    fn aft_forward(
        k: FlexTensor,
        v: FlexTensor,
        tables: Vec<FlexTensor>,
        bias: AftBias,
    ) -> (FlexTensor, FlexTensor) {
        let (k, v) = (contiguous(k), contiguous(v));
        let tables: Vec<FlexTensor> = tables.into_iter().map(contiguous).collect();
        let sizes = Sizes::of(&k, bias);
        let parts: Vec<(Vec<f32>, Vec<f32>, usize)> = (0..sizes.batch * sizes.tasks)
            .into_par_iter()
            .map(|task| {
                let biases = Biases::of(bias, &tables, task % sizes.tasks, sizes.n);
                forward_task(sizes.view(&k, task), sizes.view(&v, task), sizes.n, &biases)
            })
            .collect();
        counter::add_macs(parts.iter().map(|p| p.2).sum());
        let means = sizes.join(parts.iter().map(|p| p.0.as_slice()));
        let log_dens = sizes.join(parts.iter().map(|p| p.1.as_slice()));
        (cpu_tensor(means, &k.shape()), cpu_tensor(log_dens, &k.shape()))
    }

    fn aft_backward(
        inputs: [FlexTensor; 2],
        tables: Vec<FlexTensor>,
        bias: AftBias,
        results: [FlexTensor; 2],
        gradient: FlexTensor,
    ) -> Vec<FlexTensor> {
        let [k, v] = inputs.map(contiguous);
        let [s, log_den] = results.map(contiguous);
        let gradient = contiguous(gradient);
        let tables: Vec<FlexTensor> = tables.into_iter().map(contiguous).collect();
        let sizes = Sizes::of(&k, bias);
        let parts: Vec<Gradients> = (0..sizes.batch * sizes.tasks)
            .into_par_iter()
            .map(|task| {
                let biases = Biases::of(bias, &tables, task % sizes.tasks, sizes.n);
                let views = [&k, &v, &s, &log_den, &gradient].map(|x| sizes.view(x, task));
                backward_task(views, sizes.n, &biases)
            })
            .collect();
        counter::add_macs(parts.iter().map(|p| p.macs).sum());
        let dk = sizes.join(parts.iter().map(|p| p.k.as_slice()));
        let dv = sizes.join(parts.iter().map(|p| p.v.as_slice()));
        let of_tables = tables.iter().enumerate().map(|(i, table)| {
            let mut sum = vec![0.0f32; values(table).len()];
            let of_task = sum.len() / sizes.tasks;
            for (task, part) in parts.iter().enumerate() {
                let at = task % sizes.tasks * of_task;
                simd::add_scaled(&mut sum[at..at + of_task], 1.0, &part.tables[i]);
            }
            cpu_tensor(sum, &table.shape())
        });
        [cpu_tensor(dk, &k.shape()), cpu_tensor(dv, &v.shape())]
            .into_iter()
            .chain(of_tables)
            .collect()
    }

    fn aft_recall(
        k: FlexTensor,
        v: FlexTensor,
        older: Option<FlexTensor>,
        tables: Vec<FlexTensor>,
        bias: AftBias,
        position: usize,
    ) -> FlexTensor {
        let (k, v, older) = (contiguous(k), contiguous(v), older.map(contiguous));
        let tables: Vec<FlexTensor> = tables.into_iter().map(contiguous).collect();
        let [batch, rows, h, d] = [0, 1, 2, 3].map(|dim| k.shape()[dim]);
        let channels = h * d;
        let ring = Ring { rows, position };
        let mut out = vec![0.0f32; batch * channels];
        let mut macs = 0;
        for (s, out) in out.chunks_exact_mut(channels).enumerate() {
            let (biases, of_biases) = ring.biases(bias, &tables);
            let older = older
                .as_ref()
                .map(|sums| &values(sums)[s * 3 * channels..][..3 * channels]);
            let [k, v] = [&k, &v].map(|x| &values(x)[s * rows * channels..][..ring.filled() * channels]);
            macs += of_biases + recall(k, v, older, &biases, out);
        }
        counter::add_macs(macs);
        cpu_tensor(out, &[batch, 1, h, d])
    }
}
