//! The `Vectors` port, on pgvector.
//!
//! Each length and metric has a table with one HNSW index (Malkov and Yashunin, 2018), made when it is first needed;
//! tenant and collection are a filter on it. A collection that is small is read whole and scored, and so is what passes a
//! filter that lets few pass: those answers are exact, and found sooner than the index would find them. The rest is
//! searched through the index, with iterative scans so that the filter does not thin the result out; where they end before
//! they have enough to choose from, everything that passes is read after all. So there are never fewer results than there
//! are matches, and only the choice among near equals of many is approximate.
//!
//! How many are few: what `exact_search_vectors` says, or more where many others share the index. A scan visits about
//! (wanted · all / passing) of all vectors, each at several times the cost of one that is scored in a row, so that scoring
//! wins, in time and in recall, where passing² is less than some hundreds of times all.

mod encoding;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use kernel::{Error, Result, Scope, codes};
use store::{Collection, Match, Metric, VectorFilter, VectorItem, Vectors};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::database::Database;
use crate::vectors::encoding::{EncodedVector, encode_tag};

// So that matching tags with items in the database stays cheap, and a statement small.
const UPSERT_AT_ONCE: usize = 500;

// What pgvector can index: single precision, then half precision.
const MAX_INDEXED_DIMENSIONS: usize = 2_000;
const MAX_HALF_DIMENSIONS: usize = 4_000;

// Candidates that a scan of the index keeps, by pgvector's own bounds.
const MIN_CANDIDATES: usize = 400;
const MAX_CANDIDATES: usize = 1_000;

// Candidates that are scored exactly for each result that is wanted.
const TAKEN_FOR_ONE: i64 = 4;

// What the scans of one search visit at most, before the collection is read whole.
const MAX_SCANNED: usize = 40_000;

// Passing² ≤ this · all: 4 candidates for each of 10 wanted, a visit at about six times the cost of scoring one.
const FEW_OF_ALL: u64 = 240;

// However many share the index, more than this are not few.
const MAX_FEW: u64 = 50_000;

// What the server counted in the table at its last look; -1 where it never looked.
const HELD: &str = "SELECT dimensions, metric, items, ( \
        SELECT reltuples::float8 FROM pg_class \
        WHERE oid = to_regclass(format('vectors_%s_%s', metric, dimensions)) \
    ) FROM vector_collections WHERE tenant = $1 AND name = $2";
const UPSERT: &str = "SELECT upsert_vectors($1, $2, $3, $4, $5, $6, $7, $8)";
const DELETE: &str = "SELECT delete_vectors($1, $2, $3)";

/// The vectors of one schema.
#[derive(Debug)]
pub(crate) struct PostgresVectors {
    database: Arc<Database>,
    exact_items: u64,
}

/// What the database holds of a collection.
#[derive(Debug, Clone, Copy)]
struct Held {
    metric: Metric,
    items: u64,
    /// About how many vectors share the index.
    shared: u64,
}

/// One search, ready to be asked.
struct Search<'a> {
    tenant: &'a str,
    collection: Collection,
    query: EncodedVector<'a>,
    count: i64,
    tags: Vec<Vec<u8>>,
    held: Held,
}

impl PostgresVectors {
    pub(crate) fn new(database: Arc<Database>, exact_items: u64) -> Self {
        Self { database, exact_items }
    }

