//! Who is asked: this project's engine, as configured, through the index alone and exactly; and pgvector as anyone would
//! ask it, on a table of its own with the same vectors.

use std::sync::Arc;

use kernel::{Clock, Entropy, SystemClock, SystemEntropy};
use store::{Collection, Vectors};
use store_postgres::{DatabaseUrl, Migrator, PostgresStore, Settings};
use tokio_postgres::{Client, NoTls};

use crate::Fault;
use crate::data::{Narrowed, Tenant};

const AT_ONCE: usize = 1_000;

/// A schema of this run.
#[derive(Debug)]
pub(crate) struct Schema {
    settings: Settings,
    url: String,
}

/// Who is asked.
#[derive(Debug)]
pub(crate) enum Asked {
    /// This project's engine.
    Ours(&'static str, Arc<dyn Vectors>),
    /// pgvector, through its index.
    Plain(&'static str, Client),
}

impl Schema {
    pub(crate) async fn create(url: &str) -> Result<Self, Fault> {
        let settings = Settings {
            url: Some(DatabaseUrl::new(url.to_owned())),
            schema: format!("bench_{:016x}", SystemEntropy::new().next_u64()),
            statement_timeout_seconds: 120.0,
            ..Settings::default()
        };
        Migrator::new(&settings, &SystemClock::new()).up().await?;
        Ok(Self { settings, url: url.to_owned() })
    }

    pub(crate) async fn drop(&self) -> Result<(), Fault> {
        let statement = format!("DROP SCHEMA \"{}\" CASCADE", self.settings.schema);
        Ok(self.connect("").await?.batch_execute(&statement).await?)
    }

    async fn connect(&self, session: &str) -> Result<Client, Fault> {
        let (client, connection) = tokio_postgres::connect(&self.url, NoTls).await?;
        tokio::spawn(connection);
        let place = format!("SET search_path = \"{}\", public; {session}", self.settings.schema);
        client.batch_execute(&place).await?;
        Ok(client)
    }

    async fn open(&self, exact_search_vectors: u64) -> Result<Arc<dyn Vectors>, Fault> {
        let settings = Settings { exact_search_vectors, ..self.settings.clone() };
        let store =
            PostgresStore::open(settings, Arc::new(SystemClock::new()), Arc::new(SystemEntropy::new()));
        Ok(store.await?.vectors())
    }

    /// Writes every vector, tenants in turns, so that their vectors lie among each other in the index. Returns the
    /// seconds that the engine took.
    pub(crate) async fn fill(
        &self,
        collection: Collection,
        tenants: &[Tenant],
        clock: &dyn Clock,
    ) -> Result<f64, Fault> {
        let vectors = self.open(0).await?;
        let client = self.connect("").await?;
        let table = format!(
            "CREATE TABLE plain (tenant text, key text, kind text, topic text, embedding vector({}))",
            collection.dimensions
        );
        client.batch_execute(&table).await?;
        let rounds = tenants.iter().map(|tenant| tenant.items.len().div_ceil(AT_ONCE)).max().unwrap_or(0);
        let mut seconds = 0.0;
        for round in 0..rounds {
            for tenant in tenants {
                let Some(items) = tenant.items.chunks(AT_ONCE).nth(round) else { continue };
                let began = clock.elapsed();
                let tagged = items.iter().map(crate::data::Item::tagged).collect();
                vectors.upsert(&tenant.scope, collection, tagged).await?;
                seconds += clock.elapsed().saturating_sub(began).as_secs_f64();
                let texts =
                    |of: &dyn Fn(&crate::data::Item) -> String| items.iter().map(of).collect::<Vec<_>>();
                client
                    .execute(
                        "INSERT INTO plain SELECT $1, key, kind, topic, embedding::vector \
                         FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS g (key, kind, topic, embedding)",
                        &[
                            &tenant.scope.tenant().as_str(),
                            &texts(&|item| item.key.clone()),
                            &texts(&|item| item.kind().to_owned()),
                            &texts(&|item| item.topic.to_string()),
                            &texts(&|item| literal(&item.vector)),
                        ],
                    )
                    .await?;
            }
        }
        client
            .batch_execute("CREATE INDEX ON plain USING hnsw (embedding vector_cosine_ops); ANALYZE plain")
            .await?;
        Ok(seconds)
    }

    /// Everyone who is asked.
    pub(crate) async fn engines(&self) -> Result<Vec<Asked>, Fault> {
        // Without a sort there is no plan but the index.
        let index = "SET enable_sort = off; SET enable_seqscan = off; SET hnsw.iterative_scan =";
        Ok(vec![
            Asked::Ours("configured", self.open(Settings::default().exact_search_vectors).await?),
            Asked::Ours("index", self.open(0).await?),
            Asked::Ours("exact", self.open(u64::MAX).await?),
            Asked::Plain("plain", self.connect(&format!("{index} off")).await?),
            Asked::Plain("iterative", self.connect(&format!("{index} strict_order")).await?),
        ])
    }
}

impl Asked {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Ours(name, _) | Self::Plain(name, _) => name,
        }
    }

    /// The keys found, nearest first.
    pub(crate) async fn search(
        &self,
        tenant: &Tenant,
        collection: Collection,
        query: &[f32],
        narrowed: Narrowed,
        count: usize,
    ) -> Result<Vec<String>, Fault> {
        match self {
            Self::Ours(_, vectors) => {
                let found =
                    vectors.search(&tenant.scope, collection, query, count, &narrowed.filter()).await?;
                Ok(found.into_iter().map(|found| found.key).collect())
            }
            Self::Plain(_, client) => {
                let condition = match narrowed {
                    Narrowed::Tenant => String::new(),
                    Narrowed::Rare => "AND kind = 'rare'".to_owned(),
                    Narrowed::Topic(topic) => format!("AND topic = '{topic}'"),
                };
                let sql = format!(
                    "SELECT key FROM plain WHERE tenant = $1 {condition} ORDER BY embedding <=> '{}' LIMIT {count}",
                    literal(query)
                );
                let rows = client.query(&sql, &[&tenant.scope.tenant().as_str()]).await?;
                Ok(rows.iter().map(|row| row.get(0)).collect())
            }
        }
    }
}

/// As pgvector reads it.
fn literal(vector: &[f32]) -> String {
    let numbers: Vec<String> = vector.iter().map(ToString::to_string).collect();
    format!("[{}]", numbers.join(","))
}
