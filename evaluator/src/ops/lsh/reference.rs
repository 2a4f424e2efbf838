//! Plain tensor operations: the tokens of each round in blocks of one chunk, filled up with zeros, so that a batched
//! product of each block with itself and the block before is all that is multiplied.

use burn::tensor::{Bool, IndexingUpdateOp, Int, Tensor, TensorData, backend::Backend};

use super::{Hashing, SELF_SCORE, rotations::rotations, unit_length};
use crate::counter;

fn product<B: Backend, const D: usize>(a: Tensor<B, D>, b: Tensor<B, D>) -> Tensor<B, D> {
    counter::add_macs(a.dims().iter().product::<usize>() * b.dims()[D - 1]);
    a.matmul(b)
}

/// One column of `[b, n, h, rounds]` places as `[b, h, n, 1]`.
fn column<B: Backend>(places: &Tensor<B, 4>, round: usize) -> Tensor<B, 4, Int> {
    places.clone().narrow(3, round, 1).swap_dims(1, 2).int()
}

/// 1 in the column of each bucket: `[b, h, n, 1]` to `[b, h, n, buckets]`.
fn one_hot<B: Backend>(bucket: Tensor<B, 4, Int>, buckets: usize) -> Tensor<B, 4> {
    let [b, h, n, _] = bucket.dims();
    let all = Tensor::<B, 1, Int>::arange(0..buckets as i64, &bucket.device()).unsqueeze::<4>();
    let shape = [b, h, n, buckets];
    bucket.expand(shape).equal(all.expand(shape)).float()
}

pub(super) fn places<B: Backend>(
    q: Tensor<B, 4>,
    past: Option<(Tensor<B, 4>, usize)>,
    hashing: Hashing,
) -> Tensor<B, 4> {
    let [b, _, h, d] = q.dims();
    let (buckets, half) = (hashing.buckets, hashing.buckets / 2);
    let q = q.swap_dims(1, 2);
    let all = rotations(d, hashing);
    let columns = all.chunks_exact(d * half).enumerate().map(|(round, rotation)| {
        let rotation = TensorData::new(rotation.to_vec(), [1, 1, d, half]);
        let rotation = Tensor::<B, 4>::from_data(rotation, &q.device()).expand([b, h, d, half]);
        let turned = product(q.clone(), rotation);
        let bucket = Tensor::cat(vec![turned.clone(), turned.neg()], 3).argmax(3);
        let here = one_hot::<B>(bucket.clone(), buckets);
        let mut ranks = here.clone().cumsum(2) - here.clone();
        if let Some((places, taken)) = past.as_ref().filter(|past| past.1 > 0) {
            let bucket = column(&places.clone().narrow(1, 0, *taken), round).remainder_scalar(buckets as i64);
            ranks = ranks + one_hot::<B>(bucket, buckets).sum_dim(2);
        }
        (ranks * here).sum_dim(3) * buckets as f32 + bucket.float()
    });
    Tensor::cat(columns.collect(), 3).swap_dims(1, 2)
}

/// The tokens of one round in blocks.
struct Blocks<B: Backend> {
    /// Row of each token `[b, h, n, 1]`.
    row: Tensor<B, 4, Int>,
    count: usize,
    chunk: usize,
    /// Pairs that meet `[b, h, blocks, chunk, 2 · chunk]`.
    seen: Tensor<B, 5, Bool>,
    /// Pairs of a token with itself.
    own: Tensor<B, 5, Bool>,
    /// Rounds in which pairs meet; at least 1.
    meetings: Tensor<B, 5>,
}

impl<B: Backend> Blocks<B> {
    fn new(places: &Tensor<B, 4>, round: usize, hashing: Hashing) -> Self {
        let [b, n, h, rounds] = places.dims();
        let Hashing { buckets, chunk, .. } = hashing;
        let (count, device) = (n / chunk + buckets, places.device());
        let place = column(places, round);
        let (bucket, rank) = (
            place.clone().remainder_scalar(buckets as i64),
            place.div_scalar(buckets as i64),
        );
        // blocks of each bucket, and of all buckets before it
        let filled = one_hot::<B>(bucket.clone(), buckets).sum_dim(2).int();
        let blocks = (filled + (chunk - 1) as i64).div_scalar(chunk as i64);
        let before = blocks.clone().cumsum(3) - blocks;
        let start = before.expand([b, h, n, buckets]).gather(3, bucket);
        let mut all = Blocks {
            row: start * chunk as i64 + rank,
            count,
            chunk,
            seen: Tensor::<B, 5>::zeros([1; 5], &device).bool(),
            own: Tensor::<B, 5>::zeros([1; 5], &device).bool(),
            meetings: Tensor::zeros([1; 5], &device),
        };
        let shape = [b, h, count, chunk, 2 * chunk];
        let of_query = |x: Tensor<B, 4>| all.blocks(x).expand(shape);
        let of_key = |x: Tensor<B, 4>| all.pairs(x).swap_dims(3, 4).expand(shape);
        // positions from 1: rows of zeros stand for nothing
        let position = Tensor::<B, 1, Int>::arange(1..n as i64 + 1, &device).float();
        let position = position.reshape([1, 1, n, 1]).expand([b, h, n, 1]);
        let (query, key) = (of_query(position.clone()), of_key(position));
        let past = key
            .clone()
            .greater_elem(0.0)
            .bool_and(key.clone().lower_equal(query.clone()));
        let own = past.clone().bool_and(key.equal(query));
        let meets = |round: usize| {
            let place = column(places, round);
            let bucket = place.clone().remainder_scalar(buckets as i64);
            let cell = place.div_scalar((buckets * chunk) as i64) * buckets as i64 + bucket;
            let ahead = of_query(cell.clone().float()) - of_key(cell.float());
            ahead
                .clone()
                .equal_elem(0.0)
                .bool_or(ahead.equal_elem(buckets as f32))
        };
        let seen = past.bool_and(meets(round));
        let meetings = (0..rounds).map(|r| meets(r).float()).reduce(|a, b| a + b);
        let meetings = meetings.expect("there is a round").clamp_min(1.0);
        (all.seen, all.own, all.meetings) = (seen, own, meetings);
        all
    }

