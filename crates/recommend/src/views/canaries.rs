//! The canaries of a tenant as the log tells of them, and what was seen of the one in force.
//!
//! What was shown is kept with its user, so that it goes when the user does, and only until the canary ends. When it was first
//! taken up is kept with it, whichever of both events comes first: neither a restart nor what is let go of later changes it.

use std::collections::BTreeSet;

use parking_lot::RwLock;
use rollout::canary::{Arm, Seen};
use serde::{Deserialize, Serialize};

use super::{Entry, Place, TenantView, User};
use crate::events::{ArmSettings, CanaryDecided, CanaryStarted, Stage};

/// Canaries that are remembered with all that was decided; of those before them, the names.
const KEPT: usize = 50;
/// Users that are read under one hold of the lock, so that neither the fold nor an answer behind it waits long.
const USERS_PER_HOLD: usize = 512;

/// The first answer of a user in an arm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposure {
    /// The canary.
    pub canary: Box<str>,
    /// The arm.
    pub arm: Arm,
    /// When, in unix milliseconds.
    pub at_ms: i64,
    /// Where its event stands in the log.
    pub place: Place,
    /// The answer failed.
    pub failed: bool,
    /// The answer was slow.
    pub slow: bool,
    /// What was shown.
    pub entities: Box<[u32]>,
    /// When the user first chose something of it, in unix milliseconds.
    pub chosen_at_ms: Option<i64>,
}

impl Exposure {
    /// Takes in that the user chose something, where that was shown here and is the first of it.
    pub(super) fn note_choice(&mut self, choice: &Entry) {
        let at_ms = choice.time_ms();
        if at_ms >= self.at_ms && self.entities.contains(&choice.entity) {
            self.chosen_at_ms = Some(self.chosen_at_ms.map_or(at_ms, |known| known.min(at_ms)));
        }
    }
}

/// A decision and when it was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Its number among all decisions of the tenant, 1 for the first.
    pub number: u64,
    /// In unix milliseconds.
    pub at_ms: i64,
    /// What was decided.
    pub data: CanaryDecided,
}

/// A canary as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Canary {
    /// How it began.
    pub started: CanaryStarted,
    /// When, in unix milliseconds.
    pub started_at_ms: i64,
    /// How far it is.
    pub stage: Stage,
    /// Percent of the users that get the candidate.
    pub percent: u8,
    /// When the step began, in unix milliseconds.
    pub step_began_ms: i64,
    /// What was decided, oldest first.
    pub decisions: Vec<Decision>,
}

impl Canary {
    /// What is served where it is not running.
    #[must_use]
    pub fn settled(&self) -> &ArmSettings {
        match self.stage {
            Stage::Complete => &self.started.candidate,
            Stage::Running | Stage::RolledBack => &self.started.control,
        }
    }
}

/// The canaries of a tenant.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CanaryList {
    list: Vec<Canary>,
    decided: u64,
    /// Names of those that left the list: what was shown in them counts no more, wherever the log tells of it.
    former: BTreeSet<String>,
}

impl CanaryList {
    /// Every one that is remembered, oldest first.
    #[must_use]
    pub fn all(&self) -> &[Canary] {
        &self.list
    }

