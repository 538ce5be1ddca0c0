//! A table of daily curves: a date and a value for each tenor, as far as it was quoted.
//!
//! Reads CSV text with a head. Columns of a yield curve are `rate_…` or the Treasury's own (`BC_3MONTH` to `BC_30YEAR`),
//! of commodities `forward_…` or one `price`, of exchange rates `spot_…` and `forward_…`. Further columns with the
//! names of the operators' guide (`vix`, `fed_funds`, …) are features. An empty field was not quoted; a field that is
//! not a number is refused. A Treasury rate of 0.0 is a rate where its longer neighbour is low too, else not issued.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::{ForecastFault, snapshot_of};

/// The tenors of the guide and the Treasury's names of them.
const TREASURY: [(&str, f64); 10] = [
    ("BC_3MONTH", 0.25),
    ("BC_6MONTH", 0.5),
    ("BC_1YEAR", 1.0),
    ("BC_2YEAR", 2.0),
    ("BC_3YEAR", 3.0),
    ("BC_5YEAR", 5.0),
    ("BC_7YEAR", 7.0),
    ("BC_10YEAR", 10.0),
    ("BC_20YEAR", 20.0),
    ("BC_30YEAR", 30.0),
];
const FEATURES: [&str; 8] = [
    "vix",
    "fed_funds",
    "unemployment",
    "inflation",
    "inventory",
    "temperature",
    "production",
    "volatility_1m",
];
const DATES: [&str; 3] = ["date", "timestamp", "time"];
const PRICES: [&str; 3] = ["price", "close", "settle"];
/// A rate of exactly zero is believed where the next longer tenor is below this, in percent.
const ZERO_NEIGHBOUR_MAX: f64 = 0.5;

/// What a curve is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CurveType {
    /// Interest rates by tenor.
    Yield,
    /// Forward prices by month of delivery.
    Commodity,
    /// Exchange rates by days of delivery.
    Fx,
}

impl CurveType {
    fn takes(self, column: &str) -> bool {
        let starts = |prefix| column.starts_with(prefix);
        match self {
            Self::Yield => starts("rate_") || TREASURY.iter().any(|(name, _)| *name == column),
            Self::Commodity => starts("forward_") || PRICES.contains(&column.to_lowercase().as_str()),
            Self::Fx => starts("forward_") || starts("spot_"),
        }
    }
}

impl CurveType {
    /// What its columns are called.
    fn columns(self) -> &'static str {
        match self {
            Self::Yield => "`rate_10y` and its like, or BC_3MONTH to BC_30YEAR",
            Self::Commodity => "`forward_1` and its like, or one `price`",
            Self::Fx => "`spot_1` and `forward_30` and their like",
        }
    }
}

impl fmt::Display for CurveType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Yield => "yield",
            Self::Commodity => "commodity",
            Self::Fx => "fx",
        })
    }
}

impl FromStr for CurveType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "yield" => Ok(Self::Yield),
            "commodity" => Ok(Self::Commodity),
            "fx" => Ok(Self::Fx),
            other => Err(format!("`{other}` is not one of yield, commodity, fx")),
        }
    }
}

/// Days in order, each with a value for each target and feature column.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// Ascending.
    pub dates: Vec<Date>,
    /// Names of the targets.
    pub targets: Vec<String>,
    /// By day and target; what was not quoted is filled from its neighbours in the curve or from the day before.
    pub values: Vec<Vec<f64>>,
    /// Whether it was quoted: only that is learned from and scored.
    pub quoted: Vec<Vec<bool>>,
    /// Names of further columns.
    pub features: Vec<String>,
    /// By day and feature; filled from the day before.
    pub extras: Vec<Vec<f64>>,
    /// Names of columns that stand for nothing here: neither the day nor part of such a curve nor a known feature.
    pub left_out: Vec<String>,
    /// BLAKE3 of the text, in hexadecimal: which data a model was made of.
    pub snapshot: String,
}

