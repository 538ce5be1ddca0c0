//! `LIKE`: `%` stands for any text, `_` for any one character. In time proportional to the product of the lengths at
//! worst, and without recursion, so that no pattern is a trap.

/// Whether the whole of `text` is as the pattern says.
pub(super) fn like(text: &str, pattern: &str, ignore_case: bool) -> bool {
    let fold = |text: &str| if ignore_case { text.to_lowercase() } else { text.to_owned() };
    let (text, pattern): (Vec<char>, Vec<char>) =
        (fold(text).chars().collect(), fold(pattern).chars().collect());
    let (mut at, mut want) = (0, 0);
    // Where the last `%` stands, and up to where it was taken to reach.
    let mut star: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(want) {
            Some('%') => {
                star = Some((want, at));
                want += 1;
            }
            Some(character) if *character == '_' || *character == text[at] => {
                at += 1;
                want += 1;
            }
            _ => {
                let Some((place, reach)) = star else { return false };
                star = Some((place, reach + 1));
                (at, want) = (reach + 1, place + 1);
            }
        }
    }
    pattern[want..].iter().all(|character| *character == '%')
}
