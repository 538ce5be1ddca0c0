//! What a version is asked and answers, as the features of its reference: a bounded, uniform sample of rows.
//!
//! Of a request at most [`ROWS_OF_REQUEST`] rows are looked at, evenly spaced. Rows are kept by the least hash, so that samples
//! of several servers and times can be put together into one of the same kind. Where rows are histories, the hash is of
//! those numbers that were asked which the features are made of: the same end of a history counts once, whatever is before it.
//! It refuses references that do not fit the model.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64};

use bytes::Bytes;
use parking_lot::Mutex;
use rollout::drift::document::{
    self, DAY_VALUES, DocumentFault, Feature, ReferenceDocument, Rows, Side, Take,
};
use rollout::drift::reference::Reference;

use crate::model::{Package, Signature, TensorSpec};
use crate::tensor::{DataType, Tensor, Values, row_count};

/// Rows of one request that are looked at.
const ROWS_OF_REQUEST: usize = 16;
/// Rows that are kept between two writes, and that a comparison is made with.
pub(crate) const ROWS_MAX: usize = 256;

/// Rows by their hash.
pub(crate) type SampledRows = BTreeMap<u64, Vec<f64>>;

/// Keeps the rows with the least hashes.
pub(crate) fn cut(rows: &mut SampledRows) {
    while rows.len() > ROWS_MAX {
        rows.pop_last();
    }
}

/// Where a feature is taken from.
#[derive(Debug, Clone, Copy)]
struct Column {
    side: Side,
    tensor: usize,
    at: usize,
    take: Take,
    /// The input that an output is compared with; of an input itself.
    input: usize,
}

/// What is written down at once, under the name of the first try.
#[derive(Debug)]
pub(crate) struct Batch {
    /// When its window begins, in seconds since 1970.
    pub(crate) window: i64,
    pub(crate) id: String,
    pub(crate) seen: u64,
    pub(crate) rows: SampledRows,
}

#[derive(Debug, Default)]
struct Pending {
    seen: u64,
    sequence: u64,
    rows: SampledRows,
}

/// What is seen of a version that has a reference.
#[derive(Debug)]
pub(crate) struct Watch {
    /// The name of the model when the version was loaded.
    pub(crate) model: String,
    pub(crate) document: ReferenceDocument,
    pub(crate) reference: Reference,
    columns: Vec<Column>,
    has_rows: bool,
    salt: u64,
    pending: Mutex<Pending>,
    /// What was to be written and may be, or not.
    pub(crate) unwritten: Mutex<Option<Batch>>,
    /// Windows that begin before this were looked at, in seconds since 1970.
    pub(crate) looked_until: AtomicI64,
    /// Whether it drifts, as far as is known.
    pub(crate) drifts: AtomicBool,
}

/// What was seen of a request before it was answered.
#[derive(Debug)]
pub(crate) struct SeenInputs {
    count: usize,
    rows: Vec<usize>,
    /// By row and column; outputs are not known yet.
    values: Vec<Vec<f64>>,
    /// Of a history, what its features are made of.
    history: Option<Vec<f64>>,
}

/// The reference among the files of a version, where it has one.
pub(crate) fn reference_of(package: &Package) -> Option<Bytes> {
    let is_it = |path: &str| path.rsplit('/').next() == Some(document::FILE);
    package.files.iter().find(|(path, _)| is_it(path)).map(|(_, bytes)| bytes.clone())
}

impl Watch {
    /// Watches by this reference. `salt` keeps the rows of several servers apart.
    ///
    /// # Errors
    /// The feature that the model cannot give.
    pub(crate) fn new(
        model: &str,
        document: ReferenceDocument,
        signature: &Signature,
        salt: u64,
    ) -> Result<Self, DocumentFault> {
        let has_rows = document.rows == Rows::Examples && signature.has_batch_axis;
        let columns = document.features.iter().map(|feature| column(feature, signature, has_rows));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let reference = document.reference();
        let model = model.to_owned();
        Ok(Self {
            model,
            document,
            reference,
            columns,
            has_rows,
            salt,
            pending: Mutex::default(),
            unwritten: Mutex::default(),
            looked_until: AtomicI64::new(i64::MIN),
            drifts: AtomicBool::default(),
        })
    }

