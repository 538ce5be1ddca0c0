//! What the windows must say, calculated plainly: a list of all events, looked at again for every question.

use std::collections::{BTreeMap, BTreeSet};

use kernel::{Event, TenantId};
use stream::Punctuation;

use crate::World;
use crate::ticks::{
    GAP_MS, HOP_LATENESS_MS, HOP_MS, HOP_SIZE_MS, HORIZON, INPUT, LATENESS_MS, RULE, SESSIONS, SLIDING, Said,
    Tally, Tick, WINDOW_MS, WINDOWS,
};

type Name = (TenantId, String, i64);

/// Windows of one size, the newest of which begins at a multiple of the slide.
#[derive(Clone, Copy)]
struct Shape {
    size_ms: i64,
    slide_ms: i64,
    lateness_ms: i64,
}

const TUMBLING: Shape = Shape { size_ms: WINDOW_MS, slide_ms: WINDOW_MS, lateness_ms: LATENESS_MS };
const HOPPING: Shape = Shape { size_ms: HOP_SIZE_MS, slide_ms: HOP_MS, lateness_ms: HOP_LATENESS_MS };

impl Shape {
    /// The starts of all windows that a time is in, newest first.
    fn starts(self, time_ms: i64) -> Vec<i64> {
        let newest = time_ms.div_euclid(self.slide_ms) * self.slide_ms;
        let starts = (0..).map(|number| newest - number * self.slide_ms);
        starts.take_while(|start_ms| start_ms + self.size_ms > time_ms).collect()
    }
}

/// An event that was used, with the watermark of its tenant before it.
struct Used {
    tenant: TenantId,
    tick: Tick,
    watermark_ms: i64,
}

/// One partition: the used events in order, and what is known of its tenants.
#[derive(Default)]
struct Partition {
    number: u32,
    used: Vec<Used>,
    told: BTreeMap<TenantId, i64>,
    newest: BTreeMap<TenantId, i64>,
    held: BTreeMap<TenantId, Vec<Event>>,
    numbers: BTreeSet<(TenantId, String, u64)>,
    hashes: BTreeMap<(TenantId, String, u64), i64>,
}

impl Partition {
    fn mark(&self, tenant: &TenantId) -> i64 {
        self.newest.get(tenant).map_or(i64::MIN, |newest| newest - RULE.delay_ms)
    }

    fn is_ahead(&self, event: &Event) -> bool {
        let known = self.newest.get(&event.tenant).max(self.told.get(&event.tenant));
        known.is_some_and(|known| event.time.as_millisecond() > known + RULE.future_limit_ms.unwrap())
    }

    fn believe(&mut self, tenant: &TenantId, time_ms: i64) {
        let newest = self.newest.entry(tenant.clone()).or_insert(time_ms);
        *newest = (*newest).max(time_ms);
    }

    fn take(&mut self, event: Event) {
        if let Some(punctuation) = Punctuation::of(&event).unwrap() {
            return self.hear(punctuation, &event.tenant);
        }
        let tenant = event.tenant.clone();
        if !self.is_ahead(&event) {
            self.held.remove(&tenant);
            return self.process(&event);
        }
        let held = self.held.entry(tenant.clone()).or_default();
        held.push(event);
        if held.len() == RULE.believed_run {
            let held = self.held.remove(&tenant).unwrap();
            held.iter().for_each(|event| self.process(event));
        }
    }

    fn hear(&mut self, punctuation: Punctuation, tenant: &TenantId) {
        if punctuation.partition != self.number {
            return;
        }
        let told = self.told.entry(tenant.clone()).or_insert(punctuation.now_ms);
        *told = (*told).max(punctuation.now_ms);
        // Which ones are in time is decided once, before any of them moves anything.
        let (ahead, in_time): (Vec<Event>, Vec<Event>) =
            self.held.remove(tenant).unwrap_or_default().into_iter().partition(|event| self.is_ahead(event));
        if !ahead.is_empty() {
            self.held.insert(tenant.clone(), ahead);
        }
        in_time.iter().for_each(|event| self.process(event));
        if punctuation.is_idle {
            self.believe(tenant, punctuation.now_ms);
        }
    }

