//! Softmax attention over a band without a matrix of pairs; see `attention.cu`.

use burn::{
    backend::Cuda,
    tensor::{DType, Int, Tensor, TensorData, TensorMetadata},
};
use burn_cubecl::{
    cubecl::zspace::{metadata::Metadata, strides},
    tensor::CubeTensor,
};

use super::{
    elements::to_16_bits,
    launch::{GpuTensor, Kernel, Sizes, Source, floats, fresh_floats},
};
use crate::{
    model::Pass,
    ops::{
        AttentionOp, Band, TiledAttentionOp, Tiles,
        attention::{reference, tiled},
        precision::is_bf16,
        unwrap, wrap,
    },
};

static SOURCE: Source = Source::new(include_str!("attention.cu"));

/// Rows that a block holds, and rows of a tile that it meets; the same numbers stand in the source.
const HELD: usize = 128;
const ROWS: usize = 64;
const THREADS: usize = 256;
/// Queries from which a tile is worth filling; decoding has fewer.
const FEWEST_QUERIES: usize = 16;

/// Shared memory of a block that holds so many tiles, and has two pairs of tiles that come in turn.
fn shared_bytes(held: usize, depth: usize) -> usize {
    (held * HELD + 4 * ROWS) * (depth + 8) * 2 + 4 * ROWS * 4
}

/// `[b, n, h, d]`
fn dims(x: &GpuTensor) -> [usize; 4] {
    [0, 1, 2, 3].map(|i| x.shape()[i])
}

/// Whether the kernels take these queries.
fn fits(q: &GpuTensor) -> bool {
    let [_, n, _, depth] = dims(q);
    let room = q.client.properties().hardware.max_shared_memory_size;
    let has_room = depth.is_multiple_of(16) && depth <= 128 && shared_bytes(2, depth) <= room;
    q.dtype == DType::BF16 || is_bf16() && n >= FEWEST_QUERIES && has_room
}

/// The launches of one attention.
struct Launches {
    sizes: [usize; 9],
    batch: usize,
    depth: usize,
    lengths: GpuTensor,
}

impl Launches {
    fn new(q: &GpuTensor, k: &GpuTensor, band: &Band) -> Self {
        let [b, n, h, d] = dims(q);
        // past both ends there is nothing more to see
        let reach = band.keys + n;
        let lengths = match &band.lengths {
            Some(lengths) => {
                let lengths: Vec<i32> = lengths.iter().map(|n| n as i32).collect();
                Tensor::<Cuda, 1, Int>::from_data(TensorData::new(lengths, [b]), &q.device).into_primitive()
            }
            // never read
            None => q.clone(),
        };
        let sizes = [
            n,
            band.keys,
            k.shape()[1],
            h,
            k.shape()[2],
            band.offset,
            band.window.min(reach),
            band.ahead.min(reach),
            match band.lengths {
                Some(_) if band.across => 2,
                Some(_) => 1,
                None => 0,
            },
        ];
        Launches {
            sizes,
            batch: b,
            depth: d,
            lengths,
        }
    }

    /// `blocks` for each of `heads` of each sequence, which hold so many tiles.
    fn launch(&self, name: &'static str, blocks: usize, heads: usize, held: usize, tensors: &[&GpuTensor]) {
        Kernel::new(&SOURCE, name, THREADS)
            .with(&[("WIDTH", self.depth)])
            .shared_bytes(shared_bytes(held, self.depth))
            .launch([blocks, heads, self.batch], tensors, Sizes::of(&self.sizes));
    }

    fn forward(&self, [q, k, v]: [&GpuTensor; 3], o: &GpuTensor, sums: &GpuTensor) {
        let [n, heads] = [self.sizes[0], self.sizes[3]];
        let tensors = [q, k, v, &self.lengths, o, sums];
        self.launch("attention_forward", n.div_ceil(HELD), heads, 1, &tensors);
    }

    fn backward(
        &self,
        [q, k, v]: [&GpuTensor; 3],
        o: &GpuTensor,
        sums: &GpuTensor,
        gradient: GpuTensor,
    ) -> [GpuTensor; 3] {
        let [n, _, allocated, heads, key_heads, ..] = self.sizes;
        let (means, lengths) = (fresh_floats(q, &[self.batch, heads, n]), &self.lengths);
        Kernel::new(&SOURCE, "attention_means", THREADS)
            .with(&[("WIDTH", self.depth)])
            .launch(
                [n.div_ceil(THREADS / 32), heads, self.batch],
                &[o, &gradient, &means],
                Sizes::of(&self.sizes),
            );
        let gradient = to_16_bits(gradient);
        let [dq, dk, dv] = [q, k, v].map(|x| fresh_floats(x, &x.shape()));
        let tensors = [q, k, v, lengths, sums, &means, &gradient, &dk, &dv];
        self.launch(
            "attention_keys_backward",
            allocated.div_ceil(HELD),
            key_heads,
            2,
            &tensors,
        );
        let tensors = [q, k, v, lengths, sums, &means, &gradient, &dq];
        self.launch("attention_queries_backward", n.div_ceil(HELD), heads, 2, &tensors);
        [dq, dk, dv]
    }
}

