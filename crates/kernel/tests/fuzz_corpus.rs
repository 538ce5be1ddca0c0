//! Every file of the event decoder's fuzz corpus, through the same body as the fuzzer.

#[path = "../../../fuzz/bodies/corpus.rs"]
mod corpus;
#[path = "../../../fuzz/bodies/event.rs"]
mod event;

#[test]
fn events() {
    corpus::run_over("event", event::event);
}
