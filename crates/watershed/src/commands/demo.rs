//! `watershed demo`: a generated catalogue, users with tastes, live recommendations, and curl lines that work.

use kernel::{Result, Scope};
use recommend::generate::{Generator, GeneratorSettings};
use recommend::service::Query;
use recommend::training::Effort;

use super::{scope, serve};
use crate::app::App;
use crate::cli::Demo;
use crate::config::Config;
use crate::logging::Telemetry;
use crate::terminal;

/// Entities of which it is asked whether others are bought with them, at most.
const MOST_ASKED: usize = 1_000;

pub(super) async fn run(demo: Demo, mut config: Config, telemetry: &Telemetry) -> Result<()> {
    if demo.serve.host.is_none() {
        "127.0.0.1".clone_into(&mut config.server.host);
    }
    // A demo is to be seen soon; the full effort is for data that matter.
    config.recommend.training.effort = Effort::Light;
    if !demo.prepare_only {
        // Found out now rather than after the training.
        drop(serve::listen(&config).await?);
    }
    let app = App::open_as(&config, &config.server.roles).await?;
    let scope = scope(&config, "demo")?;
    if app.recommend.interaction_count(&scope) == 0 {
        fill(&app, &scope, &demo).await?;
    } else {
        terminal::note("The data folder has data already; serving that.");
    }
    if app.recommend.model_version(&scope).is_none() {
        terminal::note("Training on it ...");
        let trained = app.recommend.train(&scope, super::train::report).await?;
        terminal::note(super::train::summary(&trained));
    }
    if demo.prepare_only {
        app.recommend.stop().await;
        return Ok(());
    }
    let names = names(&app, &scope);
    let serving = serve::Serving { app, config: &config, telemetry, stopping: serve::watch_signals()? };
    serving.run(&demo.serve, |served| terminal::say(page(served, &names))).await
}

async fn fill(app: &App, scope: &Scope, demo: &Demo) -> Result<()> {
    let settings = GeneratorSettings {
        users: demo.users,
        entities: demo.entities,
        interactions: demo.interactions,
        categories: demo.categories,
        seed: demo.seed,
        ..GeneratorSettings::default()
    };
    terminal::note(format!(
        "Generating {} users, {} entities, {} interactions (seed {}) ...",
        demo.users, demo.entities, demo.interactions, demo.seed
    ));
    let bar = terminal::steps_bar(u64::from(demo.users) + u64::from(demo.entities) + demo.interactions);
    let rows = Generator::new(settings, app.ambient.clock.now())?;
    let mut intake = super::import::Intake::new(app, scope, "generated");
    for (number, row) in rows.enumerate() {
        intake.push(&format!("demo-{}:{number}", demo.seed), row).await?;
        bar.inc(1);
    }
    intake.flush().await?;
    bar.finish_and_clear();
    Ok(())
}

/// A user with a history and an entity with which others are bought, for the page.
fn names(app: &App, scope: &Scope) -> (String, String) {
    let (user, entities) = {
        let view = app.recommend.views().of(scope);
        let view = view.read();
        let users = view.users.all();
        let user = users.iter().skip(7).chain(users).find(|user| user.history.len() > 5);
        let entities = view.entities.all().iter().enumerate().filter(|(_, entity)| entity.exists());
        let entities: Vec<_> = entities.map(|(index, entity)| (index, entity.id.to_string())).collect();
        (user.map(|user| user.id.to_string()), entities)
    };
    let has_company = |(index, _): &&(usize, String)| {
        let index = u32::try_from(*index).unwrap_or(u32::MAX);
        let answer = app.recommend.service().bought_together(scope, index, &Query::default(), None);
        answer.is_ok_and(|answer| !answer.recommendations.is_empty())
    };
    let entity = entities.iter().take(MOST_ASKED).find(has_company).or_else(|| entities.first());
    let name = |name: Option<String>| name.unwrap_or_else(|| "none".to_owned());
    (name(user), name(entity.map(|(_, id)| id.clone())))
}

/// The page of curl lines.
fn page(served: &serve::Served, (user, entity): &(String, String)) -> String {
    let base = format!("{}://{}", served.scheme, served.address);
    let key = match &served.key_file {
        Some(path) => format!("export KEY=$(cat {})", path.display()),
        None if served.has_key => "export KEY=$API_KEY".to_owned(),
        None => "export KEY=$(watershed keys create --name demo --permission admin)".to_owned(),
    };
    format!(
        r#"
Watershed is ready at {base}. In another terminal:

  {key}
  alias ws='curl -sS -H "Authorization: Bearer '"$KEY"'"'

  # What should {user} see?
  ws "{base}/api/v1/recommendations/user/{user}?count=5&attributes=title,category"

  # The same, with what each one rests on
  ws "{base}/api/v1/recommendations/user/{user}?count=3&explain=true"

  # {user} clicks; the very next answer knows
  ws -X POST {base}/api/v1/interactions -H 'content-type: application/json' \
     -d '{{"user_id":"{user}","entity_id":"{entity}","entity_type":"product","interaction_type":"purchase"}}'
  ws "{base}/api/v1/recommendations/user/{user}?count=5"

  # Only what is recent and below 50, and twice the odds for what is below 20
  ws -G "{base}/api/v1/recommendations/user/{user}" \
     --data-urlencode "filter=attributes.price < 50.0 && attributes.year >= 2015" \
     --data-urlencode "boost=attributes.price < 20.0 ? 2.0 : 1.0"

  # What trends, what is like {entity}, what is bought with it
  ws "{base}/api/v1/recommendations/trending?count=5"
  ws "{base}/api/v1/recommendations/entity/{entity}?count=5"
  ws "{base}/api/v1/recommendations/bought-together/{entity}?count=5"

  # Everything it can do
  ws {base}/api/docs

Stop it with Ctrl-C; the same command starts it again with the same data."#
    )
}
