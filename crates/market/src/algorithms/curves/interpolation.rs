//! Between quoted times: the four ways to draw a curve through its discount factors.
//!
//! All work on `y(t) = -ln D(t)`, which is zero at zero and whose slope is the instantaneous forward rate, so that value
//! and forward belong together. Where `y` rises from node to node, three of the four never give a negative forward.
//!
//! | method | forward rate | never negative where none is implied |
//! |---|---|:-:|
//! | linear in the zero rate | jumps at nodes | no |
//! | flat forward | constant between nodes | yes |
//! | monotone convex (Hagan & West 2006) | continuous | yes |
//! | PCHIP on `y` (Fritsch & Butland 1984) | continuous | yes |
//!
//! To add one: a variant of [`Method`], its coefficients in [`Shape`], two lines in [`Interpolant::at`].

use serde::{Deserialize, Serialize};

use super::{monotone_convex, pchip};

/// How a curve runs between quoted times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Straight lines between zero rates. Simple, and can imply negative forwards: look at the faults of the curve.
    Linear,
    /// Straight lines between logarithms of discount factors.
    FlatForward,
    /// Hagan & West, "Interpolation methods for curve construction", Applied Mathematical Finance 13 (2006).
    #[default]
    MonotoneConvex,
    /// Fritsch & Butland, "A method for constructing local monotone piecewise cubic interpolants" (1984), on the
    /// logarithms of discount factors.
    Pchip,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Linear, Self::FlatForward, Self::MonotoneConvex, Self::Pchip];
}

/// A curve through its nodes.
#[derive(Debug, Clone)]
pub(super) struct Interpolant {
    /// Zero, then the quoted times in years.
    times: Vec<f64>,
    /// `-ln D` at each.
    logs: Vec<f64>,
    shape: Shape,
}

#[derive(Debug, Clone)]
enum Shape {
    Linear,
    FlatForward,
    /// Instantaneous forwards at the nodes.
    MonotoneConvex(Vec<f64>),
    /// Slopes at the nodes.
    Pchip(Vec<f64>),
}

/// `-ln D` and the instantaneous forward rate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    pub(super) log: f64,
    pub(super) forward: f64,
}

impl Interpolant {
    /// Through continuously compounded zero rates at rising times above zero.
    pub(super) fn new(method: Method, times: &[f64], zeros: &[f64]) -> Self {
        let mut all = vec![0.0];
        all.extend_from_slice(times);
        let mut logs = vec![0.0];
        logs.extend(times.iter().zip(zeros).map(|(time, zero)| time * zero));
        let shape = match method {
            Method::Linear => Shape::Linear,
            Method::FlatForward => Shape::FlatForward,
            Method::MonotoneConvex => Shape::MonotoneConvex(monotone_convex::node_forwards(&all, &logs)),
            Method::Pchip => Shape::Pchip(pchip::slopes(&all, &logs)),
        };
        Self { times: all, logs, shape }
    }

    /// The forward rates between neighbouring nodes: those that the nodes imply, whatever runs between them.
    pub(super) fn implied_forwards(&self) -> impl Iterator<Item = (f64, f64, f64)> {
        self.times
            .windows(2)
            .zip(self.logs.windows(2))
            .map(|(times, logs)| (times[0], times[1], (logs[1] - logs[0]) / (times[1] - times[0])))
    }

    /// The curve at a time of zero or more years. Beyond the last node the forward rate stays what it was there.
    pub(super) fn at(&self, time: f64) -> Point {
        let last = self.times.len() - 1;
        if time > self.times[last] {
            let end = self.at(self.times[last]);
            return Point { log: end.log + end.forward * (time - self.times[last]), ..end };
        }
        // The interval that ends at or after the time.
        let right = self.times.partition_point(|node| *node < time).clamp(1, last);
        let (from, until) = (self.times[right - 1], self.times[right]);
        let (low, high) = (self.logs[right - 1], self.logs[right]);
        let width = until - from;
        let slope = (high - low) / width;
        match &self.shape {
            Shape::FlatForward => Point { log: low + slope * (time - from), forward: slope },
            Shape::Linear => self.linear(right, time),
            Shape::MonotoneConvex(forwards) => {
                let ends = (forwards[right - 1] - slope, forwards[right] - slope);
                let (value, integral) = monotone_convex::section(ends, (time - from) / width);
                Point { log: low + slope * (time - from) + width * integral, forward: slope + value }
            }
            Shape::Pchip(slopes) => {
                let ends = (slopes[right - 1], slopes[right]);
                let (log, forward) = pchip::section((low, high), ends, width, (time - from) / width);
                Point { log, forward }
            }
        }
    }

    /// Before the first node the zero rate is that of the node.
    fn linear(&self, right: usize, time: f64) -> Point {
        let zero_at = |place: usize| self.logs[place] / self.times[place];
        if right == 1 {
            return Point { log: zero_at(1) * time, forward: zero_at(1) };
        }
        let (low, high) = (zero_at(right - 1), zero_at(right));
        let slope = (high - low) / (self.times[right] - self.times[right - 1]);
        let zero = low + slope * (time - self.times[right - 1]);
        Point { log: zero * time, forward: zero + slope * time }
    }
}
