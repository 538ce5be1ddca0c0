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

/// A tenor without a quote on so many last days has ended: a month of trading.
const ENDED_ROWS: usize = 20;
/// So many characters of what is no day are shown.
const DATE_SHOWN: usize = 40;

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
    /// By day and target; what was not quoted is as on the day before, of a yield moved as its neighbours in the curve moved.
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
            panel.dates.push(next_day(&record[*date], panel.dates.last(), &line)?);
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

    /// Whether a forecast from one of the rows from `first` on, for at most so many ahead, can be scored: of a target that was
    /// quoted on both days.
    #[must_use]
    pub fn has_scores(&self, first: usize, horizon: usize) -> bool {
        let is_scored = |origin: usize| {
            let later = self.quoted[origin + 1..].iter().take(horizon);
            later.flat_map(|row| row.iter().zip(&self.quoted[origin])).any(|(then, now)| *then && *now)
        };
        (first..self.quoted.len()).any(is_scored)
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

    /// Which targets have had no quote for a month of trading, where there are any: a model would go on with them.
    #[must_use]
    pub fn told_ended(&self) -> Option<String> {
        let ended = |(at, name): (usize, &String)| {
            let last = self.quoted.iter().rposition(|row| row[at]);
            let is_ended = last.is_none_or(|last| last + ENDED_ROWS < self.quoted.len());
            let until =
                last.map_or_else(|| "never was".to_owned(), |last| format!("since {}", self.dates[last]));
            is_ended.then(|| format!("`{}` ({until})", name.escape_debug()))
        };
        let names: Vec<_> = self.targets.iter().enumerate().filter_map(ended).collect();
        (!names.is_empty()).then(|| {
            format!(
                "not quoted any more: {}; the model goes on with what is filled in: leave the column out if it ended",
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
        }
        match tenors {
            Some(tenors) => fill_curves(&mut self.values, &tenors),
            None => fill(&mut self.values),
        }
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

/// The day of a row, after that of the row before.
fn next_day(text: &str, last: Option<&Date>, line: &dyn Fn() -> usize) -> Result<Date, ForecastFault> {
    let fault = |what: String| Err(ForecastFault::Format(format!("line {}: {what}", line())));
    match (day(text), last) {
        (None, _) => {
            let shown: String = text.escape_debug().take(DATE_SHOWN).collect();
            fault(format!("`{shown}` is no day such as 2026-01-31"))
        }
        (Some(day), Some(last)) if day <= *last => {
            fault(format!("{day} is not after {last} of the row before; days ascend, each once"))
        }
        (Some(day), _) => Ok(day),
    }
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

/// Fills what was not quoted: a tenor keeps its own distance from its neighbours, so it moves from its value of the day before
/// by what those moved that were quoted then and now: one that comes back tells what it did meanwhile, not what the market did.
/// Where it has no value yet it stands among them.
fn fill_curves(rows: &mut [Vec<f64>], tenors: &[f64]) {
    let (mut before, mut quotes) = (vec![f64::NAN; tenors.len()], vec![f64::NAN; tenors.len()]);
    for row in rows {
        // A day without any quote is none of the market.
        if row.iter().all(|value| value.is_nan()) {
            row.clone_from(&before);
            continue;
        }
        let moves: Vec<f64> = row.iter().zip(&quotes).map(|(now, then)| now - then).collect();
        let (moves, levels) = (Line::through(tenors, &moves), Line::through(tenors, row));
        quotes.clone_from(row);
        for (at, value) in row.iter_mut().enumerate().filter(|(_, value)| value.is_nan()) {
            *value = match before[at] {
                known if known.is_finite() => known + moves.at(tenors[at]).unwrap_or_default(),
                _ => levels.at(tenors[at]).unwrap_or(f64::NAN),
            };
        }
        before.clone_from(row);
    }
}

/// Straight pieces over the logarithm of the tenor, flat beyond them.
struct Line(Vec<(f64, f64)>);

impl Line {
    /// Through the values that there are.
    fn through(tenors: &[f64], values: &[f64]) -> Self {
        let known = tenors.iter().zip(values).filter(|(_, value)| value.is_finite());
        let mut known: Vec<_> = known.map(|(tenor, value)| (tenor.ln(), *value)).collect();
        known.sort_by(|one, other| one.0.total_cmp(&other.0));
        Self(known)
    }

    /// The value at a tenor; none where there is none at all.
    fn at(&self, tenor: f64) -> Option<f64> {
        let place = tenor.ln();
        let after = self.0.partition_point(|(known, _)| *known < place);
        let before = after.checked_sub(1).map(|before| self.0[before]);
        match (before, self.0.get(after).copied()) {
            (Some((left, low)), Some((right, high))) => {
                Some(low + (high - low) * (place - left) / (right - left))
            }
            (one, other) => one.or(other).map(|(_, value)| value),
        }
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
        assert_eq!(panel.values[1][1], 8.2);
        let low = "date,BC_3MONTH,BC_6MONTH\n2020-03-25,0.0,0.07\n";
        assert_eq!(Panel::parse(low, CurveType::Yield).unwrap().quoted, [vec![true, true]]);
    }

    #[test]
    fn a_tenor_without_a_quote_moves_as_its_neighbours_do() {
        let check = |rows: &[&str], row: usize, expected: &[f64]| {
            let head = "date,rate_1,rate_2,rate_4".split(',').take(rows[0].split(',').count() + 1);
            let mut text = head.collect::<Vec<_>>().join(",");
            for (day, row) in rows.iter().enumerate() {
                text.push_str(&format!("\n2020-01-{:02},{row}", day + 1));
            }
            let panel = Panel::parse(&text, CurveType::Yield).unwrap();
            assert_eq!(panel.values[row], expected, "{rows:?}");
        };
        // Of two the one moves as the other, from where it was.
        check(&["1,3", "1.5,"], 1, &[1.5, 3.5]);
        check(&["1,3", "1.5,", "1.25,"], 2, &[1.25, 3.25]);
        // One that comes back is no move of the other.
        check(&["1,3", "1.5,", "1.25,", ",4"], 3, &[1.25, 4.0]);
        check(&["1,,3", "1,4,"], 1, &[1.0, 4.0, 3.0]);
        // Between two that are quoted, by half of what each moved; on days without any quote as before.
        check(&["1,5,2", "2,,2"], 1, &[2.0, 5.5, 2.0]);
        check(&["1,5,2", ",,", "2,,2"], 2, &[2.0, 5.5, 2.0]);
        // Without a value of its own it stands among them, and moves with them.
        check(&["1,,2", "2,,2", "2,5,2"], 1, &[2.0, 2.0, 2.0]);
        check(&["1,,2", "2,5,2", "2,,3"], 2, &[2.0, 5.5, 3.0]);
        // Columns in any order: of a year the tenors around it count, not the columns.
        assert_eq!(Line::through(&[4.0, 1.0, 2.0], &[2.0, 6.0, f64::NAN]).at(2.0), Some(4.0));
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
    fn what_can_be_scored_was_quoted_then_and_now() {
        let text = "date,rate_1,rate_2\n2020-01-01,1,2\n2020-01-02,1,\n2020-01-03,,2\n2020-01-04,1,2\n2020-01-05,,\n";
        let panel = Panel::parse(text, CurveType::Yield).unwrap();
        let check = |first: usize, horizon: usize, expected: bool| {
            assert_eq!(panel.has_scores(first, horizon), expected, "{first} {horizon}");
        };
        check(0, 1, true);
        check(1, 1, true);
        check(2, 1, true);
        check(3, 5, false);
        check(4, 5, false);
        check(9, 5, false);
        let gaps = "date,rate_1,rate_2\n2020-01-01,1,2\n2020-01-02,1,\n2020-01-03,,2\n2020-01-04,1,\n";
        let panel = Panel::parse(gaps, CurveType::Yield).unwrap();
        assert!(!panel.has_scores(1, 1) && panel.has_scores(1, 2));
    }

    #[test]
    fn a_tenor_that_ended_is_named() {
        let check = |quoted: usize, expected: Option<&str>| {
            let mut text = "date,rate_1,rate_2".to_owned();
            for day in 1..=30 {
                text.push_str(&format!("\n2020-01-{day:02},1,{}", if day <= quoted { "2" } else { "" }));
            }
            let told = Panel::parse(&text, CurveType::Yield).unwrap().told_ended();
            assert_eq!(told.is_some(), expected.is_some(), "{told:?}");
            assert!(expected.is_none_or(|part| told.unwrap().contains(part)));
        };
        check(30, None);
        check(11, None);
        check(10, Some("`rate_2` (since 2020-01-10)"));
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
