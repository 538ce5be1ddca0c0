//! Names and texts inside a statement. A name is one that the port or the settings checked.

/// A text as a literal.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A table of a database.
pub(crate) fn table(database: &str, name: &str) -> String {
    format!("`{database}`.`{name}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_has_no_way_out() {
        let check = |text: &str, expected: &str| assert_eq!(literal(text), expected);
        check("plain", "'plain'");
        check("o'clock", "'o\\'clock'");
        check("\\", "'\\\\'");
        check("\\' OR 1 --", "'\\\\\\' OR 1 --'");
    }
}
