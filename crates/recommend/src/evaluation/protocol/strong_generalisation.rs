//! Strong generalisation: whole users are held out, and a random share of each one's items is given as history (Liang et
//! al. 2018, "Variational autoencoders for collaborative filtering").
//!
//! As there: weights below a threshold are dropped, users with too few items are dropped, items that no training user has
//! are dropped from the held-out users, and the final fit sees the training users only.

use super::holdout::{Builder, Rows};
use super::{Parts, Split, active_users, choose, generator, shuffle};
use crate::algorithms::{History, Interactions};
use crate::evaluation::{EvaluationError, require};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How users and items are held out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Seed of all draws.
    pub seed: u64,
    /// The share of users for validation, and again for test; in (0, 0.5).
    pub held_out_share: f64,
    /// The share of a held-out user's items that is given as history; in (0, 1).
    pub fold_in_share: f64,
    /// Interactions with a lower weight are dropped (4 for ratings of 1 to 5); `None` keeps all.
    pub minimum_weight: Option<f32>,
    /// Users with fewer interactions are dropped.
    pub minimum_interactions: usize,
    /// How often targets are drawn of each validation user for [`super::Training::choices`], at least once. One draw of few
    /// users is too noisy to choose by. The first is the validation part.
    pub validation_draws: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 0,
            held_out_share: 0.1,
            fold_in_share: 0.8,
            minimum_weight: None,
            minimum_interactions: 5,
            validation_draws: 20,
        }
    }
}

impl Settings {
    fn validate(&self) -> Result<(), EvaluationError> {
        let is_share = |share: f64, most: f64| share > 0.0 && share < most;
        require(is_share(self.held_out_share, 0.5), "held_out_share", "between 0 and 0.5, both excluded")?;
        require(is_share(self.fold_in_share, 1.0), "fold_in_share", "between 0 and 1, both excluded")?;
        require(self.validation_draws > 0, "validation_draws", "at least 1")?;
        require(self.minimum_weight.is_none_or(f32::is_finite), "minimum_weight", "a finite number")
    }
}

/// Splits by user. The held-out share is rounded, and is at least one user.
///
/// # Errors
/// [`EvaluationError::Setting`] for settings out of range, [`EvaluationError::Data`] where fewer than three users are left
/// or none of those held out has a target.
pub fn split(data: &Interactions, settings: &Settings) -> Result<Split, EvaluationError> {
    settings.validate()?;
    let data = &filtered(data, settings)?;
    let mut users: Vec<usize> = (0..data.user_count()).filter(|&user| !data.row(user).is_empty()).collect();
    if users.len() < 3 {
        return Err(EvaluationError::Data(format!(
            "{} users have {} interactions; 3 are needed",
            users.len(),
            settings.minimum_interactions
        )));
    }
    shuffle(&mut users, &mut generator(settings.seed, u64::MAX));
    let count =
        ((users.len() as f64 * settings.held_out_share).round() as usize).clamp(1, (users.len() - 1) / 2);
    let (held_out, training_users) = users.split_at(2 * count);
    let mut fit = Rows::like(data);
    let mut training_users = training_users.to_vec();
    training_users.sort_unstable();
    training_users.iter().for_each(|&user| fit.push(data.row(user)));
    let fit = Arc::new(fit.finish()?);
    let frequencies = fit.item_frequencies();
    let (mut validation, mut test) = (Builder::like(data), Builder::like(data));
    let mut choices = Builder::like(data);
    let mut unknown = 0;
    for (part, builder) in held_out.chunks(count).zip([&mut validation, &mut test]) {
        let mut part = part.to_vec();
        part.sort_unstable();
        for user in part {
            let mut generator = generator(settings.seed, user as u64);
            unknown += hold_out(user, data.row(user), &frequencies, settings, &mut generator, builder)?;
        }
    }
    let mut validation_users = held_out[..count].to_vec();
    validation_users.sort_unstable();
    for user in validation_users {
        // One stream for all draws of a user, so that the first is that of the validation part.
        let mut generator = generator(settings.seed, user as u64);
        for _ in 0..settings.validation_draws {
            hold_out(user, data.row(user), &frequencies, settings, &mut generator, &mut choices)?;
        }
    }
    let draws = settings.validation_draws;
    let mut notes = vec![
        "the final fit sees the training users only".to_owned(),
        format!("settings and blend are chosen on {draws} draws of targets of each validation user"),
    ];
    if unknown > 0 {
        notes.push(format!(
            "{unknown} held-out interactions with items that no training user has are dropped"
        ));
    }
    Parts {
        protocol: protocol(settings),
        seed: Some(settings.seed),
        users: active_users(data),
        interactions: data.len(),
        fit: Arc::clone(&fit),
        final_fit: fit,
        validation,
        choices: Some(choices),
        test,
        notes,
    }
    .finish()
}

fn protocol(settings: &Settings) -> String {
    let kept = settings.minimum_weight.map_or(String::new(), |weight| format!(", weights >= {weight}"));
    format!(
        "strong generalisation ({:.0} % of users held out twice, {:.0} % fold-in, >= {} interactions{kept})",
        100.0 * settings.held_out_share,
        100.0 * settings.fold_in_share,
        settings.minimum_interactions,
    )
}

/// Empties the rows that are too short, so that users keep their index.
fn filtered(data: &Interactions, settings: &Settings) -> Result<Interactions, EvaluationError> {
    let mut kept = Rows::like(data);
    for row in data.rows() {
        let is_kept = |entry: usize| settings.minimum_weight.is_none_or(|least| row.weights[entry] >= least);
        let count = (0..row.len()).filter(|&entry| is_kept(entry)).count();
        kept.push_where(row, |entry| count >= settings.minimum_interactions && is_kept(entry));
    }
    Ok(kept.finish()?)
}

/// Divides the known items of one user at random; returns the number of unknown ones.
fn hold_out(
    user: usize,
    row: History<'_>,
    frequencies: &[u32],
    settings: &Settings,
    generator: &mut ChaCha8Rng,
    builder: &mut Builder,
) -> Result<usize, EvaluationError> {
    let known: Vec<usize> =
        (0..row.len()).filter(|&entry| frequencies[row.items[entry] as usize] > 0).collect();
    // A hair above, so that 0.2 of 5 is 1 whatever the rounding.
    let target_count = ((1.0 - settings.fold_in_share) * known.len() as f64 + 1e-9) as usize;
    let chosen = choose(known.len(), target_count, generator);
    let part = |is_target: bool| -> Result<Interactions, EvaluationError> {
        let mut is_part = vec![false; row.len()];
        known.iter().zip(&chosen).for_each(|(&entry, &chosen)| is_part[entry] = chosen == is_target);
        let mut rows = Rows::over(frequencies.len());
        rows.push_where(row, |entry| is_part[entry]);
        Ok(rows.finish()?)
    };
    builder.push(user, part(false)?.row(0), part(true)?.row(0));
    Ok(row.len() - known.len())
}
