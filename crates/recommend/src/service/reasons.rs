//! Why an entity stands where it stands: the source that added most to its score, and what of the user's history
//! that source rests on.

use std::collections::BTreeMap;

use super::answer::{Because, Explanation, Recommendation, SourceShare};
use super::context::Context;
use super::query::{Query, Returned};
use super::ranking::{Basis, Parts, Ranking};
use super::select::Picked;
use crate::attributes::AttributeValue;
use crate::serving::Family;
use crate::views::{Entities, Entity, TenantView};

/// History items told for each source.
const BECAUSE: usize = 3;
/// Attributes that name an entity to people.
const TITLES: [&str; 3] = ["title", "name", "label"];

/// What the lines of an answer are made from.
pub(super) struct Lines<'a> {
    pub(super) view: &'a TenantView,
    pub(super) context: &'a Context,
    pub(super) query: &'a Query,
    pub(super) ranking: &'a Ranking,
}

impl Lines<'_> {
    /// One line for each entity that was picked.
    pub(super) fn of(&self, picked: &[Picked]) -> Vec<Recommendation> {
        let entities: Vec<u32> = picked.iter().map(|picked| picked.entity).collect();
        let contributions = match &self.ranking.basis {
            Basis::Parts(parts) => parts.contributions(&entities),
            _ => vec![Vec::new(); picked.len()],
        };
        picked.iter().zip(contributions).map(|(picked, added)| self.line(picked, &added)).collect()
    }

    fn line(&self, picked: &Picked, added: &[f32]) -> Recommendation {
        let entities = &self.view.entities;
        let entity = &entities.all()[picked.entity as usize];
        Recommendation {
            entity_id: entity.id.to_string(),
            entity_type: entities.type_of(entity).to_owned(),
            score: picked.score,
            reason: self.reason(picked.entity, added),
            attributes: attributes(entity, &self.query.returned),
            explanation: self.query.explain.then(|| self.explanation(picked, added)),
        }
    }

    fn reason(&self, entity: u32, added: &[f32]) -> String {
        match &self.ranking.basis {
            Basis::Trending(days) => format!("chosen often in the last {days} days"),
            Basis::Popular => self.popular(entity),
            Basis::Latest => "new in the catalogue".to_owned(),
            Basis::Together(with) => format!("chosen together with {}", title(&self.view.entities, *with)),
            Basis::Parts(parts) => self.reason_of_parts(parts, entity, added),
        }
    }

    fn reason_of_parts(&self, parts: &Parts, entity: u32, added: &[f32]) -> String {
        let most = (0..added.len()).max_by(|one, two| added[*one].total_cmp(&added[*two]));
        let Some(part) = most.filter(|part| added[*part] > 0.0) else {
            return "the best of what is left".to_owned();
        };
        let because = parts.model().because(part, self.context.history(), entity, 1);
        let title = because.first().map(|(item, _)| title(&self.view.entities, *item));
        match (parts.model().family(part), title) {
            (Family::Collaborative, Some(title)) => format!("chosen by people who chose {title}"),
            (Family::Collaborative, None) => "chosen by people with a similar taste".to_owned(),
            (Family::Sequence, Some(title)) => format!("often follows {title}"),
            (Family::Sequence, None) => "fits the latest choices".to_owned(),
            (Family::Content, Some(title)) => format!("similar to {title}"),
            (Family::Content, None) => "similar to earlier choices".to_owned(),
            (Family::Popularity, _) => self.popular(entity),
        }
    }

    fn popular(&self, entity: u32) -> String {
        format!("popular: {} interactions", self.view.activity.count(entity))
    }

    fn explanation(&self, picked: &Picked, added: &[f32]) -> Explanation {
        let boost = picked.boost;
        let Basis::Parts(parts) = &self.ranking.basis else {
            return Explanation { sources: Vec::new(), boost };
        };
        let share = |(part, contribution): (usize, &f32)| {
            let because = parts.model().because(part, self.context.history(), picked.entity, BECAUSE);
            let named = |(item, added)| named(&self.view.entities, item, added);
            Some(SourceShare {
                source: parts.model().name(part),
                raw: parts.raw(part, picked.entity)?,
                contribution: *contribution,
                because: because.into_iter().map(named).collect(),
            })
        };
        Explanation { sources: added.iter().enumerate().filter_map(share).collect(), boost }
    }
}

fn named(entities: &Entities, index: u32, contribution: f32) -> Because {
    let entity = &entities.all()[index as usize];
    Because {
        entity_id: entity.id.to_string(),
        entity_type: entities.type_of(entity).to_owned(),
        contribution,
    }
}

fn title(entities: &Entities, index: u32) -> String {
    let Some(entity) = entities.get(index) else { return String::new() };
    let found = TITLES.iter().find_map(|name| match entity.attributes.get(*name) {
        Some(AttributeValue::Text(text)) => Some(text.as_str()),
        _ => None,
    });
    format!("`{}`", found.unwrap_or(&entity.id))
}

fn attributes(entity: &Entity, returned: &Returned) -> Option<BTreeMap<String, AttributeValue>> {
    match returned {
        Returned::Nothing => None,
        Returned::All => Some(entity.attributes.clone()),
        Returned::Named(names) => {
            let named = names.iter().filter_map(|name| entity.attributes.get_key_value(name));
            Some(named.map(|(name, value)| (name.clone(), value.clone())).collect())
        }
    }
}
