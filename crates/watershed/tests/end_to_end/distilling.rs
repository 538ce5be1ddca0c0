//! A static table is distilled of a layered encoder, and searched with.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::support::{Home, SETTINGS, wait};

const WORDS: [&str; 11] =
    ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "gas", "methane", "curve", "prices", "rise", "note"];
/// Those that a table has a vector of.
const MEANINGFUL: usize = 6;
const HIDDEN: usize = 4;
const WIDE: usize = 8;
const PLACES: usize = 8;

/// The tensors of a BERT of one layer, with their shapes; it ends as a cross-encoder does, which an encoder does not look at.
fn shapes() -> BTreeMap<String, Vec<usize>> {
    let mut shapes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (name, rows) in [("word", WORDS.len()), ("position", PLACES), ("token_type", 2)] {
        shapes.insert(format!("embeddings.{name}_embeddings.weight"), vec![rows, HIDDEN]);
    }
    let layer = "encoder.layer.0";
    let inner = ["query", "key", "value"].map(|part| (format!("attention.self.{part}"), HIDDEN, HIDDEN));
    let outer =
        [("attention.output", HIDDEN, HIDDEN), ("intermediate", WIDE, HIDDEN), ("output", HIDDEN, WIDE)];
    let outer = outer.map(|(part, outputs, inputs)| (format!("{part}.dense"), outputs, inputs));
    let layered = inner
        .into_iter()
        .chain(outer)
        .map(|(part, outputs, inputs)| (format!("{layer}.{part}"), outputs, inputs));
    let end = [("pooler.dense".to_owned(), HIDDEN, HIDDEN), ("classifier".to_owned(), 1, HIDDEN)];
    for (part, outputs, inputs) in layered.chain(end) {
        shapes.insert(format!("{part}.weight"), vec![outputs, inputs]);
        shapes.insert(format!("{part}.bias"), vec![outputs]);
    }
    for norm in ["embeddings".to_owned(), format!("{layer}.attention.output"), format!("{layer}.output")] {
        shapes.insert(format!("{norm}.LayerNorm.weight"), vec![HIDDEN]);
        shapes.insert(format!("{norm}.LayerNorm.bias"), vec![HIDDEN]);
    }
    shapes
}

/// Those tensors as safetensors, with numbers that mean nothing.
fn weights() -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (place, (name, shape)) in shapes().into_iter().enumerate() {
        let begin = data.len();
        for at in 0..shape.iter().product::<usize>() {
            let number = ((place * 131 + at * 7_919) % 97) as f32 / 48.0 - 1.0;
            data.extend(number.to_le_bytes());
        }
        let offsets = [begin, data.len()];
        header.insert(name, json!({"dtype": "F32", "shape": shape, "data_offsets": offsets}));
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}

