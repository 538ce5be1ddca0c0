//! Splits leak nothing, and twice the same.

use super::*;
use crate::algorithms::History;
use crate::evaluation::testing::interactions;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn protocols(seed: u64) -> Vec<Protocol> {
    vec![
        Protocol::LastItemOut,
        Protocol::StrongGeneralisation(strong_generalisation::Settings { seed, ..Default::default() }),
        Protocol::Temporal(temporal::Settings::default()),
    ]
}

fn set(row: History<'_>) -> BTreeSet<u32> {
    row.items.iter().copied().collect()
}

/// What must hold of every split, whatever the protocol.
fn check(split: &Split, items: usize) {
    for (holdout, fit) in [
        (&split.training.validation, &split.training.interactions),
        (&split.test.holdout, &split.test.interactions),
    ] {
        assert!(!holdout.is_empty());
        assert_eq!((holdout.item_count(), fit.item_count()), (items, items));
        assert_eq!(
            (holdout.histories().user_count(), holdout.targets().user_count()),
            (holdout.len(), holdout.len())
        );
        assert!(holdout.users().windows(2).all(|pair| pair[0] < pair[1]), "each user once");
        for user in 0..holdout.len() {
            let targets = set(holdout.targets().row(user));
            assert_eq!(targets.len(), holdout.targets().row(user).len(), "no target twice");
            assert!(!targets.is_empty());
            assert!(targets.is_disjoint(&set(holdout.histories().row(user))), "no target in the history");
        }
    }
    let description = &split.description;
    assert_eq!(description.validation_users, split.training.validation.len());
    assert_eq!(description.test_users, split.test.holdout.len());
    assert!(description.density > 0.0 && description.density <= 1.0);
}