    /// `[b, h, n, w]` to `[b, h, blocks, chunk, w]`, zeros where no token is.
    fn blocks(&self, x: Tensor<B, 4>) -> Tensor<B, 5> {
        let [b, h, n, w] = x.dims();
        let row = self.row.clone().expand([b, h, n, w]);
        Tensor::zeros([b, h, self.count * self.chunk, w], &x.device())
            .scatter(2, row, x, IndexingUpdateOp::Add)
            .reshape([b, h, self.count, self.chunk, w])
    }

    /// The same with the block before it in front of each block.
    fn pairs(&self, x: Tensor<B, 4>) -> Tensor<B, 5> {
        let x = self.blocks(x);
        let nothing = x.clone().narrow(2, 0, 1).zeros_like();
        let before = Tensor::cat(vec![nothing, x.clone().narrow(2, 0, self.count - 1)], 2);
        Tensor::cat(vec![before, x], 3)
    }

    /// The opposite of [`Blocks::blocks`].
    fn tokens(&self, x: Tensor<B, 5>) -> Tensor<B, 4> {
        let [b, h, _, _, w] = x.dims();
        let n = self.row.dims()[2];
        x.reshape([b, h, self.count * self.chunk, w])
            .gather(2, self.row.clone().expand([b, h, n, w]))
    }

    /// What [`Blocks::pairs`] makes of gradients.
    fn fold(&self, x: Tensor<B, 5>) -> Tensor<B, 4> {
        let (before, own) = (
            x.clone().narrow(3, 0, self.chunk),
            x.narrow(3, self.chunk, self.chunk),
        );
        let nothing = before.clone().narrow(2, 0, 1).zeros_like();
        self.tokens(own + Tensor::cat(vec![before.narrow(2, 1, self.count - 1), nothing], 2))
    }

    fn scores(&self, q: Tensor<B, 5>, keys: Tensor<B, 5>) -> Tensor<B, 5> {
        product(q, keys.swap_dims(3, 4)).mask_fill(self.own.clone(), SELF_SCORE)
    }

    /// Exponentials of scores above the largest ones, each divided by the rounds in which the pair meets.
    fn exponentials(&self, scores: Tensor<B, 5>, largest: Tensor<B, 5>) -> Tensor<B, 5> {
        ((scores - largest).exp() / self.meetings.clone()).mask_fill(self.seen.clone().bool_not(), 0.0)
    }
}

pub(super) fn forward<B: Backend>(
    q: Tensor<B, 4>,
    v: Tensor<B, 4>,
    places: Tensor<B, 4>,
    hashing: Hashing,
) -> (Tensor<B, 4>, Tensor<B, 4>) {
    let keys = unit_length(q.clone()).swap_dims(1, 2);
    let (q, v) = (q.swap_dims(1, 2), v.swap_dims(1, 2));
    let rounds = (0..hashing.rounds).map(|round| {
        let blocks = Blocks::new(&places, round, hashing);
        let scores = blocks.scores(blocks.blocks(q.clone()), blocks.pairs(keys.clone()));
        let hidden = blocks.seen.clone().bool_not();
        let largest = scores.clone().mask_fill(hidden, f32::MIN).max_dim(4);
        let weights = blocks.exponentials(scores, largest.clone());
        let sum = blocks.tokens(weights.clone().sum_dim(4));
        let o = blocks.tokens(product(weights, blocks.pairs(v.clone())));
        (o, blocks.tokens(largest), sum)
    });
    let combine = |(o, largest, sum): (Tensor<B, 4>, Tensor<B, 4>, Tensor<B, 4>), (o2, largest2, sum2)| {
        let new = largest.clone().max_pair(Tensor::clone(&largest2));
        let (scale, scale2) = ((largest - new.clone()).exp(), (largest2 - new.clone()).exp());
        (
            o * scale.clone() + o2 * scale2.clone(),
            new,
            sum * scale + sum2 * scale2,
        )
    };
    let (o, largest, sum) = rounds.reduce(combine).expect("there is a round");
    let sums = Tensor::cat(vec![largest, sum.clone()], 3);
    ((o / sum).swap_dims(1, 2), sums.swap_dims(1, 2))
}

