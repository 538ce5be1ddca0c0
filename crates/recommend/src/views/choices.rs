//! Which acts are choices: those that say yes and that nobody took back since.
//!
//! A later act of negative weight with the same entity takes its earlier choices back; a later choice counts again. It
//! refuses to weigh a yes against a no: what was disliked last is no evidence of liking, however often it was chosen.

use hashbrown::HashSet;

/// The choices among acts, oldest first. `said` is the entity of an act and what the act says of it.
#[must_use]
pub fn choices<T>(mut acts: Vec<T>, said: impl Fn(&T) -> (u32, f32)) -> Vec<T> {
    if acts.iter().any(|act| said(act).1 < 0.0) {
        let mut taken_back = HashSet::new();
        let mut latest_first: Vec<T> = Vec::with_capacity(acts.len());
        for act in acts.into_iter().rev() {
            let (entity, weight) = said(&act);
            if weight < 0.0 {
                taken_back.insert(entity);
            } else if !taken_back.contains(&entity) {
                latest_first.push(act);
            }
        }
        latest_first.reverse();
        acts = latest_first;
    }
    acts.retain(|act| said(act).1 > 0.0);
    acts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_no_takes_a_choice_back_and_a_later_yes_counts_again() {
        let check = |acts: &[(u32, f32)], expected: &[(u32, f32)]| {
            assert_eq!(choices(acts.to_vec(), |act| *act), expected, "{acts:?}");
        };
        check(&[], &[]);
        check(&[(1, 1.0), (2, 0.0), (1, 2.0)], &[(1, 1.0), (1, 2.0)]);
        check(&[(1, 1.0), (2, 1.0), (1, -2.0)], &[(2, 1.0)]);
        check(&[(1, -1.0), (1, 1.0)], &[(1, 1.0)]);
        check(&[(1, 1.0), (1, -1.0), (1, 3.0), (2, -1.0)], &[(1, 3.0)]);
        check(&[(1, f32::NAN), (2, -1.0)], &[]);
    }
}