    /// Looks at what is asked.
    pub(crate) fn asked(&self, inputs: &[Tensor]) -> SeenInputs {
        let count = if self.has_rows { row_count(inputs).max(1) } else { 1 };
        let rows: Vec<usize> = (0..count).step_by(count.div_ceil(ROWS_OF_REQUEST)).collect();
        let value = |row: usize, column: &Column| match (column.side, column.take) {
            (Side::Input, Take::Value) => self.value(&inputs[column.tensor], count, row, column.at),
            (Side::Input, Take::DayChange) => day(inputs, column, 0) - day(inputs, column, 1),
            (Side::Input, _) => self.last_change(&inputs[column.tensor], count, row),
            // What the output is compared with.
            (Side::Output, Take::FromLast) => self.last(&inputs[column.input], count, row, 0),
            (Side::Output, Take::DayChange) => day(inputs, column, 1),
            (Side::Output, _) => f64::NAN,
        };
        let values = rows.iter().map(|row| self.columns.iter().map(|column| value(*row, column)).collect());
        let values = values.collect();
        let history = (self.document.rows == Rows::Histories).then(|| self.history(inputs));
        SeenInputs { count, rows, values, history }
    }

    /// Takes in what was asked and answered.
    pub(crate) fn answered(&self, asked: SeenInputs, outputs: &[Tensor]) {
        let SeenInputs { count, rows, mut values, history } = asked;
        for (row, values) in rows.iter().zip(&mut values) {
            for (column, value) in self.columns.iter().zip(values) {
                let Some(tensor) = outputs.get(column.tensor).filter(|_| column.side == Side::Output) else {
                    continue;
                };
                *value = match column.take {
                    Take::Value => self.value(tensor, count, *row, column.at),
                    Take::LastChange => self.last_change(tensor, count, *row),
                    Take::FromLast => self.value(tensor, count, *row, column.at) - *value,
                    Take::DayChange => mean(&tensor.values, DAY_VALUES) - *value,
                };
            }
        }
        let history = history.map(|asked| {
            // Where no feature is of what is asked, the answers tell histories apart.
            let made_of = values.first().filter(|_| asked.is_empty()).unwrap_or(&asked);
            hash_of(made_of)
        });
        let mut pending = self.pending.lock();
        pending.seen += count as u64;
        for values in values {
            pending.sequence += 1;
            let key = history.unwrap_or_else(|| mixed(self.salt ^ pending.sequence));
            pending.rows.insert(key, values);
        }
        cut(&mut pending.rows);
    }

    /// What was seen since it was taken last; none where that is nothing.
    pub(crate) fn take(&self) -> Option<(u64, SampledRows)> {
        let mut pending = self.pending.lock();
        let seen = std::mem::take(&mut pending.seen);
        let rows = std::mem::take(&mut pending.rows);
        (!rows.is_empty()).then_some((seen, rows))
    }

    /// The values of each feature.
    pub(crate) fn columns_of(&self, rows: &SampledRows) -> BTreeMap<String, Vec<f64>> {
        let features = self.document.features.iter().enumerate();
        let column = |at: usize| rows.values().map(move |row| row.get(at).copied().unwrap_or(f64::NAN));
        features.map(|(at, feature)| (feature.name.clone(), column(at).collect())).collect()
    }

    /// What the features of a history are made of, on the side of its inputs.
    fn history(&self, inputs: &[Tensor]) -> Vec<f64> {
        let mut found = Vec::with_capacity(self.columns.len() * 2);
        for column in &self.columns {
            match (column.side, column.take) {
                (Side::Input, Take::Value) => {
                    found.push(self.value(&inputs[column.tensor], 1, 0, column.at));
                }
                (Side::Input, Take::DayChange) => found.extend([0, 1].map(|days| day(inputs, column, days))),
                (Side::Input, _) => {
                    found.extend([0, 1].map(|before| self.last(&inputs[column.tensor], 1, 0, before)));
                }
                (Side::Output, Take::FromLast) => found.push(self.last(&inputs[column.input], 1, 0, 0)),
                (Side::Output, Take::DayChange) => found.push(day(inputs, column, 1)),
                (Side::Output, _) => {}
            }
        }
        found
    }

    /// The values of a row: of the first axis, or all.
    fn range(&self, tensor: &Tensor, count: usize, row: usize) -> std::ops::Range<usize> {
        if !self.has_rows {
            return 0..tensor.values.len();
        }
        let width = tensor.values.len() / count;
        row * width..(row + 1) * width
    }

    fn value(&self, tensor: &Tensor, count: usize, row: usize, at: usize) -> f64 {
        let range = self.range(tensor, count, row);
        if at < range.len() { number(&tensor.values, range.start + at) } else { f64::NAN }
    }

    /// The value so many before the last.
    fn last(&self, tensor: &Tensor, count: usize, row: usize, before: usize) -> f64 {
        let range = self.range(tensor, count, row);
        if before < range.len() { number(&tensor.values, range.end - 1 - before) } else { f64::NAN }
    }

    fn last_change(&self, tensor: &Tensor, count: usize, row: usize) -> f64 {
        self.last(tensor, count, row, 0) - self.last(tensor, count, row, 1)
    }
}

