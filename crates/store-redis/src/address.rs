//! The address: one text that operators write, taken apart and checked. No error repeats any of it, for it may hold
//! a password.

use kernel::Result;
use percent_encoding::percent_decode_str;
use redis::io::tcp::TcpSettings;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, RedisResult};
use store::Secret;
use url::Url;

use crate::config::{Mode, invalid};

const SERVER_PORT: u16 = 6_379;
const SENTINEL_PORT: u16 = 26_379;
const DEFAULT_SERVICE: &str = "mymaster";

/// Where the servers are and how to sign in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// Hosts and ports: the server, some sentinels, or some nodes.
    pub nodes: Vec<(String, u16)>,
    pub tls: bool,
    pub user: String,
    pub password: Secret,
    pub database: i64,
    /// The service that sentinels watch.
    pub service: String,
}

impl Address {
    /// Takes `url` apart.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for `url`, saying what is wrong and nothing of what is in it.
    pub(crate) fn parse(url: &Secret, mode: Mode) -> Result<Self> {
        let text = url.expose();
        let shape = || {
            invalid(
                "url",
                "is not of the form redis://[user][:password]@host[:port][,host[:port]…][/database]",
            )
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(shape)?;
        let tls = match (scheme, mode) {
            ("redis", _) | ("redis-sentinel", Mode::Sentinel) => false,
            ("rediss", _) | ("rediss-sentinel", Mode::Sentinel) => true,
            ("redis-sentinel" | "rediss-sentinel", _) => {
                return Err(invalid("url", "names sentinels: set the mode to `sentinel`"));
            }
            _ => return Err(invalid("url", "begins with redis:// or, for TLS, rediss://")),
        };
        let credentials =
            rest.split(',').next().and_then(|first| first.rsplit_once('@')).map(|(head, _)| head);
        let mut address = Self {
            nodes: Vec::new(),
            tls,
            user: String::new(),
            password: Secret::default(),
            database: 0,
            service: String::new(),
        };
        let mut path = String::new();
        for part in rest.split(',') {
            let part = part.strip_prefix(&format!("{scheme}://")).unwrap_or(part);
            let whole = match credentials {
                Some(credentials) if !part.contains('@') => format!("redis://{credentials}@{part}"),
                _ => format!("redis://{part}"),
            };
            address.add(&Url::parse(&whole).map_err(|_| shape())?, mode, &mut path)?;
        }
        address.read_path(&path, mode)?;
        Ok(address)
    }

    fn add(&mut self, url: &Url, mode: Mode, path: &mut String) -> Result<()> {
        if url.query().is_some() || url.fragment().is_some() {
            return Err(invalid("url", "ends with the database; everything else is a setting of its own"));
        }
        let host =
            url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| invalid("url", "lacks a host"))?;
        let decoded = |text: &str| {
            let text = percent_decode_str(text).decode_utf8();
            text.map(|text| text.into_owned())
                .map_err(|_| invalid("url", "has a name or password that is not UTF-8"))
        };
        let (user, password) = (decoded(url.username())?, decoded(url.password().unwrap_or_default())?);
        if self.nodes.is_empty() {
            (self.user, self.password) = (user, Secret::new(password));
        } else if (&*self.user, self.password.expose()) != (&*user, &*password) {
            return Err(invalid("url", "has one name and one password for all hosts"));
        }
        let given = url.path().trim_matches('/');
        if !given.is_empty() && !path.is_empty() && given != path {
            return Err(invalid("url", "has one database or service for all hosts"));
        }
        if !given.is_empty() {
            given.clone_into(path);
        }
        let default = if mode == Mode::Sentinel { SENTINEL_PORT } else { SERVER_PORT };
        let host = host.trim_matches(['[', ']']).to_owned();
        self.nodes.push((host, url.port().unwrap_or(default)));
        Ok(())
    }

