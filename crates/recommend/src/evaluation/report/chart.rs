//! The report as a chart: one panel per measure, one dot with its interval per algorithm. The axis begins at 0, so that
//! lengths can be compared.

use super::{Figure, Report};
use crate::evaluation::EvaluationError;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const WIDTH: u32 = 900;
const NAME_WIDTH: u32 = 160;
const ROW_HEIGHT: u32 = 24;
const PANEL_MARGINS: u32 = 76;
const CAPTION_LINE: u32 = 18;

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn drawing(error: impl std::fmt::Display) -> EvaluationError {
    EvaluationError::Chart(error.to_string())
}

pub(super) fn render(report: &Report) -> Result<String, EvaluationError> {
    let panel_count = report.rows.first().map_or(0, |row| row.measures.len());
    let caption = report.caption();
    let caption_height = CAPTION_LINE * caption.len() as u32 + 12;
    let panel_height = PANEL_MARGINS + ROW_HEIGHT * report.rows.len() as u32;
    let height = caption_height + panel_height * panel_count as u32;
    let mut svg = String::new();
    {
        let canvas = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        canvas.fill(&WHITE).map_err(drawing)?;
        let (top, panels) = canvas.split_vertically(caption_height);
        for (line, text) in caption.iter().enumerate() {
            let place = (12, (8 + CAPTION_LINE * line as u32) as i32);
            top.draw(&Text::new(text.clone(), place, ("sans-serif", 13))).map_err(drawing)?;
        }
        if panel_count > 0 {
            for (index, panel) in panels.split_evenly((panel_count, 1)).iter().enumerate() {
                draw_panel(report, index, panel)?;
            }
        }
        canvas.present().map_err(drawing)?;
    }
    Ok(svg)
}

fn draw_panel(report: &Report, index: usize, panel: &Canvas<'_>) -> Result<(), EvaluationError> {
    let figures: Vec<(&str, &Figure)> =
        report.rows.iter().map(|row| (row.algorithm.as_str(), &row.measures[index])).collect();
    let most = figures.iter().map(|(_, figure)| figure.value.high).fold(0.0, f64::max);
    let right = if most > 0.0 { 1.05 * most } else { 1.0 };
    let mut chart = ChartBuilder::on(panel)
        .caption(&figures[0].1.measure, ("sans-serif", 16))
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(NAME_WIDTH)
        .build_cartesian_2d(0.0..right, figures.len() as f64..0.0)
        .map_err(drawing)?;
    chart.configure_mesh().disable_y_mesh().y_labels(0).x_labels(8).draw().map_err(drawing)?;
    let name_style = ("sans-serif", 13).into_font().color(&BLACK).pos(Pos::new(HPos::Right, VPos::Center));
    for (row, (name, figure)) in figures.iter().enumerate() {
        let (middle, value) = (row as f64 + 0.5, figure.value);
        let interval = PathElement::new([(value.low, middle), (value.high, middle)], BLUE.stroke_width(2));
        let dot = Circle::new((value.mean, middle), 4, BLUE.filled());
        chart.draw_series(std::iter::once(interval.into_dyn()).chain([dot.into_dyn()])).map_err(drawing)?;
        let (left, height) = chart.plotting_area().map_coordinate(&(0.0, middle));
        let (panel_left, panel_top) = panel.get_base_pixel();
        let place = (left - panel_left - 8, height - panel_top);
        panel.draw(&Text::new((*name).to_owned(), place, name_style.clone())).map_err(drawing)?;
    }
    Ok(())
}
