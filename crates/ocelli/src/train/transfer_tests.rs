//! Runs that start from another run's weights.

use std::fs;

use super::resume_tests::{bits_world, go_on, left, start};
use super::tests::settings;
use super::*;
use crate::Tensors;
use crate::formats::checkpoint;
use crate::formats::run_folder::CHECKPOINT;
use crate::formats::weights;

/// A trained run to start from.
fn first(world: &Path) -> PathBuf {
    let run = world.join("first");
    start(&settings(world, "epochs = 1"), &run, 2, None).unwrap();
    run
}

fn best(run: &Path) -> Tensors {
    weights::read(&run.join(BEST)).unwrap().0
}

fn last(run: &Path) -> Tensors {
    checkpoint::read::<RunState>(&run.join(CHECKPOINT)).unwrap().tensors
}

#[test]
fn frozen_layers_stay_to_the_bit_and_have_no_state_also_over_a_stop() {
    let world = bits_world();
    let init = first(world.path());
    let text = format!("init = '{}'\nfreeze_until = 'fc'\nfreeze_bn = true", init.display());
    let run = world.path().join("frozen");
    start(&settings(world.path(), &text), &run, 2, None).unwrap();
    let (before, after) = (best(&init), last(&run));
    for (name, tensor) in &before {
        assert_eq!(after[name] == *tensor, !name.starts_with("fc."), "{name}");
    }
    let saved = checkpoint::read::<RunState>(&run.join(CHECKPOINT)).unwrap();
    assert_eq!(saved.optimizer.keys().collect::<Vec<_>>(), ["momentum.fc.bias", "momentum.fc.weight"]);
    let parts = world.path().join("parts");
    start(&settings(world.path(), &text), &parts, 1, Some(4)).unwrap();
    go_on(&parts, "", None).unwrap();
    assert_eq!(left(&parts), left(&run));
    assert!(go_on(&parts, "freeze_until = 'bn'", None).unwrap_err().what().contains("freeze_until"));
}

#[test]
fn batch_norm_keeps_its_statistics_only_if_asked_to() {
    let world = bits_world();
    let init = first(world.path());
    let after = |name: &str, more: &str| {
        let run = world.path().join(name);
        start(&settings(world.path(), &format!("init = '{}'\n{more}", init.display())), &run, 2, None).unwrap();
        last(&run)
    };
    let before = best(&init);
    let same = |tensors: &Tensors, name: &str| tensors[name] == before[name];
    let frozen = after("bn", "freeze_bn = true");
    assert!(same(&frozen, "bn.running_mean") && same(&frozen, "bn.running_var") && !same(&frozen, "bn.weight"));
    let measured = after("measured", "freeze_until = 'fc'");
    assert!(same(&measured, "bn.weight") && !same(&measured, "bn.running_mean"));
}

#[test]
fn frozen_layers_have_no_gradients_and_take_no_memory_for_them() {
    let net = Net::zoo("alexnet-slide").unwrap();
    let all = net.resolve(Some(10), None).unwrap();
    let mut head = all.clone();
    let settings = Settings { freeze_until: Some("fc8".into()), ..Settings::default() };
    let (_, notes) = transfer::prepare(&mut head, &settings).unwrap();
    assert!(notes[0].ends_with("stay as they are: those before fc8"), "{notes:?}");
    let loss = crate::exec::Loss::CrossEntropy { smoothing: 0.0, class_weights: None };
    // Clipped, so that all gradients are there at once; else those of linear layers never are.
    let options = crate::exec::TrainOptions::new(loss, crate::exec::Optimizer::sgd(0.9));
    let options = crate::exec::TrainOptions { clip: Some(1.0), ..options };
    let stored = |net| crate::exec::memory(net, crate::exec::Work::Train(&options), &Device::cpu(1), 1).unwrap();
    let (whole, part) = (stored(&all), stored(&head));
    assert!(whole.stored - part.stored > 200 << 20, "no momentum: {whole:?} {part:?}");
    assert!(whole.scratch > part.scratch + (100 << 20), "no gradients: {whole:?} {part:?}");
}

#[test]
fn a_new_head_takes_the_place_of_one_for_other_classes() {
    let world = bits_world();
    let init = first(world.path());
    // A third class, so that the head doesn't fit.
    fs::create_dir(world.path().join("data/middling")).unwrap();
    for i in 0..20u8 {
        let picture = image::GrayImage::from_pixel(4, 4, image::Luma([100 + i]));
        picture.save(world.path().join(format!("data/middling/{i:02}.png"))).unwrap();
    }
    let text = format!("init = '{}'\nmax_steps = 1\nlr = 1e-9", init.display());
    let run = world.path().join("run");
    let error = start(&settings(world.path(), &text), &run, 2, None).unwrap_err();
    let shapes = "fc.bias has the shape [2] in the file, but [3] in the network, fc.weight [2, 64], but [3, 64]";
    assert!(error.what().contains(shapes) && error.to_string().contains("--replace-head"), "{error}");
    start(&settings(world.path(), &format!("{text}\nreplace_head = true")), &run, 2, None).unwrap();
    let (before, after) = (best(&init), last(&run));
    assert_eq!(after["fc.weight"].dims, [3, 64]);
    let off = after["conv.weight"].data.iter().zip(&before["conv.weight"].data).map(|(a, b)| (a - b).abs());
    assert!(off.fold(0.0, f32::max) < 1e-5);
}

