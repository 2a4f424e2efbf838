//! The shape of a model, read from a configuration.

use crate::{
    data::Symbols,
    model::{AttentionPlan, Kind, LayerPlan, ModelPlan, kinds},
    parameter::Values,
    techniques::{
        attention,
        dynamic::{early_exit::EarlyExit, token_keep::TokenKeep},
        feed_forward::{FeedForwardPlan, routers_that_look_back},
        reversible::Reversible,
    },
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

/// Refuses attentions that only look back where the kind of model looks both ways.
fn check_sight(kind: Kind, cores: &[attention::Core]) -> Result<(), String> {
    let blind = cores.iter().find(|core| !core.sees_both_ways());
    let (true, Some(core)) = (kind.sees_both_ways(), blind) else {
        return Ok(());
    };
    Err(format!(
        "attention '{}' looks back only in this form, and kind '{}' looks both ways; use {}",
        core.name(),
        kind.name(),
        attention::both_ways().join(", ")
    ))
}

/// Refuses routers that look at later tokens where the kind of model writes one after the other.
fn check_routers(kind: Kind, layers: &[LayerPlan]) -> Result<(), String> {
    let mut mixtures = layers.iter().filter_map(|layer| layer.feed_forward.mixture());
    let ahead = mixtures.find(|mixture| mixture.router.looks_ahead());
    let (true, Some(mixture)) = (kind.writes(), ahead) else {
        return Ok(());
    };
    Err(format!(
        "router '{}' has experts choose among all tokens of a text, later ones too, and kind '{}' writes token after token; use router {}, or kind {}",
        mixture.router.name(),
        kind.name(),
        routers_that_look_back().join(", "),
        kinds::that_only_read().join(", ")
    ))
}

pub(super) fn read_model(values: Values, data: Symbols, context: usize) -> Result<ModelPlan, String> {
    let kind = Kind::read(values, data)?;
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
    let attention = |core| AttentionPlan {
        heads,
        kv_heads,
        depth,
        core,
        cache: None,
    };
    let layer = |(i, core)| -> Result<LayerPlan, String> {
        Ok(LayerPlan {
            attention: attention(core),
            cross: None,
            feed_forward: FeedForwardPlan::read(values, width, i)?,
            adapters: None,
        })
    };
    let layers = values.int("layers");
    let cores = attention::read(values, layers, heads, kv_heads, context, kind.sees_both_ways())?;
    check_sight(kind, &cores)?;
    let mut layers: Vec<LayerPlan> = cores
        .into_iter()
        .enumerate()
        .map(layer)
        .collect::<Result<_, _>>()?;
    check_routers(kind, &layers)?;
    if kind.reading() > 0 {
        if values.is_true("reversible") {
            return Err(format!(
                "reversible = true goes back through blocks of one stream, and kind '{}' has two halves; use reversible = false, or another kind",
                kind.name()
            ));
        }
        // the half that writes has the same blocks, with an attention to what was read
        let writing = layers.clone().into_iter().map(|layer| LayerPlan {
            cross: Some(attention(layer.attention.core.across())),
            ..layer
        });
        layers.extend(writing);
    }
    let reversible = Reversible::read(values, &layers, context)?;
    Ok(ModelPlan {
        kind,
        vocabulary: data.vocabulary + kind.more_tokens(),
        context,
        width,
        early_exit: EarlyExit::read(values, kind, &layers, reversible.is_some())?,
        tokens: TokenKeep::read(values, kind, &layers, reversible.is_some())?,
        reversible,
        sparsity: None,
        rotated: false,
        draft: None,
        layers,
    })
}
