//! Raw messages of any feed to ticks: [`normalise`].
//!
//! Three forms are understood by one pass: the guide's envelope A (`{"envelope": .., "payload": ..}`), its envelope B
//! (flat, with a `payload` that may hold the raw payload as JSON text), and a bare object without either. What the
//! fields of the payload are called is a [`Mapping`]; how times are read stands in [`time`], what a market allows in
//! [`markets`].
//!
//! | a message | becomes |
//! |---|---|
//! | with a price | a tick |
//! | with a bid and an ask but no price | a tick without a price: nobody traded |
//! | with neither, where a last price is known | a tick marked `price_backfilled`, which no bar counts |
//! | with NaN, an infinity, a time that could mean two | a [`Rejection`] that names the field |
//!
//! It refuses to guess and to repair. Duplicates, lateness and plausibility are the business of others: see
//! [`super::quality`]. To add a feed: a mapping, no code. To add a field: a variant of `Role` and a line in `mapping`.

mod capture;
mod identity;
pub mod mapping;
pub mod markets;
mod number;
mod rejection;
mod syntax;
mod tenancy;
#[cfg(test)]
mod tests;
mod tick;
pub mod time;
mod values;
mod walk;

use std::borrow::Cow;

use capture::{Captured, Role, Scalar, wrong_type};
pub use identity::TickId;
use kernel::TenantId;
pub use mapping::{Mapping, MappingFault, Normaliser, SequenceScope};
pub use rejection::{Rejection, RejectionCode};
pub use tenancy::Tenancy;
pub use tick::{Issue, Issues, NoReference, PriceOrigin, Reference, Terms, Tick};

const NAME_BYTES_MAX: usize = 255;

/// What the message says, as a tick. `tenancy` is whose messages may come this way; `reference` is what is known about
/// instruments.
///
/// # Errors
/// [`Rejection`], with the field and what is wrong with it.
pub fn normalise<'a>(
    message: &'a [u8],
    normaliser: &'a Normaliser,
    tenancy: Tenancy<'_>,
    reference: &'a dyn Reference,
) -> Result<Tick<'a>, Rejection> {
    let mut fields = Fields::read(message, normaliser)?;
    let tenant = fields.tenant(tenancy)?;
    let symbol = fields.required_name(Role::Symbol)?;
    let instrument = fields.name(Role::InstrumentId)?.unwrap_or_else(|| symbol.clone());
    let default = |text: &'a Option<String>| text.as_deref().map(Cow::Borrowed);
    let source = fields.name(Role::Source)?.or_else(|| default(&normaliser.mapping.default_source));
    let source = source.ok_or_else(|| fields.missing("payload.source_system"))?;
    let market = fields.name(Role::Market)?.or_else(|| default(&normaliser.mapping.default_market));
    let market = capitals(market.unwrap_or_default());
    let occurred_us = fields.occurred()?;
    let event_id = fields.name(Role::EventId)?;
    let sequence = fields.sequence()?;
    let mut tick = Tick {
        id: identity::of(
            &tenant,
            &source,
            &symbol,
            identity::Number { sequence, scope: normaliser.mapping.sequence_scope },
            identity::Instance { event_id: event_id.as_deref(), occurred_us },
        ),
        ingested_us: fields.instant(Role::IngestedAt, time::TimeUnit::Auto)?,
        trace_id: fields.name(Role::TraceId)?,
        metadata: fields.metadata(),
        volume: fields.number(Role::Volume)?.map(|(_, volume)| volume),
        bid: fields.number(Role::Bid)?.map(|(_, bid)| bid),
        ask: fields.number(Role::Ask)?.map(|(_, ask)| ask),
        tenant,
        event_id,
        source,
        market,
        symbol,
        instrument,
        occurred_us,
        sequence,
        price: None,
        price_origin: PriceOrigin::Quote,
        currency: Cow::Borrowed(""),
        unit: Cow::Borrowed(""),
        issues: Issues::default(),
    };
    fields.price(&mut tick, reference)?;
    fields.terms(&mut tick, reference)?;
    fields.check(&mut tick)?;
    Ok(tick)
}

/// What was taken out of a message, on its way to a tick.
struct Fields<'a> {
    captured: Captured<'a>,
    normaliser: &'a Normaliser,
    /// Where each number was found, for what is found wrong with it later.
    found_at: [Option<u16>; capture::ROLE_COUNT],
}

impl<'a> Fields<'a> {
    fn read(message: &'a [u8], normaliser: &'a Normaliser) -> Result<Self, Rejection> {
        if message.len() > kernel::MAX_EVENT_BYTES {
            let told = format!("has {} bytes, {} at most", message.len(), kernel::MAX_EVENT_BYTES);
            return Err(Rejection::new(RejectionCode::TooLarge, "", told));
        }
        let text = str::from_utf8(message)
            .map_err(|_| Rejection::new(RejectionCode::Malformed, "", "is not UTF-8; send JSON in UTF-8"))?;
        let mut captured = Captured::read(text, &normaliser.root)?;
        match captured.fault() {
            Some(Err(nested)) => {
                let field = if nested.field.is_empty() {
                    "payload.raw_payload".to_owned()
                } else {
                    format!("payload.raw_payload.{}", nested.field)
                };
                return Err(Rejection { field, ..nested });
            }
            Some(Ok(path)) => {
                let field = normaliser.path(path);
                return Err(Rejection::new(
                    RejectionCode::Repeated,
                    field,
                    "is there twice; which one holds cannot be told",
                ));
            }
            None => {}
        }
        let mut fields = Self { captured, normaliser, found_at: [None; capture::ROLE_COUNT] };
        fields.encoding()?;
        Ok(fields)
    }

