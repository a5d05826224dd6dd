use super::super::shards::tests::packed;
use super::super::{Augment, Batch, LoadOptions, Loader, Pictures, Preparation, Resize, TrainingOptions};
use super::*;
use std::io::{Read, Seek, SeekFrom};

const SPLIT: Split = Split::Train;

/// A loader of the 32 training pictures in four archives, none kept in memory unless `keep` bytes are enough.
fn loader(data: &Arc<Dataset>, order: &Order, workers: usize, keep: usize, skip_bad: bool) -> Loader {
    let augment: Augment = "flip,shift:1,jitter,mixup".parse().unwrap();
    let preparation = Preparation::for_data(data, [8, 8], 1, Resize::Crop, &augment).unwrap();
    let options = LoadOptions { augment, skip_bad, ..Default::default() };
    let pictures = Arc::new(Pictures::load_keeping(data, SPLIT, &preparation, &options, keep).unwrap());
    let options = TrainingOptions { order: order.clone(), augment, workers, ..Default::default() };
    Loader::training(&pictures, &preparation, &options).unwrap()
}

fn order(shuffle_buffer: usize) -> Order {
    Order { seed: 3, shuffle_buffer: Some(shuffle_buffer), batch_size: 5, ..Default::default() }
}

fn batches(loader: &Loader, first: usize) -> Vec<Batch> {
    loader.epoch(1, first).map(|batch| batch.unwrap()).collect()
}

#[test]
fn streamed_batches_are_those_by_place_for_any_workers_and_after_a_stop() {
    let (_world, _, data) = packed();
    let data = Arc::new(data);
    for buffer in [1, 7, 1000] {
        let order = order(buffer);
        let kept = batches(&loader(&data, &order, 1, usize::MAX, false), 0);
        assert_eq!(kept.len(), 7);
        for workers in [1, 2, 4] {
            let streamed = loader(&data, &order, workers, 0, false);
            assert!(batches(&streamed, 0) == kept, "a buffer of {buffer}, {workers} workers");
            for first in [1, 4, 6, 7] {
                assert!(batches(&streamed, first)[..] == kept[first..], "from batch {first}");
            }
        }
    }
}

#[test]
fn two_processes_have_half_of_the_pictures_each_in_their_own_archives() {
    let (_world, _, data) = packed();
    let data = Arc::new(data);
    let mut all = Vec::new();
    for rank in 0..2 {
        let order = Order { batch_size: 32, rank, world_size: 2, ..order(7) };
        let own: Vec<usize> =
            batches(&loader(&data, &order, 2, 0, false), 0).into_iter().flat_map(|b| b.indices).collect();
        assert_eq!(own.len(), 16);
        all.extend(own);
    }
    all.sort_unstable();
    assert_eq!(all, (0..32).collect::<Vec<_>>());
}

#[test]
fn no_more_files_are_held_than_the_buffer_has_places() {
    let (_world, _, data) = packed();
    let data = Arc::new(data);
    let preparation = Preparation::new([8, 8], 1, Resize::Crop).unwrap();
    let pictures = Pictures::load_keeping(&data, SPLIT, &preparation, &LoadOptions::default(), 0).unwrap();
    for (buffer, done) in [(1, 0), (6, 0), (6, 13), (100, 0), (100, 31)] {
        let order = order(buffer);
        let drawn = order.of(&data, SPLIT, &pictures.usable, 0);
        let mut stream = Stream::of(&pictures, &order, 0, &drawn[..done]).unwrap();
        for &position in &drawn[done..] {
            let Source::Shard(shard, index) = data.source(SPLIT, position) else { panic!("in no archive") };
            assert_eq!(stream.take(position).unwrap(), shard.read(*index, u64::MAX).unwrap());
            assert!(stream.held.len() < buffer);
        }
        assert!(stream.held.is_empty() && stream.coming.next().is_none());
        assert!(stream.take(drawn[0]).is_err(), "each once");
    }
}

