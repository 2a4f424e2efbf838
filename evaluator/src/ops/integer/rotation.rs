//! Rotary positions by tables of whole numbers.

use rayon::prelude::*;

use super::whole;

/// Binary digits after the point of cosines and sines.
const TURN_BITS: u32 = 14;
/// Binary digits that a component has before it is turned beyond those that it keeps.
const MORE_BITS: u32 = 8;
/// Elements of a task at least.
const ELEMENTS_PER_TASK: usize = 4 * 1024;

whole! {
    /// Cosines and sines of all positions, `[positions, depth / 2]` each.
    #[derive(Clone, Debug)]
    pub struct Turns {
        cosines: Vec<i16>,
        sines: Vec<i16>,
        half: usize,
    }
}

impl Turns {
    /// How many steps of what is turned are one of what comes out.
    pub const STEPS: u32 = 1 << MORE_BITS;

    /// For positions `0..n` and heads of `depth` components.
    #[expect(
        clippy::float_arithmetic,
        reason = "the tables are made of floats, and used without"
    )]
    pub fn new(n: usize, depth: usize, theta: f64) -> Self {
        let half = depth / 2;
        let angles = (0..n)
            .flat_map(|p| (0..half).map(move |i| p as f64 * theta.powf(-2.0 * i as f64 / depth as f64)));
        let whole = |x: f64| (x * f64::from(1u32 << TURN_BITS)).round() as i16;
        let (cosines, sines) = angles.map(|a| (whole(a.cos()), whole(a.sin()))).unzip();
        Turns { cosines, sines, half }
    }

    /// Turns tokens `x [n, heads, depth]`, the token of number `i` at `position(i)`; `x` in finer steps than `out`, by
    /// [`Turns::STEPS`], and cut off at 16 bits.
    pub fn turn(&self, x: &[i32], width: usize, position: impl Fn(usize) -> usize + Sync, out: &mut [i8]) {
        let rows = out.par_chunks_exact_mut(width).zip(x.par_chunks_exact(width));
        rows.enumerate()
            .with_min_len(ELEMENTS_PER_TASK.div_ceil(width))
            .for_each(|(i, (out, x))| self.row(x, position(i), out));
    }

    fn row(&self, x: &[i32], position: usize, out: &mut [i8]) {
        const SHIFT: u32 = TURN_BITS + MORE_BITS;
        let half = self.half;
        let at = position * half;
        let (cosines, sines) = (&self.cosines[at..at + half], &self.sines[at..at + half]);
        let short = |x: i32| x.clamp(-i32::from(i16::MAX), i32::from(i16::MAX));
        let byte = |x: i32| ((x + (1 << (SHIFT - 1))) >> SHIFT).clamp(-127, 127) as i8;
        for (x, out) in x.chunks_exact(2 * half).zip(out.chunks_exact_mut(2 * half)) {
            for i in 0..half {
                let (left, right) = (short(x[i]), short(x[half + i]));
                let (cos, sin) = (i32::from(cosines[i]), i32::from(sines[i]));
                out[i] = byte(left * cos - right * sin);
                out[half + i] = byte(right * cos + left * sin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_turn_by_their_angles() {
        let (n, depth, heads) = (9, 8, 3);
        let turns = Turns::new(20, depth, 10_000.0);
        let x: Vec<i32> = (0..n * heads * depth)
            .map(|i| (i as i32 * 7919 % 199 - 99) * 200)
            .collect();
        let mut out = vec![0i8; x.len()];
        turns.turn(&x, heads * depth, |i| i + 4, &mut out);
        for (head, (x, out)) in x.chunks(depth).zip(out.chunks(depth)).enumerate() {
            let position = (head / heads + 4) as f64;
            for i in 0..depth / 2 {
                let angle = position * 10_000f64.powf(-2.0 * i as f64 / depth as f64);
                let (l, r) = (f64::from(x[i]) / 256.0, f64::from(x[i + depth / 2]) / 256.0);
                let exact = [
                    l * angle.cos() - r * angle.sin(),
                    r * angle.cos() + l * angle.sin(),
                ];
                for (exact, out) in exact.into_iter().zip([out[i], out[i + depth / 2]]) {
                    assert!((f64::from(out) - exact).abs() < 0.52, "{out} {exact}");
                }
            }
        }
    }
}
