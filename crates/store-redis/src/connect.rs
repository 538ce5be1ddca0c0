//! Opening connections: finding the server of each mode, and proving that it answers before anyone is sent to it.

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kernel::{Error, Result, codes};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, RedisError, RedisResult, ServerErrorKind,
    TlsCertificates, Value,
};
use store::Secret;

use crate::address::Address;
use crate::config::{Mode, Settings, invalid};

// Commands that wait to be written on one connection; who comes later waits too, within the time of its command.
const QUEUE: usize = 1_024;

// Within the time of one command a Cluster is asked again where a slot has moved or a node has gone.
const CLUSTER_RETRIES: u32 = 3;
const CLUSTER_RETRY_MS: std::ops::RangeInclusive<u64> = 10..=100;

/// One connection that many commands share; a Cluster's has one to each node under it.
#[derive(Clone)]
pub(crate) enum Connection {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    /// Sends a command; where it is a script that the server does not know, sends `whole` instead.
    pub(crate) async fn send(&mut self, command: &Cmd, whole: Option<&Cmd>) -> RedisResult<Value> {
        let answer = self.send_one(command).await;
        match (answer, whole) {
            (Err(error), Some(whole)) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.send_one(whole).await
            }
            (answer, _) => answer,
        }
    }

    async fn send_one(&mut self, command: &Cmd) -> RedisResult<Value> {
        let answer = match self {
            Self::Server(connection) => connection.req_packed_command(command).await,
            Self::Cluster(connection) => connection.req_packed_command(command).await,
        };
        answer?.extract_error()
    }
}

/// Where commands go, as found a moment ago.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Server(Box<Client>),
    Cluster(Box<ClusterClient>),
}

/// Finds servers and opens connections. Nothing here has a time limit of its own: the caller sets it.
#[derive(Debug)]
pub(crate) struct Connector {
    address: Address,
    mode: Mode,
    sentinel_password: Secret,
    certificates: Option<TlsCertificates>,
    options: AsyncConnectionConfig,
    settings: Settings,
}

impl Connector {
    /// Checks the settings.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the setting.
    pub(crate) fn new(settings: &Settings) -> Result<Self> {
        settings.check()?;
        let address = Address::parse(&settings.url, settings.mode)?;
        if address.tls && rustls::crypto::CryptoProvider::get_default().is_none() {
            // The client takes the provider of the process. Who set another one before has the say.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let options = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(settings.connection_timeout()))
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE);
        Ok(Self {
            certificates: certificates(settings, &address)?,
            address,
            mode: settings.mode,
            sentinel_password: settings.sentinel_password.clone(),
            options,
            settings: settings.clone(),
        })
    }

    fn client(&self, server: ConnectionInfo) -> RedisResult<Client> {
        match &self.certificates {
            Some(certificates) => Client::build_with_tls(server, certificates.clone()),
            None => Client::open(server),
        }
    }

    /// Finds where commands go now.
    pub(crate) async fn locate(&self) -> RedisResult<Place> {
        match self.mode {
            Mode::Plain => {
                let (host, port) = &self.address.nodes[0];
                Ok(Place::Server(Box::new(self.client(self.address.server(host, *port)?)?)))
            }
            Mode::Sentinel => Ok(Place::Server(Box::new(self.ask_sentinels().await?))),
            Mode::Cluster => Ok(Place::Cluster(Box::new(self.cluster()?))),
        }
    }

    /// Opens a connection that has answered once.
    pub(crate) async fn open(&self, place: &Place) -> RedisResult<Connection> {
        match place {
            Place::Server(client) => {
                let mut connection =
                    client.get_multiplexed_async_connection_with_config(&self.options).await?;
                redis::cmd("PING").query_async::<()>(&mut connection).await?;
                Ok(Connection::Server(connection))
            }
            // It has asked a node for the slots when it is there.
            Place::Cluster(client) => Ok(Connection::Cluster(client.get_async_connection().await?)),
        }
    }

    fn cluster(&self) -> RedisResult<ClusterClient> {
        let nodes = &self.address.nodes;
        let nodes: RedisResult<Vec<_>> =
            nodes.iter().map(|(host, port)| self.address.server(host, *port)).collect();
        let mut builder = ClusterClientBuilder::new(nodes?);
        if let Some(certificates) = &self.certificates {
            builder = builder.certs(certificates.clone());
        }
        builder
            .connection_timeout(self.settings.connection_timeout())
            .response_timeout(self.settings.command_timeout())
            .retries(CLUSTER_RETRIES)
            .min_retry_wait(*CLUSTER_RETRY_MS.start())
            .max_retry_wait(*CLUSTER_RETRY_MS.end())
            .tcp_settings(TcpSettings::default().set_nodelay(true))
            .build()
    }

