//! Measures a server: `scripts/with-engines --only redis cargo run --release -p store-redis --example command_rate
//! [plain|sentinel|cluster] [CALLS]` gets, sets and takes limits, one after another and from 64 tasks.

#![expect(clippy::print_stdout, reason = "it is a program that prints")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kernel::{Clock, Result, Scope, SystemClock, SystemEntropy, TenantId};
use store::{Limit, Rate, Secret};
use store_redis::{Mode, RedisStore, Settings};

const HOUR: Duration = Duration::from_secs(3_600);

#[derive(Debug, Clone, Copy)]
enum Call {
    Get,
    Set,
    Take,
}

#[tokio::main]
async fn main() {
    let mode = std::env::args().nth(1).unwrap_or_default();
    let calls = std::env::args().nth(2).map_or(20_000, |text| text.parse().expect("a count of calls"));
    let mode = Mode::try_from(mode).expect("a mode");
    let settings = Settings { url: address(mode), mode, ..Settings::default() };
    let (clock, entropy) = (Arc::new(SystemClock::new()), Arc::new(SystemEntropy::new()));
    let store = RedisStore::open(&settings, clock, entropy).await.expect("the settings are good");
    for call in [Call::Set, Call::Get, Call::Take] {
        for tasks in [1, 64] {
            measure(&store, call, tasks, calls).await;
        }
    }
    println!("{:?}", store.figures());
}

#[expect(clippy::disallowed_methods, reason = "this is how it learns of its servers")]
fn address(mode: Mode) -> Secret {
    let name = match mode {
        Mode::Plain => "WATERSHED_TEST_REDIS_URL",
        Mode::Sentinel => "WATERSHED_TEST_REDIS_SENTINEL_URLS",
        Mode::Cluster => "WATERSHED_TEST_REDIS_CLUSTER_URLS",
    };
    Secret::new(std::env::var(name).expect("run it under scripts/with-engines"))
}

async fn measure(store: &RedisStore, call: Call, tasks: usize, calls: usize) {
    let clock = Arc::new(SystemClock::new());
    let work = |task: usize| {
        let (store, clock) = (store.clone(), Arc::clone(&clock));
        tokio::spawn(async move {
            let mut times = Vec::with_capacity(calls / tasks);
            for number in 0..calls / tasks {
                let before = clock.elapsed();
                once(&store, call, &format!("{task}-{}", number % 1_000)).await.expect("the server is there");
                times.push(clock.elapsed() - before);
            }
            times
        })
    };
    let mut times = Vec::new();
    for task in (0..tasks).map(work).collect::<Vec<_>>() {
        times.extend(task.await.expect("a task ends"));
    }
    let rate = times.len() as f64 / clock.elapsed().as_secs_f64();
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_micros();
    println!("{call:?} from {tasks} tasks: {rate:.0}/s, p50 {} us, p99 {} us", at(0.5), at(0.99));
}

async fn once(store: &RedisStore, call: Call, key: &str) -> Result<()> {
    let scope = Scope::system(TenantId::new("shop")?, "measure");
    match call {
        Call::Get => store.cache().get(&scope, key).await.map(|_| ()),
        Call::Set => store.cache().set(&scope, key, Bytes::from_static(&[7; 1_000]), HOUR).await,
        Call::Take => {
            let rate = Rate::new(1_000, Duration::from_secs(60), 100)?;
            let limits = [Limit { key: "tenant", rate }, Limit { key, rate }];
            store.limiter().take(&scope, &limits, 1).await.map(|_| ())
        }
    }
}