impl Panel {
    /// Reads a table.
    ///
    /// # Errors
    /// [`ForecastFault::Format`] where there is no date or target column, dates are not ascending or a field is not a
    /// number, naming the line.
    pub fn parse(text: &str, curve_type: CurveType) -> Result<Self, ForecastFault> {
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
        let head = reader.headers().map_err(|cause| ForecastFault::Format(cause.to_string()))?.clone();
        let find = |takes: &dyn Fn(&str) -> bool| -> Vec<usize> {
            head.iter().enumerate().filter(|(_, name)| takes(name)).map(|(index, _)| index).collect()
        };
        let date = find(&|name| DATES.contains(&name.to_lowercase().as_str()));
        let targets = find(&|name| curve_type.takes(name));
        let features = find(&|name| FEATURES.contains(&name.to_lowercase().as_str()));
        let (Some(date), false) = (date.first(), targets.is_empty()) else {
            let has: Vec<_> = head.iter().map(|name| format!("`{}`", name.escape_debug())).collect();
            let message = format!(
                "the table needs a `date` column and columns of a {curve_type} curve ({}); it has {}",
                curve_type.columns(),
                has.join(", ")
            );
            return Err(ForecastFault::Format(message));
        };
        let is_left_out =
            |index: &usize| index != date && !targets.contains(index) && !features.contains(index);
        let left_out: Vec<usize> = (0..head.len()).filter(is_left_out).collect();
        let names = |columns: &[usize]| columns.iter().map(|index| head[*index].to_owned()).collect();
        let mut panel = Self {
            dates: Vec::new(),
            targets: names(&targets),
            values: Vec::new(),
            quoted: Vec::new(),
            features: names(&features),
            extras: Vec::new(),
            left_out: names(&left_out),
            snapshot: snapshot_of(text),
        };
        for record in reader.records() {
            let record = record.map_err(|cause| ForecastFault::unread(text, &cause))?;
            let line = || ForecastFault::line(text, record.position());
            let day = day(&record[*date])
                .filter(|day| panel.dates.last().is_none_or(|last| last < day))
                .ok_or_else(|| {
                    ForecastFault::Format(format!(
                        "line {}: dates are days, each after the one before",
                        line()
                    ))
                })?;
            panel.dates.push(day);
            panel.values.push(fields(&record, &head, &targets, &line)?);
            panel.extras.push(fields(&record, &head, &features, &line)?);
        }
        panel.check_columns()?;
        panel.settle(curve_type == CurveType::Yield);
        Ok(panel)
    }

    /// Refuses a name that stands twice, for which of both is asked is not known, and a column that would be made up.
    fn check_columns(&self) -> Result<(), ForecastFault> {
        let refused = |name: &str, what: &str| {
            Err(ForecastFault::Format(format!("the column `{}` {what}", name.escape_debug())))
        };
        let mut seen = BTreeSet::new();
        for name in self.targets.iter().chain(&self.features) {
            if !seen.insert(name) {
                return refused(name, "stands twice; leave one out");
            }
        }
        for (names, rows) in [(&self.targets, &self.values), (&self.features, &self.extras)] {
            for (at, name) in names.iter().enumerate() {
                if !rows.is_empty() && rows.iter().all(|row| row[at].is_nan()) {
                    return refused(name, "has no value on any day; leave it out");
                }
            }
        }
        Ok(())
    }

    /// The first day that is not before a date.
    #[must_use]
    pub fn row_from(&self, date: Date) -> usize {
        self.dates.partition_point(|day| *day < date)
    }

    /// Which columns it left out and why, where there are any.
    #[must_use]
    pub fn told_left_out(&self, curve_type: CurveType) -> Option<String> {
        let names: Vec<_> = self.left_out.iter().map(|name| format!("`{}`", name.escape_debug())).collect();
        let (takes, features) = (curve_type.columns(), FEATURES.join(", "));
        (!names.is_empty()).then(|| {
            format!(
                "left out, and no inputs of the model: {}; a {curve_type} curve has {takes}, and the features are {features}",
                names.join(", ")
            )
        })
    }

