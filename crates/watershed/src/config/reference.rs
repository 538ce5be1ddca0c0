//! The settings as a page: what `watershed config --reference` prints, made from the schema and the environment's names.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::Config;
use super::environment::{IGNORED, NAMES};

const HEAD: &str = "# Settings

A TOML file (`watershed.toml`, or `--config FILE`), over it the environment, over it the flags. Made by `make generate`.
";

const IGNORED_HEAD: &str = "
## Variables without a setting

They are known from other systems, and nothing is to be set. A server that is started with one says so, unless its value asks
for what is done in any case.

| variable | why |
|---|---|
";

/// Every setting: its name, its variable, its default, what it is.
pub(crate) fn page() -> String {
    let schema = schemars::schema_for!(Config).to_value();
    let mut page = HEAD.to_owned();
    section(&mut page, "", &schema, &schema);
    page.push_str(IGNORED_HEAD);
    for (name, _, why) in IGNORED {
        let _ = writeln!(page, "| `{name}` | {why} |");
    }
    page
}

/// The settings of a table, then the tables in it.
fn section(page: &mut String, path: &str, node: &Value, schema: &Value) {
    let empty = Map::new();
    let properties = node["properties"].as_object().unwrap_or(&empty);
    let (tables, settings): (Vec<_>, Vec<_>) =
        properties.iter().partition(|(_, property)| target(property, schema)["properties"].is_object());
    if !path.is_empty() {
        let _ = write!(page, "\n## `[{path}]`\n\n{}\n", first_paragraph(node));
    }
    if !settings.is_empty() {
        page.push_str("\n| setting | variable | default | what it is |\n|---|---|---|---|\n");
    }
    for (name, property) in settings {
        let full = join(path, name);
        // Of a map, those that set something in it too.
        let is_of =
            |set: &str| set.strip_prefix(&full).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let variables: Vec<_> =
            NAMES.iter().filter(|known| is_of(known.1)).map(|known| format!("`{}`", known.0)).collect();
        let default = property.get("default").filter(|value| !value.is_null());
        let default = default.map(|value| format!("`{value}`")).unwrap_or_default();
        let what = what(property, target(property, schema));
        let _ = writeln!(page, "| `{name}` | {} | {default} | {what} |", variables.join(", "));
    }
    for (name, property) in tables {
        let target = target(property, schema);
        let mut table = target.clone();
        if let Some(described) = property.get("description") {
            table["description"] = described.clone();
        }
        section(page, &join(path, name), &table, schema);
    }
}

/// What a property refers to, or itself.
fn target<'a>(property: &'a Value, schema: &'a Value) -> &'a Value {
    let choices = property["anyOf"].as_array().map_or(&[][..], Vec::as_slice);
    let reference = choices.iter().chain([property]).find_map(|choice| choice["$ref"].as_str());
    let defined = reference.and_then(|reference| schema.pointer(reference.trim_start_matches('#')));
    defined.unwrap_or(property)
}

/// The description, and the words that there are to choose from.
fn what(property: &Value, target: &Value) -> String {
    let listed = target["enum"].as_array().into_iter().flatten();
    let described = target["oneOf"].as_array().into_iter().flatten();
    let words: Vec<_> =
        listed
            .chain(described.flat_map(|choice| {
                choice["enum"].as_array().into_iter().flatten().chain(choice.get("const"))
            }))
            .map(|word| format!("`{word}`"))
            .collect();
    let choice = if words.is_empty() { String::new() } else { format!(" One of {}.", words.join(", ")) };
    let text =
        property["description"].as_str().or_else(|| target["description"].as_str()).unwrap_or_default();
    format!("{}{choice}", text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|"))
}

fn first_paragraph(node: &Value) -> &str {
    node["description"].as_str().unwrap_or_default().split("\n\n").next().unwrap_or_default()
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_is_on_the_page() {
        let page = page();
        for (variable, setting, _) in NAMES {
            if cfg!(feature = "full") || !setting.starts_with("storage.") {
                assert!(
                    page.contains(&format!("`{variable}`")),
                    "{variable} sets {setting}, which is no setting"
                );
            }
        }
    }
}
