//! LEAR and the kernel regression as of one evening. They age: nothing in them is fitted again until somebody does.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::kernels::Kernel;
use super::lear::Lear;
use super::market::PowerMarket;
use super::{LAG_DAYS, PowerForecast, PowerSettings};
use crate::algorithms::forecasting::ForecastFault;

/// What was learned.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fitted {
    /// By window, in the order of the settings.
    lear: Vec<Lear>,
    kernel: Kernel,
}

impl Fitted {
    /// Learns from the days before `until`.
    pub(super) fn train(
        market: &PowerMarket,
        until: usize,
        settings: &PowerSettings,
    ) -> Result<Self, ForecastFault> {
        settings.validate()?;
        let needed = settings.days_needed();
        if until < needed || until > market.price_days() {
            return Err(ForecastFault::TooFewDays { needed, found: until.min(market.price_days()) });
        }
        let windows = &settings.lear_windows_days;
        let (lear, kernel) = rayon::join(
            || windows.par_iter().map(|window| Lear::fit(market, *window, until, None)).collect(),
            || Kernel::fit(market, until, settings),
        );
        Ok(Self { lear, kernel: kernel? })
    }

    /// Forecasts days, each from the prices of the days before it.
    ///
    /// # Errors
    /// [`ForecastFault::TooFewDays`] where one has no prices for seven days before it, or no two forecasts.
    pub(super) fn predict(
        &self,
        market: &PowerMarket,
        days: std::ops::Range<usize>,
        kernel_weight: f64,
    ) -> Result<PowerForecast, ForecastFault> {
        let last = (market.price_days() + 1).min(market.exogenous_days());
        if days.start < LAG_DAYS || days.end > last {
            let needed = if days.start < LAG_DAYS { LAG_DAYS + 1 } else { days.end };
            return Err(ForecastFault::TooFewDays { needed, found: last });
        }
        let window = |lear: &Lear| days.clone().map(|day| lear.predict(market, day)).collect();
        let kernel = days.clone().map(|day| self.kernel.predict(market, day)).collect();
        let windows: Vec<_> = self.lear.iter().map(window).collect();
        Ok(PowerForecast::of(&windows, kernel, kernel_weight))
    }

    /// Whether its arrays fit together and are of these settings.
    pub(super) fn is_sound(&self, settings: &PowerSettings) -> bool {
        self.lear.len() == settings.lear_windows_days.len()
            && self.lear.iter().all(Lear::is_sound)
            && self.kernel.settings == settings.kernel
    }
}