#[test]
fn weights_that_do_not_fit_are_listed() {
    let world = bits_world();
    let init = first(world.path());
    let net = fs::read_to_string(world.path().join("one.toml")).unwrap();
    let other = net.replace("filters = 4", "filters = 5").replace("name = \"bn\"", "name = \"norm\"");
    fs::write(world.path().join("one.toml"), other).unwrap();
    let text = format!("init = '{}'", init.display());
    let error = start(&settings(world.path(), &text), &world.path().join("run"), 2, None).unwrap_err();
    for part in [
        "conv.bias has the shape [4] in the file, but [5] in the network",
        "4 tensors of the network are missing (norm.bias, norm.running_mean, norm.running_var, norm.weight)",
        "4 are unknown to it (bn.bias, bn.running_mean, bn.running_var, bn.weight)",
    ] {
        assert!(error.what().contains(part), "{error}");
    }
}

#[test]
fn rates_of_groups_multiply_the_nets_own() {
    let net = Net::zoo("lenet5").unwrap();
    let with = |entries: &[&str]| {
        let mut net = net.resolve(None, None).unwrap();
        let lr_scale = entries.iter().map(|entry| entry.to_string()).collect();
        transfer::prepare(&mut net, &Settings { lr_scale, ..Settings::default() }).map(|_| net)
    };
    let scaled = with(&["conv*=0.1", "*.bias=2"]).unwrap();
    let rate = |name: &str| scaled.parameters().find(|p| p.name == name).unwrap().lr;
    assert_eq!([rate("conv1.weight"), rate("conv1.bias"), rate("fc1.weight"), rate("fc1.bias")], [0.1, 0.2, 1.0, 2.0]);
    assert!(with(&["conf*=0.1"]).unwrap_err().what().contains("lr_scale 'conf*' means no parameter of lenet5"));
    assert!(with(&["conv*"]).unwrap_err().what().contains("lr_scale 'conv*' cannot be"));
    let frozen = Settings { freeze_until: Some("conv3".into()), ..Settings::default() };
    let error = transfer::prepare(&mut net.resolve(None, None).unwrap(), &frozen).unwrap_err().to_string();
    assert!(error.contains("lenet5 has no such layer\nDid you mean conv"), "{error}");
}

/// The net of [`bits_world`] with one layer more, so that there are two to unfreeze.
fn deeper_world() -> tempfile::TempDir {
    let world = bits_world();
    let net = fs::read_to_string(world.path().join("one.toml")).unwrap();
    let hidden = "{ type = \"linear\", name = \"hidden\", units = 9 },\n  { type = \"linear\", name = \"fc\"";
    fs::write(world.path().join("one.toml"), net.replace("{ type = \"linear\", name = \"fc\"", hidden)).unwrap();
    world
}

#[test]
fn layers_that_learn_later_start_like_those_of_a_new_run() {
    let world = deeper_world();
    let run = |name: &str, text: &str| {
        let folder = world.path().join(name);
        start(&settings(world.path(), text), &folder, 2, None).unwrap();
        checkpoint::read::<RunState>(&folder.join(CHECKPOINT)).unwrap()
    };
    for optimizer in ["sgd", "adam"] {
        let base = format!("optimizer = '{optimizer}'\nlr = 0.01\nfreeze_until = 'fc'\nshuffle = false");
        let first = run(&format!("{optimizer}-1"), &format!("{base}\nepochs = 1"));
        let second =
            run(&format!("{optimizer}-2"), &format!("{base}\nepochs = 2\nunfreeze = ['conv@2']\nmax_steps = 7"));
        let state = second.optimizer.keys().filter(|name| name.contains("conv.weight")).collect::<Vec<_>>();
        assert_eq!(state.len(), if optimizer == "sgd" { 1 } else { 2 });
        let momentum = |name: &str| match optimizer {
            "sgd" => second.optimizer[&format!("momentum.{name}")].data.clone(),
            _ => second.optimizer[&format!("exp_avg.{name}")].data.iter().map(|m| m / 0.1).collect(),
        };
        // The first step from zero: SGD goes by the gradient, which its momentum is then, Adam by the rate.
        let (before, after) = (&first.tensors["hidden.weight"].data, &second.tensors["hidden.weight"].data);
        for ((w, now), g) in before.iter().zip(after).zip(momentum("hidden.weight")) {
            let expected = if optimizer == "sgd" { 0.01 * g } else { 0.01 * g / (g.abs() + 1e-8) };
            assert!((w - now - expected).abs() < 1e-6, "{optimizer}: from {w} to {now} by {g}");
        }
        assert!(momentum("hidden.weight").iter().any(|g| g.abs() > 1e-4));
    }
}

