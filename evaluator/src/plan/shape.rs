//! The shape of a model, read from a configuration.

use crate::{
    model::{AttentionPlan, LayerPlan, ModelPlan},
    parameter::Values,
    techniques::{attention, feed_forward::FeedForwardPlan, reversible::Reversible},
};

/// Refuses another context where the base has tables that are as long as its own.
pub(super) fn check_tables(base: &ModelPlan, model: &ModelPlan) -> Result<(), String> {
    let tables = |plan: &ModelPlan, i: usize| plan.layers[i].attention.own(plan.place(i));
    if (0..base.layers.len()).all(|i| tables(base, i) == tables(model, i)) {
        return Ok(());
    }
    Err(format!(
        "context {} is not the base's {}, for which its attention has a table of positions; use context = {}",
        model.context, base.context, base.context
    ))
}

pub(super) fn read_model(values: Values, vocabulary: usize, context: usize) -> Result<ModelPlan, String> {
    let (width, heads) = (values.int("width"), values.int("heads"));
    if width % heads != 0 {
        let near: Vec<String> = (1..=width)
            .filter(|h| width % h == 0 && (width / h) % 2 == 0)
            .map(|h| h.to_string())
            .collect();
        return Err(format!(
            "heads {heads} does not divide width {width}; use one of {}",
            near.join(", ")
        ));
    }
    let depth = width / heads;
    if depth % 2 != 0 {
        return Err(format!(
            "width {width} over heads {heads} gives heads of {depth}, but rotary positions need an even number; use other heads or width"
        ));
    }
    let kv_heads = match values.int("kv_heads") {
        0 => heads,
        n => n,
    };
    if heads % kv_heads != 0 {
        return Err(format!(
            "kv_heads {kv_heads} does not divide heads {heads}; use a divisor of heads, or 0 for all"
        ));
    }
    let experts = values.int("experts");
    if experts > 1 && values.text("feed_forward") == "channel_mix" {
        return Err(format!(
            "experts {experts} are of gated networks, not of channel_mix; use experts = 1 or feed_forward = 'gated'"
        ));
    }
    let layer = |(i, core)| -> Result<LayerPlan, String> {
        Ok(LayerPlan {
            attention: AttentionPlan {
                heads,
                kv_heads,
                depth,
                core,
            },
            feed_forward: FeedForwardPlan::read(values, width, i)?,
        })
    };
    let cores = attention::read(values, values.int("layers"), heads, kv_heads, context)?;
    let layers: Vec<LayerPlan> = cores
        .into_iter()
        .enumerate()
        .map(layer)
        .collect::<Result<_, _>>()?;
    Ok(ModelPlan {
        vocabulary,
        context,
        width,
        reversible: Reversible::read(values, &layers, context)?,
        layers,
    })
}
