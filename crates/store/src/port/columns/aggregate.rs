//! Partial aggregates: what is asked for, how neighbouring ones merge, and how rows are added up where an engine has no
//! language of its own for it.
//!
//! Open, high, low and close of a price are `first`, `max`, `min` and `last` of its partial; the volume-weighted mean
//! price is the sum of [`Measure::Product`] of price and volume over the sum of volume.

use kernel::{Error, Result};

use super::check::{check_text, check_time, invalid};
use super::{ColumnKind, ColumnRow, ColumnTable, ColumnValue, MAX_BUCKETS, TimeRange};

const MAX_MEASURES: usize = 32;
/// 366 days.
const MAX_BUCKET_NS: i64 = 366 * 86_400 * 1_000_000_000;

/// What is added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// A column of numbers.
    Column(&'static str),
    /// One column of numbers times another, where neither is missing.
    Product(&'static str, &'static str),
}

/// A request for aggregates of a series.
#[derive(Debug, Clone)]
pub struct Aggregation {
    /// The series.
    pub series: String,
    /// The times.
    pub range: TimeRange,
    /// The length of a bucket in nanoseconds, at most 366 days. Buckets begin at multiples of it after `origin_ns`; the
    /// range cuts the first and the last.
    pub bucket_ns: i64,
    /// Where a bucket begins.
    pub origin_ns: i64,
    /// At most 32.
    pub measures: Vec<Measure>,
}

/// The aggregates of one bucket.
#[derive(Debug, Clone, PartialEq)]
pub struct Bucket {
    /// Where it begins.
    pub start_ns: i64,
    /// How many rows there are, at least 1.
    pub rows: u64,
    /// One for each measure, in their order; none where every value is missing.
    pub partials: Vec<Option<Partial>>,
}

/// What is known of some values of one series, in order. All finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Partial {
    /// How many, at least 1.
    pub count: u64,
    /// Their sum, added up in order.
    pub sum: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// The first in the order of (time, id).
    pub first: f64,
    /// The last in that order.
    pub last: f64,
    /// When the first was.
    pub first_ns: i64,
    /// When the last was.
    pub last_ns: i64,
}

impl Partial {
    fn of(time_ns: i64, value: f64) -> Self {
        Self {
            count: 1,
            sum: value,
            min: value,
            max: value,
            first: value,
            last: value,
            first_ns: time_ns,
            last_ns: time_ns,
        }
    }

    /// That of these values and of the values of a later time range together.
    #[must_use]
    pub fn merged(self, later: Self) -> Self {
        Self {
            count: self.count + later.count,
            sum: self.sum + later.sum,
            min: self.min.min(later.min),
            max: self.max.max(later.max),
            last: later.last,
            last_ns: later.last_ns,
            ..self
        }
    }
}

impl Aggregation {
    /// Checks the request. Every engine calls it before it reads.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for a bad series, range or length, too many buckets or measures, or a column that the table does
    /// not have or that holds texts.
    pub fn check(&self, table: ColumnTable) -> Result<()> {
        table.check()?;
        check_text("series", &self.series)?;
        self.range.check()?;
        check_time("origin_ns", self.origin_ns)?;
        if self.bucket_ns < 1 || self.bucket_ns > MAX_BUCKET_NS {
            return Err(invalid("bucket_ns", "a bucket is 1 ns to 366 days long"));
        }
        let length = i128::from(self.range.to_ns) - i128::from(self.start_ns(self.range.from_ns));
        let buckets = (length - 1).div_euclid(i128::from(self.bucket_ns)) + 1;
        if buckets > MAX_BUCKETS as i128 {
            let message = format!("an aggregation has at most {MAX_BUCKETS} buckets, not {buckets}");
            return Err(invalid("bucket_ns", message));
        }
        if self.measures.len() > MAX_MEASURES {
            return Err(invalid("measures", format!("at most {MAX_MEASURES} are asked for at once")));
        }
        self.columns(table).map(|_| ())
    }

