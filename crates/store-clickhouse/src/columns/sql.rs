//! The statements over the rows of a tenant. Names were checked to be `a-z 0-9 _`, so they stand in the text as they are;
//! texts are literals.
//!
//! Every read takes of each row the highest revision, and of that the highest precedence, whatever was merged.

use std::fmt::Write;

use kernel::{Error, Result};
use store::{Aggregation, ColumnPlace, ColumnRow, ColumnScan, ColumnTable, Measure, TimeRange};

use crate::text::{literal, table as quoted};

/// The rows of a tenant in a table.
#[derive(Debug)]
pub(crate) struct Rows<'a> {
    database: String,
    quoted: String,
    tenant: &'a str,
    table: ColumnTable,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(database: String, quoted: String, tenant: &'a str, table: ColumnTable) -> Self {
        Self { database, quoted, tenant, table }
    }

    /// Those in another table, by its name in the database.
    pub(crate) fn of_table(self, name: &str) -> Self {
        Self { quoted: quoted(&self.database, name), ..self }
    }

    /// Each value after a comma.
    fn values(&self) -> String {
        self.table.columns.iter().map(|column| format!(", v_{}", column.name)).collect()
    }

    fn row(&self) -> String {
        format!("series, time_ns, id, revision{}", self.values())
    }

    fn of_tenant(&self) -> String {
        format!("{} WHERE tenant = {}", self.quoted, literal(self.tenant))
    }

    fn of_series(&self, series: &str, range: TimeRange) -> String {
        let TimeRange { from_ns, to_ns } = range;
        let series = literal(series);
        format!("{} AND series = {series} AND time_ns >= {from_ns} AND time_ns < {to_ns}", self.of_tenant())
    }

    pub(crate) fn insert(&self) -> String {
        let values = self.values();
        format!(
            "INSERT INTO {} (tenant, series, time_ns, id, revision, precedence{values}) FORMAT RowBinary",
            self.quoted
        )
    }

    /// Which of some rows there are. Thousands of names are one text, which the server reads sooner than as many literals.
    pub(crate) fn known(&self, rows: &[&ColumnRow]) -> Result<String> {
        let names: Vec<_> =
            rows.iter().map(|row| (&*row.series, row.time_ns, &*row.id, row.revision)).collect();
        let names = serde_json::to_string(&names).map_err(Error::internal)?;
        Ok(format!(
            "SELECT series, time_ns, id, revision, max(precedence) FROM {} AND (series, time_ns, id, revision) IN ( \
                 SELECT name.1, name.2, name.3, name.4 FROM ( \
                     SELECT arrayJoin(JSONExtract({}, 'Array(Tuple(String, Int64, String, UInt32))')) AS name)) \
             GROUP BY series, time_ns, id, revision",
            self.of_tenant(),
            literal(&names)
        ))
    }

    pub(crate) fn scan(&self, scan: &ColumnScan, range: TimeRange, after: Option<&ColumnPlace>) -> String {
        let (direction, beyond) = if scan.descending { ("DESC", "<") } else { ("ASC", ">") };
        let after = after.map_or_else(String::new, |after| {
            format!("AND (time_ns, id) {beyond} ({}, {})", after.time_ns, literal(&after.id))
        });
        // One more tells whether there is another page.
        format!(
            "SELECT {} FROM {} {after} ORDER BY time_ns {direction}, id {direction}, revision DESC, precedence DESC \
             LIMIT 1 BY time_ns, id LIMIT {}",
            self.row(),
            self.of_series(&scan.series, range),
            scan.limit + 1
        )
    }

    pub(crate) fn revisions(&self, series: &str, time_ns: i64, id: &str) -> String {
        format!(
            "SELECT {} FROM {} AND series = {} AND time_ns = {time_ns} AND id = {} \
             ORDER BY revision, precedence DESC LIMIT 1 BY revision",
            self.row(),
            self.of_tenant(),
            literal(series),
            literal(id)
        )
    }

    /// First the last time of each series, from two columns; then the rows there.
    pub(crate) fn latest(&self, series: &[&str], from_ns: i64, as_of_ns: i64) -> String {
        let of_tenant = self.of_tenant();
        let names: Vec<String> = series.iter().map(|name| literal(name)).collect();
        format!(
            "SELECT {} FROM {of_tenant} AND (series, time_ns) IN ( \
                 SELECT series, max(time_ns) FROM {of_tenant} AND series IN ({}) \
                 AND time_ns >= {from_ns} AND time_ns <= {as_of_ns} GROUP BY series) \
             ORDER BY series, id DESC, revision DESC, precedence DESC LIMIT 1 BY series",
            self.row(),
            names.join(", ")
        )
    }

    /// Sums are added up in the order of the rows, so that they are the same as anywhere else: one thread takes them in that
    /// order. What a revision replaced is taken out before anything is multiplied. The last figure of a measure counts the
    /// products that double precision cannot hold.
    pub(crate) fn aggregate(&self, asked: &Aggregation, range: TimeRange) -> Result<String> {
        let mut figures = String::new();
        for measure in &asked.measures {
            let (value, lost) = match measure {
                Measure::Column(name) => (format!("toFloat64(v_{name})"), "0".to_owned()),
                Measure::Product(left, right) => {
                    let product = format!("toFloat64(v_{left}) * toFloat64(v_{right})");
                    let lost = format!(
                        "NOT isFinite({product}) OR ({product} = 0 AND v_{left} != 0 AND v_{right} != 0)"
                    );
                    (format!("({product})"), lost)
                }
            };
            write!(
                figures,
                ", count({value}), arrayCumSum(groupArray({value}))[-1], ifNull(min({value}), 0.), \
                 ifNull(max({value}), 0.), groupArray({value})[1], groupArray({value})[-1], \
                 minIf(time_ns, {value} IS NOT NULL), maxIf(time_ns, {value} IS NOT NULL), \
                 countIf(ifNull({lost}, 0))"
            )
            .map_err(Error::internal)?;
        }
        // As far from zero as a bucket is long, so that no difference is beyond the numbers of the server.
        let origin_ns = asked.origin_ns.rem_euclid(asked.bucket_ns);
        Ok(format!(
            "SELECT time_ns - positiveModulo(time_ns - toInt64({origin_ns}), toInt64({})) AS start_ns, count(){figures} \
             FROM (SELECT time_ns, id{} FROM {} ORDER BY time_ns, id, revision DESC, precedence DESC \
                   LIMIT 1 BY time_ns, id) \
             GROUP BY start_ns ORDER BY start_ns \
             SETTINGS max_threads = 1, query_plan_remove_redundant_sorting = 0, aggregate_functions_null_for_empty = 0",
            asked.bucket_ns,
            self.values(),
            self.of_series(&asked.series, range)
        ))
    }

    pub(crate) fn series(&self, after: &str, from_ns: i64, limit: usize) -> String {
        format!(
            "SELECT DISTINCT series FROM {} AND series > {} AND time_ns >= {from_ns} ORDER BY series LIMIT {limit}",
            self.of_tenant(),
            literal(after)
        )
    }

    fn within(&self, series: Option<&str>, range: Option<TimeRange>) -> String {
        let series = series.map_or_else(String::new, |series| format!(" AND series = {}", literal(series)));
        let range = range.map_or_else(String::new, |range| {
            format!(" AND time_ns >= {} AND time_ns < {}", range.from_ns, range.to_ns)
        });
        format!("WHERE tenant = {}{series}{range}", literal(self.tenant))
    }

    /// How many revisions there are, each once.
    pub(crate) fn count(&self, series: Option<&str>, range: Option<TimeRange>) -> String {
        format!(
            "SELECT count() FROM {} FINAL {} SETTINGS do_not_merge_across_partitions_select_final = 1",
            self.quoted,
            self.within(series, range)
        )
    }

    /// Writes the parts anew without the rows: what is removed must not lie on the disk until a merge comes.
    pub(crate) fn remove(&self, series: Option<&str>, range: Option<TimeRange>) -> String {
        format!("ALTER TABLE {} DELETE {}", self.quoted, self.within(series, range))
    }
}