/// Counts the bytes that are read, and refuses to go back.
struct Forward {
    file: File,
    read: u64,
    at: u64,
}

impl Read for Forward {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read(buffer)?;
        (self.read, self.at) = (self.read + n as u64, self.at + n as u64);
        Ok(n)
    }
}

impl Seek for Forward {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let at = self.file.seek(to)?;
        assert!(at >= self.at, "back from {} to {at}", self.at);
        self.at = at;
        Ok(at)
    }
}

#[test]
fn an_archive_is_read_forward_and_no_byte_twice() {
    let (_world, _, data) = packed();
    let Source::Shard(shard, _) = data.source(SPLIT, 0) else { panic!("in no archive") };
    let size = std::fs::metadata(shard.path()).unwrap().len();
    for capacity in [1, 700, READ] {
        let file = Forward { file: shard.open().unwrap(), read: 0, at: 0 };
        let mut reader = BufReader::with_capacity(capacity, file);
        for index in 0..6 {
            let bytes = shard.read_from(&mut reader, index, u64::MAX).unwrap();
            assert_eq!(bytes, shard.read(index, u64::MAX).unwrap());
        }
        assert!(reader.get_ref().read <= size, "{} bytes of {size}", reader.get_ref().read);
    }
}

#[test]
fn damage_in_the_middle_is_named_as_by_place_or_left_out() {
    let (_world, _, data) = packed();
    let data = Arc::new(data);
    let damage = |shard: &Shard, index: usize| {
        let mut bytes = std::fs::read(shard.path()).unwrap();
        let at = bytes.windows(8).enumerate().filter(|(_, eight)| eight == b"\x89PNG\r\n\x1a\n").nth(index).unwrap().0;
        bytes[at..at + 8].fill(0);
        std::fs::write(shard.path(), bytes).unwrap();
    };
    let Source::Shard(shard, _) = data.source(SPLIT, 12) else { panic!("in no archive") };
    damage(shard, 3);
    let wrong = (0..32).find(|&position| data.picture(SPLIT, position).is_err()).unwrap();
    let fault = data.picture(SPLIT, wrong).unwrap_err();
    let left_out = batches(&loader(&data, &order(7), 2, 0, true), 0);
    let skipped: Vec<_> = left_out.iter().flat_map(|batch| &batch.skipped).map(Error::to_string).collect();
    assert_eq!(skipped, [fault.to_string()]);
    let mut seen: Vec<usize> = left_out.into_iter().flat_map(|batch| batch.indices).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..32).filter(|&position| position != wrong).collect::<Vec<_>>());
    let strict = loader(&data, &order(7), 2, 0, false);
    let faults: Vec<_> = strict.epoch(1, 0).filter_map(|batch| batch.err()).collect();
    assert_eq!(faults.iter().map(Error::to_string).collect::<Vec<_>>(), [fault.to_string()]);
    // The archive shrinks while it is read: what is gone is named with its place, the other archives come.
    std::fs::write(shard.path(), [0; 512]).unwrap();
    let gone = batches(&loader(&data, &Order { batch_size: 16, ..order(7) }, 1, 0, true), 0);
    let lost: Vec<&Error> = gone.iter().flat_map(|batch| &batch.skipped).collect();
    assert_eq!(gone.iter().map(|batch| batch.n).sum::<usize>(), 32 - lost.len());
    assert!(lost.len() > 5 && lost.iter().all(|error| error.what().contains("' at byte ")), "{lost:?}");
}

#[test]
fn dropping_a_streamed_epoch_early_stops_its_reader() {
    let (_world, _, data) = packed();
    let data = Arc::new(data);
    let loader = loader(&data, &order(7), 3, 0, false);
    let held = Arc::strong_count(&data);
    let mut batches = loader.epoch(0, 0);
    batches.next().unwrap().unwrap();
    drop(batches);
    assert_eq!(Arc::strong_count(&data), held, "the reader that lived on would hold the data too");
}
