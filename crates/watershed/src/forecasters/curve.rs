//! Curve forecasters: a column of the table is an input, a target an output of as many values as there are days ahead. What was not
//! quoted is NaN, and so null in JSON: an empty field of the table, filled by the same code.

use std::fmt::Write;

use jiff::civil::Date;
use kernel::{Error, Result, codes};
use market::algorithms::forecasting::curve::CurveForecaster;
use market::algorithms::forecasting::{COVERAGES, CurveType, LEVELS, Panel};
use runtime::model::{Engine, Model, Package, Signature, unusable};
use runtime::tensor::{DataType, Tensor, Values};

use super::{BESIDE, FILES, claims, half_width, name, quantile, refused, spec, without_beside};

const DATE: &str = "date";
pub(crate) const FILE: &str = "curve_forecaster.json";

/// Loads curve forecasters.
#[derive(Debug)]
pub(crate) struct CurveForecasters;

impl Engine for CurveForecasters {
    fn platform(&self) -> &'static str {
        "watershed_curve_forecaster"
    }

    fn claims(&self, paths: &[&str]) -> bool {
        let is_model = |path: &&&str| path.ends_with(".json") && !BESIDE.contains(&name(path));
        // Of another maker or engine: its one JSON file, if it has one, is no curve forecaster.
        let is_foreign = |path: &&str| {
            path.ends_with(".onnx")
                || path.ends_with(".safetensors")
                || name(path) == "MLmodel"
                || FILES.contains(&name(path))
        };
        let is_alone = paths.iter().filter(is_model).count() == 1 && !paths.iter().any(is_foreign);
        is_alone || claims(paths, FILE)
    }

    fn load(&self, mut package: Package) -> Result<Box<dyn Model>> {
        without_beside(&mut package);
        let (_, bytes) = package.only(".json", FILE)?;
        let text = std::str::from_utf8(bytes).map_err(|_| unusable("it is not text"))?;
        let forecaster = CurveForecaster::from_json(text).map_err(|fault| unusable(fault.to_string()))?;
        Ok(Box::new(Served::new(forecaster)))
    }
}

#[derive(Debug)]
struct Served {
    forecaster: CurveForecaster,
    signature: Signature,
    has_intervals: bool,
    has_quantiles: bool,
}

impl Served {
    fn new(forecaster: CurveForecaster) -> Self {
        let mut inputs = vec![spec(DATE, DataType::Bytes, None)];
        let columns = forecaster.targets.iter().chain(&forecaster.features);
        inputs.extend(columns.map(|name| spec(name, DataType::Fp64, None)));
        let (has_intervals, has_quantiles) = (forecaster.has_intervals(), forecaster.has_quantiles());
        let days = Some(forecaster.settings.forecast_horizon);
        let mut outputs = Vec::new();
        for target in &forecaster.targets {
            outputs.push(spec(target, DataType::Fp64, days));
            let widths = COVERAGES.into_iter().filter(|_| has_intervals);
            outputs.extend(widths.map(|coverage| spec(&half_width(target, coverage), DataType::Fp64, days)));
        }
        // Behind what models of before have too, so that a shadow compares the same first values.
        for target in forecaster.targets.iter().filter(|_| has_quantiles) {
            let levels = LEVELS.into_iter().map(|level| quantile(target, level));
            outputs.extend(levels.map(|name| spec(&name, DataType::Fp64, days)));
        }
        let signature = Signature { inputs, outputs, has_batch_axis: false, takes_blanks: true };
        Self { signature, forecaster, has_intervals, has_quantiles }
    }

    /// The history that is asked, filled.
    fn panel(&self, inputs: &[Tensor]) -> Result<Panel> {
        let text = self.table(inputs)?;
        Panel::parse(&text, self.forecaster.curve_type)
            .map_err(|fault| Error::new(codes::VALIDATION_ERROR, fault.to_string()).with_field("inputs"))
    }

