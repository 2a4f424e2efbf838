//! What the loss rises by where one layer alone has fewer structures.

use super::{
    sizes::Structure,
    table::{Losses, TimeTable},
};
use crate::{
    counter,
    model::{Model, ModelPlan},
    ops::Ops,
    techniques::pruning::{Importance, shrink::cut_block},
    training::{Batches, Beside, score_on},
};

/// Batches that losses are measured on.
const BATCHES: u64 = 4;

/// The losses of all sizes of a table, of a trained model of this shape whose structures matter as `importance` says. Before
/// each it asks whether to go on.
///
/// # Errors
/// Those of `go_on`.
pub fn losses<B: Ops, E>(
    (model, plan): (&Model<B>, &ModelPlan),
    importance: &Importance,
    table: &TimeTable,
    batches: &Batches,
    go_on: &mut dyn FnMut() -> Result<(), E>,
) -> Result<Losses, E> {
    let loss = |model: &Model<B>| {
        let batches = batches.beside(Beside::Sizes, BATCHES);
        let scores = counter::without_backward(|| score_on(model, batches));
        scores.loss / scores.scored.max(1) as f64
    };
    let whole = loss(model);
    let mut of_layer = |structure: Structure, sizes: &[usize], layer: usize| {
        let mut losses = vec![];
        for keep in &sizes[..sizes.len() - 1] {
            go_on()?;
            let mut cut = (model.clone(), plan.layers[layer].clone());
            structure.cut(&mut cut.1, *keep);
            let scores = &importance.layers[layer];
            cut_block(&mut cut.0.blocks[layer], &cut.1, scores, plan.place(layer));
            losses.push(loss(&cut.0) - whole);
        }
        losses.push(0.0);
        Ok(losses)
    };
    let parts = table.parts.iter().map(|part| {
        let layers = part.layers.iter();
        layers
            .map(|layer| of_layer(part.structure, &part.sizes, *layer))
            .collect()
    });
    parts.collect()
}

/// Multiply-adds of [`losses`] on batches of `batch` examples of `n` tokens a row.
pub(in crate::techniques::pruning) fn macs(plan: &ModelPlan, batch: usize, n: usize) -> u64 {
    let mut each = plan.forward_macs(batch, n);
    for (i, layer) in plan.layers.iter().enumerate() {
        for structure in Structure::ALL {
            let sizes = structure.sizes(layer);
            for keep in &sizes[..sizes.len() - 1] {
                let mut cut = plan.clone();
                structure.cut(&mut cut.layers[i], *keep);
                each += cut.forward_macs(batch, n);
            }
        }
    }
    BATCHES * each
}
