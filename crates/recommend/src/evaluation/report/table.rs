//! The report as aligned plain text.

use super::{Report, Row};
use crate::evaluation::bootstrap::Interval;
use std::fmt::Write;

/// Measures in one block, so that a line fits a wide terminal.
const MEASURES_PER_BLOCK: usize = 4;

pub(super) fn render(report: &Report) -> String {
    let mut text = String::new();
    for line in report.caption() {
        let _ = writeln!(text, "{line}");
    }
    let measure_count = report.rows.first().map_or(0, |row| row.measures.len());
    for start in (0..measure_count).step_by(MEASURES_PER_BLOCK) {
        let block = start..(start + MEASURES_PER_BLOCK).min(measure_count);
        text.push('\n');
        push_aligned(&mut text, &measures(report, block));
    }
    text.push('\n');
    push_aligned(&mut text, &others(report));
    let parts = over_parts(report);
    if !parts.is_empty() {
        text.push('\n');
        push_aligned(&mut text, &parts);
    }
    text.push('\n');
    push_aligned(&mut text, &settings(report));
    text.push_str("* differs from popularity, + is above the best part, by an interval that leaves out 0\n");
    text
}

fn measures(report: &Report, block: std::ops::Range<usize>) -> Vec<Vec<String>> {
    let name = |index: usize| report.rows[0].measures[index].measure.clone();
    let header = std::iter::once("algorithm".to_owned()).chain(block.clone().map(name)).collect();
    let mut lines: Vec<Vec<String>> = vec![header];
    for row in &report.rows {
        let cells = block.clone().map(|index| cell(row, index));
        lines.push(std::iter::once(row.algorithm.clone()).chain(cells).collect());
    }
    lines
}

fn cell(row: &Row, index: usize) -> String {
    let figure = &row.measures[index];
    let star =
        if figure.over_popularity.is_some_and(|difference| difference.excludes_zero()) { "*" } else { " " };
    let is_above = figure.over_best_part.as_ref().is_some_and(|over| over.difference.low > 0.0);
    let plus = if is_above { "+" } else { " " };
    format!("{:.4} [{:.4}, {:.4}]{star}{plus}", figure.value.mean, figure.value.low, figure.value.high)
}

fn others(report: &Report) -> Vec<Vec<String>> {
    let length = report.list_length;
    let has_diversity = report.rows.iter().any(|row| row.diversity.is_some());
    let interval = |of: Interval| format!("{:.2} [{:.2}, {:.2}]", of.mean, of.low, of.high);
    let mut lines =
        vec![vec!["algorithm".to_owned(), format!("coverage@{length}"), format!("novelty@{length} bits")]];
    lines[0].extend(has_diversity.then(|| format!("diversity@{length}")));
    lines[0].extend([
        format!("gini@{length}"),
        "fit s".to_owned(),
        "score us/user".to_owned(),
        "invalid scores".to_owned(),
    ]);
    for row in &report.rows {
        let timing = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
        };
        let mut line = vec![row.algorithm.clone(), format!("{:.4}", row.coverage), interval(row.novelty)];
        line.extend(has_diversity.then(|| row.diversity.map_or_else(|| "-".to_owned(), interval)));
        line.extend([
            format!("{:.4}", row.gini),
            timing(row.timing.map(|timing| timing.fit_seconds), 2),
            timing(row.timing.map(|timing| timing.score_microseconds), 1),
            row.invalid_scores.to_string(),
        ]);
        lines.push(line);
    }
    lines
}

fn over_parts(report: &Report) -> Vec<Vec<String>> {
    let mut lines = Vec::new();
    for row in &report.rows {
        for figure in &row.measures {
            let Some(over) = &figure.over_best_part else { continue };
            let difference = over.difference;
            lines.push(vec![
                format!("{} over {}", row.algorithm, over.part),
                figure.measure.clone(),
                format!("{:+.4} [{:+.4}, {:+.4}]", difference.mean, difference.low, difference.high),
            ]);
        }
    }
    lines
}

fn settings(report: &Report) -> Vec<Vec<String>> {
    let line = |row: &Row| {
        let mut cells =
            vec![row.algorithm.clone(), serde_json::Value::from(row.settings.clone()).to_string()];
        cells.extend(row.search.as_ref().map(|search| {
            let first = search.first.map_or_else(|| "-".to_owned(), |first| format!("{first:.4}"));
            let (measure, trials) = (&search.measure, search.trials);
            format!("best of {trials} trials, validation {measure} {first} -> {:.4}", search.best)
        }));
        cells
    };
    report.rows.iter().map(line).collect()
}

/// Pads every column to its widest cell; no spaces at the end of a line.
fn push_aligned(text: &mut String, lines: &[Vec<String>]) {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for line in lines {
        let mut padded = String::new();
        for (cell, &width) in line.iter().zip(&widths) {
            let _ = write!(padded, "{cell:<width$}  ");
        }
        let _ = writeln!(text, "{}", padded.trim_end());
    }
}