    /// The table that the inputs are columns of, as text.
    fn table(&self, inputs: &[Tensor]) -> Result<String> {
        let Some(Values::Bytes(dates)) = inputs.first().map(|tensor| &tensor.values) else {
            return Err(refused(DATE, "is missing"));
        };
        let mut text = String::from(DATE);
        let mut columns = Vec::new();
        for tensor in &inputs[1..] {
            let Values::Fp64(values) = &tensor.values else { return Err(refused(&tensor.name, "is FP64")) };
            if values.len() != dates.len() {
                return Err(refused(&tensor.name, "has a value for each date"));
            }
            // From its neighbours alone the whole column would be made up.
            if values.iter().all(|value| value.is_nan()) {
                return Err(refused(&tensor.name, "has no value on any day"));
            }
            write!(text, ",\"{}\"", tensor.name.replace('"', "\"\"")).map_err(Error::internal)?;
            columns.push(values);
        }
        let mut last: Option<Date> = None;
        for (row, date) in dates.iter().enumerate() {
            let date: Date = date.parse().map_err(|_| refused(DATE, "has days, as 2026-01-31"))?;
            if let Some(last) = last.filter(|last| date <= *last) {
                return Err(refused(
                    DATE,
                    &format!("has days that ascend, each once: {date} stands after {last}"),
                ));
            }
            last = Some(date);
            write!(text, "\n{date}").map_err(Error::internal)?;
            for column in &columns {
                // An empty field of the table: no quote.
                match column[row] {
                    blank if blank.is_nan() => text.push(','),
                    value => write!(text, ",{value}").map_err(Error::internal)?,
                }
            }
        }
        Ok(text)
    }
}

impl Model for Served {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn takes_rows_alone(&self) -> bool {
        false
    }

    fn filled(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        // A rate of zero may stand for none.
        let is_yield = self.forecaster.curve_type == CurveType::Yield;
        let lacks = |value: &f64| value.is_nan() || (is_yield && *value == 0.0);
        let is_whole =
            |tensor: &Tensor| !matches!(&tensor.values, Values::Fp64(values) if values.iter().any(lacks));
        if inputs.iter().all(is_whole) {
            return None;
        }
        // What is refused is so where it is answered.
        let panel = self.panel(inputs).ok()?;
        let columns = |rows: &[Vec<f64>], at: usize| Values::Fp64(rows.iter().map(|row| row[at]).collect());
        let targets = (0..panel.targets.len()).map(|at| columns(&panel.values, at));
        let extras = (0..panel.features.len()).map(|at| columns(&panel.extras, at));
        let dates = Values::Bytes(panel.dates.iter().map(Date::to_string).collect());
        let columns = std::iter::once(dates).chain(targets).chain(extras);
        let named = self.signature.inputs.iter().zip(columns);
        named.map(|(spec, values)| Tensor::new(&spec.name, vec![panel.dates.len()], values).ok()).collect()
    }

