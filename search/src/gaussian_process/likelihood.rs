//! How well a covariance explains the data: the log marginal likelihood with priors, and its gradient.

use multiversion::multiversion;

use super::{
    cholesky::{Lower, dot},
    exponential::exp_neg,
    kernel::{Kernel, ROOT5, SCALARS, polynomial},
};

/// Added to the diagonal, so that repeated points do not make the matrix singular.
pub(crate) const JITTER: f64 = 1e-8;

/// A normal prior on the logarithm of a hyperparameter: mean and standard deviation.
#[derive(Clone, Copy, Debug)]
struct Prior(f64, f64);

/// What is fitted: outcomes and the distances of the points they were measured at.
pub(crate) struct Evidence<'a> {
    /// Standardised outcomes.
    pub(crate) outcomes: &'a [f64],
    /// For each axis, the distances of all pairs.
    pub(crate) pairs: &'a [Vec<f64>],
}

/// What a cost is computed in, kept from one to the next: as new memory each time it would be a tenth of the work.
#[derive(Default)]
pub(super) struct Workspace {
    squares: Vec<f64>,
    sums: Vec<f64>,
    own: Vec<f64>,
    /// Of each axis: its part of the sums, and its derivative by the logarithm of the rate.
    parts: Vec<f64>,
    slopes: Vec<f64>,
    joints: Vec<f64>,
    weights: Vec<f64>,
}

impl Workspace {
    fn sized(&mut self, pairs: usize, axes: usize) {
        for totals in [&mut self.squares, &mut self.sums, &mut self.own] {
            totals.clear();
            totals.resize(pairs, 0.0);
        }
        // these are written before they are read
        for each in [&mut self.parts, &mut self.slopes] {
            each.resize(axes * pairs, 0.0);
        }
        for each in [&mut self.joints, &mut self.weights] {
            each.resize(pairs, 0.0);
        }
    }
}

impl Evidence<'_> {
    fn prior(&self, index: usize) -> Prior {
        let axes = self.pairs.len();
        match index {
            // little noise unless the data say otherwise
            0 => Prior(-7.0, 2.0),
            // the joint part takes what the sums leave
            1 => Prior(-2.0, 0.7),
            2..SCALARS => Prior(-1.1, 0.7),
            // distances grow with the root of the number of parameters (Hvarfner et al. 2024)
            i if i < SCALARS + axes => Prior(0.3 - 0.5 * (axes as f64).ln(), 1.2),
            _ => Prior(0.0, 1.2),
        }
    }

    /// The middle of the priors, in logarithms.
    pub(crate) fn start(&self) -> Vec<f64> {
        (0..SCALARS + 2 * self.pairs.len())
            .map(|i| self.prior(i).0)
            .collect()
    }

    /// A start for functions that are rougher than expected.
    pub(crate) fn rough_start(&self) -> Vec<f64> {
        let rougher = |(i, t)| if i < SCALARS { t } else { t + 1.5 };
        self.start().into_iter().enumerate().map(rougher).collect()
    }

    /// Minus the log posterior density of the hyperparameters and its gradient; infinite where the matrix is singular.
    pub(super) fn cost(&self, theta: &[f64], gradient: &mut [f64], work: &mut Workspace) -> f64 {
        let (n, axes) = (self.outcomes.len(), self.pairs.len());
        let kernel = Kernel::from_logs(theta);
        let count = n * n.saturating_sub(1) / 2;
        work.sized(count, axes);
        let Workspace {
            squares,
            sums,
            own,
            parts,
            slopes,
            joints,
            weights,
        } = work;
        let (share, pair) = kernel.shares(axes);
        for (axis, distances) in self.pairs.iter().enumerate() {
            let (joint, rate) = (kernel.joint_rates[axis].powi(2), ROOT5 * kernel.sum_rates[axis]);
            let part = &mut parts[axis * count..][..count];
            let slope = &mut slopes[axis * count..][..count];
            add_axis(distances, joint, rate, [squares, sums, own], [part, slope]);
        }
        let couple = |sum: f64, own: f64| 0.5 * (sum * sum - own);
        joint_part(kernel.joint, squares, joints);
        let mut matrix = Lower::zeros(n);
        for i in 0..n {
            let start = i * i.saturating_sub(1) / 2;
            let row = &mut matrix.values[i * n..][..=i];
            for (j, value) in row[..i].iter_mut().enumerate() {
                let (sum, own) = (sums[start + j], own[start + j]);
                *value = joints[start + j] + share * sum + pair * couple(sum, own);
            }
            row[i] = kernel.variance() + kernel.noise + JITTER;
        }
        if !matrix.factor() {
            gradient.fill(0.0);
            return f64::INFINITY;
        }
        let mut alpha = self.outcomes.to_vec();
        matrix.solve(&mut alpha);
        let fit = dot(&alpha, &alpha);
        matrix.solve_transposed(&mut alpha);
        let inverse = matrix.inverse().transposed_times_self();
        // weights[p]: twice the derivative of the log likelihood by that covariance
        let mut trace = 0.0;
        for i in 0..n {
            let start = i * i.saturating_sub(1) / 2;
            let row = inverse.row(i);
            for (j, weight) in weights[start..start + i].iter_mut().enumerate() {
                *weight = alpha[i] * alpha[j] - row[j];
            }
            trace += alpha[i] * alpha[i] - row[i];
        }
        gradient[0] = -0.5 * trace * kernel.noise;
        gradient[1] = -0.5 * trace * kernel.joint - dot(weights, joints);
        gradient[2] = -0.5 * trace * kernel.sum - share * dot(weights, sums);
        let mut couples = 0.0;
        for ((w, sum), own) in weights.iter().zip(&*sums).zip(&*own) {
            couples += w * couple(*sum, *own);
        }
        gradient[3] = -0.5 * trace * (kernel.variance() - kernel.joint - kernel.sum) - pair * couples;
        for axis in 0..axes {
            let part = &parts[axis * count..][..count];
            let slope = &slopes[axis * count..][..count];
            let mut total = 0.0;
            for (((w, sum), part), slope) in weights.iter().zip(&*sums).zip(part).zip(slope) {
                total += w * slope * (share + pair * (sum - part));
            }
            gradient[SCALARS + axes + axis] = -total;
        }
        weights.iter_mut().zip(&*squares).for_each(|(w, s)| *w *= s);
        for (axis, distances) in self.pairs.iter().enumerate() {
            let mut total = 0.0;
            for (w, d) in weights.iter().zip(distances) {
                total += w * d * d;
            }
            gradient[SCALARS + axis] = -total * kernel.joint_rates[axis].powi(2);
        }
        let mut cost = 0.5 * (fit + matrix.log_determinant());
        for (i, (theta, gradient)) in theta.iter().zip(gradient).enumerate() {
            let Prior(mean, deviation) = self.prior(i);
            let z = (theta - mean) / deviation;
            cost += 0.5 * z * z;
            *gradient += z / deviation;
        }
        cost
    }
}

