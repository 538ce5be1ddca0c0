//! Keys of one server, and of several whose clocks differ.

use kernel::{ManualClock, SeededEntropy};
use store::memory::MemoryRecords;

use super::following::Follower;
use super::*;

struct Bench {
    records: Arc<dyn Records>,
    clock: Arc<ManualClock>,
    scope: Scope,
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
        let scope = Scope::system(TenantId::new("shop").unwrap(), "test");
        Self { records: Arc::new(MemoryRecords::default()), clock, scope }
    }

    async fn ring(&self, seed: u64) -> KeyRing {
        self.ring_by(&self.clock, seed).await
    }

    async fn ring_by(&self, clock: &Arc<ManualClock>, seed: u64) -> KeyRing {
        let clock: Arc<dyn Clock> = Arc::clone(clock) as Arc<dyn Clock>;
        let audit = AuditLog::new(Arc::clone(&self.records), Arc::clone(&clock));
        let entropy = Arc::new(SeededEntropy::new(seed));
        KeyRing::open(Arc::clone(&self.records), audit, clock, entropy).await.unwrap()
    }
}

fn new_key(permission: Permission) -> NewKey {
    NewKey { name: "front end".to_owned(), permission, expires_at: None }
}

#[tokio::test]
async fn a_key_speaks_for_its_tenant_until_it_is_revoked() {
    let bench = Bench::new();
    let ring = bench.ring(1).await;
    let (key, secret) = ring.create(&bench.scope, new_key(Permission::Write)).await.unwrap();
    let scope = ring.scope_of(&secret).unwrap();
    assert_eq!(scope.tenant().as_str(), "shop");
    assert!(scope.require(Permission::Write).is_ok() && scope.require(Permission::Admin).is_err());
    for wrong in ["", "ws", "ws__", &secret[..secret.len() - 1], &secret.replace("ws_", "wx_")] {
        assert!(ring.scope_of(wrong).is_none(), "{wrong}");
    }
    let other = Scope::system(TenantId::new("other").unwrap(), "test");
    assert!(ring.list(&other).unwrap().is_empty());
    assert_eq!(ring.revoke(&other, &key.id).await.unwrap_err().code(), codes::NOT_FOUND);
    ring.revoke(&bench.scope, &key.id).await.unwrap();
    assert!(ring.scope_of(&secret).is_none());
    assert_eq!(ring.rotate(&bench.scope, &key.id, Duration::ZERO).await.unwrap_err().code(), codes::CONFLICT);
    let stored = bench.records.get(&system(), ApiKey::TABLE, &key.id).await.unwrap().unwrap();
    let own_part = secret.rsplit('_').next().unwrap();
    assert!(!String::from_utf8_lossy(&stored.body).contains(own_part), "no secret is stored");
}

#[tokio::test]
async fn expiry_and_grace_end_on_the_clock() {
    let bench = Bench::new();
    let ring = bench.ring(1).await;
    let expires_at = Some("2026-01-01T01:00:00Z".parse().unwrap());
    let new = NewKey { expires_at, ..new_key(Permission::Read) };
    let (key, first) = ring.create(&bench.scope, new.clone()).await.unwrap();
    let (_, second) = ring.rotate(&bench.scope, &key.id, Duration::from_secs(60)).await.unwrap();
    let check = |first_works: bool, second_works: bool| {
        let works = (ring.scope_of(&first).is_some(), ring.scope_of(&second).is_some());
        assert_eq!(works, (first_works, second_works), "at {}", bench.clock.now());
    };
    check(true, true);
    bench.clock.advance(Duration::from_secs(60));
    check(false, true);
    bench.clock.advance(Duration::from_secs(3_540));
    check(false, false);
    assert_eq!(ring.create(&bench.scope, new).await.unwrap_err().field(), Some("expires_at"));
}

#[tokio::test]
async fn replicas_see_each_others_changes() {
    let bench = Bench::new();
    let (one, two) = (bench.ring(1).await, bench.ring(2).await);
    let (key, secret) = one.create(&bench.scope, new_key(Permission::Read)).await.unwrap();
    assert!(two.scope_of(&secret).is_none());
    two.refresh(i64::MIN).await.unwrap();
    assert!(two.scope_of(&secret).is_some());
    two.note_use().await.unwrap();
    bench.clock.advance(Duration::from_secs(1));
    one.revoke(&bench.scope, &key.id).await.unwrap();
    two.refresh(i64::MIN).await.unwrap();
    assert!(two.scope_of(&secret).is_none());
    assert!(two.list(&bench.scope).unwrap()[0].last_used_at.is_some());
}

/// As many looks as a pass over every key takes to begin and to end.
async fn look_for_a_minute(ring: &KeyRing, follower: &mut Follower) {
    for _ in 0..130 {
        ring.look(follower).await.unwrap();
    }
}