    fn infer(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let refused = |fault: &dyn std::fmt::Display| {
            Error::new(codes::VALIDATION_ERROR, fault.to_string()).with_field("inputs")
        };
        let panel = self.panel(inputs)?;
        let last = panel
            .dates
            .len()
            .checked_sub(1)
            .ok_or_else(|| refused(&"there is no day that has a value in every column"))?;
        let forecast = self.forecaster.predict(&panel, last).map_err(|fault| refused(&fault))?;
        let days = forecast.values.len();
        let mut outputs = Vec::new();
        let mut put = |name: String, values: Vec<f64>| {
            Tensor::new(name, vec![days], Values::Fp64(values)).map(|tensor| outputs.push(tensor))
        };
        for (number, target) in self.forecaster.targets.iter().enumerate() {
            put(target.clone(), forecast.values.iter().map(|step| step[number]).collect())?;
            for (which, coverage) in COVERAGES.into_iter().enumerate().filter(|_| self.has_intervals) {
                let widths = forecast.half_widths.iter().map(|step| step[number][which]).collect();
                put(half_width(target, coverage), widths)?;
            }
        }
        for (number, target) in self.forecaster.targets.iter().enumerate().filter(|_| self.has_quantiles) {
            for (which, level) in LEVELS.into_iter().enumerate() {
                let values = forecast.quantiles.iter().map(|step| step[number][which]).collect();
                put(quantile(target, level), values)?;
            }
        }
        Ok(outputs)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use market::algorithms::forecasting::curve::{CurveSettings, ModelType};

    use super::*;

    fn table() -> String {
        let mut text = String::from("date,rate_1,rate_10");
        let first: Date = "2020-01-01".parse().unwrap();
        for day in 0..320_i32 {
            let date = first.checked_add(jiff::Span::new().days(day)).unwrap();
            let wave = f64::from(day * day % 17) / 7.0;
            write!(text, "\n{date},{},{}", 1.0 + wave / 3.0, 2.0 + wave / 9.0).unwrap();
        }
        text
    }

    fn inputs(text: &str) -> Vec<Tensor> {
        let rows: Vec<Vec<&str>> = text.lines().skip(1).map(|line| line.split(',').collect()).collect();
        let column = |at: usize| rows.iter().map(|row| row[at].parse().unwrap()).collect();
        let dates = rows.iter().map(|row| row[0].to_owned()).collect();
        vec![
            Tensor::new(DATE, vec![rows.len()], Values::Bytes(dates)).unwrap(),
            Tensor::new("rate_1", vec![rows.len()], Values::Fp64(column(1))).unwrap(),
            Tensor::new("rate_10", vec![rows.len()], Values::Fp64(column(2))).unwrap(),
        ]
    }

    fn load(json: &str) -> Result<Box<dyn Model>> {
        let files = BTreeMap::from([(FILE.to_owned(), json.as_bytes().to_vec().into())]);
        CurveForecasters.load(Package { files })
    }

    #[test]
    fn it_answers_as_it_does_offline() {
        let settings =
            CurveSettings { model_type: ModelType::Ridge, lookback_days: 5, ..CurveSettings::default() };
        let panel = Panel::parse(&table(), CurveType::Yield).unwrap();
        let trained = CurveForecaster::train(&panel, 320, CurveType::Yield, settings).unwrap();
        let served = load(&trained.to_json().unwrap()).unwrap();
        let offline = trained.predict(&panel, 319).unwrap();
        assert_eq!(served.filled(&inputs(&table())), None, "nothing is lacking");
        let found = served.infer(&inputs(&table())).unwrap();
        let names: Vec<_> = found.iter().map(|tensor| tensor.name.as_str()).collect();
        let expected = ["rate_1", "rate_1.half_width_80", "rate_1.half_width_95", "rate_10"];
        assert_eq!(names[..4], expected);
        let quantiles =
            ["05", "10", "25", "50", "75", "90", "95"].map(|level| format!("rate_1.quantile_{level}"));
        assert_eq!((names.len(), &names[6..13]), (20, &quantiles.each_ref().map(String::as_str)[..]));
        for (level, tensor) in found[13..].iter().enumerate() {
            let expected: Vec<f64> = offline.quantiles.iter().map(|step| step[1][level]).collect();
            assert_eq!(tensor.values, Values::Fp64(expected), "{}", tensor.name);
        }
        let specs = &served.signature().outputs;
        assert!(
            specs.len() == found.len()
                && specs.iter().zip(&found).all(|(spec, tensor)| spec.name == tensor.name)
        );
        for (number, at) in [(0, 0), (1, 3)] {
            let Values::Fp64(values) = &found[at].values else { panic!("{found:?}") };
            let bits: Vec<u64> = offline.values.iter().map(|step| step[number].to_bits()).collect();
            assert_eq!(values.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), bits);
        }
        let mut short = inputs(&table());
        short.iter_mut().for_each(|tensor| {
            let values = match &tensor.values {
                Values::Bytes(values) => Values::Bytes(values[..3].to_vec()),
                Values::Fp64(values) => Values::Fp64(values[..3].to_vec()),
                other => other.clone(),
            };
            *tensor = Tensor::new(tensor.name.clone(), vec![3], values).unwrap();
        });
        assert_eq!(served.infer(&short).unwrap_err().field(), Some("inputs"));
        short[0] = Tensor::new(DATE, vec![3], Values::Bytes(vec!["a\",1".to_owned(); 3])).unwrap();
        assert_eq!(served.infer(&short).unwrap_err().field(), Some("inputs.date"));
    }

