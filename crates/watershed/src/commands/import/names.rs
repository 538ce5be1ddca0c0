//! What an import is remembered as, so that importing the same files again is the same import, and files of the same name
//! in another folder are another.
//!
//! Files are known by where they are; those that were moved, and those that an earlier release imported (which noted the
//! bare name alone), by their content. It refuses to guess where neither tells.

use std::collections::BTreeMap;
use std::path::Path;

use kernel::{Error, Result, Scope, codes};
use recommend::import::{Checkpoint, Plan};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Document, Query, Repository, Selection, Table};

use crate::terminal;

const IMPORTS_PER_PAGE: usize = 1_000;

/// What people call the files.
pub(super) fn last_name(path: &Path) -> String {
    path.file_name().map_or_else(|| "import".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Where files are, and what their import may be remembered as.
pub(super) struct Place {
    pub(super) path: String,
    /// `ratings.csv`, `monday/ratings.csv`, `data/monday/ratings.csv` and so on.
    names: Vec<String>,
}

impl Place {
    pub(super) fn of(path: &Path) -> Self {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let normal = |part: std::path::Component<'_>| match part {
            std::path::Component::Normal(part) => Some(part.to_string_lossy().into_owned()),
            _ => None,
        };
        let parts: Vec<String> = path.components().filter_map(normal).collect();
        let mut names: Vec<String> =
            (1..=parts.len()).map(|length| parts[parts.len() - length..].join("/")).collect();
        if names.is_empty() {
            names.push(last_name(&path));
        }
        Self { path: path.to_string_lossy().into_owned(), names }
    }
}

/// What is known of a name that an import may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// These files, from this place or another.
    These { here: bool },
    /// Other files, by this release or one that remembers places.
    Others,
    /// Files of other content, by a release that remembered no places: these, changed since, or others.
    Unclear,
}

/// The name under which these files were imported, else the one that they get: that of the file with its folder, and with
/// more folders where others have it. The bare name is what earlier releases gave.
///
/// # Errors
/// The name that is unclear.
fn choose(names: &[String], known: &BTreeMap<String, Known>) -> std::result::Result<String, String> {
    let found =
        |wanted: Known| known.iter().find(|(_, known)| **known == wanted).map(|(name, _)| name.clone());
    if let Some(held) = found(Known::These { here: true }).or_else(|| found(Known::These { here: false })) {
        return Ok(held);
    }
    if let Some(unclear) = found(Known::Unclear) {
        return Err(unclear);
    }
    let first = usize::from(names.len() > 1);
    let free = names[first..].iter().find(|name| !known.contains_key(*name));
    Ok(free.or_else(|| names.last()).cloned().unwrap_or_default())
}

/// What the import of these files is remembered as, and how far it is. The name is a part of the events' source, so that
/// the rows of two files of one name never count as the same.
pub(super) async fn remembered(
    kept: &Repository<ImportState>,
    scope: &Scope,
    place: &Place,
    plan: &Plan,
    given: Option<&str>,
) -> Result<(String, Option<Checkpoint>)> {
    let checkpoint = async |name: &str| -> Result<Option<Checkpoint>> {
        Ok(kept.get(scope, name).await?.and_then(|found| found.document.checkpoint()))
    };
    if let Some(name) = given {
        return Ok((name.to_owned(), checkpoint(name).await?));
    }
    let bare = place.names.first().map_or("", String::as_str);
    let mut known = BTreeMap::new();
    let mut query = Query::new(Selection::All, IMPORTS_PER_PAGE);
    loop {
        let (found, cursor) = kept.list(scope, &query).await?;
        for state in found.into_iter().map(|found| found.document) {
            if state.name.rsplit('/').next() == Some(bare) {
                known.insert(state.name.clone(), state.known(place, plan)?);
            }
        }
        match cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => break,
        }
    }
    match choose(&place.names, &known) {
        Ok(name) => {
            let checkpoint = checkpoint(&name).await?;
            Ok((name, checkpoint))
        }
        Err(unclear) => {
            let other = place.names.get(1).unwrap_or(&unclear);
            let message = format!(
                "an earlier release imported a file named {unclear}, of other content, and did not note from where; say \
                 --name {unclear} if it is this one, changed since, or --name {other} if it is another"
            );
            Err(Error::new(codes::CONFLICT, message).with_field("--name"))
        }
    }
}

/// How far the import of one name is.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ImportState {
    name: String,
    /// Where the files were; missing in what earlier releases wrote.
    #[serde(default)]
    path: Option<String>,
    /// A [`Checkpoint`], or what another version had for one.
    checkpoint: Value,
}

impl ImportState {
    pub(super) fn of(name: &str, path: &str, checkpoint: &Checkpoint) -> Result<Self> {
        let checkpoint = serde_json::to_value(checkpoint).map_err(Error::internal)?;
        Ok(Self { name: name.to_owned(), path: Some(path.to_owned()), checkpoint })
    }

