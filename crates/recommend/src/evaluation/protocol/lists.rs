//! A split as list files, `user item item ...` a line, so that other programs can be measured on exactly the same one.
//!
//! Items are numbered by the catalogue, held-out users by the data before the split: a user is the same in a part and its
//! `-known` file, and the same row of the training files. Only under strong generalisation are the training files about
//! other users, who are numbered apart. Weights and times are left out.
//!
//! To add a file: a line in [`lists`].

use super::Split;
use crate::algorithms::Interactions;
use std::fmt::Write;

/// A file by its name, and its text.
pub type List = (&'static str, String);

/// The files of a split. `validation-train.txt` is what to fit on while settings are chosen, `train.txt` what to fit on
/// for the test part; `-known` is what may be seen of each held-out user, and the file without it what has to be found.
#[must_use]
pub fn lists(split: &Split) -> Vec<List> {
    let (training, test) = (&split.training, &split.test);
    let (validation, held_out) = (&training.validation, &test.holdout);
    vec![
        ("validation-train.txt", rows(&training.interactions)),
        ("validation-known.txt", lines(validation.users(), validation.histories())),
        ("validation.txt", lines(validation.users(), validation.targets())),
        ("train.txt", rows(&test.interactions)),
        ("test-known.txt", lines(held_out.users(), held_out.histories())),
        ("test.txt", lines(held_out.users(), held_out.targets())),
    ]
}

fn rows(interactions: &Interactions) -> String {
    let users: Vec<u32> = (0..interactions.user_count() as u32).collect();
    lines(&users, interactions)
}

fn lines(users: &[u32], interactions: &Interactions) -> String {
    let mut text = String::new();
    for (user, row) in users.iter().zip(interactions.rows()) {
        let _ = write!(text, "{user}");
        for item in row.items {
            let _ = write!(text, " {item}");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::protocol::{Protocol, strong_generalisation};
    use crate::evaluation::testing::interactions;

    fn files(protocol: &Protocol) -> Vec<List> {
        lists(&protocol.split(&interactions(20, 40, |user| 5 + user % 4)).unwrap())
    }

    fn users(list: &List) -> Vec<&str> {
        list.1.lines().map(|line| line.split(' ').next().unwrap()).collect()
    }

    #[test]
    fn last_item_out_has_every_user_in_every_file() {
        let files = files(&Protocol::LastItemOut);
        let line = |file: usize| files[file].1.lines().next().unwrap();
        assert_eq!(files[0].0, "validation-train.txt");
        assert_eq!([line(0), line(1), line(2)], ["0 0 3 6", "0 0 3 6", "0 9"]);
        assert_eq!([line(3), line(4), line(5)], ["0 0 3 6 9", "0 0 3 6 9", "0 12"]);
        assert!(files.iter().all(|file| users(file).len() == 20));
    }

    #[test]
    fn strong_generalisation_pairs_what_is_known_with_what_is_to_be_found() {
        let files = files(&Protocol::StrongGeneralisation(strong_generalisation::Settings::default()));
        assert_eq!(files[0].1, files[3].1, "one training part serves both");
        for (known, wanted) in [(1, 2), (4, 5)] {
            assert_eq!(users(&files[known]), users(&files[wanted]));
            for (known, wanted) in files[known].1.lines().zip(files[wanted].1.lines()) {
                let known: Vec<&str> = known.split(' ').skip(1).collect();
                assert!(wanted.split(' ').skip(1).all(|item| !known.contains(&item)), "{wanted} is known");
            }
        }
        assert_ne!(users(&files[1]), users(&files[4]));
    }
}
