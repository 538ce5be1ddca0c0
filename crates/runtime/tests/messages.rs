//! The messages of gRPC in the code are those of `proto/`. With `WRITE=1` in the environment they are written anew.

use std::path::Path;

#[test]
fn messages_are_those_of_the_protocol() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = protox::compile(["inference.proto", "health.proto"], [root.join("proto")]).unwrap();
    let made = tempfile::tempdir().unwrap();
    prost_build::Config::new().btree_map(["."]).bytes(["."]).out_dir(made.path()).compile_fds(files).unwrap();
    for name in ["inference.rs", "grpc.health.v1.rs"] {
        let text = std::fs::read_to_string(made.path().join(name)).unwrap();
        let kept = root.join("proto").join(name);
        if std::env::var_os("WRITE").is_some() {
            std::fs::write(&kept, &text).unwrap();
        }
        let found = std::fs::read_to_string(&kept).unwrap_or_default();
        assert!(found == text, "{} is stale: run this test with WRITE=1", kept.display());
    }
}