    /// What is held of a collection, unless it is empty.
    async fn held(&self, scope: &Scope, collection: Collection) -> Result<Option<Held>> {
        let rows = self.database.read(HELD, &[&scope.tenant().as_str(), &collection.name]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let items = u64::try_from(row.get::<_, i64>(2)).map_err(Error::internal)?;
        if items == 0 {
            return Ok(None);
        }
        if usize::try_from(row.get::<_, i32>(0)).ok() != Some(collection.dimensions) {
            return Err(other_dimensions(collection));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate")]
        let counted = row.get::<_, Option<f64>>(3).unwrap_or(0.0).max(0.0) as u64;
        Ok(Some(Held { metric: metric_of(row.get(1))?, items, shared: counted.max(items) }))
    }

    /// How many are scored sooner than they are found among all others in the index; none where that is always asked.
    fn few(&self, held: Held) -> u64 {
        match self.exact_items {
            0 => 0,
            few => few.max(held.shared.saturating_mul(FEW_OF_ALL).isqrt().min(MAX_FEW)),
        }
    }

    /// Scores every vector of the collection that passes.
    async fn search_all(&self, search: &Search<'_>) -> Result<Vec<Match>> {
        let (sql, parameters) = (search.exact_sql(), search.parameters());
        let rows = if search.tags.is_empty() {
            self.database.read(&sql, &parameters).await?
        } else {
            // The index of the tags can be used no other way.
            self.database.read_under("SET LOCAL enable_bitmapscan = on", &sql, &parameters).await?
        };
        search.matches(&rows)
    }

    /// Scores what passes the tags where that is few; none where it is not.
    async fn search_few(&self, search: &Search<'_>, few: u64) -> Result<Option<Vec<Match>>> {
        let (sql, parameters) = (search.few_sql(few), search.parameters());
        let rows = self.database.read_under("SET LOCAL enable_bitmapscan = on", &sql, &parameters).await?;
        let passing = rows.first().map_or(0, |row| row.get::<_, i64>(2).cast_unsigned());
        if passing > few { Ok(None) } else { search.matches(&rows).map(Some) }
    }

    /// Follows the index; none where that cannot tell all.
    async fn search_index(&self, search: &Search<'_>) -> Result<Option<Vec<Match>>> {
        let wanted = usize::try_from(search.count).map_err(Error::internal)?;
        let candidates = (wanted * 4).clamp(MIN_CANDIDATES, MAX_CANDIDATES);
        // Without a sort there is no plan but the index.
        let before = format!(
            "SET LOCAL enable_sort = off; SET LOCAL enable_seqscan = off; \
             SET LOCAL hnsw.iterative_scan = relaxed_order; SET LOCAL hnsw.ef_search = {candidates}; \
             SET LOCAL hnsw.max_scan_tuples = {MAX_SCANNED}"
        );
        let rows = self.database.read_under(&before, &search.index_sql(), &search.parameters()).await?;
        let found = search.matches(&rows)?;
        // With fewer to choose from the scan came to its bound, and may have seen but a part of what is near.
        let chosen_from = rows.first().map_or(0, |row| row.get::<_, i64>(2));
        let is_whole = found.len() == wanted && chosen_from == search.count * TAKEN_FOR_ONE;
        // A zero vector has no angle, so the index does not hold it; its score is 0.
        let may_hide_zeros =
            search.held.metric == Metric::Cosine && found.last().is_none_or(|last| last.score <= 0.0);
        Ok((is_whole && !may_hide_zeros).then_some(found))
    }
}

fn other_dimensions(collection: Collection) -> Error {
    let message = format!("`{}` holds vectors of other dimensions", collection.name);
    Error::new(codes::VALIDATION_ERROR, message).with_field("dimensions")
}

fn name_of(metric: Metric) -> &'static str {
    match metric {
        Metric::Cosine => "cosine",
        Metric::Dot => "dot",
        Metric::Euclidean => "euclidean",
    }
}

fn metric_of(name: &str) -> Result<Metric> {
    match name {
        "cosine" => Ok(Metric::Cosine),
        "dot" => Ok(Metric::Dot),
        "euclidean" => Ok(Metric::Euclidean),
        _ => Err(Error::new(codes::CORRUPTED, "the metric of a collection cannot be read")),
    }
}

impl Search<'_> {
    fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        let mut parameters: Vec<&(dyn ToSql + Sync)> =
            vec![&self.tenant, &self.collection.name, &self.query, &self.count];
        if !self.tags.is_empty() {
            parameters.push(&self.tags);
        }
        parameters
    }

    fn table(&self) -> String {
        format!("vectors_{}_{}", name_of(self.held.metric), self.collection.dimensions)
    }

    fn condition(&self) -> &'static str {
        if self.tags.is_empty() {
            "tenant = $1 AND collection = $2"
        } else {
            "tenant = $1 AND collection = $2 AND tags @> $5"
        }
    }

    /// What is smaller for nearer. A function and not an operator, which the planner might answer from the index.
    fn cost(&self) -> &'static str {
        match self.collection.metric {
            // A zero vector has no angle.
            Metric::Cosine => "coalesce(nullif(cosine_distance(embedding, $3), 'NaN'), 1)",
            Metric::Dot => "-inner_product(embedding, $3)",
            Metric::Euclidean => "l2_distance(embedding, $3)",
        }
    }

    fn exact_sql(&self) -> String {
        format!(
            "SELECT key, {} AS cost FROM {} WHERE {} ORDER BY cost, key LIMIT $4",
            self.cost(),
            self.table(),
            self.condition()
        )
    }

    /// With how many pass, up to one more than are few.
    fn few_sql(&self, few: u64) -> String {
        format!(
            "WITH passing AS MATERIALIZED (SELECT key, embedding FROM {} WHERE {} LIMIT {few} + 1) \
             SELECT key, {} AS cost, (SELECT count(*) FROM passing) FROM passing ORDER BY cost, key LIMIT $4",
            self.table(),
            self.condition(),
            self.cost()
        )
    }

    fn index_sql(&self) -> String {
        let operator = match self.held.metric {
            Metric::Cosine => "<=>",
            Metric::Dot => "<#>",
            Metric::Euclidean => "<->",
        };
        let dimensions = self.collection.dimensions;
        let distance = if dimensions <= MAX_INDEXED_DIMENSIONS {
            format!("embedding {operator} $3")
        } else {
            format!("embedding::halfvec({dimensions}) {operator} $3::vector::halfvec({dimensions})")
        };
        // Under a filter the index finds near ones in a loose order, so more are taken than are wanted.
        format!(
            "WITH near AS MATERIALIZED ( \
                 SELECT key, embedding FROM {} WHERE {} ORDER BY {distance} LIMIT $4::int8 * {TAKEN_FOR_ONE} \
             ) SELECT key, {} AS cost, (SELECT count(*) FROM near) FROM near ORDER BY cost, key LIMIT $4",
            self.table(),
            self.condition(),
            self.cost()
        )
    }

    #[expect(clippy::cast_possible_truncation, reason = "a score is a single-precision number")]
    fn matches(&self, rows: &[Row]) -> Result<Vec<Match>> {
        let read = |row: &Row| {
            let key = String::from_utf8(row.get(0));
            let key = key.map_err(|_| Error::new(codes::CORRUPTED, "a stored key is not UTF-8"))?;
            let cost: f64 = row.get(1);
            let score = match self.collection.metric {
                Metric::Cosine => 1.0 - cost,
                Metric::Dot => -cost,
                Metric::Euclidean => -(cost * cost),
            };
            Ok(Match { key, score: score as f32 })
        };
        rows.iter().map(read).collect()
    }
}

