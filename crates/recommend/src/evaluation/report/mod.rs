//! The table of how each algorithm ranks: what stands in it, and its three forms.
//!
//! Popularity is always there and first: [`Report::new`] takes it as an argument of its own. Every mean has its interval, and
//! its paired difference to popularity; an algorithm made of parts also has the difference to the best of them.
//!
//! Refuses: entries measured on different users or with different measures. Timings are of this run; drop them with
//! [`Report::without_timings`] where two runs must give the same bytes.
//! To add one more form: a file here with a function over [`Report`].

mod chart;
mod table;

use super::EvaluationError;
use super::bootstrap::{self, Interval, differences};
use super::protocol::Description;
use super::ranking::Evaluation;
use super::tuning::SettingsMap;
use serde::{Deserialize, Serialize};

/// The version of the JSON form. It changes when a field changes its name or its meaning.
pub const SCHEMA: &str = "watershed.evaluation.v1";

/// One algorithm before it is compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its name.
    pub algorithm: String,
    /// The settings that were chosen.
    pub settings: SettingsMap,
    /// How they were found; `None` where they were not searched for.
    pub search: Option<SearchSummary>,
    /// The names of the entries that it combines; empty for most.
    pub parts: Vec<String>,
    /// Time of the final fit.
    pub fit_seconds: f64,
    /// What it reached.
    pub evaluation: Evaluation,
}

/// The whole table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// The split.
    pub split: Description,
    /// How the intervals were made.
    pub bootstrap: bootstrap::Settings,
    /// Length of the lists behind coverage, novelty, diversity and Gini.
    pub list_length: usize,
    /// Popularity, then the others in the order given.
    pub rows: Vec<Row>,
}

/// One algorithm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its name.
    pub algorithm: String,
    /// The settings that were chosen.
    pub settings: SettingsMap,
    /// How they were found; absent where they were not searched for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchSummary>,
    /// The algorithms that it combines; absent for most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<String>,
    /// In the same order in every row.
    pub measures: Vec<Figure>,
    /// Mean self-information of the lists, in bits.
    pub novelty: Interval,
    /// Mean dissimilarity of the items within a list by their attributes, 0 to 1; absent where no item has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diversity: Option<Interval>,
    /// Share of the catalogue in any list.
    pub coverage: f64,
    /// Inequality of exposure: 0 is even.
    pub gini: f64,
    /// Scores that were not finite numbers; they are never ranked.
    pub invalid_scores: u64,
    /// `None` where timings were dropped.
    pub timing: Option<Timing>,
}

/// How settings were found on the validation part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchSummary {
    /// What was maximised, such as `ndcg@20`.
    pub measure: String,
    /// Settings that were tried.
    pub trials: usize,
    /// What the settings reached that the search began with, on validation; `None` where they could not be fitted.
    pub first: Option<f64>,
    /// What the best reached there. It is the best of many and so too high.
    pub best: f64,
}

/// One measure of one algorithm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Such as `ndcg@10`; sampled candidates are named in it.
    pub measure: String,
    /// The mean over users.
    pub value: Interval,
    /// The paired difference to popularity; `None` for popularity itself.
    pub over_popularity: Option<Interval>,
    /// The paired difference to the best part by this measure; `None` for an algorithm without parts.
    pub over_best_part: Option<OverPart>,
}

/// A paired difference to a named part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OverPart {
    /// The part with the highest mean.
    pub part: String,
    /// How much higher the whole is.
    pub difference: Interval,
}

/// How long it took in this run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Seconds of the final fit.
    pub fit_seconds: f64,
    /// Mean microseconds to score the catalogue for one user on one thread.
    pub score_microseconds: f64,
}

impl Report {
    /// Compares the entries.
    ///
    /// # Errors
    /// [`EvaluationError::Data`] where an entry has other users or measures than popularity, where two share a name or a part
    /// is missing; and those of [`bootstrap::intervals`].
    pub fn new(
        split: Description,
        popularity: Entry,
        others: Vec<Entry>,
        bootstrap: bootstrap::Settings,
    ) -> Result<Self, EvaluationError> {
        let entries: Vec<Entry> = std::iter::once(popularity).chain(others).collect();
        check_comparable(&entries)?;
        let rows = entries.iter().map(|entry| row(entry, &entries, &bootstrap)).collect::<Result<_, _>>()?;
        let list_length = entries[0].evaluation.list_length;
        Ok(Self { schema: SCHEMA.to_owned(), split, bootstrap, list_length, rows })
    }

    /// The same without what differs from run to run.
    #[must_use]
    pub fn without_timings(mut self) -> Self {
        self.rows.iter_mut().for_each(|row| row.timing = None);
        self
    }

    /// Indented JSON with a line break at the end.
    ///
    /// # Errors
    /// [`EvaluationError::Unreadable`] where a setting has no JSON form.
    pub fn to_json(&self) -> Result<String, EvaluationError> {
        let text = serde_json::to_string_pretty(self);
        text.map(|text| text + "\n")
            .map_err(|error| EvaluationError::Unreadable(format!("the report: {error}")))
    }

    /// Aligned plain text with a caption.
    pub fn to_text(&self) -> String {
        table::render(self)
    }

    /// A chart of every measure with its intervals, as SVG.
    ///
    /// # Errors
    /// [`EvaluationError::Chart`] where it cannot be drawn.
    pub fn to_svg(&self) -> Result<String, EvaluationError> {
        chart::render(self)
    }