    fn process(&mut self, event: &Event) {
        let (tenant, mark) = (event.tenant.clone(), self.mark(&event.tenant));
        let Ok(tick) = event.data_as::<Tick>() else { return };
        if tick.amount < 0 || tick.amount == 99 {
            return;
        }
        let time_ms = event.time.as_millisecond();
        let bucket = |time_ms: i64| time_ms.div_euclid(HORIZON.bucket_ms);
        let oldest = bucket(mark.saturating_sub(HORIZON.horizon_ms));
        let name = (tenant.clone(), tick.stream.clone(), tick.sequence.unwrap_or(tick.identity));
        let is_known = match tick.sequence {
            Some(_) => self.numbers.contains(&name),
            None => self.hashes.get(&name).is_some_and(|time_ms| bucket(*time_ms) >= oldest),
        };
        if is_known {
            return self.believe(&tenant, time_ms);
        }
        if tick.sequence.is_none() && bucket(time_ms) < oldest {
            return;
        }
        // With thirteen the sum refuses; whether anything else took it then is the windows' and the sessions' word.
        let is_late = |shape: Shape| shape.starts(time_ms)[0] + shape.size_ms + shape.lateness_ms <= mark;
        let is_late_for_sessions = time_ms + GAP_MS + LATENESS_MS <= mark;
        let is_remembered =
            tick.amount != 13 || !(is_late(TUMBLING) && is_late(HOPPING) && is_late_for_sessions);
        if is_remembered {
            match tick.sequence {
                Some(_) => drop(self.numbers.insert(name)),
                None => drop(self.hashes.insert(name, time_ms)),
            }
            self.believe(&tenant, time_ms);
        }
        if tick.amount != 7 {
            self.used.push(Used { tenant, tick, watermark_ms: mark });
        }
    }
}

/// The last revision of each window that closed.
fn windows(partition: &Partition, shape: Shape) -> BTreeMap<Name, (u32, Tally)> {
    let mut windows: BTreeMap<Name, (Tally, u32)> = BTreeMap::new();
    for used in &partition.used {
        for start_ms in shape.starts(used.tick.time_ms) {
            let end_ms = start_ms + shape.size_ms;
            if end_ms + shape.lateness_ms <= used.watermark_ms {
                continue;
            }
            let name = (used.tenant.clone(), used.tick.instrument.clone(), start_ms);
            let (tally, late) = windows.entry(name).or_default();
            tally.count += 1;
            tally.sum += used.tick.amount;
            // The first that is late makes revision 0 where nothing was there to close.
            *late += u32::from(end_ms <= used.watermark_ms);
        }
    }
    let closed = windows.into_iter().filter_map(|((tenant, key, start_ms), (tally, late))| {
        (start_ms + shape.size_ms <= partition.mark(&tenant)).then(|| {
            let in_time = tally.count > u64::from(late);
            let revision = if in_time { late } else { late - 1 };
            ((tenant, key, start_ms), (revision, tally))
        })
    });
    closed.collect()
}

fn said(events: &[Event]) -> impl Iterator<Item = (Name, Said)> {
    events.iter().map(|event| {
        let said: Said = event.data_as().unwrap();
        ((event.tenant.clone(), said.key.clone(), said.start_ms), said)
    })
}

pub(crate) fn check(world: &World, seed: u64) {
    let mut partitions = Vec::new();
    for (number, events) in (0_u32..).zip(world.events(&INPUT)) {
        let mut partition = Partition { number, ..Partition::default() };
        events.into_iter().for_each(|event| partition.take(event));
        partitions.push(partition);
    }
    for (topic, shape) in [(WINDOWS, TUMBLING), (SLIDING, HOPPING)] {
        // A key lies in one partition, so that the windows of two partitions have no name in common.
        let expected: BTreeMap<_, _> =
            partitions.iter().flat_map(|partition| windows(partition, shape)).collect();
        let (mut found, mut revisions) = (BTreeMap::new(), BTreeMap::new());
        for (name, said) in world.events(&topic).iter().flat_map(|events| said(events)) {
            let next = revisions.entry(name.clone()).or_insert(0);
            assert_eq!(said.revision, *next, "seed {seed}: revisions of {name:?} come one after the other");
            *next += 1;
            found.insert(name, (said.revision, said.tally));
        }
        assert_eq!(found, expected, "seed {seed}: {topic}");
    }
    check_sessions(world, seed);
}

/// Sessions that are left lie apart, and revisions come one after the other.
fn check_sessions(world: &World, seed: u64) {
    let (mut left, mut revisions) = (BTreeMap::new(), BTreeMap::new());
    for (name, said) in world.events(&SESSIONS).iter().flat_map(|events| said(events)) {
        let next = revisions.entry(name.clone()).or_insert(0);
        assert_eq!(said.revision, *next, "seed {seed}: revisions of {name:?}");
        *next += 1;
        if said.is_retracted {
            left.remove(&name);
        } else {
            left.insert(name, said);
        }
    }
    let mut previous: Option<(&Name, &Said)> = None;
    for (name, said) in &left {
        if let Some((earlier, before)) =
            previous.filter(|(earlier, _)| earlier.0 == name.0 && earlier.1 == name.1)
        {
            assert!(
                before.end_ms <= said.start_ms,
                "seed {seed}: {earlier:?} to {} meets {name:?}",
                before.end_ms
            );
            assert!(before.end_ms - before.start_ms >= GAP_MS);
        }
        previous = Some((name, said));
    }
}
