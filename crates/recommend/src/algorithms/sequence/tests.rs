//! The model as its callers see it; the gradient check is in `network.rs`.

use super::*;

fn tiny() -> SequenceSettings {
    SequenceSettings {
        dimensions: 12,
        layers: 1,
        epochs: 30,
        dropout: 0.0,
        learning_rate: 2e-2,
        batch_positions: 256,
        window: 8,
        ..SequenceSettings::default()
    }
}

fn fit(
    rows: &[Vec<u32>],
    item_count: usize,
    settings: SequenceSettings,
) -> Result<SequenceModel, SequenceError> {
    let mut offsets = vec![0];
    let mut items = Vec::new();
    for row in rows {
        items.extend_from_slice(row);
        offsets.push(items.len());
    }
    SequenceModel::fit(&offsets, &items, item_count, settings, &mut |_| ControlFlow::Continue(()))
}

/// Users who walk around a ring of items, each from another start.
fn cycles(users: usize, item_count: usize) -> Vec<Vec<u32>> {
    (0..users).map(|user| (0..12).map(|step| ((user * 5 + step) % item_count) as u32).collect()).collect()
}

fn best(model: &SequenceModel, history: &[u32]) -> usize {
    let mut scores = vec![0.0; model.item_count()];
    model.score_all(&model.state_of(history), &mut scores);
    (0..scores.len()).max_by(|&left, &right| scores[left].total_cmp(&scores[right])).expect("items")
}

#[test]
fn learns_a_planted_cycle_under_both_objectives() {
    for full_softmax_items in [100, 1] {
        let settings = SequenceSettings { full_softmax_items, negatives: 16, ..tiny() };
        let model = fit(&cycles(20, 10), 10, settings).expect("a model");
        for item in 0..10u32 {
            assert_eq!(best(&model, &[item]), (item as usize + 1) % 10, "after {item}");
        }
    }
}

#[test]
fn tells_apart_what_only_the_past_tells_apart() {
    // After 5 comes 6 or 7, depending on the item before.
    let rows: Vec<Vec<u32>> =
        (0..200).map(|user| if user % 2 == 0 { vec![0, 5, 6] } else { vec![1, 5, 7] }).collect();
    let model = fit(&rows, 8, tiny()).expect("a model");
    assert_eq!((best(&model, &[0, 5]), best(&model, &[1, 5])), (6, 7));
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let settings = SequenceSettings { epochs: 3, dropout: 0.2, validation_users: 5, ..tiny() };
    let train = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| fit(&cycles(20, 10), 10, settings.clone()).expect("a model"))
    };
    let (one, two) = (train(1), train(2));
    assert_eq!(one.tensors(), two.tensors());
}

#[test]
fn tiny_data_still_give_finite_scores() {
    let cases: [(&[Vec<u32>], usize); 5] =
        [(&[], 0), (&[], 3), (&[vec![]], 1), (&[vec![0]], 1), (&[vec![0, 0], vec![]], 1)];
    for (rows, item_count) in cases {
        let model = fit(rows, item_count, SequenceSettings { epochs: 2, validation_users: 9, ..tiny() })
            .expect("a model");
        let mut scores = vec![f32::NAN; item_count];
        model.score_all(&model.state_of(&[0, 9]), &mut scores);
        assert!(scores.iter().all(|score| score.is_finite()), "{rows:?} over {item_count} items");
    }
}

#[test]
fn bad_input_is_refused() {
    let run = |offsets: &[usize], items: &[u32], item_count, settings| {
        SequenceModel::fit(offsets, items, item_count, settings, &mut |_| ControlFlow::Continue(())).err()
    };
    let offsets_error = Some(SequenceError::Offsets { items: 2 });
    assert_eq!(
        run(&[0, 2], &[0, 7], 5, tiny()),
        Some(SequenceError::Item { item: 7, event: 1, item_count: 5 })
    );
    for offsets in [&[][..], &[0], &[1, 2], &[0, 3], &[0, 2, 1, 2]] {
        assert_eq!(run(offsets, &[0, 1], 5, tiny()), offsets_error, "{offsets:?}");
    }
    let settings = [
        SequenceSettings { dimensions: 0, ..tiny() },
        SequenceSettings { dropout: 1.0, ..tiny() },
        SequenceSettings { learning_rate: f32::NAN, ..tiny() },
    ];
    for settings in settings {
        assert!(matches!(run(&[0], &[], 5, settings), Some(SequenceError::Setting { .. })));
    }
}

