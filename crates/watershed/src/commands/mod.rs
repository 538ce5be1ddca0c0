//! One file for each command.

mod audit;
mod backfill;
mod backup;
mod completions;
mod demo;
#[cfg(feature = "search")]
mod distill;
mod dlq;
mod doctor;
mod encryption;
mod evaluate;
mod forecast;
mod import;
mod keys;
#[cfg(any(feature = "clickhouse", feature = "postgres"))]
mod migrate;
mod models;
mod progress;
mod projection;
mod quality;
mod recommend;
mod reconcile;
mod remote;
mod restore;
mod rollout;
mod sample;
mod serve;
mod settings;
mod shutdown;
mod stream;
mod train;

use std::time::Duration;

use kernel::{Error, Result, Scope, TenantId, codes};
use toml::Value;
use tracing::warn;

use crate::cli::{self, Cli, Command, Common, Evaluate, EvaluateOf, Keys, Train, TrainOf};
use crate::config::{Config, Environment, Override};
use crate::engines::Engines;
use crate::logging::Telemetry;
use crate::terminal;
use shutdown::Shares;

/// The file that is read where no other is named.
const DEFAULT_FILE: &str = "watershed.toml";

/// Does what was asked.
///
/// # Errors
/// Why it could not be done.
pub(crate) fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Completions { shell } => completions::run(shell),
        Command::Openapi => settings::openapi(),
        Command::Config(command) if command.schema => settings::schema(),
        Command::Config(command) if command.reference => settings::reference(),
        command => {
            let config = load(&cli.common, &command)?;
            let telemetry = Telemetry::start(&config)?;
            if matches!(command, Command::Serve(_) | Command::Demo(_)) {
                for (variable, why) in Environment::of_process().without_effect(&config) {
                    warn!(variable, why, "a variable that is known does not do what it says");
                }
            }
            let shares = Shares::of(Duration::from_secs(config.server.shutdown_timeout_secs));
            let done = run_configured(command, config, &telemetry, shares.last_work);
            telemetry.end(shares.last_spans);
            done
        }
    }
}

fn run_configured(
    command: Command,
    config: Config,
    telemetry: &Telemetry,
    last_work: Duration,
) -> Result<()> {
    let asks_server = is_of_models(&command) && config.client.server.is_some();
    if needs_folder(&command) && !asks_server {
        Engines::require_folder(&config.storage)?;
    }
    let runtime = runtime(&config)?;
    let done = match command {
        Command::Config(_) => settings::effective(&config),
        Command::Evaluate(evaluate) => match *evaluate {
            Evaluate { of: Some(EvaluateOf::CurveForecaster(asked)), .. } => {
                forecast::curve::evaluate(&asked)
            }
            Evaluate { of: Some(EvaluateOf::PowerForecaster(asked)), .. } => {
                forecast::power::evaluate(&asked)
            }
            evaluate => runtime.block_on(evaluate::run(evaluate, config)),
        },
        Command::Serve(serve) => runtime.block_on(serve::run(serve, config, telemetry)),
        Command::Demo(demo) => runtime.block_on(demo::run(demo, config, telemetry)),
        Command::Import(import) => runtime.block_on(import::run(import, config)),
        Command::Train(Train { of: Some(TrainOf::CurveForecaster(asked)), .. }) => {
            runtime.block_on(forecast::curve::train(&asked, &config))
        }
        Command::Train(Train { of: Some(TrainOf::PowerForecaster(asked)), .. }) => {
            runtime.block_on(forecast::power::train(&asked, &config))
        }
        Command::Train(train) => runtime.block_on(train::run(train, config)),
        #[cfg(feature = "search")]
        Command::Distill(asked) => runtime.block_on(distill::run(&asked, &config)),
        #[cfg(not(feature = "search"))]
        Command::Distill(_) => {
            let message = "this build has no search; build with `cargo build --features search`";
            Err(Error::new(codes::VALIDATION_ERROR, message))
        }
        Command::Promote(promote) => runtime.block_on(models::promote(promote, config)),
        Command::Rollback(rollback) => runtime.block_on(models::rollback(rollback, config)),
        Command::History(history) => runtime.block_on(models::history(history, config)),
        Command::CleanupArtifacts(cleanup) => runtime.block_on(models::clean_up(cleanup, config)),
        Command::Rollout(command) => runtime.block_on(rollout::run(command, config)),
        Command::Recommend(recommend) => runtime.block_on(recommend::run(recommend, config)),
        #[cfg(any(feature = "clickhouse", feature = "postgres"))]
        Command::Migrate(migrate) => runtime.block_on(migrate::run(migrate, config)),
        #[cfg(not(any(feature = "clickhouse", feature = "postgres")))]
        Command::Migrate(_) => {
            let message = "this build has no postgres engine; build with `cargo build --features postgres`";
            Err(Error::new(codes::VALIDATION_ERROR, message))
        }
        Command::Backup(backup) => runtime.block_on(backup::run(backup, config)),
        Command::Restore(restore) => runtime.block_on(restore::run(restore, config)),
        Command::Keys(keys) => runtime.block_on(keys::run(keys, config)),
        Command::Audit(audit) => runtime.block_on(audit::run(audit, config)),
        Command::Stream(stream) => runtime.block_on(stream::run(stream, config)),
        Command::Dlq(dlq) => runtime.block_on(dlq::run(dlq, config)),
        Command::Projection(projection) => runtime.block_on(projection::run(&projection, config)),
        Command::Backfill(asked) => runtime.block_on(backfill::run(asked, config)),
        Command::Quality(cli::Quality::Report(asked)) => runtime.block_on(quality::report(asked, config)),
        Command::Reconcile(asked) => runtime.block_on(reconcile::run(&asked, config)),
        Command::Sample(asked) => runtime.block_on(sample::run(asked, config)),
        Command::Encryption(encryption) => runtime.block_on(encryption::run(encryption, config)),
        Command::Doctor(doctor) => runtime.block_on(doctor::run(doctor, config)),
        Command::Completions { .. } | Command::Openapi => Ok(()),
    };
    // A training that was given up still runs beside; its result is of no use to anyone.
    runtime.shutdown_timeout(last_work);
    done
}

