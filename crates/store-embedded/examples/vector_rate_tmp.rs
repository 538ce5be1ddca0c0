//! Temporary.
#![allow(clippy::all, clippy::print_stdout, clippy::unwrap_used, missing_docs)]
use kernel::{Clock, Scope, SystemClock, TenantId};
use std::sync::Arc;
use store::{Collection, Metric, VectorItem};
use store_embedded::{EmbeddedStore, Options};
fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(SystemClock::new());
        let store = EmbeddedStore::open(folder.path(), Options::default(), clock.clone() as Arc<_>).unwrap();
        let v = store.vectors();
        let scope = Scope::system(TenantId::new("s").unwrap(), "x");
        let c = Collection { name: "c", dimensions: 128, metric: Metric::Cosine };
        for b in 0..50u32 {
            let items = (0..1000u32)
                .map(|i| VectorItem {
                    key: (b * 1000 + i).to_string(),
                    vector: (0..128u32)
                        .map(|d| ((b * 1000 + i) * 31 + d * 17) as f32 % 97.0 - 48.0)
                        .collect(),
                    tags: Default::default(),
                })
                .collect();
            v.upsert(&scope, c, items).await.unwrap();
        }
        let q: Vec<f32> = (0..128).map(|d| (d * 13 % 29) as f32).collect();
        for _ in 0..3 {
            let mut times = vec![];
            for _ in 0..50 {
                let b = clock.elapsed();
                let f = v.search(&scope, c, &q, 10, &Default::default()).await.unwrap();
                assert_eq!(f.len(), 10);
                times.push(clock.elapsed() - b);
            }
            times.sort();
            println!("50k x 128: min {:?} median {:?}", times[0], times[25]);
        }
    });
}
