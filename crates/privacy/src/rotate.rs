//! Wraps every key anew under the newest master key.
//!
//! Killed at any moment, it goes on where it was: what is under the newest key already is passed over. Two that run at
//! once do the same work twice and nothing else. The keys of persons come before the secret of their tenant, so that the
//! old master key is refused to be left out of the settings until everything is done.
//!
//! It refuses to touch what was sealed: the keys inside stay, only their wrapping changes.

use std::collections::BTreeMap;

use kernel::{Result, codes};
use store::{Expect, Query, Repository, Selection, Versioned, Write};

use crate::cipher::KeyBytes;
use crate::keyring::{PAGE, Secret, SubjectKey};
use crate::{Keyring, of_tenant, system};

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rotated {
    /// Keys and secrets that were wrapped anew.
    pub wrapped: u64,
    /// Those that were under the newest master key already.
    pub current: u64,
}

/// Wraps every key of every tenant anew.
///
/// # Errors
/// `VALIDATION_ERROR` where a master key that is in use is missing; those of the engine.
pub async fn rotate(keyring: &Keyring) -> Result<Rotated> {
    let mut rotated = Rotated::default();
    let secrets = keyring.all_secrets().await?;
    for secret in &secrets {
        if let Some(tenant) = secret.document.tenant() {
            subjects(keyring, &tenant?, &mut rotated).await?;
        }
    }
    for secret in secrets {
        one_secret(keyring, secret, &mut rotated).await?;
    }
    Ok(rotated)
}

/// How many keys and secrets are under each master key, by its name.
///
/// # Errors
/// Those of the engine.
pub async fn under_masters(keyring: &Keyring) -> Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    for secret in keyring.all_secrets().await? {
        if let Some(tenant) = secret.document.tenant() {
            let scope = of_tenant(&tenant?);
            let mut query = Query::new(Selection::All, PAGE);
            loop {
                let (page, cursor) = keyring.subjects.list(&scope, &query).await?;
                for key in page.into_iter().filter(|key| !key.document.is_dropped()) {
                    *counts.entry(key.document.master).or_default() += 1;
                }
                match cursor {
                    Some(cursor) => query.cursor = Some(cursor),
                    None => break,
                }
            }
        }
        *counts.entry(secret.document.master).or_default() += 1;
    }
    Ok(counts)
}

async fn subjects(keyring: &Keyring, tenant: &kernel::TenantId, rotated: &mut Rotated) -> Result<()> {
    let scope = of_tenant(tenant);
    let mut query = Query::new(Selection::All, PAGE);
    loop {
        let (page, cursor) = keyring.subjects.list(&scope, &query).await?;
        let old: Vec<_> = page
            .iter()
            .filter(|key| !key.document.is_dropped() && is_old(keyring, &key.document.master))
            .collect();
        rotated.current += (page.len() - old.len()) as u64;
        let writes = old.iter().map(|key| wrapped_anew(keyring, tenant, key));
        let writes = writes.collect::<Result<Vec<_>>>()?;
        match keyring.records.commit(&scope, writes.clone()).await {
            Ok(_) => rotated.wrapped += writes.len() as u64,
            // A person was forgotten meanwhile, or another process rotates: one by one, and what changed is left.
            Err(error) if error.code() == codes::CONFLICT => {
                for write in writes {
                    match keyring.records.commit(&scope, vec![write]).await {
                        Ok(_) => rotated.wrapped += 1,
                        Err(error) if error.code() == codes::CONFLICT => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            Err(error) => return Err(error),
        }
        match cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => return Ok(()),
        }
    }
}

fn is_old(keyring: &Keyring, master: &str) -> bool {
    keyring.masters().newest_name() != Some(master)
}

/// The same key for another master. A key that was dropped meanwhile is not written again.
fn wrapped_anew(
    keyring: &Keyring,
    tenant: &kernel::TenantId,
    found: &Versioned<SubjectKey>,
) -> Result<Write> {
    let SubjectKey { name, handle, master, wrapped } = &found.document;
    let about = SubjectKey::about(tenant, name);
    let key: KeyBytes = keyring.masters().named(master)?.unwrap(&about, wrapped)?;
    let (newest, cipher) = keyring.masters().newest()?;
    let wrapped = cipher.wrap(&*keyring.entropy, &about, &key);
    let (name, handle, master) = (name.clone(), handle.clone(), newest.to_owned());
    Repository::write(&SubjectKey { name, handle, master, wrapped }, Expect::Version(found.version))
}

async fn one_secret(keyring: &Keyring, found: Versioned<Secret>, rotated: &mut Rotated) -> Result<()> {
    let Secret { name, master, wrapped } = found.document;
    if !is_old(keyring, &master) {
        rotated.current += 1;
        return Ok(());
    }
    let key = keyring.masters().named(&master)?.unwrap(&name, &wrapped)?;
    let (newest, cipher) = keyring.masters().newest()?;
    let wrapped = cipher.wrap(&*keyring.entropy, &name, &key);
    let secret = Secret { name, master: newest.to_owned(), wrapped };
    match keyring.secrets.put(&system(), &secret, Expect::Version(found.version)).await {
        Ok(_) => rotated.wrapped += 1,
        Err(error) if error.code() == codes::CONFLICT => {}
        Err(error) => return Err(error),
    }
    Ok(())
}