    /// Years of each target as its name says, where all names do.
    #[must_use]
    pub fn tenors_years(&self) -> Option<Vec<f64>> {
        let years = |name: &String| {
            let treasury = TREASURY.iter().find(|(known, _)| known == name).map(|(_, years)| *years);
            let own = || name.strip_prefix("rate_")?.trim_end_matches(['y', 'Y']).parse().ok();
            treasury.or_else(own).filter(|years| *years > 0.0 && *years < 200.0)
        };
        self.targets.iter().map(years).collect()
    }

    /// Fills what was not quoted, and drops the first days as long as a column has nothing to fill from.
    fn settle(&mut self, is_yield: bool) {
        let tenors = self.tenors_years();
        for row in &mut self.values {
            if is_yield {
                let longer: Vec<f64> = row.iter().skip(1).chain(row.iter().rev().nth(1)).copied().collect();
                for (value, longer) in row.iter_mut().zip(longer) {
                    if *value == 0.0 && !(longer > 0.0 && longer < ZERO_NEIGHBOUR_MAX) {
                        *value = f64::NAN;
                    }
                }
            }
            self.quoted.push(row.iter().map(|value| value.is_finite()).collect());
            if let Some(tenors) = &tenors {
                interpolate(row, tenors);
            }
        }
        fill(&mut self.values);
        fill(&mut self.extras);
        let is_known =
            |row: &usize| self.values[*row].iter().chain(&self.extras[*row]).all(|value| value.is_finite());
        let first = (0..self.dates.len()).find(is_known).unwrap_or(self.dates.len());
        self.dates.drain(..first);
        self.values.drain(..first);
        self.quoted.drain(..first);
        self.extras.drain(..first);
    }
}

fn day(text: &str) -> Option<Date> {
    text.parse::<Date>().ok().or_else(|| text.parse::<jiff::civil::DateTime>().ok().map(|time| time.date()))
}

fn fields(
    record: &csv::StringRecord,
    head: &csv::StringRecord,
    columns: &[usize],
    line: &dyn Fn() -> usize,
) -> Result<Vec<f64>, ForecastFault> {
    let field = |column: &usize| match &record[*column] {
        "" => Ok(f64::NAN),
        text => ForecastFault::number(text, line, &head[*column]),
    };
    columns.iter().map(field).collect()
}

/// Straight lines in the logarithm of the tenor between quotes of one day, flat beyond them.
fn interpolate(row: &mut [f64], tenors: &[f64]) {
    let known: Vec<(f64, f64)> = tenors
        .iter()
        .zip(row.iter())
        .filter(|(_, value)| value.is_finite())
        .map(|(tenor, value)| (tenor.ln(), *value))
        .collect();
    let (Some(first), Some(last)) = (known.first(), known.last()) else { return };
    for (value, tenor) in row.iter_mut().zip(tenors).filter(|(value, _)| !value.is_finite()) {
        let place = tenor.ln();
        let after = known.partition_point(|(known, _)| *known < place);
        *value = match after {
            0 => first.1,
            after if after == known.len() => last.1,
            after => {
                let ((left, low), (right, high)) = (known[after - 1], known[after]);
                low + (high - low) * (place - left) / (right - left)
            }
        };
    }
}