    /// Where the bucket of a time begins. It fits for every lawful time.
    #[must_use]
    pub fn start_ns(&self, time_ns: i64) -> i64 {
        let past = (i128::from(time_ns) - i128::from(self.origin_ns)).rem_euclid(i128::from(self.bucket_ns));
        time_ns - i64::try_from(past).unwrap_or(0)
    }

    /// The places of the columns of each measure.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for a column that the table does not have or that holds texts.
    pub fn columns(&self, table: ColumnTable) -> Result<Vec<(usize, Option<usize>)>> {
        let number = |name: &str| {
            let place = table.place(name)?;
            match table.columns[place].kind {
                ColumnKind::Text => Err(invalid("measures", format!("`{name}` holds texts, not numbers"))),
                _ => Ok(place),
            }
        };
        let both = |measure: &Measure| match measure {
            Measure::Column(name) => Ok((number(name)?, None)),
            Measure::Product(left, right) => Ok((number(left)?, Some(number(right)?))),
        };
        self.measures.iter().map(both).collect()
    }
}

/// The error of a sum or a product that double precision cannot hold.
#[must_use]
pub fn out_of_precision() -> Error {
    invalid("measures", "a sum or a product is beyond what double precision holds; ask for less")
}

/// Adds rows up, which come in order, each once.
#[derive(Debug)]
pub struct Accumulator<'a> {
    aggregation: &'a Aggregation,
    columns: Vec<(usize, Option<usize>)>,
    buckets: Vec<Bucket>,
}

impl<'a> Accumulator<'a> {
    /// With nothing added.
    ///
    /// # Errors
    /// Those of [`Aggregation::check`].
    pub fn new(aggregation: &'a Aggregation, table: ColumnTable) -> Result<Self> {
        aggregation.check(table)?;
        Ok(Self { aggregation, columns: aggregation.columns(table)?, buckets: Vec::new() })
    }

    /// Adds the next row.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` when a sum or a product is beyond double precision.
    pub fn add(&mut self, row: &ColumnRow) -> Result<()> {
        let start_ns = self.aggregation.start_ns(row.time_ns);
        if self.buckets.last().is_none_or(|bucket| bucket.start_ns != start_ns) {
            self.buckets.push(Bucket { start_ns, rows: 0, partials: vec![None; self.columns.len()] });
        }
        let Some(bucket) = self.buckets.last_mut() else { return Ok(()) };
        bucket.rows += 1;
        for ((left, right), partial) in self.columns.iter().zip(&mut bucket.partials) {
            let value = match (number(&row.values[*left]), right.map(|right| number(&row.values[right]))) {
                (Some(left), None) => left,
                (Some(left), Some(Some(right))) => product(left, right)?,
                _ => continue,
            };
            let one = Partial::of(row.time_ns, value);
            let sum = partial.map_or(one, |earlier| earlier.merged(one));
            if !sum.sum.is_finite() {
                return Err(out_of_precision());
            }
            *partial = Some(sum);
        }
        Ok(())
    }

    /// The buckets, in order.
    #[must_use]
    pub fn finish(self) -> Vec<Bucket> {
        self.buckets
    }
}

#[expect(clippy::cast_precision_loss, reason = "aggregates are in double precision")]
fn number(value: &ColumnValue) -> Option<f64> {
    match value {
        ColumnValue::Float(number) => Some(*number),
        ColumnValue::Integer(number) => Some(*number as f64),
        ColumnValue::Missing | ColumnValue::Text(_) => None,
    }
}

/// Refuses what databases refuse: a product that is lost to zero or to infinity.
fn product(left: f64, right: f64) -> Result<f64> {
    let product = left * right;
    if !product.is_finite() || (product == 0.0 && left != 0.0 && right != 0.0) {
        return Err(out_of_precision());
    }
    Ok(product)
}

#[cfg(test)]
mod tests {
    use kernel::codes;

    use super::*;
    use crate::Column;

    const TABLE: ColumnTable = ColumnTable {
        name: "ticks",
        columns: &[
            Column { name: "price", kind: ColumnKind::Float },
            Column { name: "volume", kind: ColumnKind::Integer },
            Column { name: "venue", kind: ColumnKind::Text },
        ],
    };