#[test]
fn progress_can_cancel_and_validation_can_stop_early() {
    let (offsets, items) = ([0, 4], [0, 1, 2, 3]);
    let cancelled = SequenceModel::fit(&offsets, &items, 4, tiny(), &mut |_| ControlFlow::Break(()));
    assert_eq!(cancelled.err(), Some(SequenceError::Cancelled));
    let settings = SequenceSettings { validation_users: 4, patience: 2, ..tiny() };
    let mut last = 0;
    let model = SequenceModel::fit(&offsets, &items, 4, settings, &mut |progress| {
        last = progress.epoch;
        ControlFlow::Continue(())
    });
    assert!(model.is_ok() && last < 29, "stopped after epoch {last}");
}

#[test]
fn tensors_round_trip_and_refuse_damage() {
    let model = fit(&cycles(4, 6), 6, SequenceSettings { epochs: 1, ..tiny() }).expect("a model");
    let tensors = model.tensors();
    let loaded = SequenceModel::from_tensors(model.settings().clone(), &tensors).expect("a model");
    assert_eq!(loaded.tensors(), tensors);
    let stored = as_tensors::serialize(&model, serde_json::value::Serializer).expect("json");
    assert_eq!(as_tensors::deserialize(stored).expect("a model").tensors(), tensors);
    for index in 0..tensors.len() {
        let (name, shape, values) = tensors[index].clone();
        let refused = |replacement: Option<Tensor<'_>>| {
            let mut damaged = tensors.clone();
            damaged.remove(index);
            damaged.extend(replacement);
            match SequenceModel::from_tensors(model.settings().clone(), &damaged) {
                Err(SequenceError::Tensor { name: named, .. }) => assert_eq!(named, name),
                other => panic!("{name}: {other:?}"),
            }
        };
        let mut not_finite = values.to_vec();
        not_finite[0] = f32::NAN;
        refused(None);
        refused(Some((name.clone(), shape.clone(), &not_finite)));
        refused(Some((name.clone(), vec![shape[0] + 1, shape[1]], values)));
        refused(Some((name.clone(), vec![shape[0], usize::MAX], values)));
    }
}

#[test]
fn advancing_one_by_one_equals_reading_at_once() {
    let model = fit(&cycles(8, 10), 10, SequenceSettings { epochs: 2, ..tiny() }).expect("a model");
    let history = [3, 4, 99, 5, 0, 9, 9, 2];
    let mut state = model.initial_state();
    for item in history {
        model.advance(&mut state, item);
    }
    let at_once = model.state_of(&history);
    let (mut one, mut other) = (vec![0.0; 10], vec![0.0; 10]);
    model.score_all(&state, &mut one);
    model.score_all(&at_once, &mut other);
    for (one, other) in one.iter().zip(&other) {
        assert!((one - other).abs() < 1e-4, "{one} is not {other}");
    }
    assert_eq!(model.score_path(&history, 7).last(), Some(&other[7]));
    let mut some = vec![0.0; 3];
    model.score_some(&at_once, &[7, 99, 0], &mut some);
    assert_eq!(some, [other[7], f32::NEG_INFINITY, other[0]]);
}

#[test]
fn a_state_survives_storage() {
    let model = fit(&cycles(4, 6), 6, SequenceSettings { epochs: 1, ..tiny() }).expect("a model");
    let state = model.state_of(&[1, 2]);
    let text = serde_json::to_string(&state).expect("json");
    assert_eq!(serde_json::from_str::<State>(&text).expect("a state"), state);
}