#[test]
fn unfreezing_goes_on_to_the_same_bits_wherever_it_stopped() {
    let world = deeper_world();
    for more in ["", "optimizer = 'adamw'\nlr = 0.01\nclip = 1\nema = 0.9"] {
        let text = format!("{more}\nepochs = 4\nfreeze_until = 'fc'\nunfreeze = ['hidden@2', 'conv@4']");
        let at = |name: &str| world.path().join(format!("{}-{name}", more.len()));
        start(&settings(world.path(), &text), &at("whole"), 2, None).unwrap();
        let whole = left(&at("whole"));
        let state = |name: &str| checkpoint::read::<RunState>(&at(name).join(CHECKPOINT)).unwrap().optimizer;
        let learns =
            |name: &str| state(name).keys().any(|key| key == "momentum.conv.weight" || key == "exp_avg.conv.weight");
        assert!(learns("whole"));
        // In the first epoch, at its end, after the first step of the second, in the third, at its end, in the fourth.
        for stop in [3, 6, 7, 15, 18, 20] {
            let run = at(&stop.to_string());
            start(&settings(world.path(), &text), &run, 1, Some(stop)).unwrap();
            go_on(&run, "", None).unwrap();
            assert_eq!(left(&run), whole, "stopped at {stop}");
        }
        // Between two epochs, with the checkpoint of the one before.
        let run = at("between");
        let ends = settings(world.path(), &format!("{text}\nmax_steps = 6"));
        start(&ends, &run, 2, None).unwrap();
        go_on(&run, "max_steps = 1000000", None).unwrap();
        assert_eq!(left(&run), whole);
        start(&settings(world.path(), &format!("{text}\nmax_steps = 18")), &at("frozen"), 2, None).unwrap();
        assert!(!learns("frozen"), "nothing is kept of what does not learn yet");
    }
}

#[test]
fn plans_of_unfreezing_that_make_no_sense_are_refused() {
    let net = Net::zoo("lenet5").unwrap();
    let told = |freeze_until: Option<&str>, entries: &[&str]| {
        let unfreeze = entries.iter().map(|entry| entry.to_string()).collect();
        let settings =
            Settings { freeze_until: freeze_until.map(Into::into), unfreeze, epochs: 9, ..Settings::default() };
        let mut net = net.resolve(None, None).unwrap();
        transfer::prepare(&mut net, &settings).map(|(stages, _)| stages)
    };
    let stages = told(Some("fc3"), &["fc1@2", "conv1@9"]).unwrap();
    let learn = |net: &crate::net::Resolved| {
        net.parameters().filter(|p| p.trainable).map(|p| p.frozen_epochs).collect::<Vec<_>>()
    };
    assert_eq!((stages[0].0, learn(&stages[0].1)), (2, vec![1, 1, 1, 1, 0, 0]));
    assert_eq!((stages[1].0, learn(&stages[1].1)), (9, vec![8, 8, 8, 8, 1, 1, 1, 1, 0, 0]));
    let error = |until, entries: &[&str]| told(until, entries).unwrap_err().to_string();
    assert!(error(Some("fc3"), &["fc1"]).starts_with("unfreeze 'fc1' cannot be\nWrite LAYER@EPOCH"));
    assert!(error(Some("fc3"), &["fc1@two"]).starts_with("unfreeze 'fc1@two' cannot be"));
    assert!(error(None, &["fc1@2"]).contains("without freeze_until\nSay what learns from the start"));
    assert!(error(Some("fc3"), &["conf1@2"]).contains("unfreeze conf1: lenet5 has no such layer\nDid you mean conv1?"));
    assert!(error(Some("fc3"), &["fc1@1"]).contains("unfreeze fc1@1: the epoch must be after 1, 9 at most"));
    assert!(error(Some("fc3"), &["fc2@4", "fc1@4"]).contains("unfreeze fc1@4: the epoch must be after 4, 9 at most"));
    assert!(error(Some("fc3"), &["fc1@10"]).contains("the epoch must be after 1, 9 at most"));
    assert!(error(Some("fc1"), &["fc2@2"]).contains("unfreeze fc2@2: all from fc2 on learns before"));
    assert!(error(Some("fc3"), &["fc1@2", "fc2@3"]).contains("unfreeze fc2@3: all from fc2 on learns before"));
}