    /// Asks all sentinels at once, since one that is away must not hold the others up, and takes the first answer
    /// that a primary confirms: right after a failover some still name the old one.
    async fn ask_sentinels(&self) -> RedisResult<Client> {
        let mut asked: FuturesUnordered<_> =
            self.address.nodes.iter().map(|(host, port)| self.ask_sentinel(host, *port)).collect();
        let mut failure = RedisError::from((ErrorKind::EmptySentinelList, "no sentinel is named"));
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(client) => return Ok(client),
                Err(cause) => failure = cause,
            }
        }
        Err(failure)
    }

    async fn ask_sentinel(&self, host: &str, port: u16) -> RedisResult<Client> {
        let client = self.client(self.address.sentinel(host, port, &self.sentinel_password)?)?;
        let mut sentinel = client.get_multiplexed_async_connection_with_config(&self.options).await?;
        let mut question = redis::cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.address.service);
        let found: Option<(String, u16)> = question.query_async(&mut sentinel).await?;
        let unknown = || {
            let service = self.address.service.clone();
            RedisError::from((ErrorKind::MasterNameNotFoundBySentinel, "the sentinels do not know", service))
        };
        let (host, port) = found.ok_or_else(unknown)?;
        let primary = self.client(self.address.server(&host, port)?)?;
        let mut connection = primary.get_multiplexed_async_connection_with_config(&self.options).await?;
        let role: Vec<Value> = redis::cmd("ROLE").query_async(&mut connection).await?;
        if role.first() != Some(&Value::BulkString(b"master".to_vec())) {
            return Err(RedisError::from((
                ErrorKind::Server(ServerErrorKind::ReadOnly),
                "the sentinels name a server that is not a primary",
            )));
        }
        Ok(primary)
    }
}

fn certificates(settings: &Settings, address: &Address) -> Result<Option<TlsCertificates>> {
    if settings.ca_file.is_empty() {
        return Ok(None);
    }
    if !address.tls {
        return Err(invalid("ca_file", "is for an address that begins with rediss://"));
    }
    let unreadable = |cause: std::io::Error| invalid("ca_file", "cannot be read").with_source(cause);
    let root = std::fs::read(&settings.ca_file).map_err(unreadable)?;
    Ok(Some(TlsCertificates { client_tls: None, root_cert: Some(root) }))
}

/// What a failed command says of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The server answered: the command is at fault, or what it is applied to.
    Command,
    /// This may pass; if it does not, the servers are away.
    Servers,
    /// This connection is gone.
    Connection,
    /// No connection leads to a primary any more.
    Place,
}

/// Sorts a failure. A Cluster's connection mends itself, one to a single server does not.
pub(crate) fn blame(error: &RedisError, connection: &Connection) -> Blame {
    let single = matches!(connection, Connection::Server(_));
    match error.kind() {
        ErrorKind::Io | ErrorKind::Parse if single => Blame::Connection,
        ErrorKind::AuthenticationFailed if single => Blame::Connection,
        _ if single && error.code() == Some("NOAUTH") => Blame::Connection,
        ErrorKind::Server(ServerErrorKind::ReadOnly) if single => Blame::Place,
        ErrorKind::Io
        | ErrorKind::Parse
        | ErrorKind::AuthenticationFailed
        | ErrorKind::ClusterConnectionNotFound
        | ErrorKind::Server(
            ServerErrorKind::ReadOnly
            | ServerErrorKind::BusyLoading
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::TryAgain
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask,
        ) => Blame::Servers,
        _ => Blame::Command,
    }
}

/// The error of a command that the server refused.
pub(crate) fn refused(cause: RedisError) -> Error {
    let (code, message) = match cause.code() {
        Some("OOM") => {
            (codes::STORAGE_FULL, "the cache has no room; give it an eviction policy or more memory")
        }
        _ => (codes::UNAVAILABLE, "the cache refused a command; the log says why"),
    };
    Error::new(code, message).with_source(cause)
}