/// Whether a running server may be asked in its place.
fn is_of_models(command: &Command) -> bool {
    matches!(
        command,
        Command::Promote(_)
            | Command::Rollback(_)
            | Command::History(_)
            | Command::CleanupArtifacts(_)
            | Command::Rollout(_)
    )
}

/// Whether it works with what others took in, so that a folder it would make were a mistyped one.
fn needs_folder(command: &Command) -> bool {
    match command {
        Command::Promote(_) | Command::Rollback(_) | Command::History(_) | Command::CleanupArtifacts(_) => {
            true
        }
        // Versions of models are tried by a server, whatever is here.
        Command::Rollout(asked) => asked.model().is_none(),
        Command::Recommend(_) | Command::Audit(_) | Command::Doctor(_) => true,
        Command::Train(train) => train.of.is_none(),
        Command::Evaluate(evaluate) => evaluate.data.is_none() && evaluate.of.is_none(),
        Command::Dlq(_) | Command::Projection(_) | Command::Stream(cli::Stream::Lag) => true,
        Command::Backfill(_) | Command::Quality(_) | Command::Reconcile(_) => true,
        Command::Keys(keys) => !matches!(keys, Keys::Create { .. }),
        _ => false,
    }
}

fn load(common: &Common, command: &Command) -> Result<Config> {
    let mut overrides: Vec<Override> = Vec::new();
    if let Some(folder) = &common.data_dir {
        let text = folder
            .to_str()
            .ok_or_else(|| Error::new(codes::VALIDATION_ERROR, "must be UTF-8").with_field("--data-dir"))?;
        overrides.push(("storage.data_dir", Value::String(text.to_owned())));
    }
    if let Some(tenant) = &common.tenant {
        overrides.push(("auth.tenant", Value::String(tenant.clone())));
    }
    let serve = match command {
        Command::Serve(serve) => Some(serve),
        Command::Demo(demo) => Some(&demo.serve),
        _ => None,
    };
    let at = command.at().and_then(|at| at.server.as_deref());
    if let Some(server) = at {
        overrides.push(("client.server", Value::String(server.to_owned())));
    }
    if let Some(roles) = serve.and_then(|serve| serve.roles.clone()) {
        overrides.push(("server.roles", Value::Array(roles.into_iter().map(Value::String).collect())));
    }
    if let Some(host) = serve.and_then(|serve| serve.host.clone()) {
        overrides.push(("server.host", Value::String(host)));
    }
    if let Some(port) = serve.and_then(|serve| serve.port) {
        overrides.push(("server.port", Value::Integer(port.into())));
    }
    let default = std::path::Path::new(DEFAULT_FILE);
    let file = common.config.as_deref().or_else(|| default.exists().then_some(default));
    let mut config = Config::load(file, &Environment::of_process(), overrides).map_err(|error| {
        let is_of_flag = at.is_some() && error.field() == Some("client.server");
        if is_of_flag { error.with_field("--server") } else { error }
    })?;
    if serve.is_some_and(|serve| serve.all) {
        config.open_usual_ports()?;
    }
    // A folder that is named is meant, whatever the settings say.
    if at.is_none() && common.data_dir.is_some() {
        config.client.server = None;
    }
    let asks = command.at().is_some() && config.client.server.is_some();
    let beside = [("--tenant", common.tenant.is_some()), ("--data-dir", common.data_dir.is_some())];
    if let Some((flag, _)) = beside.into_iter().find(|(_, is_given)| asks && *is_given) {
        let message =
            "is not taken where a server is asked: the key decides the tenant, and the server has the data";
        return Err(Error::new(codes::VALIDATION_ERROR, message).with_field(flag));
    }
    Ok(config)
}

fn runtime(config: &Config) -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if config.server.worker_threads > 0 {
        builder.worker_threads(config.server.worker_threads);
    }
    builder.max_blocking_threads(config.server.max_blocking_threads);
    builder.enable_all().build().map_err(Error::internal)
}

/// The scope of a command on behalf of the configured tenant.
fn scope(config: &Config, component: &'static str) -> Result<Scope> {
    Ok(Scope::system(TenantId::new(&config.auth.tenant)?, component))
}

/// Prints a value as JSON.
fn say_json<T: serde::Serialize>(value: &T) -> Result<()> {
    terminal::say(serde_json::to_string_pretty(value).map_err(Error::internal)?);
    Ok(())
}
