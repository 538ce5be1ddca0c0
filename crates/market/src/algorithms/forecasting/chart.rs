//! The report as a chart: one line for each forecaster, root mean squared error by step ahead, from 0 on.

use plotters::prelude::*;

use super::{ForecastFault, Report};

const SIZE: (u32, u32) = (720, 400);

fn drawing(fault: impl std::fmt::Display) -> ForecastFault {
    ForecastFault::Chart(fault.to_string())
}

pub(super) fn render(report: &Report) -> Result<String, ForecastFault> {
    let of = |rmse: fn(&super::StepReport) -> f64| -> Vec<(f64, f64)> {
        report.steps.iter().map(|step| (step.step as f64, rmse(step))).collect()
    };
    let lines = [
        (report.name.as_str(), of(|step| step.model.rmse), BLUE),
        ("persistence", of(|step| step.persistence.rmse), BLACK),
        ("seasonal naive", of(|step| step.seasonal_naive.rmse), RED),
    ];
    let most = lines.iter().flat_map(|(_, line, _)| line.iter().map(|(_, value)| *value)).fold(0.0, f64::max);
    let top = if most > 0.0 { 1.1 * most } else { 1.0 };
    let last = report.steps.len().max(2) as f64;
    let mut svg = String::new();
    {
        let canvas = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        canvas.fill(&WHITE).map_err(drawing)?;
        let caption = format!("root mean squared error, {} to {}", report.origins[0], report.origins[1]);
        let mut chart = ChartBuilder::on(&canvas)
            .caption(caption, ("sans-serif", 16))
            .margin(10)
            .x_label_area_size(36)
            .y_label_area_size(60)
            .build_cartesian_2d(1.0..last, 0.0..top)
            .map_err(drawing)?;
        chart.configure_mesh().x_desc("steps ahead").draw().map_err(drawing)?;
        for (name, line, colour) in lines {
            let dots = line.iter().map(|place| Circle::new(*place, 3, colour.filled()));
            chart.draw_series(dots).map_err(drawing)?;
            chart
                .draw_series([PathElement::new(line, colour.stroke_width(2))])
                .map_err(drawing)?
                .label(name)
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
