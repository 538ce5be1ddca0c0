//! The delivery of what the last commit made, while the next events are read and applied.
//!
//! It is sent at once. There is one at most, because the next commit comes after it. Where it fails or is dropped, its outputs
//! are still in the outbox. It goes on by itself only where the sink does, as that of a `Worker`; nobody else is to leave it for
//! long between two steps.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use futures::FutureExt;
use futures::future::{BoxFuture, Either, select};
use kernel::Result;

use crate::{Output, Sink};

/// How far the outputs of the last commit are.
pub(super) enum Delivery {
    /// The sink has them, or there are none.
    Done,
    /// They were sent.
    UnderWay(BoxFuture<'static, Result<()>>),
    /// They are to be delivered from the outbox.
    Due,
}

impl Delivery {
    /// Sends outputs.
    pub(super) async fn begin(&mut self, sink: &Arc<dyn Sink>, outputs: Vec<Output>) -> Result<()> {
        if outputs.is_empty() {
            return Ok(());
        }
        let sink = Arc::clone(sink);
        let mut sending = async move { sink.deliver(outputs).await }.boxed();
        *self = Self::Due;
        match futures::poll!(&mut sending) {
            Poll::Pending => *self = Self::UnderWay(sending),
            Poll::Ready(outcome) => self.has_come_to(outcome)?,
        }
        Ok(())
    }

    /// Waits until what was sent is delivered.
    pub(super) async fn land(&mut self) -> Result<()> {
        let Self::UnderWay(sending) = self else { return Ok(()) };
        let outcome = sending.await;
        self.has_come_to(outcome)
    }

    /// What `doing` comes to, while what was sent goes on; its failure where that comes first.
    pub(super) async fn beside<T>(&mut self, doing: impl Future<Output = Result<T>>) -> Result<T> {
        let mut doing = pin!(doing);
        if let Self::UnderWay(sending) = self {
            let outcome = match select(doing.as_mut(), sending).await {
                Either::Left((done, _)) => return done,
                Either::Right((outcome, _)) => outcome,
            };
            self.has_come_to(outcome)?;
        }
        doing.await
    }

    fn has_come_to(&mut self, outcome: Result<()>) -> Result<()> {
        *self = if outcome.is_ok() { Self::Done } else { Self::Due };
        outcome
    }
}