    fn aggregation(from_ns: i64, to_ns: i64, bucket_ns: i64) -> Aggregation {
        let measures = vec![Measure::Column("price"), Measure::Product("price", "volume")];
        Aggregation {
            series: "s".to_owned(),
            range: TimeRange { from_ns, to_ns },
            bucket_ns,
            origin_ns: 0,
            measures,
        }
    }

    fn row(time_ns: i64, price: f64, volume: i64) -> ColumnRow {
        let values = vec![ColumnValue::Float(price), ColumnValue::Integer(volume), ColumnValue::Missing];
        ColumnRow { series: "s".to_owned(), time_ns, id: "x".to_owned(), revision: 0, values }
    }

    #[test]
    fn buckets_begin_at_multiples_before_zero_too() {
        let starts = |origin_ns: i64| {
            let aggregation = Aggregation { origin_ns, ..aggregation(-100, 100, 10) };
            [-11, -10, -1, 0, 9, 10].map(|time| aggregation.start_ns(time))
        };
        assert_eq!(starts(0), [-20, -10, -10, 0, 0, 10]);
        assert_eq!(starts(3), [-17, -17, -7, -7, 3, 3]);
    }

    #[test]
    fn partials_of_small_buckets_merge_into_those_of_large_ones() {
        let rows: Vec<ColumnRow> =
            (0..20).map(|n| row(n, f64::from(i32::try_from(n * 7 % 11).unwrap()), n)).collect();
        let of = |bucket_ns: i64| {
            let aggregation = aggregation(0, 20, bucket_ns);
            let mut sums = Accumulator::new(&aggregation, TABLE).unwrap();
            rows.iter().for_each(|row| sums.add(row).unwrap());
            sums.finish()
        };
        let merged = of(3).into_iter().filter_map(|bucket| bucket.partials[1]).reduce(Partial::merged);
        assert_eq!(merged, of(20)[0].partials[1]);
        assert_eq!(of(3).len(), 7);
    }

    #[test]
    fn requests_are_checked() {
        let check = |aggregation: Aggregation, field: Option<&str>| {
            let error = aggregation.check(TABLE).err();
            assert_eq!(error.as_ref().and_then(Error::field), field, "{error:?}");
        };
        check(aggregation(0, 100_000, 10), None);
        check(aggregation(0, 0, 1), None);
        check(aggregation(0, 100_001, 10), Some("bucket_ns"));
        check(aggregation(0, 10, 0), Some("bucket_ns"));
        check(aggregation(10, 0, 1), Some("to_ns"));
        check(aggregation(i64::MIN, 0, 1), Some("from_ns"));
        let measures = |measure| Aggregation { measures: vec![measure], ..aggregation(0, 10, 1) };
        check(measures(Measure::Column("venue")), Some("measures"));
        check(measures(Measure::Product("price", "nothing")), Some("columns"));
        let limit = MAX_BUCKET_NS;
        check(
            Aggregation {
                origin_ns: 5,
                ..aggregation(-9_000_000_000_000_000_000, 9_000_000_000_000_000_000, limit)
            },
            None,
        );
    }

    #[test]
    fn what_double_precision_cannot_hold_is_refused() {
        let aggregation = aggregation(0, 10, 10);
        for (price, volume) in [(1e308, 10), (5e-324, 0)] {
            let mut sums = Accumulator::new(&aggregation, TABLE).unwrap();
            let added = sums.add(&row(0, price, volume));
            assert_eq!(added.is_err(), volume > 0, "{price} {volume}");
        }
        let only = Aggregation { measures: vec![Measure::Column("price")], ..aggregation };
        let mut sums = Accumulator::new(&only, TABLE).unwrap();
        sums.add(&row(0, f64::MAX, 1)).unwrap();
        assert_eq!(sums.add(&row(1, f64::MAX, 1)).unwrap_err().code(), codes::VALIDATION_ERROR);
    }
}
