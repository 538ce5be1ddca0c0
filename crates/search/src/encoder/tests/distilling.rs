//! Tables that are distilled of the tiny model, against what its formulas say of each token between the marks.

use std::sync::atomic::{AtomicUsize, Ordering};

use safetensors::SafeTensors;
use serde_json::Value;

use super::*;

/// The tokens of the tiny model that mean something, in its order.
const MEANINGFUL: [usize; 4] = [4, 5, 6, 7];

/// The files of the tiny model with these weights.
fn layered(weights: &Weights) -> (tempfile::TempDir, ModelFiles) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), weights, &config());
    let files = ModelFiles::read(folder.path()).unwrap();
    (folder, files)
}

fn distilled(files: &ModelFiles, dimensions: usize, threads: usize) -> FileBytes {
    let done = AtomicUsize::new(0);
    let tell = |tokens: usize| {
        done.fetch_add(tokens, Ordering::Relaxed);
    };
    let distilling = Distilling::new(files, dimensions).unwrap();
    let made = distilling.run(7, NonZeroUsize::new(threads).unwrap(), &tell).unwrap();
    assert_eq!((distilling.tokens(), done.into_inner()), (MEANINGFUL.len(), MEANINGFUL.len()));
    made
}

fn opened(made: FileBytes) -> SentenceEncoder {
    SentenceEncoder::new(&ModelFiles::of(made).unwrap(), "light", 8, NonZeroUsize::MIN).unwrap()
}

/// The rows of a table.
fn rows(made: &FileBytes, dimensions: usize) -> Vec<Vec<f64>> {
    let all = SafeTensors::deserialize(&made["model.safetensors"]).unwrap();
    let tensor = all.tensor("embeddings").unwrap();
    assert_eq!(tensor.shape(), [WORDS.len(), dimensions]);
    let numbers: Vec<f64> =
        tensor.data().as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect();
    numbers.chunks_exact(dimensions).map(<[f64]>::to_vec).collect()
}

