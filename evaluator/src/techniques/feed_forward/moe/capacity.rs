//! Room of experts in training: the first rows get it, further ones skip the expert.

/// `⌈choices / experts · factor⌉`: rows that one expert takes of a batch.
pub(super) fn capacity(choices: usize, experts: usize, factor: f64) -> usize {
    let room = choices as f64 / experts as f64 * factor;
    // a product such as 10 · 1.1 is a little above the whole number it stands for
    (room - 1e-9).ceil().max(1.0) as usize
}

/// Empties the slots whose expert is full, for slots that come in `order`.
pub(super) fn fill(
    slots: &mut [Option<usize>],
    order: impl Iterator<Item = usize>,
    experts: usize,
    capacity: usize,
) {
    let mut taken = vec![0; experts];
    for slot in order {
        let Some(expert) = slots[slot] else { continue };
        if taken[expert] < capacity {
            taken[expert] += 1;
        } else {
            slots[slot] = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_the_even_share_times_the_factor_rounded_up() {
        assert_eq!(capacity(64, 4, 1.25), 20);
        assert_eq!(capacity(2 * 64, 4, 1.0), 32);
        assert_eq!(capacity(10, 1, 1.1), 11);
        assert_eq!(capacity(1, 8, 1.0), 1);
    }

    #[test]
    fn the_first_in_order_get_the_room() {
        let mut slots = vec![Some(0), Some(1), Some(0), None, Some(0), Some(1)];
        fill(&mut slots, [4, 5, 2, 0, 3, 1].into_iter(), 2, 2);
        assert_eq!(slots, [None, Some(1), Some(0), None, Some(0), Some(1)]);
    }
}