/// Where training rows are users of the data: nobody's target is in the fit.
fn check_same_rows(holdout: &Holdout, fit: &Interactions) {
    for (position, &user) in holdout.users().iter().enumerate() {
        if (user as usize) < fit.user_count() {
            assert!(
                set(holdout.targets().row(position)).is_disjoint(&set(fit.row(user as usize))),
                "user {user}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn nothing_leaks_and_the_same_seed_gives_the_same_bytes(
        users in 30_usize..60, items in 53_u32..80, spread in 1_usize..9, seed in 0_u64..9,
    ) {
        let data = interactions(users, items, |user| user % spread + 10);
        for protocol in protocols(seed) {
            let split = protocol.split(&data).unwrap();
            check(&split, items as usize);
            if !matches!(protocol, Protocol::StrongGeneralisation(_)) {
                check_same_rows(&split.training.validation, &split.training.interactions);
                check_same_rows(&split.test.holdout, &split.training.interactions);
                check_same_rows(&split.test.holdout, &split.test.interactions);
            }
            let bytes = |split: &Split| serde_json::to_vec(split).unwrap();
            prop_assert_eq!(bytes(&split), bytes(&protocol.split(&data).unwrap()));
        }
    }

    #[test]
    fn strong_generalisation_holds_out_whole_users(users in 12_usize..40, seed in 0_u64..9) {
        let data = interactions(users, 40, |_| 10);
        let settings = strong_generalisation::Settings { seed, held_out_share: 0.2, ..Default::default() };
        let split = strong_generalisation::split(&data, &settings).unwrap();
        let validation: BTreeSet<u32> = split.training.validation.users().iter().copied().collect();
        let test: BTreeSet<u32> = split.test.holdout.users().iter().copied().collect();
        prop_assert!(validation.is_disjoint(&test));
        let left: Vec<usize> =
            (0..users).filter(|&user| !validation.contains(&(user as u32)) && !test.contains(&(user as u32))).collect();
        // Users whose unknown items left too little are in neither part nor in the training rows.
        prop_assert!(left.len() >= split.training.interactions.user_count());
        for row in split.training.interactions.rows() {
            prop_assert!(left.iter().any(|&user| data.row(user) == row));
        }
    }

    #[test]
    fn a_given_split_carves_validation_out_of_training_only(seed in 0_u64..9, share in 0.05_f64..0.6, last in any::<bool>()) {
        let train = interactions(20, 60, |user| user % 8);
        let test = Interactions::from_rows(&(0..22_u32).map(|user| vec![user, user + 30]).collect::<Vec<_>>(), 60).unwrap();
        let settings = given::Settings { seed, validation_share: share, validate_on_last: last };
        let split = given::split(&train, &test, &settings).unwrap();
        check(&split, 60);
        check_same_rows(&split.training.validation, &split.training.interactions);
        prop_assert_eq!(&*split.test.interactions, &train);
        prop_assert!(split.test.holdout.users().contains(&21), "a user without training is evaluated");
        let validated: usize = split.training.validation.targets().len();
        prop_assert_eq!(split.training.interactions.len() + validated, train.len());
    }
}

#[test]
fn last_item_out_takes_the_last_and_the_second_last() {
    let data = Interactions::from_rows(&[vec![4, 2, 3, 1], vec![0, 1], vec![], vec![5, 6, 5]], 7).unwrap();
    let split = Protocol::LastItemOut.split(&data).unwrap();
    assert_eq!(split.training.interactions.row(0).items, [4, 2]);
    assert_eq!(split.training.interactions.row(1).items, [0, 1]);
    assert_eq!(split.training.validation.targets().row(0).items, [3]);
    assert_eq!(split.test.holdout.histories().row(0).items, [4, 2, 3]);
    assert_eq!(split.test.holdout.targets().row(0).items, [1]);
    assert_eq!(split.test.holdout.users(), [0], "the last item of user 3 was seen before");
    assert_eq!(split.description.notes.len(), 3, "{:?}", split.description.notes);
    assert_eq!((split.description.users, split.description.interactions), (3, 9));
}

#[test]
fn strong_generalisation_filters_as_the_paper_does() {
    let data = interactions(30, 50, |user| if user == 7 { 4 } else { 20 });
    let settings = strong_generalisation::Settings { minimum_weight: Some(4.0), ..Default::default() };
    let split = strong_generalisation::split(&data, &settings).unwrap();
    assert_eq!(split.description.users, 29, "user 7 has one weight of 4 or more");
    assert_eq!(split.description.interactions, 29 * 8);
    assert!(split.training.interactions.weights().iter().all(|&weight| weight >= 4.0));
    let (histories, targets) = (split.test.holdout.histories(), split.test.holdout.targets());
    assert_eq!((histories.row(0).len(), targets.row(0).len()), (7, 1), "a fifth of 8, rounded down");
}

#[test]
fn targets_are_drawn_again_where_chance_draws_them() {
    let data = interactions(60, 50, |_| 20);
    let split = |validation_draws| {
        let settings = strong_generalisation::Settings { validation_draws, ..Default::default() };
        strong_generalisation::split(&data, &settings).unwrap()
    };
    let (one, four) = (split(1), split(4));
    assert_eq!(one.test, four.test);
    assert_eq!(one.training.validation, four.training.validation);
    assert_eq!(one.training.choices(), &one.training.validation);
    let (validation, choices) = (&four.training.validation, four.training.choices());
    assert_eq!(choices.len(), 4 * validation.len());
    assert_eq!(&choices.subset(&(0..validation.len()).map(|user| 4 * user).collect::<Vec<_>>()), validation);
    assert_ne!(choices.targets().row(0).items, choices.targets().row(1).items);
    let last = Protocol::LastItemOut.split(&data).unwrap();
    assert_eq!(last.training.choices(), &last.training.validation);
}

#[test]
fn a_test_file_is_later_where_most_of_its_users_are() {
    let check = |expected: bool, train: &[(u32, i64)], test: &[(u32, i64)]| {
        let part = |events: &[(u32, i64)]| {
            let events: Vec<_> = events.iter().map(|&(user, time)| (user, 0, 1.0, time)).collect();
            Interactions::from_events(3, 1, &events).unwrap()
        };
        assert_eq!(given::is_later(&part(train), &part(test)), expected, "{train:?} {test:?}");
    };
    check(true, &[(0, 10), (1, 50)], &[(0, 10), (1, 51), (2, 5)]);
    check(false, &[(0, 10), (1, 50)], &[(0, 11), (1, 49)]);
    check(false, &[(0, 10)], &[(1, 11)]);
    check(false, &[], &[]);
    let untimed = Interactions::from_rows(&[vec![0]], 1).unwrap();
    assert!(!given::is_later(&untimed, &untimed));
}

#[test]
fn a_temporal_split_is_cut_at_one_time_for_all() {
    let data = interactions(10, 90, |_| 10);
    let settings = temporal::Settings { test_from: temporal::Point::Time(8_000), ..Default::default() };
    let settings = temporal::Settings { validation_from: temporal::Point::Time(6_000), ..settings };
    let split = temporal::split(&data, &settings).unwrap();
    let times =
        |rows: &Interactions| -> Vec<i64> { rows.rows().flat_map(|row| row.times.to_vec()).collect() };
    assert!(times(&split.training.interactions).iter().all(|&time| time < 6_000));
    assert!(times(split.training.validation.targets()).iter().all(|time| (6_000..8_000).contains(time)));
    assert!(times(&split.test.interactions).iter().all(|&time| time < 8_000));
    assert!(times(split.test.holdout.targets()).iter().all(|&time| time >= 8_000));
}

#[test]
fn what_cannot_be_split_is_refused_with_the_reason() {
    let check = |protocol: Protocol, data: &Interactions, expected: &str| {
        let error = protocol.split(data).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let tiny = Interactions::from_rows(&[vec![0]], 1).unwrap();
    let none = Interactions::from_rows::<Vec<u32>>(&[], 0).unwrap();
    let untimed = Interactions::from_rows(&[vec![0, 1, 2]], 3).unwrap();
    let timed = interactions(3, 9, |_| 5);
    let strong = |held_out_share, fold_in_share| {
        Protocol::StrongGeneralisation(strong_generalisation::Settings {
            held_out_share,
            fold_in_share,
            ..Default::default()
        })
    };
    let temporal = |validation_from, test_from| {
        Protocol::Temporal(temporal::Settings { validation_from, test_from, include_cold_users: false })
    };
    let share = temporal::Point::Share;
    check(Protocol::LastItemOut, &tiny, "no user is left for the validation part");
    check(Protocol::LastItemOut, &none, "no user is left");
    check(strong(0.1, 0.8), &tiny, "0 users have 5 interactions");
    check(strong(f64::NAN, 0.8), &timed, "held_out_share");
    check(strong(0.1, 1.0), &timed, "fold_in_share");
    check(temporal(share(0.8), share(0.9)), &untimed, "needs the times");
    check(temporal(share(0.9), share(0.8)), &timed, "later than validation_from");
    check(temporal(share(0.0), share(0.8)), &timed, "validation_from");
    let whole = Interactions::from_rows(&[vec![0, 1], vec![2]], 3).unwrap();
    let part = Interactions::from_rows(&[vec![1], vec![2]], 3).unwrap();
    let error = given::split(&whole, &part, &given::Settings::default()).unwrap_err().to_string();
    assert!(error.contains("such as u1.base for u1.test"), "{error}");
    let error = given::split(&tiny, &timed, &given::Settings::default()).unwrap_err().to_string();
    assert!(error.contains("1 items and the test file 9"), "{error}");
}

#[test]
fn a_subset_is_the_same_users() {
    let split = Protocol::LastItemOut.split(&interactions(9, 50, |_| 6)).unwrap();
    let part = split.test.holdout.subset(&[4, 1]);
    assert_eq!(part.users(), [split.test.holdout.users()[4], split.test.holdout.users()[1]]);
    assert_eq!(part.targets().row(0), split.test.holdout.targets().row(4));
    assert_eq!(part.histories().row(1), split.test.holdout.histories().row(1));
}
