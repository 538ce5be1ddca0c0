//! What is personal at rest: sealed under a key for each person, and forgotten by dropping that key.
//!
//! - [`Keyring`]: a random key for each person (tenant and user id), kept in records under a random name, wrapped by a
//!   master key of the settings. [`rotate`] wraps all of them anew.
//! - [`SealedLog`]: an event that is about a person is sealed before it is appended and opened when it is read.
//! - [`SealedBlobs`], [`SealedCache`], [`SealedRecords`]: checkpoints, models, kept answers and dead letters, sealed
//!   under one key of the store.
//! - [`Erasures`]: who was forgotten, told to every fold by an event, and told again after a restore.
//! - [`Holder`]: who else holds something of a person.
//! - [`TABLES`]: what a backup keeps only as it is now: with the keys of its day it would bring back the forgotten.
//!
//! ```text
//! event as sent                         event in the log
//! id, source, subject, data             id     keyed hash of (source, id): duplicates are still found
//! of ada                                data   key     random name of ada's key
//!                                              sealed  AES-256-GCM of all that was sent
//!                                              rest    what may be counted without her: entity, type, weight
//! ```
//!
//! **What an erasure leaves, and why.** With the key gone, an event says `rest` and nothing else: someone did that with
//! that entity at that time. Counts of the catalogue stay exact, and a view that is folded again from the log is the view
//! that forgot her, byte for byte; to undo a count in a live view is not possible without folding everything again,
//! because entities, types and days are numbered by what came first. The name of the key ties such events of one person
//! together and to nobody; the record that tied it to a user id went with the key. Deployments for which a trail without
//! a name is too much set `storage.log_retention_days`: it ends with the events.
//!
//! **Why a random name and no keyed hash of the user id in the log**: a keyed hash would let whoever holds the master key
//! ask of any name whether it is in the log, erased or not.
//!
//! It refuses to start without the master keys that are in use, and to take a key that is missing for one that is not
//! readable now: only the first forgets.
//!
//! To seal events of another domain: an implementation of [`Personal`]. To seal another port: a file beside `blobs.rs`.

mod blobs;
mod cache;
mod cipher;
mod erasures;
mod holder;
mod keyring;
mod log;
mod records;
mod rotate;
mod settings;
#[cfg(test)]
mod tests;

pub use blobs::SealedBlobs;
pub use cache::SealedCache;
pub use cipher::MasterKeys;
pub use erasures::{ERASED, Erased, Erasure, Erasures, Prepared, Progress, person_hash};
pub use holder::Holder;
pub use keyring::{Keyring, is_used};
pub use log::{ERASED_MARK, KEY_MARK, Person, Personal, SealedLog, check_marks, is_erased, key_of};
pub use records::SealedRecords;
pub use rotate::{Rotated, rotate, under_masters};
pub use settings::PrivacySettings;

use kernel::{Error, Scope, TenantId, codes};
use store::Document;

/// The tables of keys and erasures.
pub const TABLES: [&str; 3] =
    [keyring::Secret::TABLE.name, keyring::SubjectKey::TABLE.name, Erasure::TABLE.name];

/// The scope of the server's own data.
fn system() -> Scope {
    Scope::system(TenantId::server(), "privacy")
}

fn of_tenant(tenant: &TenantId) -> Scope {
    Scope::system(tenant.clone(), "privacy")
}

fn corrupted(message: impl Into<String>) -> Error {
    Error::new(codes::CORRUPTED, message)
}