    /// The one of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Canary> {
        self.list.iter().find(|canary| canary.started.canary == name)
    }

    /// Whether there ever was one of that name.
    #[must_use]
    pub fn is_taken(&self, name: &str) -> bool {
        self.find(name).is_some() || self.former.contains(name)
    }

    /// The one that began last: it says what is served.
    #[must_use]
    pub fn in_force(&self) -> Option<&Canary> {
        self.list.last()
    }

    /// Decisions that were ever made.
    #[must_use]
    pub fn decided(&self) -> u64 {
        self.decided
    }

    /// Begins one; nothing where the name is taken, another is running, or its control is not what is served: the server that
    /// began it did not know the last decision.
    pub(super) fn start(&mut self, started: CanaryStarted, at_ms: i64) {
        let is_running = self.in_force().is_some_and(|canary| canary.stage == Stage::Running);
        let served = self.in_force().map(|canary| canary.settled().clone()).unwrap_or_default();
        if is_running || self.is_taken(&started.canary) || started.control != served {
            return;
        }
        if self.list.len() >= KEPT {
            self.former.insert(self.list.remove(0).started.canary);
        }
        self.list.push(Canary {
            percent: started.plan.first_percent(),
            started,
            started_at_ms: at_ms,
            stage: Stage::Running,
            step_began_ms: at_ms,
            decisions: Vec::new(),
        });
    }

    /// Takes a decision about the canary in force; one that does not follow the last is of a server that did not know it, and
    /// does nothing. True where the canary ended.
    pub(super) fn decide(&mut self, data: CanaryDecided, at_ms: i64) -> bool {
        let found = self.list.last_mut().filter(|canary| canary.started.canary == data.canary);
        let Some(canary) = found.filter(|canary| data.sequence == canary.decisions.len() as u64 + 1) else {
            return false;
        };
        self.decided += 1;
        (canary.stage, canary.percent, canary.step_began_ms) = (data.stage, data.percent, at_ms);
        canary.decisions.push(Decision { number: self.decided, at_ms, data });
        canary.stage != Stage::Running
    }

    /// Whether what is shown in it still counts: a canary whose beginning is in another partition may be unknown yet.
    pub(super) fn counts(&self, name: &str) -> bool {
        match self.find(name) {
            Some(canary) => canary.stage == Stage::Running,
            None => !self.former.contains(name),
        }
    }
}

/// What is seen of a canary now: the first answer of each user in it, whichever arm that was in. What a user does with a later
/// one hangs together with the first, and the candidate alone has users who saw the other arm before. Outcomes are known once
/// their window is over.
///
/// It is read in parts, and what is folded in between may be seen or not.
#[must_use]
pub fn seen(view: &RwLock<TenantView>, canary: &Canary, now_ms: i64) -> Seen {
    let elapsed_ms = now_ms.saturating_sub(canary.step_began_ms);
    let mut seen = Seen { step_seconds: u64::try_from(elapsed_ms / 1_000).unwrap_or(0), ..Seen::default() };
    let mut from = Some(0);
    while let Some(first) = from {
        from = view.read().seen_part(canary, now_ms, first, USERS_PER_HOLD, &mut seen);
    }
    seen
}

impl TenantView {
    /// Adds what is seen of at most `count` users to `seen`, by index from `from` on. Where to go on, if anyone is left.
    fn seen_part(
        &self,
        canary: &Canary,
        now_ms: i64,
        from: u32,
        count: usize,
        seen: &mut Seen,
    ) -> Option<u32> {
        let mut users = self.users.exposed_from(from);
        for (_, user) in users.by_ref().take(count) {
            // Who took back their consent decides nothing more.
            if user.consent.personalisation {
                see(user, canary, now_ms, seen);
            }
        }
        users.next().map(|(index, _)| index)
    }
}

/// Adds what is seen of a user.
fn see(user: &User, canary: &Canary, now_ms: i64, seen: &mut Seen) {
    let seconds = i64::try_from(canary.started.outcome_window_seconds).unwrap_or(i64::MAX);
    let window_ms = seconds.saturating_mul(1_000);
    let shown = user.exposures().iter().filter(|shown| *shown.canary == *canary.started.canary);
    for (number, exposure) in shown.enumerate() {
        let until_ms = exposure.at_ms.saturating_add(window_ms);
        let (is_known, is_candidate) = (until_ms <= now_ms, exposure.arm == Arm::Candidate);
        if is_known && is_candidate && exposure.at_ms >= canary.step_began_ms {
            seen.since_step += 1;
        }
        if number > 0 {
            continue;
        }
        let counts = if is_candidate { &mut seen.candidate } else { &mut seen.control };
        let share = |holds: bool| f64::from(u8::from(holds));
        counts.errors.add(share(exposure.failed));
        counts.latency.add(share(exposure.slow));
        if is_known {
            counts.loss.add(share(exposure.chosen_at_ms.is_none_or(|at_ms| at_ms > until_ms)));
        }
    }
}

