//! `watershed encryption`: which master keys are in use, and every key wrapped anew under the newest.

use kernel::Result;

use crate::app::Ambient;
use crate::cli::Encryption;
use crate::config::Config;
use crate::engines::Engines;
use crate::{guard, terminal};

pub(super) async fn run(command: Encryption, config: Config) -> Result<()> {
    let ambient = Ambient::of_system();
    let engines = Engines::open(&config.storage, &ambient).await?;
    match command {
        Encryption::Status => status(&config, &engines, &ambient).await,
        Encryption::Rotate => rotate(&config, &engines, &ambient).await,
    }
}

async fn status(config: &Config, engines: &Engines, ambient: &Ambient) -> Result<()> {
    let masters = guard::master_keys(config, engines, ambient).await?;
    let keyring = guard::keyring(config, engines, ambient, &masters).await?;
    let seals = if keyring.seals() { "sealed" } else { "not sealed" };
    terminal::say(format!("personal data   {seals} from now on (compliance.encrypt_personal)"));
    for (master, keys) in privacy::under_masters(&keyring).await? {
        let newest = if keyring.newest_master() == Some(&master) { " (the newest)" } else { "" };
        terminal::say(format!("master key      {master}{newest} wraps {keys} keys"));
    }
    Ok(())
}

async fn rotate(config: &Config, engines: &Engines, ambient: &Ambient) -> Result<()> {
    let of_file = guard::add_key(config, engines, ambient).await?;
    let masters = of_file.clone().unwrap_or_else(|| config.compliance.encryption_keys.clone());
    let keyring = guard::keyring(config, engines, ambient, &masters).await?;
    let rotated = privacy::rotate(&keyring).await?;
    terminal::say(format!("{} keys wrapped anew, {} were already", rotated.wrapped, rotated.current));
    match of_file {
        Some(keys) => guard::keep_newest(config, &keys)?,
        None if masters.len() > 1 => {
            terminal::note(
                "every key is under the first of compliance.encryption_keys; the others may go once every server was started \
                 with it and `watershed encryption status` names no other",
            );
        }
        None => {}
    }
    Ok(())
}
