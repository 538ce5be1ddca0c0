//! The piece of a text that shows best why it was found, with what was found marked.
//!
//! A text that is short enough is shown whole. The piece is safe to put into a page: everything but the marks is escaped. It refuses to break words. To mark
//! otherwise: [`Highlighting`].

/// How a piece is cut and marked.
#[derive(Debug, Clone, Copy)]
pub struct Highlighting<'a> {
    /// Put before what was found.
    pub before: &'a str,
    /// Put after it.
    pub after: &'a str,
    /// The longest piece, in bytes of the text; at least one word is shown.
    pub bytes_max: usize,
}

impl Default for Highlighting<'_> {
    fn default() -> Self {
        Self { before: "<em>", after: "</em>", bytes_max: 240 }
    }
}

/// A word of the text, and whether it was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// Its first byte.
    pub start: usize,
    /// One past its last byte.
    pub end: usize,
    /// Which of the terms of the query it is.
    pub term: Option<usize>,
}

/// The piece with the most different terms, then the most words that were found, then the earliest. Words are in the
/// order of the text and lie within it.
#[must_use]
pub fn highlight(text: &str, words: &[Word], how: Highlighting<'_>) -> String {
    let Some((first, last)) = best_window(words, how.bytes_max) else {
        return escaped(cut(text, how.bytes_max));
    };
    // Words are not all of a text: what stands before the first of them, or after the last, is left out there too.
    let is_whole = text.len() <= how.bytes_max;
    let (start, end) = if is_whole { (0, text.len()) } else { (words[first].start, words[last].end) };
    let mut shown = String::new();
    if start > 0 {
        shown.push('…');
    }
    let mut at = start;
    for word in words[first..=last].iter().filter(|word| word.term.is_some()) {
        shown.push_str(&escaped(&text[at..word.start]));
        shown.push_str(how.before);
        shown.push_str(&escaped(&text[word.start..word.end]));
        shown.push_str(how.after);
        at = word.end;
    }
    // What closes the text, a full stop for example, goes with its last word.
    let end = if last + 1 == words.len() { cut(&text[end..], 8).len() + end } else { end };
    shown.push_str(&escaped(&text[at..end]));
    if end < text.len() {
        shown.push('…');
    }
    shown
}

/// The first and last word of the best piece; nothing where there is no word.
fn best_window(words: &[Word], bytes_max: usize) -> Option<(usize, usize)> {
    let mut best = None;
    let mut best_worth = (0, 0);
    let mut first = 0;
    // How often each term is in the window.
    let mut counts: std::collections::BTreeMap<usize, usize> = std::collections::BTreeMap::new();
    for last in 0..words.len() {
        if let Some(term) = words[last].term {
            *counts.entry(term).or_default() += 1;
        }
        while first < last && words[last].end - words[first].start > bytes_max {
            if let Some(count) = words[first].term.and_then(|term| counts.get_mut(&term)) {
                *count -= 1;
            }
            counts.retain(|_, count| *count > 0);
            first += 1;
        }
        let worth = (counts.len(), counts.values().sum::<usize>());
        if best.is_none() || worth > best_worth {
            (best, best_worth) = (Some((first, last)), worth);
        } else if worth == best_worth && best.is_some_and(|(earlier, _)| earlier == first) {
            // The same beginning: the longer piece shows more.
            best = Some((first, last));
        }
    }
    best
}

/// At most so many bytes from the beginning, at the end of a character.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str, terms: &[&str]) -> Vec<Word> {
        let place = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize;
        text.split(|character: char| !character.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(|word| Word {
                start: place(word),
                end: place(word) + word.len(),
                term: terms.iter().position(|term| *term == word),
            })
            .collect()
    }

    fn check(text: &str, terms: &[&str], bytes_max: usize, expected: &str) {
        let how = Highlighting { bytes_max, ..Highlighting::default() };
        assert_eq!(highlight(text, &words(text, terms), how), expected);
    }

    #[test]
    fn shows_the_best_piece_and_escapes_the_rest() {
        check("the yield curve.", &["curve"], 100, "the yield <em>curve</em>.");
        check("a <b> & \"c\" b", &["b"], 100, "a &lt;<em>b</em>&gt; &amp; &quot;c&quot; <em>b</em>");
        check("one two three four five six", &["five", "six"], 9, "…<em>five</em> <em>six</em>");
        check("x x x x y x", &["x", "y"], 3, "…<em>x</em> <em>y</em>…");
        check("nothing found here", &[], 12, "nothing…");
        check("", &["x"], 100, "");
        check("(the) curve!!!!!!!!!!", &["curve"], 21, "(the) <em>curve</em>!!!!!!!!!!");
        check("(the) curve!!!!!!!!!!", &["curve"], 20, "…the) <em>curve</em>!!!!!!!!…");
        check("<>", &["x"], 100, "&lt;&gt;");
    }

    proptest! {
        #[test]
        fn marks_are_balanced_and_nothing_else_is_markup(text in "\\PC{0,80}", bytes_max in 0_usize..60) {
            let words = words(&text, &["a", "b"]);
            let shown = highlight(&text, &words, Highlighting { bytes_max, ..Highlighting::default() });
            prop_assert_eq!(shown.matches("<em>").count(), shown.matches("</em>").count());
            prop_assert_eq!(shown.matches('<').count(), 2 * shown.matches("<em>").count());
        }
    }
}
