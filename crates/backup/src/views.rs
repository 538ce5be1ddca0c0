//! Checkpoints of views in backups of a log that no longer begins with its first event.
//!
//! They are copied before the end of the log is looked up, so that they speak of no event that is not there. It refuses
//! a backup in which a view would lack events: where retention cut on between the two, the next try finds a newer one.

use std::collections::BTreeMap;

use kernel::{Error, Result, codes};
use tracing::warn;

use crate::create::Maker;
use crate::{Manifest, TopicPart, ViewPart, system_scope};

impl Maker<'_> {
    /// The newest good checkpoint of each view, where the log lacks events that no backup has; else none.
    pub(crate) async fn views(&mut self, before: Option<&Manifest>) -> Result<Vec<ViewPart>> {
        if !self.is_cut(before).await? {
            return Ok(Vec::new());
        }
        let scope = system_scope();
        let mut newest: BTreeMap<String, ViewPart> = BTreeMap::new();
        for blob in self.source.blobs.list(&scope, self.rules.checkpoints).await?.into_iter().rev() {
            let Some((view, _)) = blob.path.rsplit_once('/') else { continue };
            let topic = view.rsplit('/').nth(1).unwrap_or_default();
            if newest.contains_key(view) || !self.rules.topics.iter().any(|known| known.as_str() == topic) {
                continue;
            }
            let body = match self.source.blobs.get(&scope, &blob.path).await {
                Ok(body) => body,
                // A newer one took its place meanwhile, which the list did not have yet.
                Err(error) if error.code() == codes::NOT_FOUND => return Err(try_again()),
                Err(error) => return Err(error),
            };
            match (self.rules.progress)(&body) {
                Ok(offsets) => {
                    let (view, topic, part) = (view.to_owned(), topic.to_owned(), self.put(body).await?);
                    newest.insert(view, ViewPart { topic, path: blob.path, offsets, part });
                }
                Err(error) => warn!(path = %blob.path, error = %error.chain(), "a checkpoint is damaged"),
            }
        }
        Ok(newest.into_values().collect())
    }

    /// Whether the log lacks events that are not in the backups either.
    async fn is_cut(&self, before: Option<&Manifest>) -> Result<bool> {
        for topic in &self.rules.topics {
            for extent in self.source.log.extents(topic).await?.into_iter().filter(|extent| extent.first > 0)
            {
                let held = before
                    .into_iter()
                    .flat_map(Manifest::partitions)
                    .find(|(name, partition, _)| *name == topic.as_str() && *partition == extent.partition);
                let is_whole = held.is_some_and(|(_, _, held)| {
                    held.first() == 0 && held.next >= extent.first && self.is_in_vault(&held.segments)
                });
                if !is_whole {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// Refuses a backup that lacks events which its views do not have.
pub(crate) fn check(topics: &[TopicPart], views: &[ViewPart]) -> Result<()> {
    for topic in topics {
        for (partition, part) in (0_u32..).zip(&topic.partitions).filter(|(_, part)| part.first() > 0) {
            let of_topic = || views.iter().filter(|view| view.topic == topic.topic);
            if of_topic().next().is_none() || part.segments.is_empty() {
                let message = format!(
                    "retention took the events before {} of partition {partition} of topic `{}`, which no backup here \
                     has and no checkpoint of a view holds: a restore could not make the views again; start the server \
                     once, so that there is a checkpoint",
                    part.first(),
                    topic.topic
                );
                return Err(Error::new(codes::CONFLICT, message));
            }
            let reaches =
                |view: &ViewPart| view.offsets.get(&partition).is_some_and(|next| *next >= part.first());
            if !of_topic().all(reaches) {
                return Err(try_again());
            }
        }
    }
    Ok(())
}

fn try_again() -> Error {
    Error::new(codes::UNAVAILABLE, "retention took events while the views were copied; try again")
}