#[tokio::test]
async fn a_revocation_counts_whatever_the_clocks_say() {
    let bench = Bench::new();
    let early = Arc::new(ManualClock::at("2026-01-01T01:00:00Z".parse().unwrap()));
    let (ahead, behind) = (bench.ring_by(&early, 1).await, bench.ring(2).await);
    let (mut follower, mut other) = (Follower::default(), Follower::default());
    let (key, secret) = ahead.create(&bench.scope, new_key(Permission::Read)).await.unwrap();
    let (late, late_secret) = ahead.create(&bench.scope, new_key(Permission::Read)).await.unwrap();
    behind.look(&mut other).await.unwrap();
    ahead.look(&mut follower).await.unwrap();
    behind.revoke(&bench.scope, &key.id).await.unwrap();
    assert!(behind.scope_of(&secret).is_none() && ahead.scope_of(&secret).is_some());
    ahead.look(&mut follower).await.unwrap();
    assert!(ahead.scope_of(&secret).is_none(), "it is later than the change before");

    early.advance(Duration::from_secs(120));
    ahead.look(&mut follower).await.unwrap();
    behind.revoke(&bench.scope, &late.id).await.unwrap();
    ahead.look(&mut follower).await.unwrap();
    assert!(ahead.scope_of(&late_secret).is_some(), "no look at the last minute finds it");
    look_for_a_minute(&ahead, &mut follower).await;
    assert!(ahead.scope_of(&late_secret).is_none(), "a pass over every key does");
}

#[tokio::test]
async fn a_key_that_is_there_no_more_works_no_more() {
    let bench = Bench::new();
    let ring = bench.ring(1).await;
    let (key, secret) = ring.create(&bench.scope, new_key(Permission::Read)).await.unwrap();
    let (_, kept) = ring.create(&bench.scope, new_key(Permission::Read)).await.unwrap();
    ring.keys.delete(&system(), &key.id, Expect::Any).await.unwrap();
    look_for_a_minute(&ring, &mut Follower::default()).await;
    assert!(ring.scope_of(&secret).is_none() && ring.scope_of(&kept).is_some());
}

#[tokio::test]
async fn a_tenant_has_so_many_keys_and_those_that_ended_go_in_the_end() {
    let bench = Bench::new();
    let (ring, other) = (bench.ring(1).await, bench.ring(2).await);
    let mut made = Vec::new();
    for _ in 0..WORKING_MAX {
        made.push(ring.create(&bench.scope, new_key(Permission::Read)).await.unwrap().0.id);
    }
    let refused = ring.create(&bench.scope, new_key(Permission::Read)).await.unwrap_err();
    assert_eq!(refused.code(), codes::CONFLICT, "{refused}");
    let neighbour = Scope::system(TenantId::new("bar").unwrap(), "test");
    ring.create(&neighbour, new_key(Permission::Read)).await.unwrap();
    for id in &made[..3] {
        ring.revoke(&bench.scope, id).await.unwrap();
    }
    let expires_at = Some("2026-01-01T01:00:00Z".parse().unwrap());
    for _ in 0..3 {
        ring.create(&bench.scope, NewKey { expires_at, ..new_key(Permission::Read) }).await.unwrap();
    }

    let (mut cursor, mut pages) = (None, Vec::new());
    loop {
        let (keys, next) = ring.page(&bench.scope, cursor.as_deref(), 30).unwrap();
        pages.push(keys);
        let Some(next) = next else { break };
        cursor = Some(next);
    }
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [30, 30, 30, 13]);
    assert_eq!(pages.concat(), ring.list(&bench.scope).unwrap());
    for cursor in ["", "x", "2026-01-01", "yesterday_1"] {
        let fault = ring.page(&bench.scope, Some(cursor), 1).unwrap_err();
        assert_eq!((fault.code(), fault.field()), (codes::VALIDATION_ERROR, Some("cursor")), "{cursor}");
    }

    let (mut follower, mut others) = (Follower::default(), Follower::default());
    bench.clock.advance(Duration::from_secs(29 * 24 * 3_600));
    look_for_a_minute(&ring, &mut follower).await;
    look_for_a_minute(&other, &mut others).await;
    assert_eq!(other.list(&bench.scope).unwrap().len(), 103);
    bench.clock.advance(Duration::from_secs(2 * 24 * 3_600));
    for _ in 0..2 {
        look_for_a_minute(&ring, &mut follower).await;
        look_for_a_minute(&other, &mut others).await;
    }
    for ring in [&ring, &other] {
        let left = ring.list(&bench.scope).unwrap();
        assert!(left.len() == 97 && left.iter().all(|key| key.ends_at().is_none()), "{}", left.len());
    }
}
