//! A body that is taken in as it comes: a stream among the streams, with a time limit for each step instead of the whole,
//! and never more of it in memory than a step.

use std::future::Future;

use axum::body::BodyDataStream;
use axum::extract::Request;
use bytes::Bytes;
use futures::StreamExt;
use kernel::{Error, Result, Scope, codes};
use tokio::time::Instant;

use crate::middleware::StepLimit;

/// The body of a request.
#[derive(Debug)]
pub struct BodyStream {
    limit: StepLimit,
    body: BodyDataStream,
}

impl BodyStream {
    /// Takes the body of a request over, with a place among the tenant's streams.
    ///
    /// # Errors
    /// `TOO_MANY_STREAMS`.
    pub fn take_over(request: Request, scope: &Scope) -> Result<Self> {
        let limit = StepLimit::take_over(&request, scope)?;
        Ok(Self { limit, body: request.into_body().into_data_stream() })
    }

    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// `INVALID_REQUEST` where it breaks off; `TIMED_OUT`; `STREAM_TOO_SLOW`.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        let asked = Instant::now();
        match self.limit.step("the body did not go on", self.body.next()).await? {
            Some(Ok(bytes)) => {
                self.limit.received(bytes.len(), asked.elapsed())?;
                Ok(Some(bytes))
            }
            Some(Err(cause)) => {
                Err(Error::new(codes::INVALID_REQUEST, "the body broke off before its end")
                    .with_source(cause))
            }
            None => Ok(None),
        }
    }

    /// What work between two steps gives.
    ///
    /// # Errors
    /// `TIMED_OUT`; those of the work.
    pub async fn step<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.limit.step("what came was not stored", work).await?
    }
}
