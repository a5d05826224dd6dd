//! Which picture belongs to which split.

use super::dataset::{Item, OpenOptions, Split};
use crate::words::counted;
use crate::{Error, Result};
use ocelli_kernels::random::{self, Random};
use std::collections::{BTreeMap, HashMap};

/// The share that becomes the test split where data has no splits at all.
const TEST_FRACTION: f64 = 0.1;

/// The three splits as positions in `items`, in file order, and what was done in words. Where the data has no splits, test
/// and validation are carved, or all is test if it is judged whole; where it has only training data for it, validation is
/// carved.
pub(super) fn divide(items: &[Item], options: &OpenOptions) -> Result<([Vec<usize>; 3], Vec<String>)> {
    let mut splits: [Vec<usize>; 3] = Default::default();
    let mut notes = Vec::new();
    for (index, item) in items.iter().enumerate() {
        splits[item.split.unwrap_or(Split::Train) as usize].push(index);
    }
    let [train, val, test] = &mut splits;
    let whole = train.len();
    let has_splits = items.iter().any(|item| item.split.is_some());
    if !has_splits && options.judged_whole {
        std::mem::swap(train, test);
        notes.push(format!("no splits in the data: all of it is judged, {}", counted(whole, "picture")));
    } else if !has_splits {
        *test = carve(items, train, TEST_FRACTION, options.seed, Split::Test)?;
        *val = carve(items, train, options.val_fraction / (1.0 - TEST_FRACTION), options.seed, Split::Val)?;
        notes.push(format!(
            "no splits in the data: carved {} train, {} val, {} test of {whole} ({}, seed {})",
            train.len(),
            val.len(),
            test.len(),
            how(items),
            options.seed
        ));
    } else if val.is_empty() && !train.is_empty() {
        *val = carve(items, train, options.val_fraction, options.seed, Split::Val)?;
        notes.push(format!(
            "no validation split in the data: carved {} of {whole} training pictures ({}, seed {})",
            val.len(),
            how(items),
            options.seed
        ));
    }
    Ok((splits, notes))
}

fn how(items: &[Item]) -> &'static str {
    if items.iter().any(|item| item.group.is_some()) { "stratified, whole groups" } else { "stratified" }
}

/// Takes a share of `members` out, of every class alike, at random by the seed, whole groups only. A group counts for the
/// class of its first picture.
fn carve(items: &[Item], members: &mut Vec<usize>, fraction: f64, seed: u64, into: Split) -> Result<Vec<usize>> {
    // Units that stay together: a group, or a picture.
    let mut units: Vec<Vec<usize>> = Vec::new();
    let mut groups: HashMap<&str, usize> = HashMap::new();
    for &index in members.iter() {
        match &items[index].group {
            Some(group) => match groups.get(group.as_str()) {
                Some(&unit) => units[unit].push(index),
                None => {
                    groups.insert(group, units.len());
                    units.push(vec![index]);
                }
            },
            None => units.push(vec![index]),
        }
    }
    let mut strata: BTreeMap<u32, Vec<Vec<usize>>> = BTreeMap::new();
    for unit in units {
        strata.entry(items[unit[0]].label).or_default().push(unit);
    }
    let mut taken = Vec::new();
    for (label, mut units) in strata {
        Random::new(seed, random::name("split"), random::name(into.name()), label.into()).shuffle(&mut units);
        let pictures: usize = units.iter().map(Vec::len).sum();
        let wanted = (pictures as f64 * fraction).round() as usize;
        // A class gives one unit at least if it has two, and keeps one at least.
        let (mut count, most) = (0, units.len() - 1);
        for unit in units.into_iter().take(most) {
            if count == 0 || count + unit.len().div_ceil(2) <= wanted {
                count += unit.len();
                taken.extend(unit);
            }
        }
    }
    if taken.is_empty() {
        let pictures = counted(members.len(), "picture");
        return Err(Error::new(format!("{pictures} in all: too few to carve a {into} split"))
            .advice("Add pictures: every class needs two at least, three without a test folder."));
    }
    taken.sort_unstable();
    members.retain(|index| taken.binary_search(index).is_err());
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::super::Source;
    use super::*;

    fn items(labels: &[u32], group: impl Fn(usize) -> Option<String>) -> Vec<Item> {
        let item = |(i, &label): (usize, &u32)| Item {
            source: Source::File(format!("{i}.png").into()),
            label,
            targets: vec![],
            group: group(i),
            split: None,
        };
        labels.iter().enumerate().map(item).collect()
    }

    #[test]
    fn a_single_tree_is_divided_80_10_10_in_every_class() {
        let labels: Vec<u32> = (0..300).map(|i| u32::from(i % 3 == 0)).collect();
        let items = items(&labels, |_| None);
        let (splits, notes) = divide(&items, &OpenOptions::default()).unwrap();
        let count = |split: usize, label| splits[split].iter().filter(|&&i| labels[i] == label).count();
        assert_eq!([count(0, 0), count(1, 0), count(2, 0)], [160, 20, 20]);
        assert_eq!([count(0, 1), count(1, 1), count(2, 1)], [80, 10, 10]);
        let mut all = splits.concat();
        all.sort_unstable();
        assert_eq!(all, (0..300).collect::<Vec<_>>(), "every picture is in one split");
        assert!(notes[0].contains("240 train, 30 val, 30 test of 300"), "{notes:?}");
        let again = divide(&items, &OpenOptions::default()).unwrap().0;
        let other = divide(&items, &OpenOptions { seed: 1, ..Default::default() }).unwrap().0;
        assert_eq!(splits, again);
        assert_ne!(splits, other);
    }

    #[test]
    fn data_that_is_judged_whole_is_all_test_and_two_pictures_are_enough() {
        let options = OpenOptions { judged_whole: true, ..Default::default() };
        let (splits, notes) = divide(&items(&[0, 1], |_| None), &options).unwrap();
        assert_eq!(splits, [vec![], vec![], vec![0, 1]]);
        assert_eq!(notes, ["no splits in the data: all of it is judged, 2 pictures"]);
        let mut with_split = items(&[0; 10], |_| None);
        with_split[9].split = Some(Split::Train);
        let (splits, _) = divide(&with_split, &options).unwrap();
        assert_eq!(splits.each_ref().map(Vec::len), [9, 1, 0], "data that has splits keeps them");
    }

    #[test]
    fn groups_stay_whole() {
        let labels: Vec<u32> = (0..200).map(|i| i / 100).collect();
        let group = |i: usize| Some(format!("person {}", i / 5));
        let (splits, _) = divide(&items(&labels, group), &OpenOptions::default()).unwrap();
        for split in &splits {
            assert!(split.iter().all(|&i| (i / 5 * 5..i / 5 * 5 + 5).all(|other| split.contains(&other))));
        }
        assert_eq!(splits.each_ref().map(Vec::len), [160, 20, 20]);
    }

    #[test]
    fn a_rare_class_is_in_every_split_and_too_few_pictures_are_an_error() {
        let labels: Vec<u32> = (0..50).map(|i| u32::from(i < 3)).collect();
        let (splits, _) = divide(&items(&labels, |_| None), &OpenOptions::default()).unwrap();
        assert!(splits.iter().all(|split| split.iter().any(|&i| i < 3)));
        let error = divide(&items(&[0, 1], |_| None), &OpenOptions::default()).unwrap_err();
        assert!(error.what().contains("2 pictures in all: too few"), "{error}");
    }
}
