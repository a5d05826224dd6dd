//! Runs on pictures that have any number of classes.

use std::fs;

use super::resume_tests::{go_on, left, start};
use super::tests::settings;
use super::*;
use crate::model::Model;

/// Pictures of 4x4 of which the top may be light, and the left: a list of 80 of both, one or none.
fn world() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut list = String::from("path,labels\n");
    for i in 0..80u32 {
        let (top, left) = (i % 2 == 0, i / 2 % 2 == 0);
        let light = |x: u32, y: u32| 60 * u32::from(top && y < 2) + 60 * u32::from(left && x < 2);
        let pixel = |x: u32, y: u32| image::Luma([(60 + light(x, y) + (i * 37 + x * 11 + y * 53) % 40) as u8]);
        image::GrayImage::from_fn(4, 4, pixel).save(folder.path().join(format!("{i:02}.png"))).unwrap();
        let labels: Vec<&str> =
            [(top, "top"), (left, "left")].iter().filter(|(is, _)| *is).map(|(_, name)| *name).collect();
        list += &format!("{i:02}.png,{}\n", labels.join("|"));
    }
    fs::write(folder.path().join("data"), &list).unwrap();
    fs::write(
        folder.path().join("one.csv"),
        list.replace("labels", "label").replace("top|left", "both").replace(",\n", ",none\n"),
    )
    .unwrap();
    let net = "format = 1\nname = \"one\"\ninput = [1, 4, 4]\nlayers = [{ type = \"linear\", name = \"fc\", units = \"classes\" }]\n";
    fs::write(folder.path().join("one.toml"), net).unwrap();
    folder
}

fn judge(model: &Model, data: &Path) -> Result<Evaluation> {
    let data = data::open(&data.to_string_lossy(), &data::OpenOptions::default()).unwrap();
    let options = EvaluateOptions { device: Device::cpu(1), batch_size: 7, workers: 1, skip_bad: false, tta: None };
    evaluate(&mut model.clone(), data, data::Split::Test, &options)
}

#[test]
fn each_class_is_learnt_by_itself_also_over_a_stop() {
    let world = world();
    let text = "epochs = 20\nlr = 0.5\nbatch_size = 8";
    let run = world.path().join("run");
    let outcome = start(&settings(world.path(), text), &run, 2, None).unwrap();
    let val = outcome.val.unwrap();
    assert!(val.confusion.is_none() && val.top1() > 0.9, "{val:?}");
    let (low, last) = (std::f64::consts::LN_2, fs::read_to_string(run.join("metrics.csv")).unwrap());
    let (head, rows) = last.split_once('\n').unwrap();
    assert!(head.starts_with("epoch,step,lr,train_loss,train_acc1,val_loss,val_acc1,val_map,best"), "{head}");
    let first: f64 = rows.split(',').nth(3).unwrap().parse().unwrap();
    assert!(first < low + 0.5 && val.loss < 0.5 * low, "{first} {}", val.loss);
    let model = Model::load(&run.to_string_lossy(), Path::new("runs")).unwrap();
    assert!(model.multi_label && model.classes == ["left", "top"]);
    let judged = judge(&model, &world.path().join("data")).unwrap();
    let by_class = judged.multi_label.as_ref().unwrap();
    assert!(by_class.mean_average_precision() > 0.95 && by_class.micro_f1() > 0.9);
    let exact = judged.predictions.iter().filter(|one| one.values.len() == 2 && one.top.is_empty()).count();
    assert_eq!(exact, judged.images);
    let parts = world.path().join("parts");
    start(&settings(world.path(), text), &parts, 1, Some(13)).unwrap();
    go_on(&parts, "", None).unwrap();
    assert_eq!(left(&parts), left(&run));

    // A model that answers one class, and data with one class a picture, are refused.
    let error = judge(&model, &world.path().join("one.csv")).unwrap_err().to_string();
    assert!(error.contains("one has one class a picture, the model answers each class by itself\n"), "{error}");
    let single = Model { multi_label: false, ..model.clone() };
    assert!(
        judge(&single, &world.path().join("data")).unwrap_err().what().contains("data has several classes a picture")
    );
    let data = data::open(&world.path().join("data").to_string_lossy(), &data::OpenOptions::default()).unwrap();
    let options = EvaluateOptions { device: Device::cpu(1), batch_size: 7, workers: 1, skip_bad: false, tta: None };
    let error = fit_temperature(&model, data, data::Split::Val, &options).unwrap_err();
    assert!(error.what().contains("a temperature for a model of several classes a picture"), "{error}");
}

#[test]
fn settings_that_are_for_one_class_a_picture_are_refused() {
    let world = world();
    let run =
        |text: &str| start(&settings(world.path(), text), &world.path().join("run"), 1, None).unwrap_err().to_string();
    assert_eq!(
        run("loss = 'cross_entropy'"),
        "loss cross_entropy for data, which has several classes a picture\nUse --loss bce, or a list with the column label."
    );
    assert!(run("loss = 'mse'").contains("Use --loss bce, or a list with numbers in place of labels."));
    for wrong in ["label_smoothing = 0.1", "class_weights = 'balanced'"] {
        assert!(run(wrong).contains("class_weights or label_smoothing for data, which has several classes a picture"));
    }
    assert!(run("sampling = 'balanced'").contains("sampling balanced of pictures of several classes each"));
    assert!(run("augment = 'mixup'").contains("augmentation mixup for data with several classes a picture"));
    let one = world.path().join("one.csv");
    let single = Settings { data: one.to_string_lossy().into_owned(), ..settings(world.path(), "loss = 'bce'") };
    let error = start(&single, &world.path().join("run"), 1, None).unwrap_err().to_string();
    assert_eq!(
        error,
        "loss bce for one, which has classes\nUse --loss cross_entropy, or a list with the column labels."
    );
}
