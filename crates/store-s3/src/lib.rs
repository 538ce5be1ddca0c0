//! The `Blobs` port on S3 and what speaks its protocol, over the `object_store` crate.
//!
//! An object is `PREFIX/TENANT/PATH`. Requests have a time limit and are tried again with jittered backoff, a bounded
//! number of times. Large objects go and come in parts. A conditional put is `If-None-Match: *`, which the service must
//! honour; a large one is put aside under `PREFIX/!aside/` and copied under that condition. Let the bucket's life cycle
//! rules end incomplete uploads and empty that folder after a day: a crash may leave something there.
//!
//! It refuses plain `http://` unless it is allowed, and makes no bucket.

mod config;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kernel::{Entropy, Error, Result, codes};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, S3CopyIfNotExists};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use rustls::crypto::{CryptoProvider, ring};
use store::{Blobs, ObjectBlobs};

pub use config::Settings;

use crate::config::invalid;

// A folder that nobody writes to: a question about it costs little and touches nothing.
const NOBODY: &str = "!ping";

/// An open store.
#[derive(Clone)]
pub struct S3Store {
    objects: Arc<PrefixStore<AmazonS3>>,
    blobs: Arc<ObjectBlobs>,
    settings: Settings,
}

impl fmt::Debug for S3Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("S3Store").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl S3Store {
    /// Opens the store; asks the service nothing yet. `variables` are those of the environment that begin with
    /// `AWS_`, by name and value; settings go before them. `entropy` names what is put aside.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the setting that is wrong.
    pub fn open(
        settings: &Settings,
        variables: impl IntoIterator<Item = (String, String)>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self> {
        settings.check()?;
        if CryptoProvider::get_default().is_none() {
            // The client takes the provider of the process. Who set another one before has the say.
            let _ = ring::default_provider().install_default();
        }
        let builder = variables.into_iter().fold(AmazonS3Builder::new(), with_variable);
        let client = ClientOptions::new()
            .with_allow_http(settings.allow_http)
            .with_connect_timeout(settings.connection_timeout())
            .with_timeout(Duration::from_secs(settings.request_timeout_secs));
        let retry = RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: settings.retries as usize,
            retry_timeout: Duration::from_secs(settings.retry_timeout_secs),
        };
        let builder = with_settings(builder, settings)
            .with_client_options(client)
            .with_retry(retry)
            .with_copy_if_not_exists(S3CopyIfNotExists::Multipart);
        let bucket = builder.build().map_err(|cause| {
            invalid("storage", "the settings of the bucket do not fit together").with_source(cause)
        })?;
        let objects = Arc::new(PrefixStore::new(bucket, settings.prefix.as_str()));
        let part_bytes = usize::try_from(settings.part_size_mb << 20).unwrap_or(usize::MAX);
        let blobs = ObjectBlobs::new(Arc::clone(&objects) as Arc<_>).in_parts(part_bytes, entropy);
        Ok(Self { objects, blobs: Arc::new(blobs), settings: settings.clone() })
    }

    /// The blobs.
    #[must_use]
    pub fn blobs(&self) -> Arc<dyn Blobs> {
        Arc::clone(&self.blobs) as Arc<dyn Blobs>
    }

    /// Asks whether the service answers, knows the bucket, and lets these credentials read its list.
    ///
    /// # Errors
    /// `UNAVAILABLE` or `TIMED_OUT`, within the time that opening a connection may take.
    pub async fn ping(&self) -> Result<()> {
        let nobody = Path::from(NOBODY);
        let mut listed = self.objects.list(Some(&nobody));
        match tokio::time::timeout(self.settings.connection_timeout(), listed.next()).await {
            Ok(None | Some(Ok(_))) => Ok(()),
            Ok(Some(Err(cause))) => {
                Err(Error::new(codes::UNAVAILABLE, "the bucket does not answer").with_source(cause))
            }
            Err(_) => Err(Error::new(codes::TIMED_OUT, "the bucket does not answer in time")),
        }
    }
}

fn with_variable(builder: AmazonS3Builder, (name, value): (String, String)) -> AmazonS3Builder {
    // Variables that are not about the store, such as the profile of a command line, are left alone.
    match name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
        Ok(key) if name.starts_with("AWS_") => builder.with_config(key, value),
        _ => builder,
    }
}

fn with_settings(builder: AmazonS3Builder, settings: &Settings) -> AmazonS3Builder {
    let given = [
        (AmazonS3ConfigKey::Region, &*settings.region),
        (AmazonS3ConfigKey::Endpoint, &*settings.endpoint),
        (AmazonS3ConfigKey::AccessKeyId, &*settings.access_key_id),
        (AmazonS3ConfigKey::SecretAccessKey, settings.secret_access_key.expose()),
        (AmazonS3ConfigKey::Token, settings.session_token.expose()),
    ];
    let given = given.into_iter().filter(|(_, value)| !value.is_empty());
    given
        .fold(builder, |builder, (key, value)| builder.with_config(key, value))
        .with_bucket_name(&settings.bucket)
}
