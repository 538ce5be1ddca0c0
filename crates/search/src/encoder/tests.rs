//! A tiny model that is made here, against a forward pass that is written down a second time in double precision; and
//! damaged files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::tensor::TensorView;
use serde_json::json;

use super::*;

mod distilling;

const HIDDEN: usize = 6;
const WIDE: usize = 10;
const HEADS: usize = 2;
const WORDS: [&str; 8] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "rates", "rise", "fall", "##s"];

type Weights = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn weights() -> Weights {
    let mut shapes: Vec<(String, Vec<usize>)> = vec![
        ("embeddings.word_embeddings.weight".into(), vec![WORDS.len(), HIDDEN]),
        ("embeddings.position_embeddings.weight".into(), vec![16, HIDDEN]),
        ("embeddings.token_type_embeddings.weight".into(), vec![2, HIDDEN]),
    ];
    for layer in 0..2 {
        for (part, outputs, inputs) in [
            ("attention.self.query", HIDDEN, HIDDEN),
            ("attention.self.key", HIDDEN, HIDDEN),
            ("attention.self.value", HIDDEN, HIDDEN),
            ("attention.output.dense", HIDDEN, HIDDEN),
            ("intermediate.dense", WIDE, HIDDEN),
            ("output.dense", HIDDEN, WIDE),
        ] {
            shapes.push((format!("encoder.layer.{layer}.{part}.weight"), vec![outputs, inputs]));
            shapes.push((format!("encoder.layer.{layer}.{part}.bias"), vec![outputs]));
        }
    }
    let norms = (0..2)
        .flat_map(|layer| ["attention.output", "output"].map(|part| format!("encoder.layer.{layer}.{part}")));
    for norm in norms.chain(["embeddings".to_owned()]) {
        shapes.push((format!("{norm}.LayerNorm.weight"), vec![HIDDEN]));
        shapes.push((format!("{norm}.LayerNorm.bias"), vec![HIDDEN]));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut random = |shape: Vec<usize>| {
        let values = (0..shape.iter().product()).map(|_| rng.random_range(-1.0_f32..1.0)).collect();
        (shape, values)
    };
    shapes.into_iter().map(|(name, shape)| (name, random(shape))).collect()
}

fn write(folder: &Path, weights: &Weights, config: &serde_json::Value) {
    let bytes: BTreeMap<&String, Vec<u8>> = weights
        .iter()
        .map(|(name, (_, values))| (name, values.iter().flat_map(|value| value.to_le_bytes()).collect()))
        .collect();
    let views = weights.iter().map(|(name, (shape, _))| {
        (name, TensorView::new(safetensors::Dtype::F32, shape.clone(), &bytes[name]).unwrap())
    });
    fs::write(folder.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let vocabulary: BTreeMap<&str, usize> = WORDS.iter().enumerate().map(|(id, word)| (*word, id)).collect();
    let special = |id: usize| json!({"id": id, "content": WORDS[id], "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": (0..4).map(special).collect::<Vec<_>>(),
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}, "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}},
        "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocabulary}
    });
    fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    fs::write(folder.join("sentence_bert_config.json"), r#"{"max_seq_length": 12}"#).unwrap();
}

fn config() -> serde_json::Value {
    json!({"model_type": "bert", "hidden_size": HIDDEN, "intermediate_size": WIDE, "num_hidden_layers": 2,
        "num_attention_heads": HEADS, "max_position_embeddings": 16, "vocab_size": WORDS.len(), "layer_norm_eps": 1e-12,
        "hidden_act": "gelu"})
}

fn open(folder: &Path, batch_tokens: usize) -> Result<SentenceEncoder> {
    SentenceEncoder::open(folder, "tiny", batch_tokens, NonZeroUsize::new(2).unwrap())
}

/// The same model, one text at a time, in double precision and without matrices.
struct Oracle<'a>(&'a Weights);

impl Oracle<'_> {
    fn of(&self, name: &str) -> Vec<f64> {
        self.0[name].1.iter().map(|value| f64::from(*value)).collect()
    }

    fn linear(&self, name: &str, row: &[f64]) -> Vec<f64> {
        let (weights, bias) = (self.of(&format!("{name}.weight")), self.of(&format!("{name}.bias")));
        let output = |(weights, bias): (&[f64], &f64)| {
            weights.iter().zip(row).map(|(weight, value)| weight * value).sum::<f64>() + bias
        };
        weights.chunks_exact(row.len()).zip(&bias).map(output).collect()
    }

    fn norm(&self, name: &str, row: &[f64]) -> Vec<f64> {
        let mean = row.iter().sum::<f64>() / row.len() as f64;
        let variance = row.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / row.len() as f64;
        let (scale, shift) =
            (self.of(&format!("{name}.LayerNorm.weight")), self.of(&format!("{name}.LayerNorm.bias")));
        let normed = row.iter().map(|value| (value - mean) / (variance + 1e-12).sqrt());
        normed.zip(scale).zip(shift).map(|((value, scale), shift)| value * scale + shift).collect()
    }

    fn add(left: &[f64], right: &[f64]) -> Vec<f64> {
        left.iter().zip(right).map(|(left, right)| left + right).collect()
    }

    fn attend(&self, name: &str, rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let part = |part: &str| -> Vec<Vec<f64>> {
            rows.iter().map(|row| self.linear(&format!("{name}.attention.self.{part}"), row)).collect()
        };
        let (queries, keys, values) = (part("query"), part("key"), part("value"));
        let width = HIDDEN / HEADS;
        let of_row = |query: &Vec<f64>| {
            let mut mixed = Vec::new();
            for head in 0..HEADS {
                let cut = |row: &Vec<f64>| row[head * width..(head + 1) * width].to_vec();
                let dot = |key: &Vec<f64>| {
                    cut(query).iter().zip(cut(key)).map(|(left, right)| left * right).sum::<f64>()
                };
                let shares: Vec<f64> =
                    keys.iter().map(|key| (dot(key) / (width as f64).sqrt()).exp()).collect();
                let whole: f64 = shares.iter().sum();
                for column in 0..width {
                    mixed.push(
                        shares
                            .iter()
                            .zip(&values)
                            .map(|(share, value)| share / whole * cut(value)[column])
                            .sum(),
                    );
                }
            }
            mixed
        };
        queries.iter().map(of_row).collect()
    }

    fn encode(&self, tokens: &[usize]) -> Vec<f64> {
        let rows = self.states(tokens, tokens.len());
        let sum = rows.iter().fold(vec![0.0; HIDDEN], |sum, row| Self::add(&sum, row));
        let length = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
        sum.into_iter().map(|value| value / length).collect()
    }

    /// How well the part of the tokens before `first` and the part behind it fit.
    fn fit(&self, tokens: &[usize], first: usize) -> f64 {
        let rows = self.states(tokens, first);
        let pooled: Vec<f64> =
            self.linear("bert.pooler.dense", &rows[0]).into_iter().map(f64::tanh).collect();
        self.linear("classifier", &pooled)[0]
    }

    /// The state of each token; from `first` on, they are of the second part.
    fn states(&self, tokens: &[usize], first: usize) -> Vec<Vec<f64>> {
        let (words, places) =
            (self.of("embeddings.word_embeddings.weight"), self.of("embeddings.position_embeddings.weight"));
        let kinds = self.of("embeddings.token_type_embeddings.weight");
        let row = |all: &[f64], row: usize| all[row * HIDDEN..(row + 1) * HIDDEN].to_vec();
        let embed = |(place, token): (usize, &usize)| {
            let kind = row(&kinds, usize::from(place >= first));
            let sum = Self::add(&Self::add(&row(&words, *token), &row(&places, place)), &kind);
            self.norm("embeddings", &sum)
        };
        let mut rows: Vec<Vec<f64>> = tokens.iter().enumerate().map(embed).collect();
        for layer in 0..2 {
            let name = format!("encoder.layer.{layer}");
            let mixed = self.attend(&name, &rows);
            let after = |(row, mixed): (&Vec<f64>, &Vec<f64>)| {
                let row = Self::add(row, &self.linear(&format!("{name}.attention.output.dense"), mixed));
                let row = self.norm(&format!("{name}.attention.output"), &row);
                let gelu = |value: f64| {
                    // The error function by its series, which is exact for values of this size.
                    let (mut term, mut sum, x) = (value / 2_f64.sqrt(), 0.0, value / 2_f64.sqrt());
                    for step in 0..200 {
                        sum += term / f64::from(2 * step + 1);
                        term *= -x * x / f64::from(step + 1);
                    }
                    value * 0.5 * (1.0 + 2.0 / std::f64::consts::PI.sqrt() * sum)
                };
                let wide: Vec<f64> =
                    self.linear(&format!("{name}.intermediate.dense"), &row).into_iter().map(gelu).collect();
                let narrow = self.linear(&format!("{name}.output.dense"), &wide);
                self.norm(&format!("{name}.output"), &Self::add(&row, &narrow))
            };
            rows = rows.iter().zip(&mixed).map(after).collect();
        }
        rows
    }
}

