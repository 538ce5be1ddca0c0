//! An index of words that is built again in the background.

use super::*;
use crate::rebuilding::RebuildState;

#[tokio::test]
async fn a_rebuild_that_takes_longer_goes_on_and_tells_how_far_it_is() {
    let world = World::new();
    let search = world.open(None);
    let puts = (0..20).map(|id| put(&id.to_string(), "car")).collect();
    search.change(&desk(), puts).await.unwrap();
    assert!(search.stats(&desk()).await.unwrap().rebuild.is_none());
    let begun = search.rebuild(&desk(), Duration::ZERO).await.unwrap();
    assert_eq!((begun.state, begun.fault), (RebuildState::Building, None));
    let told = async || search.stats(&desk()).await.unwrap().rebuild;
    let mut last = told().await;
    let mut looks = 0;
    while last.as_ref().is_none_or(|rebuild| rebuild.state == RebuildState::Building) {
        tokio::time::sleep(Duration::from_millis(5)).await;
        looks += 1;
        assert!(looks < 2_000, "{last:?}");
        last = told().await;
    }
    let last = last.unwrap();
    assert_eq!((last.state, last.changes, last.progress), (RebuildState::Rebuilt, 20, 1.0));
    let other = search.stats(&scope("other", Permission::Read)).await.unwrap();
    assert!(other.rebuild.is_none(), "how far it is, is the tenant's");
    assert_eq!(search.search(&desk(), question("car", false)).await.unwrap().total, 20);
    let (status, body) = ask(&search, desk(), "GET", "/index/stats", None).await;
    let expected = json!({"status": "rebuilt", "changes": 20, "progress": 1.0});
    assert_eq!((status, &body["rebuild"]), (StatusCode::OK, &expected));
}
