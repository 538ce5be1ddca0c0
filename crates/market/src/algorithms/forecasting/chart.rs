//! A report as a chart: one line for each forecaster, from 0 on.

use plotters::prelude::*;

use super::ForecastFault;

const SIZE: (u32, u32) = (720, 400);
pub(super) const OURS: RGBColor = BLUE;
pub(super) const FIRST_PEER: RGBColor = BLACK;
pub(super) const SECOND_PEER: RGBColor = RED;

/// A forecaster.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) places: Vec<(f64, f64)>,
    pub(super) colour: RGBColor,
}

/// What is drawn.
pub(super) struct Chart<'a> {
    pub(super) caption: String,
    /// What goes from left to right.
    pub(super) across: &'a str,
    /// From where to where.
    pub(super) places: (f64, f64),
    pub(super) lines: Vec<Line<'a>>,
}

fn drawing(fault: impl std::fmt::Display) -> ForecastFault {
    ForecastFault::Chart(fault.to_string())
}

/// As SVG.
///
/// # Errors
/// [`ForecastFault::Chart`].
pub(super) fn render(drawn: &Chart<'_>) -> Result<String, ForecastFault> {
    let heights = drawn.lines.iter().flat_map(|line| line.places.iter().map(|(_, value)| *value));
    let most = heights.fold(0.0, f64::max);
    let top = if most > 0.0 { 1.1 * most } else { 1.0 };
    let (left, right) = drawn.places;
    let mut svg = String::new();
    {
        let canvas = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        canvas.fill(&WHITE).map_err(drawing)?;
        let mut chart = ChartBuilder::on(&canvas)
            .caption(&drawn.caption, ("sans-serif", 16))
            .margin(10)
            .x_label_area_size(36)
            .y_label_area_size(60)
            .build_cartesian_2d(left..right, 0.0..top)
            .map_err(drawing)?;
        chart.configure_mesh().x_desc(drawn.across).draw().map_err(drawing)?;
        for Line { name, places, colour } in &drawn.lines {
            let colour = *colour;
            let dots = places.iter().map(|place| Circle::new(*place, 3, colour.filled()));
            chart.draw_series(dots).map_err(drawing)?;
            chart
                .draw_series([PathElement::new(places.clone(), colour.stroke_width(2))])
                .map_err(drawing)?
                .label(*name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .border_style(BLACK)
            .background_style(WHITE)
            .draw()
            .map_err(drawing)?;
        canvas.present().map_err(drawing)?;
    }
    Ok(svg)
}