#[test]
fn vectors_are_those_of_the_formulas() {
    let folder = tempfile::tempdir().unwrap();
    let weights = weights();
    write(folder.path(), &weights, &config());
    let encoder = open(folder.path(), 8).unwrap();
    let texts = ["rates rise", "Rates fall", "", "rates rises fall unknown rise", "rise"];
    let tokens: [&[usize]; 5] =
        [&[2, 4, 5, 3], &[2, 4, 6, 3], &[2, 3], &[2, 4, 5, 7, 6, 1, 5, 3], &[2, 5, 3]];
    let encoded = encoder.encode(&texts).unwrap();
    for (encoded, tokens) in encoded.iter().zip(tokens) {
        assert_eq!((encoded.tokens, encoded.is_truncated), (tokens.len(), false));
        for (value, expected) in encoded.vector.iter().zip(Oracle(&weights).encode(tokens)) {
            assert!((f64::from(*value) - expected).abs() < 1e-5, "{value} {expected}");
        }
    }
    assert!(encoder.encode(&[]).unwrap().is_empty());
    let long = encoder.encode(&["rise ".repeat(10_000).as_str()]).unwrap();
    assert_eq!((long[0].tokens, long[0].is_truncated), (12, true));
    let identity = encoder.identity();
    assert_eq!((identity.dimensions, identity.tokens_max, identity.version.len()), (HIDDEN, 12, 16));
}