#[async_trait]
impl Vectors for PostgresVectors {
    async fn upsert(&self, scope: &Scope, collection: Collection, items: Vec<VectorItem>) -> Result<()> {
        collection.check_items(&items)?;
        // The last item of a key wins.
        let last: HashMap<&str, usize> =
            items.iter().enumerate().map(|(place, item)| (&*item.key, place)).collect();
        let kept = items.iter().enumerate().filter(|(place, item)| last[&*item.key] == *place);
        let kept: Vec<&VectorItem> = kept.map(|(_, item)| item).collect();
        let dimensions = i32::try_from(collection.dimensions).map_err(Error::internal)?;
        let metric = name_of(collection.metric);
        for part in kept.chunks(UPSERT_AT_ONCE) {
            let keys: Vec<&[u8]> = part.iter().map(|item| item.key.as_bytes()).collect();
            let vectors: Vec<EncodedVector<'_>> =
                part.iter().map(|item| EncodedVector(&item.vector)).collect();
            let (mut places, mut tags) = (Vec::new(), Vec::new());
            for (place, item) in (1_i32..).zip(part) {
                places.extend(item.tags.iter().map(|_| place));
                tags.extend(item.tags.iter().map(|(name, value)| encode_tag(name, value)));
            }
            let parameters: [&(dyn ToSql + Sync); 8] = [
                &scope.tenant().as_str(),
                &collection.name,
                &dimensions,
                &metric,
                &keys,
                &vectors,
                &places,
                &tags,
            ];
            let rows = self.database.query(UPSERT, &parameters).await?;
            if !rows.first().is_some_and(|row| row.get(0)) {
                return Err(other_dimensions(collection));
            }
        }
        Ok(())
    }

    async fn search(
        &self,
        scope: &Scope,
        collection: Collection,
        query: &[f32],
        count: usize,
        filter: &VectorFilter,
    ) -> Result<Vec<Match>> {
        collection.check(query)?;
        let Some(held) = self.held(scope, collection).await? else { return Ok(Vec::new()) };
        let wanted = count.min(usize::try_from(held.items).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(Vec::new());
        }
        let search = Search {
            tenant: scope.tenant().as_str(),
            collection,
            query: EncodedVector(query),
            count: i64::try_from(wanted).map_err(Error::internal)?,
            tags: filter.iter().map(|(name, value)| encode_tag(name, value)).collect(),
            held,
        };
        let few = self.few(held);
        let is_indexed = held.items > few
            && held.metric == collection.metric
            && collection.dimensions <= MAX_HALF_DIMENSIONS
            && wanted <= MAX_CANDIDATES
            && query.iter().any(|number| *number != 0.0);
        if is_indexed
            && !search.tags.is_empty()
            && let Some(found) = self.search_few(&search, few).await?
        {
            return Ok(found);
        }
        if is_indexed && let Some(found) = self.search_index(&search).await? {
            return Ok(found);
        }
        self.search_all(&search).await
    }

    async fn delete(&self, scope: &Scope, collection: Collection, keys: &[&str]) -> Result<u64> {
        let keys: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
        let rows = self.database.query(DELETE, &[&scope.tenant().as_str(), &collection.name, &keys]).await?;
        Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0).cast_unsigned()))
    }

    async fn count(&self, scope: &Scope, collection: Collection) -> Result<u64> {
        let rows = self.database.read(HELD, &[&scope.tenant().as_str(), &collection.name]).await?;
        Ok(rows.first().map_or(0, |row| row.get::<_, i64>(2).cast_unsigned()))
    }
}