    /// Whether it is of the files at a place.
    fn known(&self, place: &Place, plan: &Plan) -> Result<Known> {
        if self.path.as_deref() == Some(&place.path) {
            return Ok(Known::These { here: true });
        }
        // What cannot be compared was begun again before there were places, and is now.
        let is_same = match serde_json::from_value::<Checkpoint>(self.checkpoint.clone()) {
            Ok(checkpoint) => checkpoint.is_of(plan)?,
            Err(_) => self.path.is_none(),
        };
        Ok(match (is_same, &self.path) {
            (true, _) => Known::These { here: false },
            (false, Some(_)) => Known::Others,
            (false, None) => Known::Unclear,
        })
    }

    /// Where to go on; says so where it is of another version.
    fn checkpoint(self) -> Option<Checkpoint> {
        let checkpoint = serde_json::from_value(self.checkpoint).ok();
        if checkpoint.is_none() {
            terminal::note(format!(
                "{} was imported by another version, which names rows in another way: beginning again; what that \
                 version stored is stored once more",
                self.name
            ));
        }
        checkpoint
    }
}

impl Document for ImportState {
    const TABLE: Table = Table { name: "imports", indexes: &[] };

    fn key(&self) -> String {
        self.name.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan;
    use super::*;

    #[test]
    fn a_checkpoint_of_another_version_is_no_place_to_go_on_from() {
        let state = |json: &str| serde_json::from_str::<ImportState>(json).unwrap();
        let earlier = state(
            r#"{"name":"a.csv","source":"a.csv-0badcafe","checkpoint":{"format":"csv","file":"a.csv","byte_offset":9,
            "line":2,"rows_done":0,"head_bytes":9,"head_crc32":1,"report":{"entities":0,"users":0,"interactions":1,
            "bad_lines":0,"first_bad_lines":[]}}}"#,
        );
        assert_eq!(earlier.checkpoint(), None);
        let checkpoint = Checkpoint { format: "csv".to_owned(), mapping: None, files: Vec::new() };
        let kept =
            serde_json::to_string(&ImportState::of("a.csv", "/b/a.csv", &checkpoint).unwrap()).unwrap();
        assert_eq!(state(&kept).checkpoint(), Some(checkpoint));
    }

    #[test]
    fn a_name_is_of_the_same_files_only() {
        use Known::{Others, These, Unclear};
        let (here, moved) = (These { here: true }, These { here: false });
        let names = ["a.csv", "shop/a.csv", "data/shop/a.csv"].map(str::to_owned);
        let check = |known: &[(&str, Known)], expected: std::result::Result<&str, &str>| {
            let known = known.iter().map(|(name, known)| ((*name).to_owned(), *known)).collect();
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(choose(&names, &known), expected, "{known:?}");
        };
        check(&[], Ok("shop/a.csv"));
        assert_eq!(choose(&names[..1], &BTreeMap::new()).as_deref(), Ok("a.csv"));
        check(&[("shop/a.csv", here)], Ok("shop/a.csv"));
        // As an earlier release left it, and imported since.
        check(&[("a.csv", moved)], Ok("a.csv"));
        check(&[("a.csv", here)], Ok("a.csv"));
        check(&[("a.csv", Others)], Ok("shop/a.csv"));
        check(&[("shop/a.csv", Others)], Ok("data/shop/a.csv"));
        check(&[("bar/a.csv", moved), ("shop/a.csv", Others)], Ok("bar/a.csv"));
        check(&[("a.csv", moved), ("shop/a.csv", here)], Ok("shop/a.csv"));
        check(&[("a.csv", Unclear)], Err("a.csv"));
        check(&[("a.csv", Unclear), ("shop/a.csv", here)], Ok("shop/a.csv"));
        check(&[("shop/a.csv", Others), ("data/shop/a.csv", Others)], Ok("data/shop/a.csv"));
    }

    #[test]
    fn what_an_earlier_release_left_is_known_by_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let text = "user_id,entity_id,timestamp\nada,lamp,1700000000\n";
        let path = folder.path().join("events.csv");
        let check = |content: &str, left: Option<&str>, expected: Known| {
            std::fs::write(&path, content).unwrap();
            let (place, plan) = (Place::of(&path), plan(&path, None, None).unwrap());
            let mark = format!(
                r#"{{"file":"events.csv","finished":true,"byte_offset":{},"line":2,"crc32":{},"rows_done":0,
                "report":{{"entities":0,"users":0,"interactions":1,"bad_lines":0,"first_bad_lines":[]}}}}"#,
                text.len(),
                crc32fast::hash(text.as_bytes())
            );
            let left = left.map_or(String::new(), |path| format!(r#""path":"{path}","#));
            let json = format!(
                r#"{{"name":"events.csv",{left}"checkpoint":{{"format":"csv","mapping":null,"files":[{mark}]}}}}"#
            );
            let state: ImportState = serde_json::from_str(&json).unwrap();
            assert_eq!(state.known(&place, &plan).unwrap(), expected, "{content}");
        };
        check(text, None, Known::These { here: false });
        check(&format!("{text}bob,lamp,1700000001\n"), None, Known::These { here: false });
        let other = text.replace("ada", "eve");
        check(&other, None, Known::Unclear);
        check(&other, Some("/elsewhere/events.csv"), Known::Others);
        check(text, Some("/elsewhere/events.csv"), Known::These { here: false });
        let here = path.canonicalize().unwrap();
        check(&other, Some(here.to_str().unwrap()), Known::These { here: true });
    }
}
