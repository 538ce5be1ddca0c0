//! `watershed completions SHELL`

use clap::CommandFactory;
use clap_complete::Shell;
use kernel::Result;

use crate::cli::Cli;
use crate::terminal;

pub(super) fn run(shell: Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "watershed", &mut script);
    terminal::say(String::from_utf8_lossy(&script).trim_end());
    Ok(())
}
