//! What one is worth in each tensor of a model in whole numbers: found on calibration text, and stored in its files.

/// Steps of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Steps {
    /// Of the residual stream.
    pub stream: f32,
    /// Of what the head is given.
    pub head: f32,
    /// Of each block.
    pub blocks: Vec<BlockSteps>,
}

/// Steps of one block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockSteps {
    /// Of what queries, keys and values are projected from.
    pub attention: f32,
    /// Of queries.
    pub queries: f32,
    /// Of keys.
    pub keys: f32,
    /// Of values.
    pub values: f32,
    /// Of what comes out of the attention, before its projection.
    pub attended: f32,
    /// Of what the network is given.
    pub feed_forward: f32,
    /// Of its neurons.
    pub neurons: f32,
}

const OF_MODEL: usize = 2;
const OF_BLOCK: usize = 7;

impl Steps {
    /// How many numbers the steps of so many blocks are.
    pub fn count(blocks: usize) -> usize {
        OF_MODEL + OF_BLOCK * blocks
    }

    /// All of them, as they stand in files.
    pub fn to_values(&self) -> Vec<f32> {
        let blocks = self.blocks.iter().flat_map(|block| {
            [
                block.attention,
                block.queries,
                block.keys,
                block.values,
                block.attended,
                block.feed_forward,
                block.neurons,
            ]
        });
        [self.stream, self.head].into_iter().chain(blocks).collect()
    }

    /// Reads them back.
    ///
    /// # Errors
    /// A sentence where one of them is no step.
    pub fn from_values(values: &[f32]) -> Result<Self, String> {
        if let Some(odd) = values.iter().find(|step| !(step.is_finite() && **step > 0.0)) {
            return Err(format!("{odd} is what one is worth in a tensor of whole numbers"));
        }
        let (model, blocks) = values.split_at(OF_MODEL);
        let blocks = blocks.as_chunks::<OF_BLOCK>().0.iter();
        let blocks = blocks.map(
            |&[attention, queries, keys, values, attended, feed_forward, neurons]| BlockSteps {
                attention,
                queries,
                keys,
                values,
                attended,
                feed_forward,
                neurons,
            },
        );
        Ok(Steps {
            stream: model[0],
            head: model[1],
            blocks: blocks.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_come_back_and_others_are_refused() {
        let values: Vec<f32> = (1..=Steps::count(2)).map(|i| i as f32).collect();
        let steps = Steps::from_values(&values).unwrap();
        assert_eq!(
            (steps.head, steps.blocks.len(), steps.blocks[1].neurons),
            (2.0, 2, 16.0)
        );
        assert_eq!(steps.to_values(), values);
        for odd in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            let mut values = values.clone();
            values[7] = odd;
            assert!(Steps::from_values(&values).is_err(), "{odd}");
        }
    }
}
