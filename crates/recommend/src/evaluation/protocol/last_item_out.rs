//! Last item out: the last interaction of each user is the test target, the one before it the validation target (the
//! protocol of Kang & McAuley 2018, SASRec).
//!
//! A user with fewer than three interactions is only trained on. The final fit sees all but the last interaction, and so
//! does the history at test time. Nothing is drawn.

use super::holdout::{Builder, Rows, slice};
use super::{Parts, Split, active_users};
use crate::algorithms::Interactions;
use crate::evaluation::EvaluationError;
use std::sync::Arc;

/// Splits rows that are in time order.
///
/// # Errors
/// [`EvaluationError::Data`] where no user has three different interactions.
pub fn split(data: &Interactions) -> Result<Split, EvaluationError> {
    let (mut fit, mut final_fit) = (Rows::like(data), Rows::like(data));
    let (mut validation, mut test) = (Builder::like(data), Builder::like(data));
    let mut short_users = 0;
    for (user, row) in data.rows().enumerate() {
        let length = row.len();
        if length < 3 {
            short_users += usize::from(length > 0);
            fit.push(row);
            final_fit.push(row);
            continue;
        }
        let before_validation = slice(row, 0..length - 2);
        let before_test = slice(row, 0..length - 1);
        fit.push(before_validation);
        final_fit.push(before_test);
        validation.push(user, before_validation, slice(row, length - 2..length - 1));
        test.push(user, before_test, slice(row, length - 1..length));
    }
    let mut notes = Vec::new();
    if short_users > 0 {
        notes.push(format!("{short_users} users have fewer than 3 interactions and are only trained on"));
    }
    Parts {
        protocol: "last item out (validation: second last)".to_owned(),
        seed: None,
        users: active_users(data),
        interactions: data.len(),
        fit: Arc::new(fit.finish()?),
        final_fit: Arc::new(final_fit.finish()?),
        validation,
        choices: None,
        test,
        notes,
    }
    .finish()
}
