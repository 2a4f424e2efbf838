//! GPTQ (2210.17323): columns are rounded one after the other, and what each one loses is made up for by those still to
//! come, as the inputs' second moments say.
//!
//! All matrices are judged by the inputs of the unrounded model, in one calibration: with the earlier blocks rounded first it
//! would take a pass through the model for each block. Columns keep their order.
//!
//! Of a matrix from which weights are removed (2301.00774, 3.5) these have one level, 0: what was to make up for earlier columns there is lost
//! in its turn, and handed on. No zero is brought back, and all rows share the factor.

use rayon::prelude::*;

use super::{
    About,
    levels::EvenLevels,
    packed::{PackedShape, PackedWeights},
};
use crate::{
    counter,
    techniques::{
        calibration::InputStatistics,
        inverse_factor::{self, damped, upper_of_inverse},
    },
};

pub(super) const ABOUT: About = About {
    name: "gptq",
    doc: "columns are rounded in turn, and later ones make up for what earlier ones lose on calibration text",
    paper: "2210.17323",
};

/// The counter that is above zero once it has run.
pub(super) const ACTIVITY: &str = "gptq_weights";

/// Columns after which the others are told what was lost; groups are of at most as many and never straddle two such blocks.
const BLOCK: usize = 128;

/// Rows of one task: as many as share each row of the factor while it is in a core's own cache.
pub(super) const ROWS_PER_TASK: usize = 16;

/// Multiply-adds to pack a matrix `[rows, columns]`, beside those of the calibration.
pub(super) fn macs(rows: u64, columns: u64) -> u64 {
    inverse_factor::macs(columns as usize) as u64 + rows * (columns * (columns - 1) / 2)
}

/// Packs weights `[rows, columns]` that are multiplied with such inputs; `None` where all inputs are 0, which tell nothing.
pub(super) fn pack(weights: &[f32], shape: PackedShape, inputs: &InputStatistics) -> Option<PackedWeights> {
    let n = shape.columns;
    let factor = factor(inputs, n)?;
    let mut packed = PackedWeights::new(shape);
    let tasks: Vec<_> = weights
        .par_chunks(ROWS_PER_TASK * n)
        .map(|rows| round(rows.to_vec(), None, &factor, shape))
        .collect();
    for (task, (levels, codes)) in tasks.into_iter().enumerate() {
        let first = task * ROWS_PER_TASK;
        for (i, levels) in levels.iter().enumerate() {
            let (row, group) = (first + i / shape.groups(), i % shape.groups());
            packed.set_scale(row, group, levels.scale);
            packed.set_zero(row, group, levels.zero);
        }
        for (i, code) in codes.into_iter().enumerate() {
            packed.set_code(first + i / n, i % n, code.into());
        }
    }
    counter::add_activity(ACTIVITY, weights.len());
    Some(packed)
}

/// What columns `[columns, columns]` make up for each other by, for such inputs; `None` where all are 0.
pub(super) fn factor(inputs: &InputStatistics, columns: usize) -> Option<Vec<f32>> {
    let factor = upper_of_inverse(damped(&inputs.second_moment, columns)?, columns);
    Some(factor.into_iter().map(|x| x as f32).collect())
}

/// The levels `[rows, groups]` and codes `[rows, columns]` of some rows `w`, for the factor `u [columns, columns]`; where some weights
/// are removed, levels are those of the ones that are kept, and codes of the others mean nothing.
pub(super) fn round(
    mut w: Vec<f32>,
    kept: Option<&[bool]>,
    u: &[f32],
    shape: PackedShape,
) -> (Vec<EvenLevels>, Vec<u8>) {
    let n = shape.columns;
    let mut levels = Vec::with_capacity(w.len() / n * shape.groups());
    let mut codes = vec![0u8; w.len()];
    for (r, (row, codes)) in w.chunks_mut(n).zip(codes.chunks_mut(n)).enumerate() {
        let is_kept = |j: usize| kept.is_none_or(|kept| kept[r * n + j]);
        let mut of_group = None;
        let mut lost = [0.0f32; BLOCK];
        for begin in (0..n).step_by(BLOCK) {
            let end = (begin + BLOCK).min(n);
            for j in begin..end {
                if j % shape.group == 0 {
                    // made up for all columns before, and fixed from here on
                    let group = (j..(j + shape.group).min(n)).filter(|j| is_kept(*j));
                    of_group = Some(EvenLevels::of_each(group.map(|j| row[j]), shape.bits));
                    levels.extend(of_group);
                }
                let Some(level) = of_group else { continue };
                let mut stored = 0.0;
                if is_kept(j) {
                    let code = level.code(row[j]);
                    codes[j] = code as u8;
                    stored = level.value(code);
                }
                let u = &u[j * n..][..n];
                let error = (row[j] - stored) / u[j];
                subtract(&mut row[j + 1..end], error, &u[j + 1..end]);
                counter::add_macs(end - j - 1);
                lost[j - begin] = error;
            }
            for (j, error) in (begin..end).zip(lost) {
                subtract(&mut row[end..], error, &u[j * n + end..(j + 1) * n]);
            }
            counter::add_macs((end - begin) * (n - end));
        }
    }
    (levels, codes)
}

fn subtract(row: &mut [f32], error: f32, u: &[f32]) {
    for (w, u) in row.iter_mut().zip(u) {
        *w -= error * u;
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;
    use crate::techniques::quantization::{
        fixture::{Fixture, INPUT},
        rtn,
    };

    fn unpacked(packed: PackedWeights) -> Vec<f32> {
        let module = packed.into_module::<Flex>(&Default::default());
        module.all_rows().into_data().to_vec().unwrap()
    }

    #[test]
    fn the_error_on_outlier_channels_is_the_known_one_and_below_that_of_rounding() {
        let fixture = Fixture::new();
        for (bits, golden) in [(8, 0.0034), (4, 0.059), (3, 0.131), (2, 0.407)] {
            let shape = fixture.shape(bits);
            let (packed, macs) =
                counter::count_macs(|| pack(&fixture.weights, shape, &fixture.inputs).unwrap());
            assert_eq!(macs, super::macs(shape.rows as u64, shape.columns as u64));
            let rounded = unpacked(packed);
            fixture.assert_error(&rounded, golden, bits);
            let plain = unpacked(rtn::pack(&fixture.weights, shape));
            assert!(fixture.error(&rounded) < fixture.error(&plain), "{bits} bits");
        }
    }

    #[test]
    fn inputs_that_do_not_go_together_leave_nothing_to_make_up_for() {
        let fixture = Fixture::new();
        let mut inputs = fixture.inputs.clone();
        for (i, x) in inputs.second_moment.iter_mut().enumerate() {
            if i / INPUT != i % INPUT {
                *x = 0.0;
            }
        }
        let shape = fixture.shape(4);
        let packed = pack(&fixture.weights, shape, &inputs).unwrap();
        assert_eq!(packed, rtn::pack(&fixture.weights, shape));
        let silent = InputStatistics {
            second_moment: vec![0.0; INPUT * INPUT],
            ..inputs
        };
        assert!(pack(&fixture.weights, shape, &silent).is_none());
    }
}