#[cfg(test)]
mod tests {
    use kernel::{Event, EventDraft, Scope, TenantId, Timestamp};
    use proptest::prelude::*;
    use rollout::canary::{Plan, Reading};
    use serde_json::{Value, json};
    use store::Stored;
    use stream::Fold;

    use super::*;
    use crate::events::kinds;
    use crate::views::Views;

    const SECOND_MS: i64 = 1_000;

    fn scope() -> Scope {
        Scope::system(TenantId::new("shop").unwrap(), "test")
    }

    fn event(kind: &str, at_ms: i64, data: &Value) -> Event {
        let json = json!({"specversion": "1.0", "id": "1", "source": "/t", "type": kind, "data": data,
            "time": Timestamp::from_millisecond(at_ms).unwrap().to_string()});
        let draft: EventDraft = serde_json::from_value(json).unwrap();
        draft.seal(&scope(), Timestamp::UNIX_EPOCH).unwrap()
    }

    fn started() -> Event {
        let data = json!({"canary": "one", "mode": "canary", "key": "k", "control": {}, "candidate": {"algorithm": "latest"},
            "plan": Plan::default(), "outcome_window_seconds": 10, "slow_ms": 100});
        event(kinds::CANARY_STARTED, 0, &data)
    }

    fn shown(user: usize, arm: &str, at_ms: i64, entities: &[&str]) -> Event {
        let entities: Vec<_> =
            entities.iter().map(|id| json!({"entity_id": id, "entity_type": "item"})).collect();
        let data = json!({"canary": "one", "user_id": format!("u{user}"), "arm": arm, "entities": entities,
            "failed": entities.is_empty(), "slow": false});
        event(kinds::CANARY_SHOWN, at_ms, &data)
    }

    fn chose(user: usize, entity: &str, at_ms: i64) -> Event {
        let data = json!({"user_id": format!("u{user}"), "entity_id": entity, "interaction_type": "view"});
        event(kinds::INTERACTION_RECORDED, at_ms, &data)
    }

    fn decided(sequence: u64, stage: &str, percent: u8) -> Event {
        let data = json!({"canary": "one", "sequence": sequence, "stage": stage, "percent": percent,
            "actor": null, "reason": "", "reading": null});
        event(kinds::CANARY_DECIDED, 60 * SECOND_MS, &data)
    }

    /// Folds events, each at its own place; a checkpoint after `cut` of them is all that goes on.
    fn fold(events: &[(usize, Event)], cut: usize) -> Views {
        let mut views = Views::default();
        for (done, (place, event)) in events.iter().enumerate() {
            if done == cut {
                let restored = Views::default();
                restored.decode(&views.encode()).unwrap();
                views = restored;
            }
            let stored = Stored { offset: *place as u64, event: event.clone() };
            assert_eq!(views.apply(0, &[stored]), []);
        }
        views
    }

    fn seen(views: &Views, now_ms: i64) -> Option<(Seen, Reading)> {
        let view = views.of(&scope());
        let view = view.read();
        let canary = view.canaries.find("one")?;
        let mut seen = Seen::default();
        let mut from = Some(0);
        while let Some(first) = from {
            from = view.seen_part(canary, now_ms, first, 2, &mut seen);
        }
        let whole = super::seen(&RwLock::new(again(&view)), canary, now_ms);
        assert_eq!(whole, Seen { step_seconds: whole.step_seconds, ..seen });
        Some((whole, canary.started.plan.read(canary.percent, &whole)))
    }

    /// As a checkpoint keeps it.
    fn again(view: &TenantView) -> TenantView {
        let mut view: TenantView = postcard::from_bytes(&postcard::to_stdvec(view).unwrap()).unwrap();
        view.index();
        view
    }

