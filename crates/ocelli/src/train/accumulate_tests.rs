//! Runs whose steps run in parts.

use std::fs;

use super::resume_tests::{bits_world, go_on, left, start};
use super::tests::settings;
use super::*;
use crate::formats::checkpoint::{self, Checkpoint};
use crate::formats::run_folder::CHECKPOINT;
use crate::formats::weights;

/// 52 training pictures of two classes: with batches of 32 two steps an epoch, the last of 20 pictures.
fn larger_world() -> tempfile::TempDir {
    let world = bits_world();
    for (class, light) in [("dark", 90), ("light", 140)] {
        for i in 20..40u32 {
            let pixel = |x: u32, y: u32| image::Luma([(light + (i * 41 + x * 13 + y * 47) % 60) as u8]);
            let path = world.path().join(format!("data/{class}/{i:02}.png"));
            image::GrayImage::from_fn(4, 4, pixel).save(path).unwrap();
        }
    }
    world
}

fn saved(run: &Path) -> Checkpoint<RunState> {
    checkpoint::read(&run.join(CHECKPOINT)).unwrap()
}

#[test]
fn a_run_in_parts_learns_the_bits_of_whole_batches_also_over_a_stop() {
    let world = larger_world();
    let net = fs::read_to_string(world.path().join("one.toml")).unwrap();
    let without = net.lines().filter(|line| !line.contains("batch_norm")).collect::<Vec<_>>().join("\n");
    fs::write(world.path().join("one.toml"), without).unwrap();
    let text = "batch_size = 32\nlr = 0.02\nclip = 0.5\nema = 0.9\nclass_weights = [1.0, 2.0]\nlabel_smoothing = 0.1\n\
        augment = 'shift:1,mixup,cutmix'\n";
    let at = |name: &str| world.path().join(name);
    assert_eq!(start(&settings(world.path(), text), &at("whole"), 2, None).unwrap().steps, 6);
    let whole = saved(&at("whole"));
    let in_parts = settings(world.path(), &format!("{text}accumulate = 2"));
    for threads in [1, 3] {
        let run = at(&format!("{threads}"));
        start(&in_parts, &run, threads, None).unwrap();
        let parts = saved(&run);
        assert_eq!((&parts.tensors, &parts.optimizer), (&whole.tensors, &whole.optimizer), "{threads} threads");
        let state = RunState { settings: whole.state.settings.clone(), ..parts.state };
        assert_eq!(state, whole.state, "losses and hits too");
        assert_eq!(weights::read(&run.join(BEST)).unwrap().0, weights::read(&at("whole").join(BEST)).unwrap().0);
    }
    let stopped = at("stopped");
    assert_eq!(start(&in_parts, &stopped, 2, Some(3)).unwrap().ended, Ended::Interrupted);
    go_on(&stopped, "", None).unwrap();
    assert_eq!(left(&stopped), left(&at("1")));
    assert!(go_on(&stopped, "accumulate = 1", None).unwrap_err().what().contains("accumulate"));
}

#[test]
fn batch_norm_in_parts_is_told_of_and_its_statistics_are_measured_in_parts() {
    let world = larger_world();
    let mut notes = Vec::new();
    let mut listener = |event: &Event| {
        if let Event::Note(note) = event {
            notes.push(note.to_string());
        }
        Ok(())
    };
    let settings = settings(world.path(), "batch_size = 32\naccumulate = 2\nswa = 1\nlr = 0.01");
    let place = Place { output: Some(world.path().join("run")), device: Device::cpu(2), ..Place::default() };
    train(&settings, &place, Audience { listeners: vec![&mut listener], interrupt: &AtomicBool::new(false) }).unwrap();
    let note = "batch norm sums over parts of 16 pictures, so the weights are not those of whole batches";
    assert!(notes.iter().any(|told| told == note), "{notes:?}");
}
