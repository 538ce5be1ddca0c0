//! What browsers need: leave for the pages of other origins to ask (CORS), and answers that are compressed.
//!
//! Callers are known by a header that a page must set itself, never by a cookie, so that a browser is never told to send
//! credentials of its own; any origin may therefore be let in. A browser asks for leave without a key: these layers stand
//! before authorisation. It refuses origins that no browser sends. To let pages read another header: a line in [`EXPOSED`].

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, header};
use kernel::{Error, Result, codes};
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, Predicate, SizeAbove};
use tower_http::cors::AllowOrigin;
pub use tower_http::cors::CorsLayer as Cors;

/// For every origin.
const ANY: &str = "*";
/// A browser asks for leave again after so long.
const REMEMBERED: Duration = Duration::from_secs(600);
/// What is smaller costs more to compress than to send.
const SMALLEST_BYTES: u64 = 1_024;

/// What pages may send.
const ALLOWED: [HeaderName; 9] = [
    header::ACCEPT,
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("last-event-id"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-request-id"),
];

/// What pages may read beside the body.
const EXPOSED: [HeaderName; 8] = [
    header::CONTENT_DISPOSITION,
    HeaderName::from_static("next-cursor"),
    HeaderName::from_static("ratelimit-limit"),
    HeaderName::from_static("ratelimit-remaining"),
    HeaderName::from_static("ratelimit-reset"),
    header::RETRY_AFTER,
    HeaderName::from_static("traceresponse"),
    HeaderName::from_static("x-request-id"),
];

/// Lets the pages of these origins in, such as `https://shop.example`; those of every origin where `*` is the only one.
///
/// # Errors
/// `VALIDATION_ERROR` for what is no origin as browsers write it, for `*` beside others, and where there is none.
pub fn cors(origins: &[String]) -> Result<Cors> {
    let refused = |message: String| Err(Error::new(codes::VALIDATION_ERROR, message));
    let allowed = match origins {
        [] => return refused("must name at least one origin, such as `https://shop.example`".to_owned()),
        [only] if only == ANY => AllowOrigin::any(),
        _ => match origins.iter().find(|origin| !is_origin(origin)) {
            Some(other) => {
                return refused(format!(
                    "`{other}` is not an origin, such as `https://shop.example`; or `*` alone"
                ));
            }
            None => AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok())),
        },
    };
    let methods = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    Ok(Cors::new()
        .allow_origin(allowed)
        .allow_methods(methods)
        .allow_headers(ALLOWED)
        .expose_headers(EXPOSED)
        .max_age(REMEMBERED))
}

/// A scheme and a host in lower case, and a port that is not the scheme's own; no path.
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return false };
    let own_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let lawful = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-:[]_".contains(&byte);
    !host.is_empty() && host.bytes().all(lawful) && !host.ends_with([':', '.']) && !host.ends_with(own_port)
}

/// Compresses answers (gzip) for callers who say that they read it; not those that are small, or a live stream.
pub fn compression() -> CompressionLayer<impl Predicate> {
    let worth_it = DefaultPredicate::new().and(SizeAbove::new(SMALLEST_BYTES));
    CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(worth_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_as_browsers_write_them() {
        let check = |origins: &[&str], good: bool| {
            let origins: Vec<String> = origins.iter().map(|origin| (*origin).to_owned()).collect();
            assert_eq!(cors(&origins).is_ok(), good, "{origins:?}");
        };
        check(&["*"], true);
        check(&["https://shop.example", "http://localhost:3000", "https://[::1]:8443"], true);
        for wrong in ["", "null", "shop.example", "https://", "https://shop.example/", "https://Shop.example"]
        {
            check(&[wrong], false);
        }
        for wrong in
            ["ftp://a", "https://a:443", "http://a:80", "https://*.example", "https://u@a", "https://a\n"]
        {
            check(&[wrong], false);
        }
        check(&["*", "https://shop.example"], false);
        check(&[], false);
    }
}