    #[test]
    fn an_answer_counts_once_its_window_is_over_and_by_what_was_chosen_of_it() {
        let events = [
            started(),
            shown(1, "candidate", SECOND_MS, &["a", "b"]),
            chose(1, "b", 11 * SECOND_MS),
            shown(2, "candidate", SECOND_MS, &["a"]),
            chose(2, "a", 11 * SECOND_MS + 1),
            chose(2, "other", 2 * SECOND_MS),
            shown(3, "control", 5 * SECOND_MS, &[]),
            // What comes after the first counts for the step alone.
            shown(3, "candidate", 30 * SECOND_MS, &["a"]),
        ];
        let events: Vec<_> = events.into_iter().enumerate().collect();
        let views = fold(&events, usize::MAX);
        let of = |now_ms: i64| {
            let (seen, _) = seen(&views, now_ms).unwrap();
            let tally = |tally: rollout::Tally| (tally.total(), tally.count);
            (
                tally(seen.candidate.loss),
                tally(seen.control.loss),
                tally(seen.control.errors),
                seen.since_step,
            )
        };
        assert_eq!(of(10 * SECOND_MS), ((0.0, 0), (0.0, 0), (1.0, 1), 0));
        assert_eq!(of(15 * SECOND_MS), ((1.0, 2), (1.0, 1), (1.0, 1), 2));
        assert_eq!(of(40 * SECOND_MS), ((1.0, 2), (1.0, 1), (1.0, 1), 3));
    }

    #[test]
    fn an_earlier_answer_that_is_told_later_is_the_first() {
        let events = [
            started(),
            shown(1, "candidate", 12 * SECOND_MS, &["a"]),
            shown(1, "control", 13 * SECOND_MS, &["a"]),
            shown(1, "control", 7 * SECOND_MS, &["a"]),
        ];
        let (seen, _) = seen(&fold(&events.into_iter().enumerate().collect::<Vec<_>>(), 9), 0).unwrap();
        assert_eq!((seen.control.errors.count, seen.candidate.errors.count), (1, 0));
    }

    #[test]
    fn users_are_read_in_parts() {
        let mut events = vec![started()];
        events.extend((0..5).map(|user| shown(user, "control", 0, &["a"])));
        let views = fold(&events.into_iter().enumerate().collect::<Vec<_>>(), usize::MAX);
        let view = views.of(&scope());
        let view = view.read();
        let canary = view.canaries.in_force().unwrap();
        let mut seen = Seen::default();
        let mut part = |from| view.seen_part(canary, 0, from, 2, &mut seen);
        assert_eq!([part(0), part(2), part(4), part(5)], [Some(2), Some(4), None, None]);
        assert_eq!(seen.control.errors.count, 5);
    }

    #[test]
    fn people_who_tire_of_later_pages_close_no_gate() {
        let mut events = vec![started()];
        // Each chooses of the first page, which is the control's for half of them, and of no later one.
        for user in 0..200 {
            let (arm, at_ms) = if user % 2 == 0 { ("control", 0) } else { ("candidate", 0) };
            events.push(shown(user, arm, at_ms, &["a"]));
            events.push(chose(user, "a", SECOND_MS));
            events.push(shown(user, "candidate", 2 * SECOND_MS, &["b"]));
        }
        let views = fold(&events.into_iter().enumerate().collect::<Vec<_>>(), usize::MAX);
        let (seen, reading) = seen(&views, 60 * SECOND_MS).unwrap();
        assert_eq!((seen.candidate.loss, seen.since_step), (rollout::Tally::of(0, 100), 200));
        assert!(reading.gates.iter().all(|gate| !gate.closed), "{reading:?}");
    }