/// The same model with an end that says one number.
fn paired() -> Weights {
    let mut weights = weights();
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let mut add = |name: &str, shape: Vec<usize>| {
        let values = (0..shape.iter().product()).map(|_| rng.random_range(-1.0_f32..1.0)).collect();
        weights.insert(name.to_owned(), (shape, values));
    };
    // As the usual exports name them.
    add("bert.pooler.dense.weight", vec![HIDDEN, HIDDEN]);
    add("bert.pooler.dense.bias", vec![HIDDEN]);
    add("classifier.weight", vec![1, HIDDEN]);
    add("classifier.bias", vec![1]);
    weights
}

fn open_cross(folder: &Path) -> Result<CrossEncoder> {
    CrossEncoder::new(&ModelFiles::read(folder)?, "tiny", 8, NonZeroUsize::new(2).unwrap())
}

#[test]
fn scores_of_pairs_are_those_of_the_formulas() {
    let folder = tempfile::tempdir().unwrap();
    let weights = paired();
    write(folder.path(), &weights, &config());
    let model = open_cross(folder.path()).unwrap();
    let texts = ["fall", "rates rise", "", "rise rises unheard"];
    let scores = model.score("Rates rise", &texts).unwrap();
    // Two words of the query stand between the marks of its beginning and end.
    let tokens: [&[usize]; 4] =
        [&[2, 4, 5, 3, 6, 3], &[2, 4, 5, 3, 4, 5, 3], &[2, 4, 5, 3, 3], &[2, 4, 5, 3, 5, 5, 7, 1, 3]];
    for (score, tokens) in scores.iter().zip(tokens) {
        let expected = Oracle(&weights).fit(tokens, 4);
        assert!((f64::from(*score) - expected).abs() < 1e-5, "{score} {expected}");
    }
    assert!(model.score("rates", &[]).unwrap().is_empty());
    // Longer texts than are read: the first tokens of both.
    let long = "rise ".repeat(10_000);
    let cut = model.score("rates", &[&long, &long[..500]]).unwrap();
    assert_eq!(cut[0], cut[1]);
    let many = "\u{e4}".repeat(10_000);
    assert!(model.score(&many, &[&many]).unwrap()[0].is_finite(), "a cut is between characters");
    assert_eq!((model.identity().dimensions, model.identity().tokens_max), (1, 12));
}

#[test]
fn models_that_do_not_read_pairs_are_refused() {
    let check = |change: fn(&mut Weights, &mut serde_json::Value), code: kernel::ErrorCode| {
        let folder = tempfile::tempdir().unwrap();
        let (mut weights, mut config) = (paired(), config());
        change(&mut weights, &mut config);
        write(folder.path(), &weights, &config);
        assert_eq!(open_cross(folder.path()).unwrap_err().code(), code);
    };
    check(|weights, _| drop(weights.remove("classifier.weight")), codes::VALIDATION_ERROR);
    check(|weights, _| drop(weights.remove("bert.pooler.dense.bias")), codes::CORRUPTED);
    check(|_, config| config["model_type"] = json!("model2vec"), codes::VALIDATION_ERROR);
    let two = |weights: &mut Weights, _: &mut serde_json::Value| {
        weights.insert("classifier.weight".to_owned(), (vec![2, HIDDEN], vec![0.5; 2 * HIDDEN]));
    };
    check(two, codes::VALIDATION_ERROR);
    let one_type = |weights: &mut Weights, _: &mut serde_json::Value| {
        let name = "embeddings.token_type_embeddings.weight";
        weights.insert(name.to_owned(), (vec![1, HIDDEN], vec![0.5; HIDDEN]));
    };
    check(one_type, codes::VALIDATION_ERROR);
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &paired(), &config());
    let path = folder.path().join("tokenizer.json");
    let mut tokenizer: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    tokenizer["post_processor"] = serde_json::Value::Null;
    fs::write(path, tokenizer.to_string()).unwrap();
    assert_eq!(open_cross(folder.path()).unwrap_err().code(), codes::VALIDATION_ERROR, "no marks");
}

