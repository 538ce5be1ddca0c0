//! The commit, and the outbox that it leaves.

use kernel::{Error, Result, codes};
use store::Expect;

use crate::Output;
use crate::operator::{Part, State};
use crate::task::changes::{Change, HELD, is_cleaning_due};
use crate::task::delivery::Delivery;
use crate::task::head::Pages;
use crate::task::shelf::Kind;
use crate::task::{FENCED, Task};

impl Task {
    /// Makes everything since the last commit durable; the outputs that are now to be delivered.
    pub(super) async fn commit(&mut self) -> Result<Vec<Output>> {
        let outputs = std::mem::take(&mut self.context.outputs);
        let mut body = self.drain();
        let mut writes = vec![self.shelf.put_head(Vec::new(), Expect::Version(self.head_version))];
        self.clean(&mut body, &mut writes).await?;
        self.head.commits += 1;
        self.head.totals.outputs += outputs.len() as u64;
        let sequence = self.head.commits;
        self.head.segments.extend(self.shelf.put(Kind::State, sequence, body, &mut writes));
        if let Some(delivered) = self.head.outbox {
            self.shelf.remove(Kind::Outbox, delivered, &mut writes);
        }
        let outbox = Output::pack(&self.context.outbox);
        self.context.outbox.clear();
        self.head.outbox = self.shelf.put(Kind::Outbox, sequence, outbox, &mut writes);
        writes[0] = self.shelf.put_head(self.head.write(), Expect::Version(self.head_version));
        self.head_version = self.shelf.commit(writes).await.map_err(fenced)?;
        Ok(outputs)
    }

    /// The changes of every part since the last commit.
    fn drain(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        let mut part = 0;
        let counts = &mut self.head.counts;
        counts.clear();
        self.program.visit(&mut |Part { site, state }| {
            counts.push(site.counts);
            if let Some(state) = state {
                state.drain(&mut |key, value| Change { part, key, value }.write(&mut body));
            }
            part += 1;
        });
        self.held.drain(&mut |key, value| Change { part: HELD, key, value }.write(&mut body));
        body
    }

    /// Takes old segments away, and writes again what is still needed of them.
    async fn clean(&mut self, body: &mut Vec<u8>, writes: &mut Vec<store::Write>) -> Result<()> {
        let (written, most) = (body.len(), self.settings.most_segments);
        let (mut read, mut removed) = (0, 0);
        while written > 0 && is_cleaning_due(&self.head.segments, most, written, read, removed) {
            let segment = self.head.segments.remove(0);
            let bytes = self.read_pages(Kind::State, segment).await?;
            let changes = Change::read_all(&bytes)?;
            let mut keep = |part: u16, state: &dyn State| {
                let of_part = changes.iter().filter(|change| change.part == part);
                let needed =
                    of_part.filter(|change| change.value.is_some_and(|value| state.holds(change.key, value)));
                needed.for_each(|change| change.write(body));
            };
            let mut part = 0;
            self.program.visit(&mut |shown| {
                if let Some(state) = shown.state {
                    keep(part, state);
                }
                part += 1;
            });
            keep(HELD, &self.held);
            self.shelf.remove(Kind::State, segment, writes);
            read += segment.bytes;
            removed += 1;
        }
        Ok(())
    }

    /// Reads pages. Where they cannot be read because another has the task and removed them, it says so.
    pub(super) async fn read_pages(&mut self, kind: Kind, pages: Pages) -> Result<Vec<u8>> {
        match self.shelf.read(kind, pages).await {
            Err(error) if self.shelf.is_at(self.head_version).await? => Err(error),
            Err(error) => Err(fenced_by(error)),
            read => read,
        }
    }

    /// What `doing` comes to, while outputs are on their way; their failure where that comes first.
    pub(crate) async fn meanwhile<T>(&mut self, doing: impl Future<Output = Result<T>>) -> Result<T> {
        self.delivery.beside(doing).await
    }

    /// Waits for what is on its way, and tries nothing again.
    pub(crate) async fn land(&mut self) -> Result<()> {
        self.delivery.land().await
    }

    /// Waits until the sink has everything that was committed. A delivery that failed before is made again.
    ///
    /// # Errors
    /// Those of the sink and the records. The outputs are then still in the outbox.
    pub async fn settle(&mut self) -> Result<()> {
        self.delivery.land().await?;
        if matches!(self.delivery, Delivery::Due) {
            if let Some(pages) = self.head.outbox {
                let bytes = self.read_pages(Kind::Outbox, pages).await?;
                self.parts.sink.deliver(Output::unpack(&bytes)?).await?;
            }
            self.delivery = Delivery::Done;
        }
        Ok(())
    }
}

/// A conflict of the head is that another has the task.
pub(super) fn fenced(error: Error) -> Error {
    if error.code() == codes::CONFLICT { fenced_by(error) } else { error }
}

pub(super) fn fenced_by(error: Error) -> Error {
    Error::new(FENCED, "another process has this part of the stream").with_source(error)
}