pub(super) fn backward<B: Backend>(
    [q, v, places]: [Tensor<B, 4>; 3],
    [o, sums]: [Tensor<B, 4>; 2],
    gradient: Tensor<B, 4>,
    hashing: Hashing,
) -> [Tensor<B, 4>; 2] {
    let keys = unit_length(q.clone()).swap_dims(1, 2);
    let [q, v, o, sums, gradient] = [q, v, o, sums, gradient].map(|x| x.swap_dims(1, 2));
    let (largest, sum) = (sums.clone().narrow(3, 0, 1), sums.narrow(3, 1, 1));
    let mean = (gradient.clone() * o).sum_dim(3);
    let rounds = (0..hashing.rounds).map(|round| {
        let blocks = Blocks::new(&places, round, hashing);
        let (q, g) = (blocks.blocks(q.clone()), blocks.blocks(gradient.clone()));
        let keys = blocks.pairs(keys.clone());
        let scores = blocks.scores(q.clone(), keys.clone());
        let weights = blocks.exponentials(scores, blocks.blocks(largest.clone()));
        // rows of no token have no weights to divide
        let p = weights * blocks.blocks(sum.clone().recip());
        let dp = product(g.clone(), blocks.pairs(v.clone()).swap_dims(3, 4));
        let ds = p.clone() * (dp - blocks.blocks(mean.clone()));
        let ds = ds.mask_fill(blocks.own.clone(), 0.0);
        let dv = blocks.fold(product(p.swap_dims(3, 4), g));
        let dq = blocks.tokens(product(ds.clone(), keys));
        [dq, blocks.fold(product(ds.swap_dims(3, 4), q)), dv]
    });
    let add = |[a, b, c]: [Tensor<B, 4>; 3], [x, y, z]: [Tensor<B, 4>; 3]| [a + x, b + y, c + z];
    let [dq, dk, dv] = rounds.reduce(add).expect("there is a round");
    // through the division by the length, whose inverse is the key over the query
    let scale = ((q.clone() * q.clone()).sum_dim(3) + super::EPSILON)
        .sqrt()
        .recip();
    let along = (dk.clone() * keys.clone()).sum_dim(3);
    let dq = dq + (dk - keys * along) * scale;
    [dq, dv].map(|x| x.swap_dims(1, 2))
}

pub(super) fn step<B: Backend>(
    q: Tensor<B, 4>,
    caches: [Tensor<B, 4>; 3],
    position: usize,
    hashing: Hashing,
) -> Tensor<B, 4> {
    let (rows, slots) = (position + 1, hashing.slots(position));
    let [keys, values, places] = caches.map(|cache| cache.narrow(1, 0, rows));
    let [b, _, h, d] = q.dims();
    let (keys, values) = (keys.swap_dims(1, 2), values.swap_dims(1, 2));
    let seen = (0..hashing.rounds).map(|round| {
        let place = column(&places, round);
        let bucket = place.clone().remainder_scalar(hashing.buckets as i64);
        let chunk = place.div_scalar((hashing.buckets * hashing.chunk) as i64);
        let own = |x: &Tensor<B, 4, Int>| x.clone().narrow(2, position, 1).expand([b, h, rows, 1]);
        let recent = (own(&chunk) - chunk).lower_equal_elem(1);
        own(&bucket).equal(bucket).bool_and(recent).float()
    });
    let seen: Vec<Tensor<B, 4>> = seen.collect();
    let meetings = seen
        .iter()
        .cloned()
        .reduce(|a, b| a + b)
        .expect("there is a round");
    let at = Tensor::<B, 1, Int>::arange(1..rows as i64 + 1, &q.device()).float();
    let at = at.reshape([1, 1, rows, 1]).expand([b, h, rows, 1]);
    let q = q.swap_dims(1, 2);
    let (mut scores, mut shares, mut chosen) = (vec![], vec![], vec![]);
    for seen in seen {
        // the seen rows are the newest ones; zeros are rows that fill up
        let (newest, row) = (seen * at.clone()).topk_with_indices(slots, 2);
        let of_depth = row.clone().expand([b, h, slots, d]);
        let one = product(
            q.clone(),
            keys.clone().gather(2, of_depth.clone()).swap_dims(2, 3),
        )
        .swap_dims(2, 3);
        let unseen = newest.clone().equal_elem(0.0);
        let own = newest.equal_elem(rows as f32);
        scores.push(one.mask_fill(own, SELF_SCORE).mask_fill(unseen.clone(), f32::MIN));
        shares.push(meetings.clone().gather(2, row).recip().mask_fill(unseen, 0.0));
        chosen.push(values.clone().gather(2, of_depth));
    }
    let (scores, shares) = (Tensor::cat(scores, 2), Tensor::cat(shares, 2));
    let largest = scores.clone().max_dim(2);
    let weights = (scores - largest).exp() * shares;
    let sum = weights.clone().sum_dim(2);
    (product(weights.swap_dims(2, 3), Tensor::cat(chosen, 2)) / sum).swap_dims(1, 2)
}