fn distance(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(left, right)| (left - right).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn rows_are_as_far_apart_as_the_layers_say_and_weighted_by_rank() {
    let weights = weights();
    let (_folder, files) = layered(&weights);
    // Four tokens differ in three directions at most, so that nothing is lost.
    let found = rows(&distilled(&files, 4, 2), 4);
    // By Zipf's law over the four, from the second on: 1/2, 1/3, 1/4, 1/5.
    let whole = 77.0 / 60.0;
    let unweighted = |rank: usize| -> Vec<f64> {
        let weight = 1e-4 / (1e-4 + 1.0 / ((rank + 2) as f64 * whole));
        found[MEANINGFUL[rank]].iter().map(|value| value / weight).collect()
    };
    let oracle = Oracle(&weights);
    let mean = |token: usize| -> Vec<f64> {
        let states = oracle.states(&[2, token, 3], 3);
        (0..HIDDEN).map(|place| states.iter().map(|state| state[place]).sum::<f64>() / 3.0).collect()
    };
    for (left, token) in MEANINGFUL.into_iter().enumerate() {
        for (right, other) in MEANINGFUL.into_iter().enumerate() {
            let (found, expected) =
                (distance(&unweighted(left), &unweighted(right)), distance(&mean(token), &mean(other)));
            assert!((found - expected).abs() < 1e-4, "{token} {other}: {found} {expected}");
        }
    }
    // They are around their mean.
    for place in 0..4 {
        let sum: f64 = (0..4).map(|rank| unweighted(rank)[place]).sum();
        assert!(sum.abs() < 1e-4, "{sum}");
    }
    // Marks and the unknown mean nothing.
    assert!(found[..4].iter().flatten().all(|value| *value == 0.0));
}

#[test]
fn a_table_is_an_encoder_that_puts_near_what_the_layers_put_near() {
    let mut weights = weights();
    let words = &mut weights.get_mut("embeddings.word_embeddings.weight").unwrap().1;
    // To the layers, what falls is almost what rises.
    words.copy_within(5 * HIDDEN..6 * HIDDEN, 6 * HIDDEN);
    words[6 * HIDDEN] += 1e-3;
    let (_folder, files) = layered(&weights);
    let made = distilled(&files, 3, 1);
    assert_eq!(distilled(&files, 3, 2), made, "threads do not change the bytes");
    let encoder = opened(made);
    assert_eq!((encoder.identity().dimensions, encoder.identity().tokens_max), (3, 512));
    let texts = ["rise", "fall", "rates", "unheard", "rates [SEP] rise"];
    let encoded = encoder.encode(&texts).unwrap();
    let near = |left: usize, right: usize| -> f32 {
        encoded[left].vector.iter().zip(&encoded[right].vector).map(|(left, right)| left * right).sum()
    };
    assert!(near(0, 1) > 0.999 && near(0, 2) < near(0, 1), "{} {}", near(0, 1), near(0, 2));
    assert!((near(0, 0) - 1.0).abs() < 1e-5, "of length 1");
    assert_eq!((encoded[3].tokens, &encoded[3].vector[..]), (0, &[0.0; 3][..]));
    let long = encoder.encode(&[&"rise ".repeat(512), &"rise ".repeat(513), &"rise ".repeat(9_000)]).unwrap();
    let cut: Vec<_> = long.iter().map(|one| (one.tokens, one.is_truncated)).collect();
    assert_eq!(cut, [(512, false), (512, true), (512, true)]);
    // A mark in a text is a token of zeros: it turns nothing.
    let without = encoder.encode(&["rates rise"]).unwrap();
    assert!(
        without[0].vector.iter().zip(&encoded[4].vector).all(|(left, right)| (left - right).abs() < 1e-6)
    );
    // The first numbers are what a smaller table has.
    assert!(encoder.makes(2) && !encoder.makes(4));
    let smaller = opened(distilled(&files, 2, 1)).encode(&texts).unwrap();
    for (whole, smaller) in encoded.iter().zip(smaller) {
        let cut = shortened(&whole.vector, 2);
        assert!(cut.iter().zip(&smaller.vector).all(|(left, right)| (left - right).abs() < 1e-5));
    }
}

#[test]
fn files_are_in_the_form_of_model2vec() {
    let (folder, files) = layered(&weights());
    let path = folder.path().join("tokenizer.json");
    let mut cutting: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    cutting["truncation"] =
        json!({"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"});
    fs::write(&path, cutting.to_string()).unwrap();
    let cut = ModelFiles::read(folder.path()).unwrap();
    let made = distilled(&cut, 2, 1);
    let names: Vec<&String> = made.keys().collect();
    assert_eq!(names, ["config.json", "model.safetensors", "tokenizer.json"]);
    let config: Value = serde_json::from_slice(&made["config.json"]).unwrap();
    assert_eq!((&config["model_type"], &config["normalize"]), (&json!("model2vec"), &json!(true)));
    assert_eq!((&config["hidden_dim"], &config["distilled_from"]), (&json!(2), &json!(cut.version())));
    // A table reads whole texts, by the same words.
    assert_eq!(made["tokenizer.json"], distilled(&files, 2, 1)["tokenizer.json"]);
    let tokenizer: Value = serde_json::from_slice(&made["tokenizer.json"]).unwrap();
    assert_eq!((&tokenizer["truncation"], &tokenizer["model"]), (&Value::Null, &cutting["model"]));
}

#[test]
fn what_no_table_is_made_of_is_refused() {
    let check = |kind: &str, dimensions: usize, last: usize, code: kernel::ErrorCode, field: Option<&str>| {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config();
        config["model_type"] = json!(kind);
        write(folder.path(), &weights(), &config);
        let path = folder.path().join("tokenizer.json");
        let mut tokenizer: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        tokenizer["model"]["vocab"]["##s"] = json!(last);
        fs::write(path, tokenizer.to_string()).unwrap();
        let files = ModelFiles::read(folder.path()).unwrap();
        let refused = Distilling::new(&files, dimensions).unwrap_err();
        assert_eq!((refused.code(), refused.field()), (code, field), "{kind} {dimensions} {last}");
    };
    check("model2vec", 2, 7, codes::VALIDATION_ERROR, None);
    check("llama", 2, 7, codes::VALIDATION_ERROR, None);
    check("bert", 0, 7, codes::VALIDATION_ERROR, Some("dimensions"));
    // More than there are tokens.
    check("bert", 5, 7, codes::VALIDATION_ERROR, Some("dimensions"));
    // A token of which the model has no row.
    check("bert", 2, 8, codes::CORRUPTED, None);
}
