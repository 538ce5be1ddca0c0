//! `watershed recommend USER`

use kernel::Result;
use recommend::service::{Algorithm, Query};

use super::{say_json, scope};
use crate::app::App;
use crate::cli::Recommend;
use crate::config::Config;

pub(super) async fn run(recommend: Recommend, config: Config) -> Result<()> {
    let app = App::open(&config).await?;
    let scope = scope(&config, "recommend")?;
    let service = app.recommend.service();
    let filter = recommend.filter.map(|text| service.expressions().compile(&text, "--filter")).transpose()?;
    let query = Query {
        count: recommend.count,
        algorithm: Algorithm::of(&recommend.algorithm)?,
        filter,
        explain: recommend.explain,
        returned: recommend::service::Returned::All,
        ..Query::default()
    };
    let answer = service.for_user(&scope, &recommend.user_id, &query, None);
    let printed = answer.and_then(|answer| say_json(&answer));
    app.recommend.stop().await;
    printed
}
