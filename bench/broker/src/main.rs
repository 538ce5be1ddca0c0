//! One Kafka broker on a folder, for measurements that the broker of the tests cannot carry: `bench-broker HOST:PORT
//! CONTROLLER_HOST:PORT FOLDER`.
//!
//! It is `crabka` 0.3.0 with the settings that it comes with, which are Kafka's: what is acknowledged is in the system's memory
//! and on the disk a little later. It refuses to listen for metrics, and ends at SIGTERM or Ctrl-C.

use std::env;
use std::error::Error;
use std::path::PathBuf;

use crabka_broker::{Broker, BrokerConfig};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let [listen, controller, folder] = env::args()
        .skip(1)
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| "give an address, that of the controller, and a folder")?;
    let (listen_addr, controller_listen_addr) = (listen.parse()?, controller.parse()?);
    let config = BrokerConfig {
        listen_addr,
        advertised_listener: listen,
        controller_listen_addr,
        controller_quorum_voters: vec![(1, controller_listen_addr)],
        log_dir: PathBuf::from(folder),
        metrics_listen_addr: None,
        ..BrokerConfig::default()
    };
    let broker = Broker::start(config).await?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    broker.shutdown().await;
    Ok(())
}
