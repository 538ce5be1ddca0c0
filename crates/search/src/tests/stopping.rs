//! A server that stops while it makes vectors.

use tokio_util::sync::CancellationToken;

use super::*;
use crate::encoding::{Encoding, Rooms};
use crate::meanings::Meanings;

/// Is told to stop by its first call.
#[derive(Debug)]
struct Interrupted {
    inner: FewWords,
    stop: CancellationToken,
}

impl Encoder for Interrupted {
    fn identity(&self) -> &ModelIdentity {
        self.inner.identity()
    }

    fn encode(&self, texts: &[&str]) -> Result<Vec<Encoded>> {
        self.stop.cancel();
        self.inner.encode(texts)
    }
}

#[tokio::test]
async fn a_stop_waits_for_a_few_texts_and_not_for_the_batch() {
    let world = World::new();
    let stop = CancellationToken::new();
    let encoder = Arc::new(Interrupted { inner: FewWords::new("one"), stop: stop.clone() });
    let encoding = Encoding::new(encoder, Rooms::default(), None);
    let meanings = Meanings::new(encoding, world.vectors.clone(), "stopping");
    let changes =
        || -> Vec<(u64, Change)> { (0..200).map(|at| (at, put(&at.to_string(), "boat"))).collect() };
    let broken = meanings.take(&desk(), changes(), &stop).await.unwrap_err();
    assert_eq!((broken.code(), meanings.count(&desk()).await.unwrap()), (codes::UNAVAILABLE, 64));
    // The next start takes the whole batch in again.
    meanings.take(&desk(), changes(), &CancellationToken::new()).await.unwrap();
    assert_eq!(meanings.count(&desk()).await.unwrap(), 200);
}
