//! Records as a backup keeps them: all of one moment out, and back in with their versions.

use std::sync::Arc;

use kernel::{Result, TenantId};
use store::{IndexValue, RecordsSnapshot, SavedRecord};
use tokio::sync::mpsc;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::database::Database;
use crate::records::ranges::{read_value, value_bytes};
use crate::records::{key_of, record_of};

const PAGE_RECORDS: i64 = 1_000;
const PAGE_BYTES: i64 = 8 << 20;
/// Pages that wait for whoever reads them.
const PAGES_AHEAD: usize = 2;

const PAGE: &str = "SELECT p.tenant, p.table_name, p.key, p.version, p.body, v.names, v.found FROM ( \
        SELECT r.*, sum(octet_length(body)) OVER w AS bytes, row_number() OVER w AS number FROM ( \
            SELECT tenant, table_name, key, version, body FROM records \
            WHERE (tenant, table_name, key) > ($1, $2, $3) AND table_name <> ALL ($4) \
            ORDER BY tenant, table_name, key LIMIT $5 \
        ) r WINDOW w AS (ORDER BY tenant, table_name, key) \
    ) p LEFT JOIN LATERAL ( \
        SELECT array_agg(index_name ORDER BY index_name) AS names, array_agg(value ORDER BY index_name) AS found \
        FROM record_values v WHERE v.tenant = p.tenant AND v.table_name = p.table_name AND v.key = p.key \
    ) v ON true WHERE p.number = 1 OR p.bytes <= $6 ORDER BY p.tenant, p.table_name, p.key";

// Before the records, so that no later write can be given one of their versions.
const VERSIONS: &str = "SELECT setval('record_versions', greatest($1, last_value)) FROM record_versions";
const RESTORE: &str = "WITH written AS ( \
        INSERT INTO records (tenant, table_name, key, version, body) \
        SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bigint[], $5::bytea[]) \
        ON CONFLICT (tenant, table_name, key) DO UPDATE SET version = excluded.version, body = excluded.body \
    ) INSERT INTO record_values (tenant, table_name, key, index_name, value) \
      SELECT * FROM unnest($6::text[], $7::text[], $8::bytea[], $9::text[], $10::bytea[]) \
      ON CONFLICT (tenant, table_name, key, index_name) DO UPDATE SET value = excluded.value";

/// Reads in a task of its own, for as long as somebody takes the pages.
pub(super) fn snapshot(database: Arc<Database>, except: &[&str]) -> RecordsSnapshot {
    let except: Vec<String> = except.iter().map(|&table| table.to_owned()).collect();
    let (sender, receiver) = mpsc::channel(PAGES_AHEAD);
    tokio::spawn(async move {
        if let Err(error) = read(&database, &except, &sender).await {
            // Whoever does not listen any more need not know.
            let _ = sender.send(Err(error)).await;
        }
    });
    let next = async |mut pages: mpsc::Receiver<_>| pages.recv().await.map(|page| (page, pages));
    Box::pin(futures::stream::unfold(receiver, next))
}

async fn read(
    database: &Database,
    except: &[String],
    pages: &mpsc::Sender<Result<Vec<SavedRecord>>>,
) -> Result<()> {
    let moment = database.moment().await?;
    let (mut tenant, mut table, mut key) = (String::new(), String::new(), Vec::<u8>::new());
    loop {
        let parameters: [&(dyn ToSql + Sync); 6] =
            [&tenant, &table, &key, &except, &PAGE_RECORDS, &PAGE_BYTES];
        let rows = moment.read(PAGE, &parameters).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        let next = (last.get(0), last.get(1), last.get(2));
        let page = rows.iter().map(saved).collect::<Result<Vec<_>>>()?;
        if pages.send(Ok(page)).await.is_err() {
            return Ok(());
        }
        (tenant, table, key) = next;
    }
}

fn saved(row: &Row) -> Result<SavedRecord> {
    let record = record_of(key_of(row.get(2))?, row.get(3), row.get(4))?;
    let names = row.get::<_, Option<Vec<String>>>(5).unwrap_or_default();
    let values = row.get::<_, Option<Vec<&[u8]>>>(6).unwrap_or_default();
    let pair = |(name, value): (String, &[u8])| Ok((name, read_value(value)?));
    Ok(SavedRecord {
        tenant: TenantId::new(row.get::<_, &str>(0))?,
        table: row.get(1),
        key: record.key,
        version: record.version,
        body: record.body,
        indexes: names.into_iter().zip(values).map(pair).collect::<Result<_>>()?,
    })
}

/// Writes them in one statement.
pub(super) async fn restore(database: &Database, records: &[SavedRecord]) -> Result<()> {
    let Some(newest) = records.iter().map(|record| record.version).max() else { return Ok(()) };
    database.query(VERSIONS, &[&newest.cast_signed()]).await?;
    let tenants: Vec<&str> = records.iter().map(|record| record.tenant.as_str()).collect();
    let tables: Vec<&str> = records.iter().map(|record| record.table.as_str()).collect();
    let keys: Vec<&[u8]> = records.iter().map(|record| record.key.as_bytes()).collect();
    let versions: Vec<i64> = records.iter().map(|record| record.version.cast_signed()).collect();
    let bodies: Vec<&[u8]> = records.iter().map(|record| &record.body[..]).collect();
    let values = || {
        let of = |record: &'_ SavedRecord| record.indexes.len();
        records.iter().flat_map(move |record| std::iter::repeat_n(record, of(record)))
    };
    let value_tenants: Vec<&str> = values().map(|record| record.tenant.as_str()).collect();
    let value_tables: Vec<&str> = values().map(|record| record.table.as_str()).collect();
    let value_keys: Vec<&[u8]> = values().map(|record| record.key.as_bytes()).collect();
    let indexes = || records.iter().flat_map(|record| &record.indexes);
    let names: Vec<&str> = indexes().map(|(name, _): &(String, IndexValue)| name.as_str()).collect();
    let found: Vec<Vec<u8>> = indexes().map(|(_, value)| value_bytes(value)).collect();
    let parameters: [&(dyn ToSql + Sync); 10] = [
        &tenants,
        &tables,
        &keys,
        &versions,
        &bodies,
        &value_tenants,
        &value_tables,
        &value_keys,
        &names,
        &found,
    ];
    database.query(RESTORE, &parameters).await.map(drop)
}
