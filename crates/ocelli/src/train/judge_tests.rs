//! Ensembles and views against what one model says of one view, averaged by hand.

use super::resume_tests::{bits_world, start};
use super::tests::settings;
use super::*;
use crate::data::{self, Dataset, Picture, Split, Tta};
use crate::exec::Inference;
use crate::metrics::softmax;
use crate::model::Model;

/// A trained model of the tests' world, of a seed.
fn trained(world: &Path, seed: u64) -> Model {
    let run = world.join(format!("seed-{seed}"));
    start(&settings(world, &format!("seed = {seed}\nepochs = 1\nmax_steps = 4")), &run, 2, None).unwrap();
    Model::load(&run.to_string_lossy(), Path::new("runs")).unwrap()
}

fn pictures(world: &Path) -> Dataset {
    let options = data::OpenOptions { val_fraction: 0.25, ..Default::default() };
    data::open(&world.join("data").to_string_lossy(), &options).unwrap()
}

fn options(tta: Option<Tta>, batch_size: usize) -> EvaluateOptions {
    EvaluateOptions { device: Device::cpu(2), batch_size, workers: 2, skip_bad: false, tta }
}

fn judge(models: &[&Model], world: &Path, tta: Option<Tta>) -> Vec<Evaluation> {
    let mut models: Vec<Model> = models.iter().map(|model| (*model).clone()).collect();
    evaluate_all(&mut models, pictures(world), Split::Train, &options(tta, 7)).unwrap()
}

/// The model's probabilities of a picture, or of its mirror image.
fn probabilities(model: &Model, picture: Picture, mirrored: bool) -> Vec<f32> {
    let mut numbers = model.preparation.numbers(picture).unwrap();
    if mirrored {
        numbers.chunks_exact_mut(model.preparation.size[1]).for_each(|row| row.reverse());
    }
    let net = model.resolve().unwrap();
    softmax(&Inference::new(&net, model.tensors.clone(), &Device::cpu(1), 1).unwrap().logits(&numbers, 1).unwrap())
}

/// The probability of each picture's answer.
fn first(evaluation: &Evaluation) -> Vec<(u32, f32)> {
    evaluation.predictions.iter().map(|prediction| prediction.top[0]).collect()
}

#[test]
fn an_ensemble_of_equal_members_answers_as_the_member() {
    let world = bits_world();
    let model = trained(world.path(), 0);
    let all = judge(&[&model, &model, &model], world.path(), None);
    assert_eq!((all.len(), &all[0]), (4, &all[1]));
    assert_eq!((all[3].right, &all[3].confusion), (all[0].right, &all[0].confusion));
    assert!((all[3].loss - all[0].loss).abs() < 1e-6);
    for (a, b) in first(&all[3]).iter().zip(first(&all[0])) {
        assert!(a.0 == b.0 && (a.1 - b.1).abs() < 1e-6);
    }
}

#[test]
fn an_ensemble_answers_with_the_mean_of_its_members_probabilities() {
    let world = bits_world();
    let (a, b) = (trained(world.path(), 1), trained(world.path(), 2));
    let all = judge(&[&a, &b], world.path(), None);
    let data = pictures(world.path());
    assert_ne!(first(&all[0]), first(&all[1]));
    for prediction in &all[2].predictions {
        let picture = || data.picture(Split::Train, prediction.position).unwrap();
        let (p, q) = (probabilities(&a, picture(), false), probabilities(&b, picture(), false));
        let (class, found) = prediction.top[0];
        let expected = (p[class as usize] + q[class as usize]) / 2.0;
        assert!(expected >= 0.5 && (found - expected).abs() < 1e-6, "{found} {expected}");
    }
}

#[test]
fn flipped_views_are_averaged_and_batches_do_not_matter() {
    let world = bits_world();
    let model = trained(world.path(), 3);
    let flipped = judge(&[&model], world.path(), Some(Tta::Flip)).remove(0);
    let data = pictures(world.path());
    for prediction in &flipped.predictions {
        let picture = || data.picture(Split::Train, prediction.position).unwrap();
        let (p, q) = (probabilities(&model, picture(), false), probabilities(&model, picture(), true));
        let (class, found) = prediction.top[0];
        assert!((found - (p[class as usize] + q[class as usize]) / 2.0).abs() < 1e-6);
    }
    assert_ne!(first(&flipped), first(&judge(&[&model], world.path(), None)[0]));
    for tta in [Tta::Flip, Tta::MultiScale, Tta::TenCrop] {
        let mut model = model.clone();
        model.preparation.cover = [10, 10];
        let at = |batch| {
            evaluate(&mut model.clone(), pictures(world.path()), Split::Val, &options(Some(tta), batch)).unwrap()
        };
        assert_eq!(at(1), at(64), "{tta:?}");
    }
}

#[test]
fn members_with_other_classes_are_refused_with_both_names() {
    let world = bits_world();
    let model = trained(world.path(), 4);
    let other = Model { classes: vec!["dark".into(), "bright".into()], ..model.clone() };
    let error = check_ensemble(&[("a", &model), ("b", &model), ("c", &other)]).unwrap_err();
    assert_eq!(error.what(), "a has 2 classes, c has 2: 'light' is only in a");
    let turned = Model { classes: vec!["light".into(), "dark".into()], ..model.clone() };
    let error = check_ensemble(&[("a", &model), ("b", &turned)]).unwrap_err();
    assert!(error.what().ends_with("the same ones in another order"), "{error}");
}

#[test]
fn a_temperature_travels_with_the_model_and_moves_no_answer() {
    let world = bits_world();
    let mut model = trained(world.path(), 5);
    let before = judge(&[&model], world.path(), None).remove(0);
    let fitted = fit_temperature(&model, pictures(world.path()), Split::Train, &options(None, 5)).unwrap();
    model.calibration.temperature = Some(fitted);
    model.calibration.unsure = vec![0.5, f32::INFINITY];
    let path = world.path().join("cool.safetensors");
    model.save(&path).unwrap();
    let back = Model::load(&path.to_string_lossy(), Path::new("runs")).unwrap();
    assert_eq!(back.calibration, model.calibration);
    assert!(back.calibration.is_sure(0, 0.5) && !back.calibration.is_sure(1, 1.0));
    let after = judge(&[&back], world.path(), None).remove(0);
    assert_eq!((after.right, &after.confusion), (before.right, &before.confusion));
    assert!(fitted != 1.0 && after.loss < before.loss, "{} at T = {fitted}, {} before", after.loss, before.loss);

    model.calibration.unsure = vec![0.5];
    model.save(&path).unwrap();
    let error = Model::load(&path.to_string_lossy(), Path::new("runs")).unwrap_err();
    assert!(error.what().contains("calibration is not one for 2 classes"), "{error}");
}
