//! What a run says when something is wrong, and that it never spoils what it has saved.

use super::*;

#[test]
fn a_loss_that_is_not_finite_names_step_pictures_and_layer_and_keeps_the_old_checkpoint() {
    let world = world();
    let folder = run_folder(world.path(), "run");
    let done = session(&settings(world.path(), ""), &folder, None, |learner| learner.broken_at = Some(8));
    let error = done.ended.unwrap_err().to_string();
    assert!(error.starts_with("step 9: the loss is NaN in epoch 2, batch 3 (pictures "), "{error}");
    assert!(
        error.contains("of the training split): the output of layer fc holds NaN\nThe rate was 0.1: try"),
        "{error}"
    );
    assert_eq!(done.checkpoint.state.step, 6);
}

#[test]
fn weights_that_are_not_finite_are_never_saved() {
    let world = world();
    let folder = run_folder(world.path(), "run");
    let done = session(&settings(world.path(), ""), &folder, None, |learner| learner.infinite_at = Some(17));
    let error = done.ended.unwrap_err();
    assert!(error.what().starts_with("after step 18: fc.bias holds NaN or infinity"), "{error}");
    assert_eq!(done.checkpoint.state.step, 12);
    let (tensors, _) = crate::formats::weights::read(&folder.file(BEST)).unwrap();
    assert!(crate::model::check_finite(&tensors).is_ok());
}

#[test]
fn a_loss_that_stays_that_of_guessing_is_noticed_once() {
    let world = world();
    let folder = run_folder(world.path(), "run");
    let zero = |learner: &mut Regression| learner.tensors.values_mut().for_each(|tensor| tensor.data.fill(0.0));
    let done = session(&settings(world.path(), "epochs = 60\nlr = 1e-9"), &folder, None, zero);
    let guess = "step 300: for 300 steps the loss has been ln(2) = 0.693, that of guessing";
    assert_eq!(done.told.iter().filter(|told| *told == guess).count(), 1);
    assert_eq!(done.told.iter().filter(|told| told.contains("that of guessing")).count(), 1);
}

#[test]
fn one_answer_for_all_pictures_is_noticed() {
    let world = world();
    let folder = run_folder(world.path(), "run");
    let biased = |learner: &mut Regression| learner.tensors.get_mut("fc.bias").unwrap().data[1] = 1e3;
    let done = session(&settings(world.path(), "epochs = 1\nlr = 1e-9"), &folder, None, biased);
    assert!(done.told[2].starts_with("epoch 1: all 10 validation pictures are taken for 'light'"), "{:?}", done.told);
}

#[test]
fn a_checkpoint_that_cannot_be_written_ends_the_run() {
    let world = world();
    let folder = run_folder(world.path(), "run");
    fs::create_dir(folder.file(BEST)).unwrap();
    let done = session(&settings(world.path(), ""), &folder, None, |_| ());
    assert!(done.ended.unwrap_err().what().contains("best.safetensors: cannot be written"));
    assert_eq!(done.checkpoint.state.step, 0, "the state never counts on weights that are not there");
}
