//! The `Limiter` port: one script in one round trip, on the server's clock, so that all processes agree.

use std::sync::Arc;

use async_trait::async_trait;
use kernel::{Error, Result, Scope};
use store::{Limit, Limiter, Verdict, check_take};

use crate::keys::{Kind, key};
use crate::link::Link;
use crate::scripts;

/// The limiter.
#[derive(Debug)]
pub(crate) struct RedisLimiter {
    link: Arc<Link>,
    prefix: String,
}

impl RedisLimiter {
    pub(crate) fn new(link: Arc<Link>, prefix: String) -> Self {
        Self { link, prefix }
    }
}

#[async_trait]
impl Limiter for RedisLimiter {
    async fn take(&self, scope: &Scope, limits: &[Limit<'_>], cost: u32) -> Result<Verdict> {
        check_take(limits, cost)?;
        let keys: Vec<String> =
            limits.iter().map(|limit| key(&self.prefix, scope, Kind::Limit, limit.key)).collect();
        let numbers = |limit: &Limit<'_>| [limit.rate.refill_us(), limit.rate.cost_us(cost)];
        let arguments: Vec<String> =
            limits.iter().flat_map(numbers).map(|number| number.to_string()).collect();
        let answer: Vec<u64> = self.link.script(&scripts::TAKE, &keys, &arguments).await?;
        let [admitted, owed @ ..] = &*answer else {
            return Err(Error::internal("the script of limits answered nothing"));
        };
        let admitted = *admitted == 1;
        let wanted = if admitted { 0 } else { cost };
        let standings =
            limits.iter().zip(owed).map(|(limit, owed)| limit.rate.standing(*owed, wanted)).collect();
        Ok(Verdict { admitted, standings })
    }
}
