//! The `watershed` binary: it knows every engine and every domain, and nothing knows it.
//!
//! `cli` says what can be asked, `commands` has a file for each, `config` reads the settings, `engines` opens
//! what the settings name, `startup` waits for what is not there yet, `pulse` listens whether it answers, `crew` looks
//! whether every role is filled, `backups` says where copies go, `app` mounts the domains.

mod app;
mod backups;
#[cfg(feature = "search")]
mod candidates;
mod cli;
mod commands;
mod config;
mod crew;
#[cfg(feature = "search")]
mod encoders;
mod engine_metrics;
mod engines;
#[cfg(feature = "search")]
mod finding;
mod forecasters;
mod guard;
mod holders;
mod hooks;
mod jwks;
mod lag;
mod logging;
mod open_files;
mod ports;
mod process_metrics;
#[cfg(feature = "profile")]
mod profile;
mod pulse;
mod retention;
mod startup;
mod terminal;
#[cfg(feature = "otlp")]
mod traces;
#[cfg(feature = "search")]
mod vector_metrics;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::fail(&error);
            ExitCode::FAILURE
        }
    }
}