    #[test]
    fn a_choice_is_kept_when_its_interaction_is_let_go_of_or_weighs_nothing() {
        let weight = |weight: f64| {
            let data = json!({"interaction_type": "view", "weight": weight, "description": null});
            event(kinds::INTERACTION_TYPE_PUT, SECOND_MS, &data)
        };
        let retain = json!({"first_day": {kinds::INTERACTION_RECORDED: 1}});
        let retain = event(kinds::RETENTION_APPLIED, SECOND_MS, &retain);
        let choice = [shown(1, "candidate", 0, &["a"]), chose(1, "a", SECOND_MS)];
        let late = [choice[1].clone(), choice[0].clone()];
        for (choice, after) in [(choice.clone(), weight(0.0)), (choice, retain.clone()), (late, retain)] {
            let mut events = vec![started()];
            events.extend(choice);
            events.push(after);
            let events: Vec<_> = events.into_iter().enumerate().collect();
            for cut in [usize::MAX, 3] {
                let (seen, _) = seen(&fold(&events, cut), 60 * SECOND_MS).unwrap();
                assert_eq!(seen.candidate.loss, rollout::Tally::of(0, 1));
            }
        }
    }

    #[test]
    fn who_takes_back_consent_decides_nothing_more() {
        let refusal = json!({"user_id": "u1", "personalisation": false});
        let events = [
            started(),
            shown(1, "candidate", 0, &["a"]),
            shown(2, "candidate", 0, &["a"]),
            event(kinds::USER_CONSENT, SECOND_MS, &refusal),
        ];
        let views = fold(&events.into_iter().enumerate().collect::<Vec<_>>(), usize::MAX);
        let (seen, _) = seen(&views, 60 * SECOND_MS).unwrap();
        assert_eq!((seen.candidate.loss.count, seen.since_step), (1, 1));
    }

    #[test]
    fn what_was_taken_back_is_no_control_of_a_canary_that_did_not_know_it() {
        let after = |control: &Value| {
            let data = json!({"canary": "two", "mode": "canary", "key": "k", "control": control,
                "candidate": {"algorithm": "popular"}, "plan": Plan::default(), "outcome_window_seconds": 10,
                "slow_ms": 100});
            event(kinds::CANARY_STARTED, 0, &data)
        };
        let check = |control: Value, starts: bool| {
            let events =
                [started(), decided(1, "complete", 100), decided(2, "rolled_back", 0), after(&control)];
            let views = fold(&events.into_iter().enumerate().collect::<Vec<_>>(), usize::MAX);
            let view = views.of(&scope());
            assert_eq!(view.read().canaries.find("two").is_some(), starts, "{control}");
        };
        check(json!({}), true);
        check(json!({"algorithm": "latest"}), false);
    }

    #[test]
    fn decisions_follow_one_another_and_the_last_lets_go_of_people() {
        let mut events = vec![
            started(),
            shown(1, "candidate", 0, &["a"]),
            decided(2, "complete", 100),
            decided(1, "running", 25),
        ];
        let views = fold(&events.clone().into_iter().enumerate().collect::<Vec<_>>(), 2);
        let at = |views: &Views| {
            let view = views.of(&scope());
            let view = view.read();
            let canary = view.canaries.in_force().unwrap();
            let exposures: usize = view.users.all().iter().map(|user| user.exposures().len()).sum();
            (canary.stage, canary.percent, view.canaries.decided(), exposures)
        };
        assert_eq!(at(&views), (Stage::Running, 25, 1, 1));
        events.extend([decided(2, "rolled_back", 0), shown(2, "control", 0, &["a"]), started()]);
        let views = fold(&events.into_iter().enumerate().collect::<Vec<_>>(), usize::MAX);
        assert_eq!(at(&views), (Stage::RolledBack, 0, 2, 0));
    }

    #[test]
    fn what_an_ended_canary_showed_is_let_go_of_in_parts_and_stored_no_more() {
        let batch = |events: Vec<Event>, first: u64| -> Vec<Stored> {
            let stored = |(number, event)| Stored { offset: first + number, event };
            (0..).zip(events).map(stored).collect()
        };
        let views = Views::default();
        let shown = (0..1_000).map(|user| shown(user, "control", 0, &["a"]));
        views.apply(0, &batch(std::iter::once(started()).chain(shown).collect(), 0));
        let held = |views: &Views| views.of(&scope()).read().users.exposed_count();
        assert_eq!(held(&views), 1_000);
        views.apply(0, &batch(vec![decided(1, "rolled_back", 0)], 2_000));
        assert_eq!(held(&views), 488);
        let restored = Views::default();
        restored.decode(&views.encode()).unwrap();
        assert_eq!((held(&views), held(&restored)), (0, 0));
    }