/// Adds one axis to the squared distances, the sums and the sums of squares; writes its terms and their derivatives by
/// the logarithm of the rate.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn add_axis(distances: &[f64], joint: f64, rate: f64, totals: [&mut [f64]; 3], own: [&mut [f64]; 2]) {
    let ([squares, sums, squared], [terms, slopes]) = (totals, own);
    let totals = squares.iter_mut().zip(sums).zip(squared);
    for (((d, ((square, sum), squared)), term), slope) in distances.iter().zip(totals).zip(terms).zip(slopes)
    {
        *square += joint * d * d;
        let t = rate * d;
        let e = exp_neg(-t);
        *term = polynomial(t) * e;
        *sum += *term;
        *squared += *term * *term;
        *slope = -(t * t) * (1.0 / 3.0) * (1.0 + t) * e;
    }
}

/// The joint part's covariances, of squared distances; those become the derivatives by the logarithm of a rate, but for
/// that rate's share of the square.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn joint_part(variance: f64, squares: &mut [f64], joints: &mut [f64]) {
    for (square, joint) in squares.iter_mut().zip(joints) {
        let t = ROOT5 * square.sqrt();
        let e = variance * exp_neg(-t);
        *joint = polynomial(t) * e;
        *square = -(5.0 / 3.0) * (1.0 + t) * e;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_is_that_of_the_cost() {
        let n = 9;
        let at = |i: usize, axis: usize| ((i * 7 + axis * 3) % 10) as f64 / 10.0;
        let pairs: Vec<Vec<f64>> = (0..3)
            .map(|axis| {
                (1..n)
                    .flat_map(|i| (0..i).map(move |j| (at(i, axis) - at(j, axis)).abs()))
                    .collect()
            })
            .collect();
        let outcomes: Vec<f64> = (0..n).map(|i| (i as f64 * 1.3).sin()).collect();
        let evidence = Evidence {
            outcomes: &outcomes,
            pairs: &pairs,
        };
        let mut theta = evidence.start();
        theta
            .iter_mut()
            .enumerate()
            .for_each(|(i, t)| *t += 0.1 * (i as f64 - 3.0));
        let mut gradient = vec![0.0; theta.len()];
        let (mut scratch, mut work) = (gradient.clone(), Workspace::default());
        evidence.cost(&theta, &mut gradient, &mut work);
        for i in 0..theta.len() {
            let step = 1e-5;
            let mut moved = theta.clone();
            moved[i] += step;
            let up = evidence.cost(&moved, &mut scratch, &mut work);
            moved[i] -= 2.0 * step;
            let down = evidence.cost(&moved, &mut scratch, &mut work);
            let slope = (up - down) / (2.0 * step);
            assert!(
                (slope - gradient[i]).abs() < 1e-5 * slope.abs().max(1.0),
                "{i}: {slope} {}",
                gradient[i]
            );
        }
    }
}
