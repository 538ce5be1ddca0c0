//! Why an entity stands where it stands: the source that added most to its score, and what of the user's history
//! that source rests on.

use std::collections::BTreeMap;

use super::answer::{Because, Explanation, Recommendation, SourceShare};
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

/// The reason of what the request's text says most for.
const FOUND: &str = "found for the query";
/// The source of what the request's text adds.
const SEARCH: &str = "search";

/// What the lines of an answer are made from.
pub(super) struct Lines<'a> {
    pub(super) view: &'a TenantView,
    pub(super) query: &'a Query,
    pub(super) ranking: &'a Ranking,
    /// What stands in for it, in order.
    pub(super) others: &'a [Ranking],
    pub(super) now_ms: i64,
}

/// The history items that parts' scores of entities rest on, with what each added.
type Evidence = BTreeMap<(usize, u32), Vec<(u32, f32)>>;

impl Lines<'_> {
    /// One line for each entity that was picked.
    pub(super) fn of(&self, picked: &[Picked]) -> Vec<Recommendation> {
        // What was asked for comes before what stands in for it.
        let own = picked.iter().take_while(|picked| picked.stage == 0);
        let entities: Vec<u32> = own.map(|picked| picked.entity).collect();
        let (mut added, evidence) = match &self.ranking.basis {
            Basis::Parts(parts) => {
                let added = parts.contributions(&entities);
                let evidence = self.evidence(parts, &entities, &added);
                (added, evidence)
            }
            _ => (Vec::new(), Evidence::new()),
        };
        added.resize(picked.len(), Vec::new());
        picked.iter().zip(added).map(|(picked, added)| self.line(picked, &added, &evidence)).collect()
    }

    /// Asked of each part at once for all the entities that need it, because entities share work.
    fn evidence(&self, parts: &Parts, entities: &[u32], added: &[Vec<f32>]) -> Evidence {
        let mut wanted: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for (entity, added) in entities.iter().zip(added) {
            if self.query.explain {
                (0..added.len()).for_each(|part| wanted.entry(part).or_default().push(*entity));
            } else if let Some(part) = most_of(added) {
                wanted.entry(part).or_default().push(*entity);
            }
        }
        let count = if self.query.explain { BECAUSE } else { 1 };
        let mut evidence = Evidence::new();
        for (part, entities) in wanted {
            let found =
                parts.model.because(part, &parts.known, &entities, count, |item| self.may_be_named(item));
            evidence.extend(entities.into_iter().map(|entity| (part, entity)).zip(found));
        }
        evidence
    }

    fn line(&self, picked: &Picked, added: &[f32], evidence: &Evidence) -> Recommendation {
        let entities = &self.view.entities;
        let entity = &entities.all()[picked.entity as usize];
        Recommendation {
            entity_id: entity.id.to_string(),
            entity_type: entities.type_of(entity).to_owned(),
            score: picked.score,
            reason: self.reason(picked, added, evidence),
            attributes: attributes(entity, &self.query.returned),
            explanation: self.query.explain.then(|| self.explanation(picked, added, evidence)),
        }
    }

    fn ranking_of(&self, picked: &Picked) -> &Ranking {
        picked.stage.checked_sub(1).map_or(self.ranking, |other| &self.others[other])
    }

    /// What may not be recommended now is not told of either.
    fn may_be_named(&self, entity: u32) -> bool {
        self.view.entities.get(entity).is_some_and(|entity| entity.is_available(self.now_ms))
    }

    fn reason(&self, picked: &Picked, added: &[f32], evidence: &Evidence) -> String {
        let ranking = self.ranking_of(picked);
        let said = ranking.said.get(&picked.entity).map_or(0.0, |said| said.added);
        let most = match &ranking.basis {
            Basis::Parts(_) => most_of(added).map_or(0.0, |part| added[part]),
            Basis::Search => 0.0,
            _ => picked.score - picked.boost - picked.shift - said,
        };
        if picked.boost > most.max(said).max(0.0) {
            return "boosted by the request".to_owned();
        }
        if said > most.max(0.0) {
            return FOUND.to_owned();
        }
        match &ranking.basis {
            Basis::Trending(1) => "chosen in the last day".to_owned(),
            Basis::Trending(days) => format!("chosen in the last {days} days"),
            Basis::Popular => self.popular(picked.entity),
            Basis::Latest => "new in the catalogue".to_owned(),
            Basis::Search => FOUND.to_owned(),
            Basis::Together(with) if self.may_be_named(*with) => {
                format!("chosen together with {}", title(&self.view.entities, *with))
            }
            Basis::Together(_) => "chosen in one go".to_owned(),
            Basis::Parts(parts) => self.reason_of_parts(parts, picked.entity, added, evidence),
        }
    }

    fn reason_of_parts(&self, parts: &Parts, entity: u32, added: &[f32], evidence: &Evidence) -> String {
        let Some(part) = most_of(added) else { return "the best of what is left".to_owned() };
        let because = evidence.get(&(part, entity)).and_then(|found| found.first());
        let title = because.map(|(item, _)| title(&self.view.entities, *item));
        match (parts.model.family(part), title) {
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
        match self.view.activity.count(entity) {
            1 => "popular: 1 interaction".to_owned(),
            count => format!("popular: {count} interactions"),
        }
    }

    fn explanation(&self, picked: &Picked, added: &[f32], evidence: &Evidence) -> Explanation {
        let boost = picked.boost;
        let ranking = self.ranking_of(picked);
        let said = ranking.said.get(&picked.entity);
        let rest = picked.score - boost - said.map_or(0.0, |said| said.added);
        let simple = |source| {
            vec![SourceShare { source, raw: rest - picked.shift, contribution: rest, because: Vec::new() }]
        };
        let mut sources = match &ranking.basis {
            Basis::Trending(_) => simple("trending"),
            Basis::Popular => simple("popular"),
            Basis::Latest => simple("latest"),
            Basis::Together(_) => simple("bought_together"),
            Basis::Parts(parts) => self.shares_of_parts(parts, picked, added, evidence),
            Basis::Search => Vec::new(),
        };
        if let Some(said) = said {
            let contribution = match &ranking.basis {
                Basis::Search => picked.score - boost,
                _ => said.added,
            };
            sources.push(SourceShare { source: SEARCH, raw: said.raw, contribution, because: Vec::new() });
        }
        Explanation { sources, boost }
    }

    fn shares_of_parts(
        &self,
        parts: &Parts,
        picked: &Picked,
        added: &[f32],
        evidence: &Evidence,
    ) -> Vec<SourceShare> {
        let named = |(item, added): &(u32, f32)| named(&self.view.entities, *item, *added);
        let share = |(part, contribution): (usize, &f32)| {
            let because = evidence.get(&(part, picked.entity)).map(Vec::as_slice).unwrap_or_default();
            Some(SourceShare {
                source: parts.model.name(part),
                raw: parts.raw(part, picked.entity)?,
                contribution: *contribution,
                because: because.iter().map(named).collect(),
            })
        };
        added.iter().enumerate().filter_map(share).collect()
    }
}

/// The part that added most, where any added.
fn most_of(added: &[f32]) -> Option<usize> {
    let most = (0..added.len()).max_by(|one, two| added[*one].total_cmp(&added[*two]));
    most.filter(|part| added[*part] > 0.0)
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
