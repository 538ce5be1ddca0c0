//! Whether the champion of a model can be served, for who looks without asking it: each is loaded once and let go again.

use kernel::{Error, Result, Scope};
use models::registered::{CHAMPION, RegisteredModel};

use crate::Runtime;
use crate::lines::{Asked, Selector};
use crate::loading::is_lasting;
use crate::shelf::Place;

/// What was found of a champion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// The version.
    pub version: u64,
    /// Whether it can be served.
    pub finding: Finding,
}

/// Whether a version can be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It was loaded and answered an example; what serves it.
    Served(&'static str),
    /// No engine of this process reads it, and no champion before it answers: the model is only kept.
    Kept,
    /// It cannot be; why.
    Faulty(String),
}

impl Runtime {
    /// Looks at the champion of a model; none where it has none.
    ///
    /// # Errors
    /// Those of a load that may work later; those of the engines.
    pub async fn examine(&self, scope: &Scope, model: &RegisteredModel) -> Result<Option<Examined>> {
        let Some(version) = model.aliases.get(CHAMPION).copied() else { return Ok(None) };
        let found = self.models().version(scope, &model.name, version).await?;
        let finding = match self.engine(&found).err() {
            None => self.tried(scope, model, version).await?,
            // Where one before it answers it has callers, whom this one cannot answer.
            Some(unread) => match self.one_before_is_served(scope, model, version).await? {
                false => Finding::Kept,
                true => Finding::Faulty(unread.message().to_owned()),
            },
        };
        Ok(Some(Examined { version, finding }))
    }

    async fn one_before_is_served(
        &self,
        scope: &Scope,
        model: &RegisteredModel,
        version: u64,
    ) -> Result<bool> {
        let asked = Asked::new(scope, &model.name, Selector::Alias(CHAMPION.to_owned()));
        for earlier in self.earlier(scope, &asked, None, model, version).await? {
            if matches!(self.tried(scope, model, earlier).await?, Finding::Served(_)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn tried(&self, scope: &Scope, model: &RegisteredModel, version: u64) -> Result<Finding> {
        let place = Place { tenant: scope.tenant().clone(), model_id: model.id.clone(), version };
        let _place_to_load = self.0.loads.acquire().await.map_err(Error::internal)?;
        match self.read(scope, &model.name, place, None).await {
            Ok(loaded) => Ok(Finding::Served(loaded.platform)),
            Err(error) if is_lasting(&error) => Ok(Finding::Faulty(error.message().to_owned())),
            Err(error) => Err(error),
        }
    }
}
