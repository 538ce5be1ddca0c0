//! Guesses a mapping from the names of columns that data sets commonly use, and refuses where a guess is not
//! safe.
//!
//! To add one more name: the list that it belongs to, in lower case and without `_`, `-` and spaces.

use kernel::Result;

use super::assemble::list_of;
use super::mapping::{Mapping, Origin, fault};
use super::times::TimeUnit;

const USER: &[&str] = &["userid", "user", "uid", "customerid", "visitorid", "memberid"];
const ENTITY: &[&str] = &[
    "entityid",
    "itemid",
    "item",
    "iid",
    "movieid",
    "movie",
    "productid",
    "product",
    "articleid",
    "bookid",
    "asin",
];
const ENTITY_TYPE: &[&str] = &["entitytype", "itemtype"];
const INTERACTION_TYPE: &[&str] =
    &["interactiontype", "eventtype", "event", "action", "feedbacktype", "behaviortype"];
const VALUE: &[&str] = &["value", "rating", "score", "stars"];
/// What our own export calls it; where a column of [`VALUE`] stands beside it, that one is meant.
const WEIGHT: &[&str] = &["weight"];
const TIMESTAMP: &[&str] =
    &["timestamp", "time", "ts", "datetime", "date", "createdat", "timestampms", "eventtime"];
const ATTRIBUTES: &[&str] = &["attributes"];
const METADATA: &[&str] = &["metadata"];

/// The mapping that these columns suggest.
///
/// # Errors
/// `IMPORT_MAPPING` where neither a user nor an entity is recognised, or two columns could be the same thing.
pub(super) fn mapping_of(columns: &[&str]) -> Result<Mapping> {
    let mut mapping = Mapping {
        user_id: find(columns, USER, "user_id")?,
        entity_id: find(columns, ENTITY, "entity_id")?,
        entity_type: find(columns, ENTITY_TYPE, "entity_type")?,
        ..Mapping::default()
    };
    match (&mapping.user_id, &mapping.entity_id) {
        (None, None) => {
            return Err(fault(format!(
                "cannot tell which column is the user or the entity: the header has {}; pass a mapping such as \
                 user_id=COLUMN,entity_id=COLUMN",
                list_of(columns.iter().copied())
            )));
        }
        (Some(_), Some(_)) => {
            mapping.interaction_type = find(columns, INTERACTION_TYPE, "interaction_type")?;
            mapping.value = find(columns, VALUE, "value")?.or(find(columns, WEIGHT, "value")?);
            mapping.timestamp = find(columns, TIMESTAMP, "timestamp")?.map(|origin| (origin, TimeUnit::Auto));
            mapping.all_metadata = find(columns, METADATA, "metadata")?;
        }
        _ => {
            // Attributes in one column of JSON, or one column each.
            mapping.all_attributes = find(columns, ATTRIBUTES, "attributes")?.or(Some(Origin::Rest));
        }
    }
    Ok(mapping)
}

fn find(columns: &[&str], names: &[&str], target: &str) -> Result<Option<Origin>> {
    let mut found: Vec<&str> =
        columns.iter().copied().filter(|column| names.contains(&plain(column).as_str())).collect();
    found.dedup();
    match found[..] {
        [] => Ok(None),
        [column] => Ok(Some(Origin::Column(column.to_owned()))),
        _ => Err(fault(format!(
            "{target} could be any of {}: pass a mapping such as {target}=COLUMN",
            list_of(found.iter().copied())
        ))),
    }
}

/// `User_ID:token` (the suffix is RecBole's) becomes `userid`.
fn plain(column: &str) -> String {
    let name = column.split(':').next().unwrap_or(column);
    name.chars().filter(|letter| !matches!(letter, '_' | '-' | ' ')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_guessed() {
        let check = |columns: &[&str], expected: Result<&str, &str>| match (mapping_of(columns), expected) {
            (Ok(mapping), Ok(text)) => assert_eq!(mapping, text.parse().unwrap(), "{columns:?}"),
            (Err(error), Err(part)) => assert!(error.message().contains(part), "{error}"),
            (found, _) => panic!("{columns:?}: {found:?}"),
        };
        check(
            &["userId", "movieId", "rating", "timestamp"],
            Ok("user_id=userId,entity_id=movieId,value=rating,timestamp=timestamp"),
        );
        check(
            &["user_id:token", "item_id:token"],
            Ok("user_id=\"user_id:token\",entity_id=\"item_id:token\""),
        );
        check(
            &["user_id", "entity_id", "interaction_type", "weight", "timestamp"],
            Ok(
                "user_id=user_id,entity_id=entity_id,interaction_type=interaction_type,value=weight,timestamp=timestamp",
            ),
        );
        check(&["user", "item", "rating", "weight"], Ok("user_id=user,entity_id=item,value=rating"));
        check(&["item_id", "title"], Ok("entity_id=item_id,attributes=*"));
        check(&["user_id", "attributes"], Ok("user_id=user_id,attributes=attributes"));
        check(&["a", "b"], Err("the header has `a`, `b`"));
        check(&["user", "user_id", "item"], Err("user_id could be any of `user`, `user_id`"));
        check(&[], Err("cannot tell"));
    }
}