/// Work is counted as the operation defines it: what a kernel computes twice, so as not to keep it, is its own affair.
const FULL: Pass = Pass {
    forward: 2,
    backward: 4,
};
const TILED: Pass = Pass {
    forward: 2,
    backward: 5,
};

/// Sequences, queries, and components of all heads of `q [b, n, h, d]`.
fn counted(q: &GpuTensor) -> [usize; 3] {
    let [b, n, h, d] = dims(q);
    [b, n, h * d]
}

/// The output `[b, n, h, d]` and the sums `[b, h, n]` of one piece of memory, which is kept as a whole.
fn parts_of(memory: &GpuTensor, q: &GpuTensor) -> [GpuTensor; 2] {
    let [b, n, h, d] = dims(q);
    let (outputs, sums) = ((b * n * h * d * 4) as u64, (b * h * n * 4) as u64);
    let part = |handle, meta| {
        CubeTensor::new(
            memory.client.clone(),
            handle,
            meta,
            memory.device.clone(),
            memory.dtype,
        )
    };
    [
        part(
            memory.handle.clone().offset_end(sums),
            Metadata::new([b, n, h, d], strides![n * h * d, h * d, d, 1]),
        ),
        part(
            memory.handle.clone().offset_start(outputs),
            Metadata::new([b, h, n], strides![h * n, n, 1]),
        ),
    ]
}

impl AttentionOp for Cuda {
    fn attention_kept(inputs: [GpuTensor; 3]) -> [GpuTensor; 3] {
        if fits(&inputs[0]) {
            inputs.map(to_16_bits)
        } else {
            inputs
        }
    }

    fn attention_forward(q: GpuTensor, k: GpuTensor, v: GpuTensor, band: Band) -> (GpuTensor, GpuTensor) {
        if !fits(&q) {
            let (o, p) = reference::forward::<Self>(wrap(q), wrap(k), wrap(v), band);
            return (unwrap(o), unwrap(p));
        }
        let [q, k, v] = Self::attention_kept([q, k, v]);
        let [b, n, h, d] = dims(&q);
        let memory = fresh_floats(&q, &[b * n * h * (d + 1)]);
        let [o, sums] = parts_of(&memory, &q);
        Launches::new(&q, &k, &band).forward([&q, &k, &v], &o, &sums);
        let [b, n, values] = counted(&q);
        band.count_forward(b, n, values, FULL);
        (o, memory)
    }

    fn attention_backward(
        q: GpuTensor,
        k: GpuTensor,
        v: GpuTensor,
        saved: GpuTensor,
        gradient: GpuTensor,
        band: Band,
    ) -> [GpuTensor; 3] {
        if !fits(&q) {
            let gradients =
                reference::backward::<Self>(wrap(q), wrap(k), wrap(v), wrap(saved), wrap(gradient), band);
            return gradients.map(unwrap);
        }
        let [q, k, v] = Self::attention_kept([q, k, v]);
        let [o, sums] = parts_of(&saved, &q);
        let [b, n, values] = counted(&q);
        band.count_backward(b, n, values, FULL);
        Launches::new(&q, &k, &band).backward([&q, &k, &v], &o, &sums, floats(gradient))
    }
}

impl TiledAttentionOp for Cuda {
    fn tiled_forward(inputs: [GpuTensor; 3], band: Band, tiles: Tiles) -> (GpuTensor, GpuTensor) {
        if !fits(&inputs[0]) {
            let (o, sums) = tiled::reference::forward::<Self>(inputs.map(wrap), band, tiles);
            return (unwrap(o), unwrap(sums));
        }
        let [q, k, v] = Self::attention_kept(inputs);
        let [b, n, h, _] = dims(&q);
        let (o, sums) = (fresh_floats(&q, &q.shape()), fresh_floats(&q, &[b, h, n]));
        Launches::new(&q, &k, &band).forward([&q, &k, &v], &o, &sums);
        let [b, n, values] = counted(&q);
        band.count_forward(b, n, values, TILED);
        (o, sums)
    }

    fn tiled_backward(
        inputs: [GpuTensor; 3],
        o: GpuTensor,
        sums: GpuTensor,
        gradient: GpuTensor,
        band: Band,
        tiles: Tiles,
    ) -> [GpuTensor; 3] {
        if !fits(&inputs[0]) {
            let gradients = tiled::reference::backward::<Self>(
                inputs.map(wrap),
                wrap(o),
                wrap(sums),
                wrap(gradient),
                band,
                tiles,
            );
            return gradients.map(unwrap);
        }
        let [q, k, v] = Self::attention_kept(inputs);
        let [o, sums, gradient] = [o, sums, gradient].map(floats);
        let [b, n, values] = counted(&q);
        band.count_backward(b, n, values, TILED);
        Launches::new(&q, &k, &band).backward([&q, &k, &v], &o, &sums, gradient)
    }
}
