//! Settings and data that must fit together.

use super::*;

#[test]
fn settings_that_do_not_fit_the_data_are_errors_with_the_numbers() {
    let world = world();
    let open = |text: &str| -> Error {
        let settings = settings(world.path(), text);
        Net::open(&settings.net).and_then(|net| Task::open(&settings, net, None)).err().unwrap()
    };
    assert!(open("batch_size = 31").what().contains("31 of 26"), "{}", open("batch_size = 31"));
    assert!(
        open("class_weights = [1, 2, 3]")
            .to_string()
            .contains("3 class weights for 2 classes\nGive one for each of: dark, light.")
    );
    assert!(open("loss = 'mse'").what().contains("which has classes"));
    assert!(open("mean = [0.1, 0.2]").what().contains("2 means and 1 standard deviation for 1 channel"));
    assert!(open("net = 'lenet6'").to_string().contains("lenet5"));
    assert!(open("net = 'none.toml'").what().contains("none.toml"));
    assert!(open("data = 'nothing-here'").what().contains("nothing-here"));
}

#[test]
fn balanced_class_weights_make_every_class_count_the_same() {
    let world = world();
    (0..10).for_each(|i| fs::remove_file(world.path().join(format!("data/dark/{i:02}.png"))).unwrap());
    let settings = settings(world.path(), "class_weights = 'balanced'");
    let task = Task::open(&settings, Net::open(&settings.net).unwrap(), None).unwrap();
    let counts = task.data.counts(Split::Train);
    let crate::exec::Loss::CrossEntropy { class_weights: Some(weights), .. } = &task.options.loss else { panic!() };
    let shares: Vec<f32> = counts.iter().zip(weights).map(|(count, weight)| *count as f32 * weight).collect();
    assert!(counts[0] < counts[1] && (shares[0] - shares[1]).abs() < 1e-4, "{counts:?} {weights:?}");
    assert!((shares.iter().sum::<f32>() - counts.iter().sum::<usize>() as f32).abs() < 1e-3);
}

#[test]
fn an_evaluation_does_not_depend_on_the_batch_size() {
    let world = world();
    let evaluate = |batch: &str| {
        let settings = settings(world.path(), batch);
        let task = Task::open(&settings, Net::open(&settings.net).unwrap(), None).unwrap();
        let mut learner = Regression::new(&task);
        evaluate_until(&mut |images, n| learner.logits(images, n), &task.val, 2, true, &|| false).unwrap().unwrap()
    };
    let (one, all) = (evaluate("batch_size = 1"), evaluate("batch_size = 26"));
    assert_eq!(one, all);
    assert_eq!((one.images, one.predictions.len()), (10, 10));
    let worst = one.worst(3);
    assert!(worst.iter().all(|p| !p.is_right()) && worst.is_sorted_by(|a, b| a.loss >= b.loss));
    let confusion = one.confusion.as_ref().unwrap();
    assert_eq!(confusion.accuracy(), one.top1());
    assert_eq!(one.top5(), 1.0);
}
