//! Where a model comes from, as the settings name it: a folder, a version of the registry, a commit on a hub.
//!
//! It reads names and fetches nothing: whoever opens search does. It refuses branches and tags of a hub, which come to mean
//! other files. To add a place: a variant of [`ModelSource`] and how its name begins.

use std::path::{Path, PathBuf};

use kernel::{Error, Result, codes};

const REGISTERED: &str = "models:/";
const HUB: &str = "hf://";
/// Hexadecimal digits of a commit.
const COMMIT_DIGITS: usize = 40;

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// A folder of this server: any other name.
    Folder(PathBuf),
    /// `models:/NAME/VERSION` or `models:/NAME@ALIAS`: a model of the operator's tenant.
    Registered {
        /// The model's name.
        name: String,
        /// Which of its versions.
        version: VersionName,
    },
    /// `hf://OWNER/NAME@COMMIT`, or without an owner.
    Hub {
        /// Owner and name.
        repository: String,
        /// The commit.
        revision: String,
    },
}

/// A version of a registered model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionName {
    /// That one.
    Number(u64),
    /// The one that an alias points at.
    Alias(String),
}

impl ModelSource {
    /// Reads a name.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for one that is none.
    pub fn read(name: &Path) -> Result<Self> {
        let folder = || Ok(Self::Folder(name.to_owned()));
        let Some(text) = name.to_str() else { return folder() };
        if let Some(registered) = text.strip_prefix(REGISTERED) {
            return Self::registered(registered);
        }
        text.strip_prefix(HUB).map_or_else(folder, Self::on_hub)
    }

    /// What a model is called where nobody named it: its folder, or what follows how the place begins.
    pub(crate) fn name_of(name: &Path) -> String {
        let text = name.to_string_lossy();
        match text.strip_prefix(REGISTERED).or_else(|| text.strip_prefix(HUB)) {
            Some(place) => place.to_owned(),
            None => name.file_name().unwrap_or(name.as_os_str()).to_string_lossy().into_owned(),
        }
    }

    fn registered(text: &str) -> Result<Self> {
        let split = text
            .rsplit_once('@')
            .map(|(name, alias)| (name, Some(VersionName::Alias(alias.to_owned()))))
            .or_else(|| {
                let (name, number) = text.rsplit_once('/')?;
                Some((name, number.parse().ok().map(VersionName::Number)))
            });
        match split {
            Some((name, Some(version)))
                if !name.is_empty() && version != VersionName::Alias(String::new()) =>
            {
                Ok(Self::Registered { name: name.to_owned(), version })
            }
            _ => Err(Error::new(
                codes::VALIDATION_ERROR,
                "a model of the registry is `models:/NAME/VERSION` or `models:/NAME@ALIAS`",
            )),
        }
    }

    fn on_hub(text: &str) -> Result<Self> {
        let refuse = |message: &str| Err(Error::new(codes::VALIDATION_ERROR, message.to_owned()));
        let (repository, revision) = text.rsplit_once('@').unwrap_or((text, ""));
        let is_digit = |letter: u8| letter.is_ascii_digit() || (b'a'..=b'f').contains(&letter);
        if revision.len() != COMMIT_DIGITS || !revision.bytes().all(is_digit) {
            return refuse(
                "a model of a hub is `hf://OWNER/NAME@COMMIT`, with the 40 hexadecimal digits of a commit, so that it stays the same",
            );
        }
        let is_plain = |part: &str| {
            let lawful = |letter: u8| letter.is_ascii_alphanumeric() || b"-_.".contains(&letter);
            !part.is_empty() && !part.starts_with('.') && part.len() <= 96 && part.bytes().all(lawful)
        };
        let mut parts = repository.split('/');
        if repository.split('/').count() > 2 || !parts.all(is_plain) {
            return refuse("a model of a hub is `OWNER/NAME`, of letters, digits, `-`, `_` and `.`");
        }
        Ok(Self::Hub { repository: repository.to_owned(), revision: revision.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn names_are_read() {
        let check = |name: &str, expected: Option<ModelSource>| {
            assert_eq!(ModelSource::read(Path::new(name)).ok(), expected, "{name}");
        };
        let registered = |name: &str, version| ModelSource::Registered { name: name.to_owned(), version };
        check("models:/mini/3", Some(registered("mini", VersionName::Number(3))));
        check("models:/mini@champion", Some(registered("mini", VersionName::Alias("champion".to_owned()))));
        check("models:/a/b/12", Some(registered("a/b", VersionName::Number(12))));
        for wrong in
            ["models:/", "models:/mini", "models:/mini/last", "models:/@a", "models:/mini@", "models://3"]
        {
            check(wrong, None);
        }
        let hub = |repository: &str| {
            let (repository, revision) = (repository.to_owned(), COMMIT.to_owned());
            ModelSource::Hub { repository, revision }
        };
        check(&format!("hf://some/MiniLM-L6_v2.1@{COMMIT}"), Some(hub("some/MiniLM-L6_v2.1")));
        check(&format!("hf://bert-base@{COMMIT}"), Some(hub("bert-base")));
        for wrong in [
            "a/b",
            "a/b@main",
            &format!("../b@{COMMIT}"),
            &format!("a/b/c@{COMMIT}"),
            &format!("a/@{COMMIT}"),
        ] {
            check(&format!("hf://{wrong}"), None);
        }
        for folder in ["encoder", "/models/x@y", "C:/models"] {
            check(folder, Some(ModelSource::Folder(folder.into())));
        }
    }

    #[test]
    fn what_has_no_name_is_called_as_its_place_is() {
        for (name, expected) in [
            ("models:/a/b/12", "a/b/12"),
            ("models:/mini@old", "mini@old"),
            ("hf://o/n@c", "o/n@c"),
            ("/a/light/", "light"),
            ("/", "/"),
        ] {
            assert_eq!(ModelSource::name_of(Path::new(name)), expected);
        }
    }
}