#[test]
fn tables_give_the_mean_of_their_rows() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<f32> = (0..WORDS.len()).flat_map(|row| [row as f32, 1.0]).collect();
    let weights = Weights::from([("embeddings".to_owned(), (vec![WORDS.len(), 2], rows))]);
    write(folder.path(), &weights, &json!({"model_type": "model2vec"}));
    let encoded = open(folder.path(), 8).unwrap().encode(&["rates unheard rise", "unheard"]).unwrap();
    // The mean of rows 4 and 5; neither the marks of beginning and end nor the unknown word count.
    let (mean, length) = (4.5_f32, (4.5_f32 * 4.5 + 1.0).sqrt());
    let expected = [mean / length, 1.0 / length];
    assert_eq!(encoded[0].tokens, 2);
    assert!(encoded[0].vector.iter().zip(expected).all(|(value, expected)| (value - expected).abs() < 1e-6));
    assert_eq!((encoded[1].tokens, &encoded[1].vector[..]), (0, &[0.0, 0.0][..]));
}

#[test]
fn tables_may_share_rows_and_weigh_tokens() {
    let table = || Weights::from([("embeddings".to_owned(), (vec![2, 2], vec![3.0, 4.0, 1.0, 0.0]))]);
    let open_with = |more: &[(&str, Vec<f32>)]| {
        let folder = tempfile::tempdir().unwrap();
        let mut weights = table();
        weights.extend(more.iter().map(|(name, row)| ((*name).to_owned(), (vec![row.len()], row.clone()))));
        write(folder.path(), &weights, &json!({"model_type": "model2vec"}));
        open(folder.path(), 8)
    };
    let mapping = |last: f32| ("mapping", vec![0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, last]);
    let weights = ("weights", vec![1.0, 1.0, 1.0, 1.0, 2.0, 4.0, 1.0, 1.0]);
    let found = open_with(&[mapping(1.0), weights.clone()]).unwrap().encode(&["rates rise"]).unwrap();
    // Twice (3, 4) and four times (1, 0).
    let length = 10.0_f32.hypot(8.0);
    let expected = [10.0 / length, 8.0 / length];
    assert!(found[0].vector.iter().zip(expected).all(|(value, expected)| (value - expected).abs() < 1e-6));
    for bad in [2.0, -1.0, 0.5] {
        assert_eq!(open_with(&[mapping(bad)]).unwrap_err().code(), codes::CORRUPTED, "{bad}");
    }
    let short = ("weights", vec![1.0; 3]);
    assert_eq!(open_with(&[mapping(1.0), short]).unwrap_err().code(), codes::CORRUPTED);
    assert_eq!(open_with(&[weights]).unwrap_err().code(), codes::CORRUPTED, "rows and weights differ");
}

#[test]
fn damaged_models_are_refused() {
    let check = |damage: &dyn Fn(&Path), code: kernel::ErrorCode| {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &weights(), &config());
        damage(folder.path());
        assert_eq!(open(folder.path(), 8).unwrap_err().code(), code);
    };
    let truncate = |folder: &Path| {
        let path = folder.join("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        fs::write(path, &bytes[..bytes.len() - 100]).unwrap();
    };
    check(&truncate, codes::CORRUPTED);
    check(&|folder| fs::remove_file(folder.join("tokenizer.json")).unwrap(), codes::NOT_FOUND);
    check(&|folder| fs::write(folder.join("tokenizer.json"), "{}").unwrap(), codes::CORRUPTED);
    check(&|folder| fs::write(folder.join("config.json"), "no").unwrap(), codes::CORRUPTED);
    let with = |name: &'static str, value: serde_json::Value| {
        move |folder: &Path| {
            let mut config = config();
            config[name] = value.clone();
            fs::write(folder.join("config.json"), config.to_string()).unwrap();
        }
    };
    check(&with("model_type", json!("llama")), codes::VALIDATION_ERROR);
    check(&with("hidden_act", json!("relu")), codes::VALIDATION_ERROR);
    check(&with("num_attention_heads", json!(0)), codes::VALIDATION_ERROR);
    check(&with("hidden_size", json!(8)), codes::CORRUPTED);
    let not_a_number = |folder: &Path| {
        let mut weights = weights();
        weights.get_mut("encoder.layer.1.output.dense.bias").unwrap().1[0] = f32::NAN;
        write(folder, &weights, &config());
    };
    check(&not_a_number, codes::CORRUPTED);
}
