//! Every file of the fuzz corpora of expressions, importers and mappings, through the same bodies as the fuzzer.

#[path = "../../../fuzz/bodies/corpus.rs"]
mod corpus;
#[path = "../../../fuzz/bodies/expression.rs"]
mod expression;
#[path = "../../../fuzz/bodies/import.rs"]
mod import;
#[path = "../../../fuzz/bodies/mapping.rs"]
mod mapping;

#[test]
fn expressions() {
    corpus::run_over("expression", expression::expression);
}

#[test]
fn imports() {
    corpus::run_over("import", import::import);
}

#[test]
fn mappings() {
    corpus::run_over("mapping", mapping::mapping);
}
