//! What stands in the `MLmodel` file of a version: only what is needed of it, as text.

/// The block of a key at the beginning of a line: that line and the indented lines after it.
fn block<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let is_start = |line: &str| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':'));
    let (mut from, mut at) = (None, 0);
    for line in text.split_inclusive('\n') {
        match from {
            None if is_start(line) => from = Some(at),
            Some(from) if !line.starts_with([' ', '-', '\n', '\r']) => return Some(&text[from..at]),
            _ => {}
        }
        at += line.len();
    }
    from.map(|from| &text[from..])
}

/// The signature, as it is written there.
pub(super) fn signature(text: &str) -> Option<String> {
    block(text, "signature").map(|block| block.trim_end().to_owned())
}

/// Whether it says that a pickle is to be loaded.
pub(super) fn names_pickle(text: &str) -> bool {
    let is_mark = |line: &str| {
        let line = line.trim();
        line.strip_prefix("serialization_format:").is_some_and(|format| {
            matches!(format.trim().trim_matches(['"', '\'']), "pickle" | "cloudpickle" | "joblib")
        }) || line.starts_with("cloudpickle_version:")
    };
    text.lines().any(is_mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "artifact_path: model\nflavors:\n  onnx:\n    data: model.onnx\nsignature:\n  inputs: '[{\"type\": \
                        \"double\"}]'\n  outputs: null\nutc_time_created: '2026-01-01'\n";

    #[test]
    fn the_signature_is_found() {
        assert_eq!(
            signature(TEXT).unwrap(),
            "signature:\n  inputs: '[{\"type\": \"double\"}]'\n  outputs: null"
        );
        assert_eq!(signature("signature:\n  inputs: x").unwrap(), "signature:\n  inputs: x");
        for none in ["", "  signature:\n    a: b\n", "signatures:\n  a: b\n"] {
            assert_eq!(signature(none), None, "{none:?}");
        }
    }

    #[test]
    fn pickles_are_named() {
        assert!(!names_pickle(TEXT));
        assert!(names_pickle("flavors:\n  sklearn:\n    serialization_format: cloudpickle\n"));
        assert!(names_pickle("flavors:\n  python_function:\n    cloudpickle_version: 3.0.0\n"));
        assert!(!names_pickle("serialization_format: skops\n"));
    }
}
