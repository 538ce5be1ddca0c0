//! The address: one text that operators write, taken apart and checked. No error repeats any of it, for it may hold
//! a password.

use kernel::Result;
use percent_encoding::percent_decode_str;
use store::Secret;

use crate::config::invalid;

const PORT: &str = "9092";

/// Where the brokers are and how to sign in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// `host:port` with commas between them, as librdkafka takes it.
    pub brokers: String,
    pub tls: bool,
    pub user: String,
    pub password: Secret,
}

impl Address {
    /// Takes `url` apart: `kafka://` or `kafkas://` (TLS), `[user:password@]`, `host[:port]` with commas between them.
    /// Without a scheme it is a list of brokers, as older deployments have it.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for `url`, saying what is wrong and nothing of what is in it.
    pub(crate) fn parse(url: &Secret) -> Result<Self> {
        let text = url.expose().trim();
        let (tls, rest) = match text.split_once("://") {
            None => (false, text),
            Some(("kafka", rest)) => (false, rest),
            Some(("kafkas", rest)) => (true, rest),
            Some(_) => return Err(invalid("url", "begins with kafka:// or, for TLS, kafkas://")),
        };
        let rest = rest.trim_end_matches('/');
        let (credentials, hosts) =
            rest.rsplit_once('@').map_or((None, rest), |(head, hosts)| (Some(head), hosts));
        let (user, password) = match credentials {
            None => (String::new(), String::new()),
            Some(both) => {
                let (user, password) = both
                    .split_once(':')
                    .ok_or_else(|| invalid("url", "has a user without a password; write user:password@"))?;
                (decoded(user)?, decoded(password)?)
            }
        };
        let brokers: Vec<String> = hosts.split(',').map(broker).collect::<Result<_>>()?;
        Ok(Self { brokers: brokers.join(","), tls, user, password: Secret::new(password) })
    }
}

fn decoded(text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| invalid("url", "has a user or a password that is not UTF-8"))
}

fn broker(text: &str) -> Result<String> {
    let text = text.trim();
    let lawful =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    if text.is_empty() || !text.bytes().all(lawful) {
        let message = "is not of the form kafka://[user:password@]host[:port][,host[:port]…]; \
                       special characters of a password are percent-encoded";
        return Err(invalid("url", message));
    }
    // The colons of an IPv6 address are within brackets.
    let after_host = text.rfind(']').map_or(0, |end| end + 1);
    match text[after_host..].rsplit_once(':') {
        None => Ok(format!("{text}:{PORT}")),
        Some((_, port)) if port.parse::<u16>().is_ok_and(|port| port > 0) => Ok(text.to_owned()),
        Some(_) => Err(invalid("url", "has a port that is not 1 to 65535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let check = |url: &str, expected: Option<(&str, bool, &str, &str)>| {
            let found = Address::parse(&Secret::new(url));
            let found = found
                .as_ref()
                .ok()
                .map(|address| (&*address.brokers, address.tls, &*address.user, address.password.expose()));
            assert_eq!(found, expected, "{url}");
        };
        check("kafka://a:9092,b:9093", Some(("a:9092,b:9093", false, "", "")));
        check("localhost:9092", Some(("localhost:9092", false, "", "")));
        check("kafka://a, b", Some(("a:9092,b:9092", false, "", "")));
        check("kafkas://ada:p%40ss,1@a:9093/", Some(("a:9093", true, "ada", "p@ss,1")));
        check("kafka://[::1]", Some(("[::1]:9092", false, "", "")));
        check("kafka://[::1]:9093", Some(("[::1]:9093", false, "", "")));
        for wrong in
            ["", "kafka://", "http://a", "kafka://a:0", "kafka://a:x", "kafka://a/topic", "kafka://ada@a"]
        {
            check(wrong, None);
        }
    }

    #[test]
    fn no_error_repeats_a_password() {
        for url in [
            "kafka://ada:hunter2@a/b",
            "kafka://ada:hunter2@",
            "x://ada:hunter2@a",
            "kafka://ada:hunter2@a:99999",
        ] {
            let error = Address::parse(&Secret::new(url)).unwrap_err();
            assert!(!error.chain().contains("hunter2"), "{error}");
        }
    }
}
