//! Registered models: whether the champion of each can be served.
//!
//! Each champion is loaded once, as a server loads it, and let go before the next. Those that a part of Watershed manages are
//! looked at where that part is.

use std::collections::BTreeSet;

use kernel::{Result, Scope, TenantId};
use models::registered::RegisteredModel;
use models::tracking::Search;
use runtime::{Examined, Finding};

use crate::app::App;
use crate::config::Config;
use crate::terminal;

/// Models that are read at once.
const PAGE: usize = 1_000;

/// Tells what answers for each registered model; returns what is wrong.
///
/// # Errors
/// Those of the engines.
pub(super) async fn faults(app: &App, config: &Config) -> Result<Vec<String>> {
    // Nobody keeps a list of tenants: these have a key, or sent something.
    let mut tenants: BTreeSet<TenantId> = app.keys.tenants();
    tenants.extend(app.recommend.views().tenants());
    tenants.insert(TenantId::new(&config.auth.tenant)?);
    let (mut looked_at, mut wrong) = (0_usize, Vec::new());
    for tenant in tenants {
        let scope = Scope::system(tenant, "doctor");
        let mut search = Search { max_results: PAGE, ..Search::default() };
        loop {
            let page = app.models.models.search(&scope, &search).await?;
            for model in page.subjects.iter().filter(|model| model.managed_by.is_none()) {
                let found = app.runtime.examine(&scope, model).await;
                let Some((told, fault)) = found.map_or_else(
                    |error| Some(not_looked_at(model, &scope, error.message())),
                    |found| found.map(|found| judged(model, &scope, &found)),
                ) else {
                    continue;
                };
                looked_at += 1;
                terminal::say(format!("registered      {told} (tenant {})", scope.tenant()));
                wrong.extend(fault);
            }
            match page.next {
                Some(next) => search.page_token = Some(next),
                None => break,
            }
        }
    }
    if looked_at == 0 {
        terminal::say("registered      no model has a champion");
    }
    Ok(wrong)
}

/// What is told of a champion, and what is wrong with it.
fn judged(model: &RegisteredModel, scope: &Scope, found: &Examined) -> (String, Option<String>) {
    let (name, version) = (&model.name, found.version);
    match &found.finding {
        Finding::Served(platform) => (format!("{name}: version {version} is served by {platform}"), None),
        Finding::Kept => {
            (format!("{name}: version {version} is only kept, because no engine here reads its files"), None)
        }
        Finding::Faulty(why) => {
            let fault = format!(
                "version {version} of the registered model `{name}` of tenant {} is its champion and cannot be served: \
                 {why}; promote a good version, or go back with `watershed rollback --model {name}`",
                scope.tenant()
            );
            (format!("{name}: version {version} cannot be served"), Some(fault))
        }
    }
}

/// One model that cannot be looked at now keeps nobody from looking at the others.
fn not_looked_at(model: &RegisteredModel, scope: &Scope, why: &str) -> (String, Option<String>) {
    let (name, tenant) = (&model.name, scope.tenant());
    let fault = format!(
        "the champion of the registered model `{name}` of tenant {tenant} cannot be looked at: {why}"
    );
    (format!("{name}: its champion cannot be looked at"), Some(fault))
}
