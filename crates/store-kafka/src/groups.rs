//! How far groups came, for tools that show their lag. A group has no members here, so the brokers take its offsets from
//! whoever says them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kernel::{Error, Result, codes};
use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use crate::connect::{Clients, Listener};
use crate::failure;

type Member = BaseConsumer<Listener>;

pub(crate) struct Groups {
    clients: Clients,
    members: Mutex<HashMap<String, Arc<Member>>>,
}

impl std::fmt::Debug for Groups {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Groups").finish_non_exhaustive()
    }
}

impl Groups {
    pub(crate) fn new(clients: Clients) -> Self {
        Self { clients, members: Mutex::default() }
    }

    fn member(&self, group: &str) -> Result<Arc<Member>> {
        let mut members = self.members.lock();
        if let Some(member) = members.get(group) {
            return Ok(Arc::clone(member));
        }
        let member = Arc::new(self.clients.member(group)?);
        members.insert(group.to_owned(), Arc::clone(&member));
        Ok(member)
    }

    async fn ask<T: Send + 'static>(
        &self,
        group: &str,
        question: impl FnOnce(&Member, Duration) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T> {
        let (member, limit) = (self.member(group)?, self.clients.settings().request_timeout());
        let asking = tokio::task::spawn_blocking(move || question(&member, limit));
        // The client waits for a coordinator longer than anybody wants.
        let Ok(answer) = tokio::time::timeout(limit * 2, asking).await else {
            self.clients.health.fails();
            let message = format!("the brokers do not say who keeps the offsets of group `{group}`");
            return Err(Error::new(codes::UNAVAILABLE, message));
        };
        let doing = format!("keeping the offsets of group `{group}`");
        let answer = answer.map_err(Error::internal)?;
        answer.map_err(|error| failure::of(&doing, &error, &self.clients.health))
    }

    pub(crate) async fn commit(&self, group: &str, topic: String, partition: u32, offset: u64) -> Result<()> {
        let question = move |member: &Member, _| {
            let offset = Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX));
            member.commit(&place(&topic, partition, offset)?, CommitMode::Sync)
        };
        self.ask(group, question).await
    }

    pub(crate) async fn committed(&self, group: &str, topic: String, partition: u32) -> Result<u64> {
        let question = move |member: &Member, limit| {
            let found = member.committed_offsets(place(&topic, partition, Offset::Invalid)?, limit)?;
            let found =
                found.elements().first().map(|part| part.error().map(|()| part.offset())).transpose()?;
            Ok(match found {
                Some(Offset::Offset(offset)) => u64::try_from(offset).unwrap_or_default(),
                _ => 0,
            })
        };
        self.ask(group, question).await
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        // Their threads are joined where that holds up nobody.
        let members = std::mem::take(&mut *self.members.lock());
        std::thread::spawn(move || drop(members));
    }
}

fn place(topic: &str, partition: u32, offset: Offset) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition_offset(topic, i32::try_from(partition).unwrap_or(i32::MAX), offset)?;
    Ok(list)
}
