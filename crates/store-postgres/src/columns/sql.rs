//! The statements over a table of columns. Names were checked to be `a-z 0-9 _`, so they stand in the text as they are.

use std::fmt::Write;

use store::{ColumnKind, ColumnTable, Measure};

/// How many columns of an answer a measure has.
pub(super) const FIGURES: usize = 8;

const OF_SERIES: &str = "tenant = $1 AND series = $2 AND time_ns >= $3 AND time_ns < $4";

/// The type of the server, as it writes it itself.
pub(super) fn type_of(kind: ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Float => "double precision",
        ColumnKind::Integer => "bigint",
        ColumnKind::Text => "text",
    }
}

/// Each value after a comma.
fn values(table: ColumnTable) -> String {
    table.columns.iter().map(|column| format!(", v_{}", column.name)).collect()
}

pub(super) fn append(table: ColumnTable) -> String {
    let (name, values) = (table.name, values(table));
    let arrays: String = (6..)
        .zip(table.columns)
        .map(|(place, column)| format!(", ${place}::{}[]", type_of(column.kind)))
        .collect();
    format!(
        "WITH added AS ( \
             INSERT INTO columns_{name} (tenant, series, time_ns, id, revision{values}) \
             SELECT $1, g.* FROM unnest($2::text[], $3::bigint[], $4::text[], $5::int[]{arrays}) AS g \
             ON CONFLICT (tenant, series, time_ns, id, revision) DO NOTHING RETURNING 1 \
         ) SELECT count(*) FROM added"
    )
}

pub(super) fn scan(table: ColumnTable, is_descending: bool, is_continued: bool) -> String {
    let (direction, beyond) = if is_descending { (" DESC", "<") } else { ("", ">") };
    let after = if is_continued { format!("AND (time_ns, id) {beyond} ($6, $7)") } else { String::new() };
    format!(
        "SELECT DISTINCT ON (time_ns, id) time_ns, id, revision{} FROM columns_{} WHERE {OF_SERIES} {after} \
         ORDER BY time_ns{direction}, id{direction}, revision DESC LIMIT $5",
        values(table),
        table.name
    )
}

pub(super) fn revisions(table: ColumnTable) -> String {
    format!(
        "SELECT time_ns, id, revision{} FROM columns_{} \
         WHERE tenant = $1 AND series = $2 AND time_ns = $3 AND id = $4 ORDER BY revision",
        values(table),
        table.name
    )
}

pub(super) fn latest(table: ColumnTable) -> String {
    let values = values(table);
    format!(
        "SELECT r.* FROM unnest($2::text[]) WITH ORDINALITY AS s (name, place) \
         JOIN LATERAL ( \
             SELECT time_ns, id, revision{values}, series FROM columns_{} \
             WHERE tenant = $1 AND series = s.name AND time_ns <= $3 \
             ORDER BY time_ns DESC, id DESC, revision DESC LIMIT 1 \
         ) r ON true ORDER BY s.place",
        table.name
    )
}

/// Sums are added up in the order of the rows, so that they are the same as anywhere else. What a revision replaced is
/// taken out before anything is multiplied.
pub(super) fn aggregate(table: ColumnTable, measures: &[Measure]) -> String {
    let mut figures = String::new();
    for measure in measures {
        let value = match measure {
            Measure::Column(name) => format!("r.v_{name}::float8"),
            Measure::Product(left, right) => format!("(r.v_{left}::float8 * r.v_{right}::float8)"),
        };
        let is_there = format!("FILTER (WHERE {value} IS NOT NULL)");
        let inorder = format!("array_agg({value} ORDER BY r.time_ns, r.id) {is_there}");
        write!(
            figures,
            ", count({value}), sum({value} ORDER BY r.time_ns, r.id), min({value}), max({value}), ({inorder})[1], \
             ({inorder})[count({value})::int], min(r.time_ns) {is_there}, max(r.time_ns) {is_there}"
        )
        .expect("a text takes every text");
    }
    format!(
        "SELECT r.time_ns - (((r.time_ns - $5) % $6) + $6) % $6, count(*){figures} FROM ( \
             SELECT DISTINCT ON (time_ns, id) time_ns, id{} FROM columns_{} WHERE {OF_SERIES} \
             ORDER BY time_ns, id, revision DESC \
         ) r GROUP BY 1 ORDER BY 1",
        values(table),
        table.name
    )
}

/// Goes from each series to the next one in the index, over all of its rows.
pub(super) fn series(table: ColumnTable) -> String {
    let next = |after: &str| {
        format!(
            "SELECT series FROM columns_{} WHERE tenant = $1 AND series > {after} ORDER BY series LIMIT 1",
            table.name
        )
    };
    format!(
        "WITH RECURSIVE found AS ( \
             ({}) UNION ALL SELECT ({}) FROM found WHERE found.series IS NOT NULL \
         ) SELECT series FROM found WHERE series IS NOT NULL LIMIT $3",
        next("$2"),
        next("found.series")
    )
}

pub(super) fn delete(table: ColumnTable) -> String {
    format!(
        "WITH gone AS ( \
             DELETE FROM columns_{0} WHERE ctid = ANY (ARRAY( \
                 SELECT ctid FROM columns_{0} WHERE {OF_SERIES} LIMIT $5 \
             )) RETURNING 1 \
         ) SELECT count(*) FROM gone",
        table.name
    )
}