    #[test]
    fn a_name_is_used_once_and_what_left_the_list_counts_no_more() {
        let named = |name: &str| {
            let data = json!({"canary": name, "mode": "canary", "key": "k", "control": {},
                "candidate": {"algorithm": "latest"}, "plan": Plan::default(), "outcome_window_seconds": 10,
                "slow_ms": 100});
            event(kinds::CANARY_STARTED, 0, &data)
        };
        let ended = |name: &str| {
            let data = json!({"canary": name, "sequence": 1, "stage": "rolled_back", "percent": 0,
                "actor": null, "reason": "", "reading": null});
            event(kinds::CANARY_DECIDED, 0, &data)
        };
        let mut events = vec![started(), decided(1, "rolled_back", 0)];
        for number in 0..KEPT {
            events.extend([named(&format!("c{number}")), ended(&format!("c{number}"))]);
        }
        events.extend([started(), shown(1, "candidate", 0, &["a"])]);
        let count = events.len();
        for cut in [usize::MAX, count - 2] {
            let views = fold(&events.clone().into_iter().enumerate().collect::<Vec<_>>(), cut);
            let view = views.of(&scope());
            let view = view.read();
            assert_eq!((view.canaries.all().len(), view.users.exposed_count()), (KEPT, 0));
            assert!(view.canaries.find("one").is_none() && view.canaries.is_taken("one"));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// Whatever order partitions are read in, and wherever a checkpoint takes over, the same is seen.
        #[test]
        fn the_order_of_events_and_a_crash_between_them_change_nothing(
            acts in proptest::collection::vec((0..6_usize, 0..4_usize, 0..30_i64), 0..30),
            order in any::<u64>(), cut in 0..40_usize, ends in any::<bool>(),
        ) {
            let names = ["a", "b", "c"];
            let act = |(user, what, at): &(usize, usize, i64)| match what {
                0 => shown(*user, if at % 2 == 0 { "candidate" } else { "control" }, at * SECOND_MS, &names[..(*at as usize % 3)]),
                what => chose(*user, names[what - 1], at * SECOND_MS),
            };
            let end = ends.then(|| decided(1, "rolled_back", 0));
            let mut events: Vec<(usize, Event)> =
                std::iter::once(started()).chain(acts.iter().map(act)).chain(end).enumerate().collect();
            let (straight, last) = (fold(&events, usize::MAX), events.len() - 1);
            // A shuffle by a keyed hash of the place.
            events.sort_by_key(|(place, _)| xorshift(order ^ (*place as u64 + 1)));
            // But what begins and ends it is in one partition.
            let at = |events: &[(usize, Event)], place| events.iter().position(|(of, _)| *of == place).unwrap();
            let (first, end) = (at(&events, 0), at(&events, last));
            if ends && end < first {
                events.swap(first, end);
            }
            let shuffled = fold(&events, cut);
            prop_assert_eq!(user_ids(&straight), user_ids(&shuffled));
            for now in [0, 12, 50] {
                prop_assert_eq!(seen(&straight, now * SECOND_MS), seen(&shuffled, now * SECOND_MS));
            }
        }
    }

    fn user_ids(views: &Views) -> BTreeSet<Box<str>> {
        let view = views.of(&scope());
        let view = view.read();
        view.users.all().iter().map(|user| user.id.clone()).collect()
    }

    fn xorshift(mut value: u64) -> u64 {
        for _ in 0..3 {
            value ^= value << 13;
            value ^= value >> 7;
            value ^= value << 17;
        }
        value
    }
}