    /// The caption: protocol, seed, sizes, notes and what is a combination of which parts, a line each.
    pub fn caption(&self) -> Vec<String> {
        let split = &self.split;
        let seed = split.seed.map_or_else(|| "nothing drawn".to_owned(), |seed| format!("seed {seed}"));
        let mut lines = vec![
            format!("{}, {seed}; full ranking of {} items less those seen", split.protocol, split.items),
            format!(
                "{} users, {} items, {} interactions, density {:.3} %; {} test users, {} validation users",
                split.users,
                split.items,
                split.interactions,
                100.0 * split.density,
                split.test_users,
                split.validation_users
            ),
            format!(
                "intervals: {:.0} %, bootstrap over users, {} resamples, seed {}",
                100.0 * self.bootstrap.confidence,
                self.bootstrap.resamples,
                self.bootstrap.seed
            ),
        ];
        if let Some(sampled) = self.sampled() {
            lines[0] = format!(
                "{}, {seed}; {sampled} negatives of {} items: not a full ranking",
                split.protocol, split.items
            );
        }
        lines.extend(split.notes.iter().cloned());
        let combined = self.rows.iter().filter(|row| !row.parts.is_empty());
        lines.extend(combined.map(|row| format!("{} of {}", row.algorithm, row.parts.join(", "))));
        lines
    }

    /// The `sampled-N` of the labels.
    fn sampled(&self) -> Option<&str> {
        let figure = self.rows.first()?.measures.first()?;
        figure.measure.split(' ').nth(1)
    }
}

fn check_comparable(entries: &[Entry]) -> Result<(), EvaluationError> {
    let first = &entries[0].evaluation;
    for (position, entry) in entries.iter().enumerate() {
        let (name, evaluation) = (&entry.algorithm, &entry.evaluation);
        let problem = if evaluation.labels != first.labels || evaluation.list_length != first.list_length {
            format!("`{name}` was measured with other measures")
        } else if evaluation.novelty.len() != first.novelty.len() {
            format!(
                "`{name}` was measured on {} users, not {}",
                evaluation.novelty.len(),
                first.novelty.len()
            )
        } else if evaluation.diversity.as_ref().map(Vec::len) != first.diversity.as_ref().map(Vec::len) {
            format!("`{name}` was measured with another view of what items are like")
        } else if entries[..position].iter().any(|other| other.algorithm == *name) {
            format!("two entries are named `{name}`")
        } else if let Some(part) =
            entry.parts.iter().find(|part| !entries.iter().any(|other| other.algorithm == **part))
        {
            format!("`{name}` has the part `{part}`, which is not in the table")
        } else {
            continue;
        };
        return Err(EvaluationError::Data(problem));
    }
    Ok(())
}

fn row(entry: &Entry, entries: &[Entry], settings: &bootstrap::Settings) -> Result<Row, EvaluationError> {
    let evaluation = &entry.evaluation;
    let is_popularity = entry.algorithm == entries[0].algorithm;
    let best_parts: Vec<Option<&Entry>> =
        evaluation.labels.iter().map(|label| best_part(entry, entries, label)).collect();
    // All columns at once, so that the users are resampled once.
    let mut columns = vec![evaluation.novelty.clone()];
    columns.extend(evaluation.diversity.clone());
    for (index, (values, part)) in evaluation.values.iter().zip(&best_parts).enumerate() {
        columns.push(values.clone());
        columns.push(differences(values, &entries[0].evaluation.values[index]));
        columns.extend(part.map(|part| differences(values, &part.evaluation.values[index])));
    }
    let mut intervals = bootstrap::intervals(&columns, settings)?.into_iter();
    let mut next = || intervals.next().expect("one interval per column");
    let novelty = next();
    let diversity = evaluation.diversity.is_some().then(&mut next);
    let mut measures = Vec::with_capacity(best_parts.len());
    for (label, part) in evaluation.labels.iter().zip(best_parts) {
        let (value, over_popularity) = (next(), next());
        measures.push(Figure {
            measure: label.clone(),
            value,
            over_popularity: (!is_popularity).then_some(over_popularity),
            over_best_part: part.map(|part| OverPart { part: part.algorithm.clone(), difference: next() }),
        });
    }
    let timing = Timing { fit_seconds: entry.fit_seconds, score_microseconds: evaluation.score_microseconds };
    Ok(Row {
        algorithm: entry.algorithm.clone(),
        settings: entry.settings.clone(),
        search: entry.search.clone(),
        parts: entry.parts.clone(),
        measures,
        novelty,
        diversity,
        coverage: evaluation.coverage,
        gini: evaluation.gini,
        invalid_scores: evaluation.invalid_scores,
        timing: Some(timing),
    })
}

/// The part with the highest mean; the first of equals.
fn best_part<'a>(entry: &Entry, entries: &'a [Entry], label: &str) -> Option<&'a Entry> {
    let mean = |part: &Entry| part.evaluation.mean(label).unwrap_or(f64::NEG_INFINITY);
    let parts = entries.iter().filter(|other| entry.parts.contains(&other.algorithm));
    parts.fold(None, |best: Option<&Entry>, part| match best {
        Some(best) if mean(best) >= mean(part) => Some(best),
        _ => Some(part),
    })
}

#[cfg(test)]
mod tests;
