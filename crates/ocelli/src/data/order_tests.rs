use super::super::dataset::Item;
use super::super::tar::Member;
use super::super::{OpenOptions, Shard};
use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::path::Path;

const SPLIT: Split = Split::Test;

/// Pictures of 100 bytes in archives of these lengths, which do not exist; one archive after the other has the next class.
fn shards(lengths: &[usize], classes: usize) -> Dataset {
    let mut items = Vec::new();
    for (number, &length) in lengths.iter().enumerate() {
        let member =
            |i: u64| Member { name: format!("{number}-{i}.png"), offset: 1536 * i + 512, length: 100, class: None };
        let shard = Arc::new(Shard::new(
            Path::new(&format!("{number}.tar")),
            &(0..length as u64).map(member).collect::<Vec<_>>(),
        ));
        let item = |i| Item {
            source: Source::Shard(Arc::clone(&shard), i),
            label: (number % classes) as u32,
            targets: vec![],
            group: None,
            split: None,
        };
        items.extend((0..length).map(item));
    }
    let options = OpenOptions { judged_whole: true, ..Default::default() };
    let classes = (0..classes).map(|class| class.to_string()).collect();
    Dataset::assemble(Path::new("shards"), classes, vec![], items, &options).unwrap()
}

fn place(data: &Dataset, position: usize) -> (&Path, usize) {
    match data.source(SPLIT, position) {
        Source::Shard(shard, index) => (shard.path(), *index),
        _ => panic!("a picture in no archive"),
    }
}

proptest! {
    #[test]
    fn ranks_read_every_picture_once_each_archive_from_beginning_to_end(
        lengths in proptest::collection::vec(1usize..60, 1..9),
        buffer in 1usize..400,
        groups in 1usize..5,
        odd in 0usize..16,
        world_size in 1usize..5,
        (seed, epoch) in (0u64..9, 0u64..9),
        bad in 0usize..60,
    ) {
        let data = shards(&lengths, 2);
        let usable: Vec<usize> = (0..data.len(SPLIT)).filter(|&position| position != bad).collect();
        prop_assume!(!usable.is_empty());
        let batch_size = groups * GROUP - odd.min(groups * GROUP - 1);
        let (mut all, mut archives) = (Vec::new(), Vec::new());
        let batches = usable.len().div_ceil(batch_size);
        let mut joint = vec![0; batches];
        for rank in 0..world_size {
            let order = Order { seed, shuffle_buffer: Some(buffer), batch_size, rank, world_size, ..Order::default() };
            let (stream, drawn) =
                (order.stream(&data, SPLIT, &usable, epoch), order.of(&data, SPLIT, &usable, epoch));
            prop_assert_eq!(&drawn, &order.of(&data, SPLIT, &usable, epoch));
            // An archive after the other, each forward.
            let mut seen = BTreeSet::new();
            for pair in stream.windows(2).map(|pair| [place(&data, pair[0]), place(&data, pair[1])]) {
                let [(archive, index), (next, later)] = pair;
                let forward = if archive == next { index < later } else { seen.insert(archive) && !seen.contains(next) };
                prop_assert!(forward);
            }
            archives.extend(stream.iter().map(|&position| place(&data, position).0).collect::<BTreeSet<_>>());
            // No picture is drawn before it came into the buffer.
            for (k, position) in drawn.iter().enumerate() {
                let came = stream.iter().position(|other| other == position).unwrap();
                prop_assert!(came < k + buffer);
            }
            prop_assert!(buffer > 1 || drawn == stream);
            // The batches are the order, cut at whole groups.
            let mut end = 0;
            for (batch, joint) in joint.iter_mut().enumerate() {
                let range = order.batch(batch, batches, drawn.len());
                prop_assert_eq!(range.start, end);
                prop_assert!(rank + 1 == world_size || range.len().is_multiple_of(GROUP));
                *joint += range.len();
                end = range.end;
            }
            prop_assert_eq!(end, drawn.len());
            all.extend(drawn);
        }
        all.sort_unstable();
        prop_assert_eq!(&all, &usable);
        prop_assert!(joint[..batches - 1].iter().all(|&n| n == batch_size));
        archives.sort_unstable();
        let shared = archives.windows(2).filter(|pair| pair[0] == pair[1]).count();
        prop_assert!(shared < world_size, "one archive at most at each of the cuts");
    }
}