fn fill(rows: &mut [Vec<f64>]) {
    for row in 1..rows.len() {
        let (before, now) = rows.split_at_mut(row);
        for (value, last) in now[0].iter_mut().zip(&before[row - 1]).filter(|(value, _)| !value.is_finite()) {
            *value = *last;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_issued_is_interpolated_and_not_scored() {
        let text = "date,BC_10YEAR,BC_20YEAR,BC_30YEAR\n1990-01-02,8.0,0.0,9.0\n1990-01-03,8.0,8.2,9.0\n";
        let panel = Panel::parse(text, CurveType::Yield).unwrap();
        assert_eq!(panel.quoted, [vec![true, false, true], vec![true; 3]]);
        assert!(panel.values[0][1] > 8.0 && panel.values[0][1] < 9.0);
        let low = "date,BC_3MONTH,BC_6MONTH\n2020-03-25,0.0,0.07\n";
        assert_eq!(Panel::parse(low, CurveType::Yield).unwrap().quoted, [vec![true, true]]);
    }

    #[test]
    fn what_is_left_out_is_named() {
        let check = |head: &str, expected: &[&str]| {
            let fields = ",1".repeat(head.matches(',').count() - 1);
            let panel = Panel::parse(&format!("{head}\n1{fields},2020-01-02\n"), CurveType::Yield).unwrap();
            assert_eq!(panel.left_out, expected, "{head}");
            let told = panel.told_left_out(CurveType::Yield);
            assert_eq!(told.is_some(), !expected.is_empty(), "{head}");
            assert!(expected.iter().all(|name| told.as_ref().unwrap().contains(name)), "{told:?}");
        };
        check("BC_1MONTH,BC_2YEAR,rate_3,time", &["BC_1MONTH"]);
        check("Id,VIX,BC_30YEAR,BC_30YEARDISPLAY,date", &["Id", "BC_30YEARDISPLAY"]);
        check("rate_1,rate_2,date", &[]);
    }

    #[test]
    fn columns_that_cannot_be_meant_are_refused() {
        let check = |text: &str, expected: &str| {
            let fault = Panel::parse(text, CurveType::Yield).unwrap_err().to_string();
            assert!(fault.starts_with(expected), "{fault}");
        };
        check("date,rate_2,rate_2\n2020-01-01,1,2\n", "the column `rate_2` stands twice");
        check(
            "date,rate_2,rate_10\n2020-01-01,,2\n2020-01-02,,3\n",
            "the column `rate_2` has no value on any day",
        );
        check("date,rate_2,vix\n2020-01-01,1,\n", "the column `vix` has no value on any day");
        check(
            "date,rate_2\r\n2020-01-01,1\r\n2020-01-02\r\n",
            "line 3: there are 1 fields, and 2 in the head",
        );
        assert!(Panel::parse("date,rate_2,rate_10\n", CurveType::Yield).is_ok(), "no day lacks nothing");
    }

    #[test]
    fn a_field_that_is_no_number_is_named_with_its_line() {
        let check = |field: &str, expected: &str| {
            let text = format!("date,BC_3MONTH,vix\n2020-01-01,1,2\n2020-01-02,{field},3\n");
            let fault = Panel::parse(&text, CurveType::Yield).unwrap_err().to_string();
            assert!(fault.starts_with(expected), "{fault}");
        };
        check("abc", "line 3: `abc` in BC_3MONTH is not a number; leave");
        check("1,2\n\n2020-01-03,abc", "line 5: `abc` in BC_3MONTH is not a number; leave");
        check("NaN", "line 3: `NaN` in BC_3MONTH is not a finite number; leave");
        check("1e999", "line 3: `1e999` in BC_3MONTH is not a finite number; leave");
    }

    #[test]
    fn tables_that_cannot_be_meant_are_refused() {
        let check = |text: &str| assert!(Panel::parse(text, CurveType::Commodity).is_err(), "{text}");
        check("");
        check("date,other\n2020-01-01,1\n");
        check("price\n1\n");
        check("date,price\n2020-01-02,1\n2020-01-01,1\n");
        check("date,price\n2020-01-01,NaN\n");
        check("date,price\n2020-01-01,inf\n");
        check("date,price\n2020-01-01,much\n");
        let empty =
            Panel::parse("date,price\n2020-01-01,\n2020-01-02,-36.98\n", CurveType::Commodity).unwrap();
        assert_eq!(empty.values, [vec![-36.98]]);
    }
}