fn column(feature: &Feature, signature: &Signature, has_rows: bool) -> Result<Column, DocumentFault> {
    let place = |specs: &[TensorSpec]| specs.iter().position(|spec| spec.name == feature.tensor);
    let specs = if feature.side == Side::Input { &signature.inputs } else { &signature.outputs };
    let tensor = place(specs).ok_or_else(|| feature.fault("is of a tensor that the model does not have"))?;
    let compared = feature.from.as_ref().unwrap_or(&feature.tensor);
    let is_compared = |spec: &TensorSpec| spec.name == *compared && spec.kind != DataType::Bytes;
    let input = match (feature.side, feature.take) {
        (Side::Output, Take::FromLast | Take::DayChange) => {
            let found = signature.inputs.iter().position(is_compared);
            let missing = "is compared with an input, and the model has no input of numbers of that name";
            found.ok_or_else(|| feature.fault(missing))?
        }
        _ => tensor,
    };
    if specs[tensor].kind == DataType::Bytes {
        return Err(feature.fault("is of texts; only numbers are compared"));
    }
    let inner = specs[tensor].shape.get(usize::from(has_rows)..).unwrap_or_default();
    let width: Option<usize> = inner.iter().copied().product();
    if width.is_some_and(|width| feature.at >= width) {
        return Err(feature.fault("has an `at` beyond the values of a row"));
    }
    Ok(Column { side: feature.side, tensor, at: feature.at, take: feature.take, input })
}

/// The mean of a day of the input of a column, so many days before its last. Inputs begin together, so that one which lacks the
/// end is counted from the end of the longest.
fn day(inputs: &[Tensor], column: &Column, days: usize) -> f64 {
    let longest = inputs.iter().map(|tensor| tensor.values.len()).max().unwrap_or(0);
    let end = longest.checked_sub(column.at).and_then(|end| end.checked_sub(days * DAY_VALUES));
    end.map_or(f64::NAN, |end| mean(&inputs[column.input].values, end))
}

/// The mean of the values of a day that ends before `end`; no number where some are missing.
fn mean(values: &Values, end: usize) -> f64 {
    let Some(first) = end.checked_sub(DAY_VALUES) else { return f64::NAN };
    (first..end).map(|at| number(values, at)).sum::<f64>() / DAY_VALUES as f64
}

/// A value as a number; texts are none.
pub(crate) fn number(values: &Values, at: usize) -> f64 {
    let found = match values {
        Values::Bool(values) => values.get(at).map(|value| f64::from(u8::from(*value))),
        Values::Uint8(values) => values.get(at).map(|value| f64::from(*value)),
        Values::Uint16(values) => values.get(at).map(|value| f64::from(*value)),
        Values::Uint32(values) => values.get(at).map(|value| f64::from(*value)),
        Values::Uint64(values) => values.get(at).map(|value| *value as f64),
        Values::Int8(values) => values.get(at).map(|value| f64::from(*value)),
        Values::Int16(values) => values.get(at).map(|value| f64::from(*value)),
        Values::Int32(values) => values.get(at).map(|value| f64::from(*value)),
        Values::Int64(values) => values.get(at).map(|value| *value as f64),
        Values::Fp32(values) => values.get(at).map(|value| f64::from(*value)),
        Values::Fp64(values) => values.get(at).copied(),
        Values::Bytes(_) => None,
    };
    found.unwrap_or(f64::NAN)
}