#[test]
fn a_buffer_of_all_pictures_gives_every_order_alike() {
    let data = shards(&[2, 2], 2);
    let usable = [0, 1, 2, 3];
    let mut counts = std::collections::BTreeMap::new();
    let order = Order { shuffle_buffer: Some(9), ..Order::default() };
    (0..2400).for_each(|epoch| *counts.entry(order.of(&data, SPLIT, &usable, epoch)).or_insert(0) += 1);
    // 100 of each on average, with a standard deviation of 10.
    assert!(counts.len() == 24 && counts.values().all(|n| (50..150).contains(n)), "{counts:?}");
}

#[test]
fn another_epoch_or_seed_is_another_order() {
    let data = shards(&[30; 8], 2);
    let usable: Vec<usize> = (0..240).collect();
    let of = |seed, epoch, buffer| {
        let order = Order { seed, shuffle_buffer: Some(buffer), ..Order::default() };
        order.of(&data, SPLIT, &usable, epoch)
    };
    for buffer in [1, 50] {
        assert_ne!(of(0, 0, buffer), of(0, 1, buffer));
        assert_ne!(of(0, 0, buffer), of(1, 0, buffer));
    }
}

#[test]
fn a_buffer_tells_its_memory_and_that_sorted_archives_mix_badly() {
    let order = Order { shuffle_buffer: Some(20), ..Order::default() };
    let note = |data: &Dataset, held| order.note(data, SPLIT, &(0..data.len(SPLIT)).collect::<Vec<_>>(), held).unwrap();
    assert_eq!(note(&shards(&[10; 8], 2), true), "a shuffle buffer of 20 pictures takes 2.0 KB");
    let small = note(&shards(&[4, 4], 2), false);
    assert_eq!(small, "a shuffle buffer of 8 pictures takes nothing: all are in memory");
    let sorted = shards(&[30; 10], 10);
    assert!(
        note(&sorted, true).ends_with("begins with 1 of 10 classes: mix the archives first, by `ocelli data pack`")
    );
    assert!(order.note(&sorted, SPLIT, &[], true).is_some(), "no pictures are no division by 0");
    assert!(Order::default().note(&sorted, SPLIT, &[0], true).is_none());
}

#[test]
fn what_cannot_be_is_said_with_its_numbers() {
    let data = shards(&[50, 50], 2);
    let buffer = Order { shuffle_buffer: Some(10), ..Order::default() };
    let fault = |order: Order| order.check(&data, SPLIT).unwrap_err().to_string();
    assert!(buffer.check(&data, SPLIT).is_ok());
    for (order, words) in [
        (
            Order { shuffle_buffer: Some(0), ..Order::default() },
            "a shuffle buffer of 0 pictures\nChoose --shuffle-buffer",
        ),
        (Order { shuffle: false, ..buffer.clone() }, "a shuffle buffer for pictures in file order"),
        (Order { sampling: Sampling::Balanced, ..buffer.clone() }, "a shuffle buffer with sampling balanced"),
        (Order { rank: 2, world_size: 2, ..buffer.clone() }, "rank 2 of 2 processes\nRanks count from 0"),
        (Order { rank: 0, world_size: 0, ..buffer.clone() }, "rank 0 of 0 processes"),
        (
            Order { world_size: 5, ..buffer.clone() },
            "a batch of 64 pictures for 5 processes, each with whole groups of 16",
        ),
        (Order { world_size: 8, batch_size: 500, ..buffer.clone() }, "a batch of 100 pictures for 8 processes"),
        (Order { batch_size: 0, ..buffer.clone() }, "a batch of 0 pictures"),
    ] {
        assert!(fault(order).contains(words), "{words}");
    }
    let digits = super::super::open("mnist-10k", &OpenOptions::default()).unwrap();
    let error = buffer.check(&digits, SPLIT).unwrap_err().to_string();
    assert!(error.contains("mnist-10k: a shuffle buffer, but mnist-10k/test#0 is in no tar archive"), "{error}");
    assert!(error.contains("ocelli data pack DATA --output SHARDS"), "{error}");
}