/// Writes a layered encoder.
fn layered(home: &Home, folder: &str) {
    let vocabulary: BTreeMap<&str, usize> = WORDS.iter().enumerate().map(|(id, word)| (*word, id)).collect();
    let special = |word: &str| {
        json!({"id": vocabulary[word], "content": word, "special": true, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false})
    };
    let added = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"].map(special);
    let mark = |word: &str| json!({"SpecialToken": {"id": word, "type_id": 0}});
    let marked = |word: &str| json!({"id": word, "ids": [vocabulary[word]], "tokens": [word]});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "decoder": null,
        "added_tokens": added,
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [mark("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, mark("[SEP]")],
            "pair": [mark("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"[CLS]": marked("[CLS]"), "[SEP]": marked("[SEP]")}},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary}
    });
    let config = json!({"model_type": "bert", "hidden_size": HIDDEN, "intermediate_size": WIDE,
        "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": PLACES,
        "vocab_size": WORDS.len(), "layer_norm_eps": 1e-12, "hidden_act": "gelu"});
    home.write(&format!("{folder}/config.json"), config.to_string());
    home.write(&format!("{folder}/tokenizer.json"), tokenizer.to_string());
    home.write(&format!("{folder}/sentence_bert_config.json"), json!({"max_seq_length": PLACES}).to_string());
    home.write(&format!("{folder}/model.safetensors"), weights());
}

#[test]
fn a_table_is_distilled_and_searched_with() {
    let home = Home::with_settings(SETTINGS);
    layered(&home, "layered");
    let distill = |model: &str, output: &str, more: &[&str]| {
        let named = ["distill", "--model-path", model, "--output", output];
        home.run(&[&named[..], more].concat())
    };
    let told = distill("layered", "tables/light", &["--dimensions", "3"]).succeeded().stdout;
    for part in [&format!("a table of {MEANINGFUL} tokens, 3 dimensions")[..], "search.model_path = \"/"] {
        assert!(told.contains(part), "no `{part}` in {told}");
    }
    // The same again, in two batches, in a folder that is there under another name; and nothing over it.
    std::fs::create_dir(home.path("again")).unwrap();
    std::os::unix::fs::symlink(home.path("again"), home.path("link")).unwrap();
    distill("layered", "link/.", &["--dimensions", "3", "--batch-tokens", "16"]).succeeded();
    std::fs::remove_file(home.path("link")).unwrap();
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let [one, other] =
            ["tables/light", "again"].map(|folder| std::fs::read(home.path(folder).join(name)));
        assert_eq!(one.unwrap(), other.unwrap(), "{name}");
    }
    distill("layered", "again", &["--dimensions", "3"]).failed_with("--output: holds something");
    distill("layered", "none", &[]).failed_with("--dimensions: must be 1 to 4");
    distill("layered", "none", &["--dimensions", "0"]).failed_with("--dimensions: must be 1 to 4");
    distill("layered", "none", &["--batch-tokens", "1"]).failed_with("--batch-tokens: must be 16");
    distill("again", "none", &[]).failed_with("--model-path: the model is a static table already");
    home.write("file", "");
    distill("layered", "file", &["--dimensions", "3"]).failed_with("--output: ");
    distill("layered", "file/below", &["--dimensions", "3"]).failed_with("--output: ");
    std::fs::remove_file(home.path("file")).unwrap();
    distill("nowhere", "none", &[]).failed_with("--model-path: ");
    distill("models:/none/1", "none", &[]).failed_with("there are no data");
    let names = |folder: &str| -> Vec<String> {
        let entries = std::fs::read_dir(home.path(folder)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(names("tables/light"), ["config.json", "model.safetensors", "tokenizer.json"]);
    assert_eq!(names(""), ["again", "layered", "tables", "watershed.toml"], "no data were opened");

    home.append_settings("\n[search]\nmodel_path = 'tables/light'\n");
    let server = home.serve();
    assert_eq!(server.read("/api/v1/embed/models")[0]["dimension"], 3);
    let item = json!({"items": [{"entity_type": "note", "entity_id": "a", "text": "gas"}]});
    assert_eq!(server.post("/api/v1/search/index/bulk", &item).0, 200);
    let search = |query: &str| server.post("/api/v1/search", &json!({"query": query})).1;
    let is_found = |answer: &Value| answer["results"][0]["entity_id"] == "a" && answer["semantic"] == true;
    assert!(wait(|| is_found(&search("gas"))), "{}", search("gas"));
    let unknown = search("unheard");
    assert!(unknown["fallback"].as_str().is_some_and(|why| why.contains("knows no word")), "{unknown}");
    let ask = json!({"model": "light", "input": ["gas", "gas unheard", "[SEP]"], "dimensions": 2});
    let (status, answer) = server.post("/v1/embeddings", &ask);
    let vector = |place: usize| &answer["data"][place]["embedding"];
    assert_eq!((status, vector(0).as_array().map(Vec::len)), (200, Some(2)), "{answer}");
    assert_eq!(vector(0), vector(1), "what is unknown does not count");
    assert_eq!(vector(2), &json!([0.0, 0.0]), "marks mean nothing");

    let home = server.stop();
    let doctor = |expected: &[&str]| {
        let told = home.run(&["doctor"]).succeeded().stdout;
        assert!(expected.iter().all(|part| told.contains(part)), "{told}");
    };
    doctor(&["search          by words and by meaning: tables/light, 3 dimensions, version "]);
    home.append_settings(
        "previous_model_path = 'again'\nprevious_model_name = 'before'\nrerank_model_path = 'layered'\n",
    );
    doctor(&["; by again until every text has its vector\n", "re-ranking      layered, version "]);
    home.write("again/model.safetensors", "cut off");
    home.run(&["doctor"])
        .failed_with("search.previous_model_path: the model's model.safetensors cannot be used");
    home.write("watershed.toml", SETTINGS);
    doctor(&["search          by words alone"]);
}
