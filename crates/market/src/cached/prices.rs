//! Newest prices: `served:latest_price:INSTRUMENT`, in the form of their topic.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kernel::{Error, Result, TenantId};
use store::Topic;

use super::turns::Turns;
use super::{Batch, Due, MOST_DUE, Served, State, Written};
use crate::events::{Labels, LatestData, LatestMetadata, LatestPrice, moment};
use crate::topology::RAW_TICKS;
use crate::views::{MarketViews, Price};

/// The newest prices of a view.
#[derive(Debug)]
pub(crate) struct Prices {
    views: Arc<MarketViews>,
    turns: Turns,
}

impl Prices {
    pub(crate) fn new(views: Arc<MarketViews>) -> Self {
        Self { views, turns: Turns::default() }
    }
}

#[async_trait]
impl Served for Prices {
    fn kind(&self) -> &'static str {
        "latest_price"
    }

    fn topic(&self) -> Topic {
        RAW_TICKS
    }

    fn pause(&self) -> Duration {
        Duration::from_millis(250)
    }

    async fn due(&mut self, written: &Written) -> Result<Batch> {
        let mut due = Vec::new();
        let tenants = self.turns.of(self.views.tenants());
        for (at, tenant) in tenants.iter().enumerate() {
            let (room, from) = (MOST_DUE - due.len(), self.turns.after(tenant));
            // Copied out, so that the view does not stand still while the values are written out.
            let changed = self.views.of(tenant, |view| {
                let before = view.after(None).take_while(|(id, _)| from.is_some_and(|from| *id <= from));
                let changed = view.after(from).chain(before).filter_map(|(id, instrument)| {
                    let price = instrument.price.as_ref()?;
                    let stands = written.stands(tenant, id, price.occurred_us, &price.tick_id);
                    (!stands).then(|| (id.to_owned(), price.clone(), instrument.labels.clone()))
                });
                changed.take(room).collect::<Vec<_>>()
            });
            let is_full = changed.len() == room;
            for (name, price, labels) in changed {
                let value = value(tenant, &name, &price, labels.as_ref())?;
                let state = State { at: price.occurred_us, id: price.tick_id.into() };
                due.push(Due { tenant: tenant.clone(), name, state, value, lives_at_most: None });
            }
            if is_full && let Some(last) = due.last() {
                self.turns.stop_behind(last.name.clone(), &tenants, at);
                return Ok(Batch { due, is_more: true });
            }
            self.turns.finish(tenant);
        }
        Ok(Batch { due, is_more: false })
    }
}

/// The price in the form of its topic.
fn value(tenant: &TenantId, id: &str, price: &Price, labels: Option<&Labels>) -> Result<Vec<u8>> {
    let told = LatestPrice {
        projection_type: "latest_price",
        instrument_id: id,
        data: LatestData {
            price: Some(price.price),
            volume: price.volume,
            timestamp: moment(price.occurred_us),
            source: &price.source_system,
            quality_flags: &price.quality_flags,
            market: &price.market,
            currency: &price.currency,
            unit: &price.unit,
            taxonomy: labels,
        },
        last_updated: moment(price.received_us),
        tenant_id: tenant.as_str(),
        metadata: LatestMetadata { projection_id: &price.tick_id, source_event_id: None },
    };
    serde_json::to_vec(&told).map_err(Error::internal)
}