    fn missing(&self, field: impl Into<String>) -> Rejection {
        Rejection::new(RejectionCode::Missing, field, "is missing; a tick needs it")
    }

    fn encoding(&mut self) -> Result<(), Rejection> {
        match self.captured.take(Role::Encoding) {
            None => Ok(()),
            Some((_, Scalar::Text(text))) if text.eq_ignore_ascii_case("json") => Ok(()),
            Some((path, _)) => {
                let field = self.normaliser.path(path);
                Err(Rejection::new(
                    RejectionCode::Encoding,
                    field,
                    "is not `json`, the one that is understood",
                ))
            }
        }
    }

    fn tenant(&mut self, tenancy: Tenancy<'_>) -> Result<TenantId, Rejection> {
        let named = self.name(Role::Tenant)?;
        tenancy.tenant(named.as_deref(), "tenant_id")
    }

    /// A name of 1 to 255 bytes without control characters.
    fn name(&mut self, role: Role) -> Result<Option<Cow<'a, str>>, Rejection> {
        let Some((path, value)) = self.captured.take(role) else { return Ok(None) };
        let field = self.normaliser.path(path);
        let text = match value {
            Scalar::Text(text) => text,
            // Some feeds number their nodes.
            Scalar::Integer(number) => Cow::Owned(number.to_string()),
            other => return Err(wrong_type(field, &other, "text")),
        };
        if text.is_empty() || text.len() > NAME_BYTES_MAX || text.chars().any(char::is_control) {
            let message = "must be 1 to 255 bytes of text without control characters";
            return Err(Rejection::new(RejectionCode::BadName, field, message));
        }
        Ok(Some(text))
    }

    fn required_name(&mut self, role: Role) -> Result<Cow<'a, str>, Rejection> {
        self.name(role)?.ok_or_else(|| self.missing(self.normaliser.first_path(role)))
    }

    fn number(&mut self, role: Role) -> Result<Option<(u16, f64)>, Rejection> {
        let Some((path, value)) = self.captured.take(role) else { return Ok(None) };
        self.found_at[role as usize] = Some(path);
        let field = self.normaliser.path(path);
        number::finite(&value, field).map(|number| Some((path, number)))
    }

    fn instant(&mut self, role: Role, unit: time::TimeUnit) -> Result<Option<i64>, Rejection> {
        let Some((path, value)) = self.captured.take(role) else { return Ok(None) };
        let field = self.normaliser.path(path);
        let read = match &value {
            Scalar::Integer(number) => time::from_integer(*number, unit),
            Scalar::Float(number) => time::from_float(*number, unit),
            Scalar::Text(text) => time::from_text(text, unit),
            other => return Err(wrong_type(field, other, "a time")),
        };
        read.map(Some).map_err(|fault| {
            Rejection::new(RejectionCode::BadTime, field, format!("`{}` {fault}", shown(&value)))
        })
    }

    fn occurred(&mut self) -> Result<i64, Rejection> {
        let unit = self.normaliser.mapping.time_unit;
        let told = self.instant(Role::Time, unit)?;
        let of_envelope = self.instant(Role::EnvelopeTime, time::TimeUnit::Auto)?;
        told.or(of_envelope).ok_or_else(|| self.missing(self.normaliser.first_path(Role::Time)))
    }

    fn sequence(&mut self) -> Result<Option<u64>, Rejection> {
        let Some((path, value)) = self.captured.take(Role::Sequence) else { return Ok(None) };
        let number = match &value {
            Scalar::Integer(number) => u64::try_from(*number).ok(),
            Scalar::Text(text) => text.parse().ok(),
            _ => None,
        };
        let field = self.normaliser.path(path);
        number.map(Some).ok_or_else(|| wrong_type(field, &value, "a whole number from 0 to 2^63-1"))
    }

    fn metadata(&mut self) -> Option<&'a serde_json::value::RawValue> {
        match self.captured.take(Role::Metadata)? {
            (_, Scalar::Raw(raw)) => Some(raw),
            _ => None,
        }
    }
}

fn shown(value: &Scalar<'_>) -> String {
    match value {
        Scalar::Integer(number) => number.to_string(),
        Scalar::Float(number) => number.to_string(),
        Scalar::Text(text) => text.chars().take(40).collect(),
        Scalar::Raw(_) | Scalar::Other(_) => String::new(),
    }
}

fn capitals(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.chars().any(char::is_lowercase) { Cow::Owned(text.to_uppercase()) } else { text }
}