    fn read_path(&mut self, path: &str, mode: Mode) -> Result<()> {
        match mode {
            Mode::Sentinel => {
                let service = if path.is_empty() { DEFAULT_SERVICE } else { path };
                service.clone_into(&mut self.service);
            }
            Mode::Cluster if matches!(path, "" | "0") => {}
            Mode::Cluster => return Err(invalid("url", "has no database: a Cluster has only one")),
            Mode::Plain if path.is_empty() => {}
            Mode::Plain => {
                let number: Option<u16> = path.parse().ok();
                self.database =
                    number.map(i64::from).ok_or_else(|| invalid("url", "has a database by number"))?;
            }
        }
        if mode == Mode::Plain && self.nodes.len() > 1 {
            return Err(invalid("url", "has several hosts: set the mode to `sentinel` or `cluster`"));
        }
        Ok(())
    }

    /// How to reach a server of this address.
    pub(crate) fn server(&self, host: &str, port: u16) -> RedisResult<ConnectionInfo> {
        self.reach(host, port, &self.user, &self.password, self.database)
    }

    /// How to reach a sentinel of this address.
    pub(crate) fn sentinel(&self, host: &str, port: u16, password: &Secret) -> RedisResult<ConnectionInfo> {
        self.reach(host, port, "", password, 0)
    }

    fn reach(
        &self,
        host: &str,
        port: u16,
        user: &str,
        password: &Secret,
        database: i64,
    ) -> RedisResult<ConnectionInfo> {
        let host = host.to_owned();
        let place = if self.tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let mut sign_in = RedisConnectionInfo::default().set_db(database);
        if !user.is_empty() {
            sign_in = sign_in.set_username(user);
        }
        if !password.is_empty() {
            sign_in = sign_in.set_password(password.expose());
        }
        let tcp = TcpSettings::default().set_nodelay(true);
        Ok(place.into_connection_info()?.set_redis_settings(sign_in).set_tcp_settings(tcp))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let check = |url: &str, mode: Mode, nodes: &[(&str, u16)], rest: (bool, &str, &str, i64, &str)| {
            let found = Address::parse(&Secret::new(url), mode).unwrap();
            let expected: Vec<_> = nodes.iter().map(|(host, port)| ((*host).to_owned(), *port)).collect();
            assert_eq!(found.nodes, expected, "{url}");
            let found = (found.tls, &*found.user, found.password.expose(), found.database, &*found.service);
            assert_eq!(found, rest, "{url}");
        };
        check("redis://cache", Mode::Plain, &[("cache", 6379)], (false, "", "", 0, ""));
        check("rediss://me:p%40ss@cache:1/2", Mode::Plain, &[("cache", 1)], (true, "me", "p@ss", 2, ""));
        check("redis://:p@[::1]:7/", Mode::Plain, &[("::1", 7)], (false, "", "p", 0, ""));
        let three = [("a", 26379), ("b", 1), ("c", 26379)];
        check("redis://:p@a,b:1,c/main", Mode::Sentinel, &three, (false, "", "p", 0, "main"));
        check("redis-sentinel://a", Mode::Sentinel, &three[..1], (false, "", "", 0, "mymaster"));
        let two = [("a", 6379), ("b", 8)];
        check("redis://:p@a,redis://:p@b:8", Mode::Cluster, &two, (false, "", "p", 0, ""));
        check(
            "redis://redis-cluster:6379",
            Mode::Cluster,
            &[("redis-cluster", 6379)],
            (false, "", "", 0, ""),
        );
    }

    #[test]
    fn bad_addresses_are_refused_and_not_repeated() {
        let check = |url: &str, mode: Mode| {
            let error = Address::parse(&Secret::new(url), mode).unwrap_err();
            assert_eq!(error.field(), Some("url"), "{url}");
            assert!(!format!("{error:?}").contains("hunter"), "{error:?}");
        };
        check("", Mode::Plain);
        check("hunter2", Mode::Plain);
        check("http://:hunter2@a", Mode::Plain);
        check("redis://:hunter2@", Mode::Plain);
        check("redis://:hunter2@a:99999", Mode::Plain);
        check("redis://:hunter2@a/one", Mode::Plain);
        check("redis://:hunter2@a,b", Mode::Plain);
        check("redis://:hunter2@a/1", Mode::Cluster);
        check("redis://:hunter2@a,redis://:hunter3@b", Mode::Cluster);
        check("redis-sentinel://:hunter2@a", Mode::Plain);
        check("rediss://:hunter2@a#insecure", Mode::Plain);
        check("redis://:hunter2@a?protocol=resp3", Mode::Plain);
        check("redis://a/one,b/two", Mode::Sentinel);
    }
}