fn hash_of(values: &[f64]) -> u64 {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let hash = blake3::derive_key("watershed runtime 2026 history that is asked", &bytes);
    hash.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// The finalizer of `SplitMix64` (Steele, Lea and Flood 2014): a bijection, so that no two rows of a server have one hash.
fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, rows};
    use crate::model::Model;

    fn document(rows: Rows, features: Vec<Feature>) -> ReferenceDocument {
        ReferenceDocument { features, ..ReferenceDocument::new(rows) }
    }

    fn feature(name: &str, side: Side, tensor: &str, at: usize, take: Take) -> Feature {
        Feature { at, ..Feature::named(name, side, tensor, take) }
    }

    #[test]
    fn rows_are_sampled_evenly_and_bounded() {
        let features = vec![
            feature("in", Side::Input, "x", 1, Take::Value),
            feature("out", Side::Output, "y", 0, Take::Value),
        ];
        let model = Fake::doubles();
        let watch = Watch::new("m", document(Rows::Examples, features), model.signature(), 7).unwrap();
        assert!(watch.take().is_none());
        for request in 0..100 {
            let values: Vec<f32> = (0..80).map(|at| (request * 80 + at) as f32).collect();
            let inputs = [rows(&values)];
            let asked = watch.asked(&inputs);
            watch.answered(asked, &model.infer(&inputs).unwrap());
        }
        let (seen, rows) = watch.take().unwrap();
        assert_eq!((seen, rows.len()), (4_000, ROWS_MAX));
        // The second value of a row is odd, and the output is twice the first.
        assert!(rows.values().all(|row| row[0] % 2.0 == 1.0 && row[1] == (row[0] - 1.0) * 2.0));
        let requests: std::collections::BTreeSet<_> = rows.values().map(|row| row[0] as usize / 80).collect();
        assert!(requests.len() > 80, "{requests:?}");
        assert_eq!(watch.columns_of(&rows)["in"].len(), ROWS_MAX);
        assert!(watch.take().is_none());
    }

    #[test]
    fn a_history_counts_once_and_by_its_changes() {
        let mut signature = Fake::doubles().signature().clone();
        signature.has_batch_axis = false;
        signature.inputs[0].shape = vec![None];
        signature.outputs[0].name = "x".to_owned();
        let features = vec![
            feature("change", Side::Input, "x", 0, Take::LastChange),
            feature("step", Side::Output, "x", 0, Take::FromLast),
        ];
        let watch = Watch::new("m", document(Rows::Histories, features), &signature, 7).unwrap();
        let tensor =
            |values: &[f64]| Tensor::new("x", vec![values.len()], Values::Fp64(values.to_vec())).unwrap();
        let histories: [&[f64]; 5] =
            [&[1.0, 2.0, 4.0], &[1.0, 2.0, 4.0], &[9.0, 2.0, 4.0], &[7.0, 1.0, 2.0, 4.0], &[2.0, 4.0, 3.0]];
        for history in histories {
            let asked = watch.asked(&[tensor(history)]);
            watch.answered(asked, &[tensor(&[4.5, 9.0])]);
        }
        let (seen, rows) = watch.take().unwrap();
        let mut found: Vec<_> = rows.into_values().collect();
        found.sort_by(|one, two| two[0].total_cmp(&one[0]));
        assert_eq!((seen, found), (5, vec![vec![2.0, 0.5], vec![-1.0, 1.5]]));
    }

    #[test]
    fn days_count_by_their_changes_wherever_an_input_ends() {
        let mut signature = Fake::doubles().signature().clone();
        signature.has_batch_axis = false;
        signature.inputs[0].shape = vec![None];
        signature.inputs.push(TensorSpec { name: "z".to_owned(), ..signature.inputs[0].clone() });
        signature.outputs[0].shape = vec![Some(DAY_VALUES)];
        let features = vec![
            feature("known", Side::Input, "x", 0, Take::DayChange),
            feature("past", Side::Input, "z", DAY_VALUES, Take::DayChange),
            Feature { from: Some("z".to_owned()), ..feature("step", Side::Output, "y", 0, Take::DayChange) },
        ];
        let watch = Watch::new("m", document(Rows::Histories, features), &signature, 7).unwrap();
        let tensor = |name: &str, days: &[f64]| {
            let values: Vec<f64> = days.iter().flat_map(|day| [*day; DAY_VALUES]).collect();
            Tensor::new(name, vec![values.len()], Values::Fp64(values)).unwrap()
        };
        // The last day of `z` stands for nothing, or is left out; what is before the days that count changes nothing.
        let pasts: [&[f64]; 3] = [&[1.0, 5.0, 8.0, 0.0], &[1.0, 5.0, 8.0], &[2.0, 5.0, 8.0, 99.0]];
        for past in pasts {
            let asked = watch.asked(&[tensor("x", &[7.0, 3.0, 1.0, 4.0]), tensor("z", past)]);
            watch.answered(asked, &[tensor("y", &[10.0])]);
        }
        let (seen, rows) = watch.take().unwrap();
        assert_eq!((seen, rows.into_values().collect::<Vec<_>>()), (3, vec![vec![3.0, 3.0, 2.0]]));
        let asked = watch.asked(&[tensor("x", &[1.0]), tensor("z", &[1.0])]);
        watch.answered(asked, &[tensor("y", &[10.0])]);
        let (_, rows) = watch.take().unwrap();
        assert!(rows.into_values().flatten().all(f64::is_nan), "too short");
    }

    #[test]
    fn what_the_model_cannot_give_is_refused() {
        let check = |one: Feature, told: &str| {
            let found = Watch::new("m", document(Rows::Examples, vec![one]), Fake::doubles().signature(), 7);
            assert!(found.unwrap_err().to_string().contains(told));
        };
        check(feature("a", Side::Input, "y", 0, Take::Value), "does not have");
        check(feature("a", Side::Input, "x", 2, Take::Value), "`at`");
        check(feature("a", Side::Output, "y", 0, Take::FromLast), "no input");
    }
}
