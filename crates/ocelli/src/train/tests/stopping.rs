//! When a run ends, and that going on gives the same bits.

use super::*;

#[test]
fn a_run_interrupted_anywhere_goes_on_to_the_same_bits() {
    let world = world();
    let text = "schedule = 'one_cycle'\nstop_patience = 3\ncheckpoint_every = 4\naugment = 'flip,shift:1'";
    let settings = settings(world.path(), text);
    let whole = run_folder(world.path(), "whole");
    session(&settings, &whole, None, |_| ());
    for stop in [1, 5, 6, 7, 17, 18] {
        let parts = run_folder(world.path(), &format!("stop-{stop}"));
        let first = session(&settings, &parts, Some(stop), |_| ());
        assert_eq!((first.ended, first.checkpoint.state.step), (Ok(Ended::Interrupted), stop));
        assert_eq!(session(&settings, &parts, None, |_| ()).ended, Ok(Ended::Epochs));
        assert_eq!(remains(&parts), remains(&whole), "stopped after step {stop}");
    }
}

#[test]
fn a_run_interrupted_while_it_is_judged_ends_at_the_next_batch_and_goes_on_to_the_same_bits() {
    let world = world();
    let settings = settings(world.path(), "schedule = 'plateau'\nplateau_patience = 1");
    let whole = run_folder(world.path(), "whole");
    session(&settings, &whole, None, |_| ());
    // Two batches are judged after each epoch: 1, 3 and 5 are the first of an epoch, 6 is the very last.
    for (batch, judged, ended, step) in [
        (1, 1, Ended::Interrupted, 6),
        (3, 3, Ended::Interrupted, 12),
        (4, 4, Ended::Interrupted, 12),
        (5, 5, Ended::Interrupted, 18),
        (6, 6, Ended::Epochs, 18),
    ] {
        let parts = run_folder(world.path(), &format!("judged-{batch}"));
        let first = session(&settings, &parts, None, |learner| learner.interrupt_in = Some(batch));
        assert_eq!((first.ended, first.checkpoint.state.step), (Ok(ended), step), "interrupted in batch {batch}");
        assert_eq!(first.judged, judged, "no more batches are judged after batch {batch}");
        assert!(parts.file(BEST).exists(), "there are weights to use");
        session(&settings, &parts, None, |_| ());
        assert_eq!(remains(&parts), remains(&whole), "interrupted in batch {batch}");
    }
}

#[test]
fn a_run_that_is_interrupted_before_its_first_step_makes_none() {
    let world = world();
    let folder = run_folder(world.path(), "run");
    let early = |learner: &mut Regression| learner.interrupt.store(true, Ordering::Relaxed);
    let done = session(&settings(world.path(), ""), &folder, None, early);
    assert_eq!((done.ended, done.checkpoint.state.step), (Ok(Ended::Interrupted), 0));
    assert!(folder.file(BEST).exists());
}

#[test]
fn a_run_killed_after_a_checkpoint_repeats_the_lost_steps_and_rows() {
    let world = world();
    let settings = settings(world.path(), "checkpoint_every = 4");
    let whole = run_folder(world.path(), "whole");
    session(&settings, &whole, None, |_| ());
    let killed = run_folder(world.path(), "killed");
    session(&settings, &killed, Some(8), |_| ());
    let checkpoint = fs::read(killed.file(CHECKPOINT)).unwrap();
    session(&settings, &killed, Some(11), |_| ());
    // As if the process had died after step 11: the logs are ahead of the checkpoint, the last row is half-written.
    fs::write(killed.file(CHECKPOINT), checkpoint).unwrap();
    let mut steps = fs::read_to_string(killed.file(STEPS)).unwrap();
    steps.push_str("12,2,0.1");
    fs::write(killed.file(STEPS), steps).unwrap();
    session(&settings, &killed, None, |_| ());
    assert_eq!(remains(&killed), remains(&whole));
}

#[test]
fn limits_end_a_run_with_weights_to_use() {
    let world = world();
    let whole = run_folder(world.path(), "whole");
    session(&settings(world.path(), ""), &whole, None, |_| ());
    let folder = run_folder(world.path(), "limited");
    let done = session(&settings(world.path(), "max_steps = 3"), &folder, None, |_| ());
    assert_eq!((done.ended, done.told), (Ok(Ended::MaxSteps), vec!["checkpoint 0".into(), "checkpoint 3".into()]));
    assert!(folder.file(BEST).exists());
    let done = session(&settings(world.path(), "max_steps = 6"), &folder, None, |_| ());
    assert_eq!(
        done.told,
        ["epoch 1 at step 6", "checkpoint 6"],
        "the limit at the end of an epoch waits for its evaluation"
    );
    session(&settings(world.path(), ""), &folder, None, |_| ());
    let (a, b) = (remains(&folder), remains(&whole));
    assert_eq!((a.steps, a.metrics, a.best), (b.steps, b.metrics, b.best));
    let timed = run_folder(world.path(), "timed");
    let done = session(&settings(world.path(), "max_time = 1e-9"), &timed, None, |_| ());
    assert_eq!(done.ended, Ok(Ended::MaxTime));
    assert!(timed.file(BEST).exists(), "there are weights even before the first step");
}

#[test]
fn a_run_without_progress_stops_early_and_stays_stopped() {
    let world = world();
    let settings = settings(world.path(), "epochs = 50\nstop_patience = 2\nlr = 1e-9");
    let folder = run_folder(world.path(), "run");
    let done = session(&settings, &folder, None, |_| ());
    assert_eq!(done.ended, Ok(Ended::NoProgress));
    assert_eq!((done.checkpoint.state.epoch, done.checkpoint.state.best_epoch), (3, 1));
    let again = session(&settings, &folder, None, |_| ());
    assert_eq!((again.ended, again.told), (Ok(Ended::NoProgress), vec![]));
}