    #[test]
    fn what_was_not_quoted_is_filled_as_it_is_offline() {
        // By the day before; a yield moves with its neighbours. Blanks by row from 0 and column.
        let check = |curve_type: CurveType, [first, second]: [&str; 2], blanks: &[(usize, usize)]| {
            let whole = table().replace("rate_1,rate_10", &format!("{first},{second}"));
            let panel = Panel::parse(&whole, curve_type).unwrap();
            let settings =
                CurveSettings { model_type: ModelType::Ridge, lookback_days: 5, ..CurveSettings::default() };
            let trained = CurveForecaster::train(&panel, 320, curve_type, settings).unwrap();
            let served = load(&trained.to_json().unwrap()).unwrap();
            let mut asked = inputs(&whole);
            asked[1].name = first.to_owned();
            asked[2].name = second.to_owned();
            let mut lines: Vec<Vec<String>> =
                whole.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect();
            for (row, column) in blanks {
                lines[row + 1][*column].clear();
                let Values::Fp64(values) = &mut asked[*column].values else { panic!("{asked:?}") };
                values[*row] = f64::NAN;
            }
            let text = lines.iter().map(|line| line.join(",")).collect::<Vec<_>>().join("\n");
            let offline = Panel::parse(&text, curve_type).unwrap();
            let expected = trained.predict(&offline, offline.dates.len() - 1).unwrap();
            let asked = served.signature().check(asked).unwrap();
            let found = served.infer(&asked).unwrap();
            // What is watched is what the model was trained on.
            let watched = served.filled(&asked).unwrap();
            for (number, at) in [(0, 0), (1, 3)] {
                let column: Vec<f64> = offline.values.iter().map(|row| row[number]).collect();
                assert_eq!(watched[number + 1].values, Values::Fp64(column), "{curve_type} {blanks:?}");
                let Values::Fp64(values) = &found[at].values else { panic!("{found:?}") };
                let bits =
                    |values: &mut dyn Iterator<Item = f64>| values.map(f64::to_bits).collect::<Vec<_>>();
                let offline = bits(&mut expected.values.iter().map(|step| step[number]));
                assert_eq!(bits(&mut values.iter().copied()), offline, "{curve_type} {blanks:?}");
            }
        };
        for blanks in [&[(312, 1)][..], &[(310, 1), (310, 2)], &[(319, 2), (318, 2), (0, 1)]] {
            check(CurveType::Yield, ["rate_1", "rate_10"], blanks);
            check(CurveType::Commodity, ["forward_1", "forward_2"], blanks);
        }
    }

    #[test]
    fn a_column_without_any_value_is_refused() {
        let settings =
            CurveSettings { model_type: ModelType::Ridge, lookback_days: 5, ..CurveSettings::default() };
        let panel = Panel::parse(&table(), CurveType::Yield).unwrap();
        let trained = CurveForecaster::train(&panel, 320, CurveType::Yield, settings).unwrap();
        let served = load(&trained.to_json().unwrap()).unwrap();
        let mut asked = inputs(&table());
        asked[2].values = Values::Fp64(vec![f64::NAN; 320]);
        let error = served.infer(&served.signature().check(asked).unwrap()).unwrap_err();
        assert_eq!((error.field(), error.message()), (Some("inputs.rate_10"), "has no value on any day"));
    }

    #[test]
    fn days_that_do_not_ascend_are_refused() {
        let settings =
            CurveSettings { model_type: ModelType::Ridge, lookback_days: 5, ..CurveSettings::default() };
        let panel = Panel::parse(&table(), CurveType::Yield).unwrap();
        let trained = CurveForecaster::train(&panel, 320, CurveType::Yield, settings).unwrap();
        let served = load(&trained.to_json().unwrap()).unwrap();
        let mut asked = inputs(&table());
        let Values::Bytes(days) = &asked[0].values else { panic!("dates are texts") };
        let (mut twice, mut back) = (days.clone(), days.clone());
        twice[7] = twice[6].clone();
        back.swap(6, 7);
        for (days, expected) in
            [(twice, "2020-01-07 stands after 2020-01-07"), (back, "2020-01-07 stands after 2020-01-08")]
        {
            asked[0].values = Values::Bytes(days);
            let error = served.infer(&served.signature().check(asked.clone()).unwrap()).unwrap_err();
            let expected = format!("has days that ascend, each once: {expected}");
            assert_eq!((error.field(), error.message()), (Some("inputs.date"), expected.as_str()));
        }
    }

    #[test]
    fn what_is_no_forecaster_is_refused() {
        for text in ["", "{}", "[1]", r#"{"format":"other","version":1,"blake3":"","model":{}}"#] {
            assert_eq!(load(text).unwrap_err().code(), runtime::model::MODEL_UNUSABLE, "{text}");
        }
        assert!(CurveForecasters.claims(&["MLmodel", "a/curve_forecaster.json"]));
        assert!(!CurveForecasters.claims(&["model.onnx", "input_example.json"]));
        assert!(!CurveForecasters.claims(&["drift_reference.json"]));
        assert!(!CurveForecasters.claims(&["power_forecaster.json"]));
    }
}
