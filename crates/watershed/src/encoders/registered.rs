//! The files of a version of the registry. They stay there: each start reads them again, and their checksums are looked at.

use kernel::{Error, Result, Scope, codes};
use models::registered::RegisteredVersion;
use registry::ModelRegistry;
use search::encoder::{FILE_BYTES_MAX, FILES, FileBytes, MORE_FILES, ModelFiles};
use search::sources::VersionName;

/// Reads a version.
///
/// # Errors
/// `NOT_FOUND` where there is none, or it has no such files; `CORRUPTED` where they are not what was registered; those of the
/// engines.
pub(super) async fn files(
    registry: &ModelRegistry,
    operator: &Scope,
    name: &str,
    version: &VersionName,
) -> Result<ModelFiles> {
    let version = resolve(registry, operator, name, version).await.map_err(|error| match error.code() {
        codes::NOT_FOUND => {
            let message = format!(
                "{}; register it in the tenant `{}` with a server that does not have this setting yet",
                error.message(),
                operator.tenant()
            );
            Error::new(codes::NOT_FOUND, message).with_source(error)
        }
        _ => error,
    })?;
    let missing = |what: &str| {
        let message = format!("version {} of `{}` {what}", version.version, version.model);
        Error::new(codes::NOT_FOUND, message)
    };
    let Some(root) = &version.root else { return Err(missing("has no files in the registry")) };
    let folder = folder_of(&version).ok_or_else(|| {
        missing("has no folder, or several, with config.json, tokenizer.json and model.safetensors; export the model as these")
    })?;
    let mut found = FileBytes::new();
    for name in FILES.into_iter().chain(MORE_FILES) {
        let path = format!("{folder}{name}");
        let Some(listed) = version.files.iter().find(|file| file.path == path) else { continue };
        let file = registry.files.get(operator, root, &path).await?;
        let file = file.ok_or_else(|| missing(&format!("has lost its file `{path}`")))?;
        if file.sha256 != listed.sha256 {
            let message = format!("the file `{path}` of `{}` is another than was registered", version.model);
            return Err(Error::new(codes::CORRUPTED, message));
        }
        let bytes = registry.files.read(operator, &file, listed.size_bytes.min(FILE_BYTES_MAX)).await?;
        found.insert(name.to_owned(), bytes);
    }
    ModelFiles::of(found)
}

async fn resolve(
    registry: &ModelRegistry,
    operator: &Scope,
    name: &str,
    version: &VersionName,
) -> Result<RegisteredVersion> {
    let number = match version {
        VersionName::Number(number) => *number,
        VersionName::Alias(alias) => {
            let model = registry.models.model(operator, name).await?;
            let missing = || {
                let message =
                    format!("the registered model `{}` has no alias `{}`", model.name, alias.escape_debug());
                Error::new(codes::NOT_FOUND, message)
            };
            model.aliases.get(alias).copied().ok_or_else(missing)?
        }
    };
    registry.models.version(operator, name, number).await
}

/// The folder that has what a model needs, with its stroke: the root, or the only one.
fn folder_of(version: &RegisteredVersion) -> Option<String> {
    let has = |path: String| version.files.iter().any(|file| file.path == path);
    let is_whole = |folder: &&str| FILES.iter().all(|name| has(format!("{folder}{name}")));
    let folders = version.files.iter().filter_map(|file| file.path.strip_suffix(FILES[0]));
    let whole: Vec<&str> = folders.filter(is_whole).collect();
    match whole[..] {
        [only] => Some(only.to_owned()),
        _ => whole.into_iter().find(|folder| folder.is_empty()).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use models::registered::VersionFile;

    use super::*;

    #[test]
    fn the_folder_of_a_model_is_found() {
        let check = |paths: &[&str], expected: Option<&str>| {
            let file =
                |path: &&str| VersionFile { path: (*path).to_owned(), size_bytes: 1, sha256: String::new() };
            let files = paths.iter().map(file).collect();
            let version = RegisteredVersion { files, ..RegisteredVersion::default() };
            assert_eq!(folder_of(&version).as_deref(), expected, "{paths:?}");
        };
        let whole = ["config.json", "model.safetensors", "tokenizer.json"];
        check(&whole, Some(""));
        check(
            &["MLmodel", "data/config.json", "data/model.safetensors", "data/tokenizer.json"],
            Some("data/"),
        );
        check(&[&whole[..], &["1_Pooling/config.json"]].concat(), Some(""));
        check(&["config.json", "tokenizer.json", "model.onnx"], None);
        let one = ["a/config.json", "a/model.safetensors", "a/tokenizer.json"];
        let other = ["b/config.json", "b/model.safetensors", "b/tokenizer.json"];
        check(&[one, other].concat(), None);
        check(&[&whole[..], &one].concat(), Some(""));
        check(&[], None);
    }
}
