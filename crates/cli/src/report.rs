//! How good a model is, as text and JSON: `train` and `val` share it.

use crate::text;
use ocelli::data::Split;
use ocelli::metrics::{Confusion, MultiLabel, wilson};
use ocelli::model::Model;
use ocelli::train::Evaluation;
use serde_json::{Value, json};

/// Confusion tables of up to this many classes are printed whole.
const SMALL: usize = 20;
/// Class names in tables are cut to this many characters.
const NAME: usize = 12;

/// What `n` pictures of a split are to the model: of the data that it was trained on, or of other data.
pub fn pictures(n: usize, split: Split, own: bool) -> String {
    let (before, after) = match split {
        _ if !own => ("", ""),
        Split::Test => ("held-out ", ""),
        Split::Val => ("", " that the best epoch was chosen by"),
        Split::Train => ("", " that it learned from"),
    };
    let noun = if n == 1 { "picture" } else { "pictures" };
    format!("{before}{noun}{after} ({split})")
}

/// Accuracy with the number of pictures, called `name`, and the 95 % interval.
pub fn headline(evaluation: &Evaluation, name: &str, model: &Model) -> String {
    let images = text::count(evaluation.images as u64);
    if let Some(absolute) = evaluation.absolute_error {
        return format!(
            "mean squared error {:.5}, mean absolute error {absolute:.5} on {images} {name}\n",
            evaluation.loss
        );
    }
    let line = |label: &str, right: usize| {
        let (low, high) = wilson(right, evaluation.images);
        format!(
            "{label} {:.2} % of {images} {name}: {} wrong, 95 % interval {:.2} to {:.2} %\n",
            100.0 * right as f64 / evaluation.images.max(1) as f64,
            text::count((evaluation.images - right) as u64),
            100.0 * low,
            100.0 * high
        )
    };
    if model.multi_label {
        return line("all classes right in", evaluation.right);
    }
    let mut text = line("accuracy", evaluation.right);
    if model.classes.len() > 5 {
        text.push_str(&line("top-5   ", evaluation.right5));
    }
    text
}

/// How often the true class is among the first `k` of the kept answers.
pub fn top_line(evaluation: &Evaluation, k: usize) -> String {
    let is_in = |class: u32, top: &[(u32, f32)]| top.iter().take(k).any(|(answer, _)| *answer == class);
    let right =
        evaluation.predictions.iter().filter(|one| one.truth.is_some_and(|truth| is_in(truth, &one.top))).count();
    let (low, high) = wilson(right, evaluation.images);
    let share = 100.0 * right as f64 / evaluation.images.max(1) as f64;
    format!("top-{k}    {share:.2} %, 95 % interval {:.2} to {:.2} %\n", 100.0 * low, 100.0 * high)
}

/// How far the answers' probabilities are from the shares that are right.
pub fn calibration(evaluation: &Evaluation, model: &Model) -> String {
    let temperature = match model.calibration.temperature {
        Some(temperature) => format!(", at temperature {temperature:.3}"),
        None => String::new(),
    };
    let line = |error| format!("calibration error {:.2} % (15 bins){temperature}\n", 100.0 * error);
    evaluation.calibration_error().map(line).unwrap_or_default()
}

/// A row for each member of an ensemble.
pub fn members(names: &[String], evaluations: &[Evaluation]) -> String {
    let regression = evaluations.iter().any(|one| one.absolute_error.is_some());
    let row = |(name, one): (&String, &Evaluation)| {
        let percent = |share: f64| format!("{:.2}", 100.0 * share);
        let mut row = vec![name.clone()];
        match &one.multi_label {
            Some(multi_label) => row.extend([percent(one.top1()), percent(multi_label.mean_average_precision())]),
            None if regression => {}
            None => row.extend([percent(one.top1()), percent(one.top5())]),
        }
        row.push(format!("{:.4}", one.loss));
        row
    };
    let rows: Vec<Vec<String>> = names.iter().zip(evaluations).map(row).collect();
    let header: &[&str] = match evaluations.first().and_then(|one| one.multi_label.as_ref()) {
        Some(_) => &["model", "all right %", "mAP %", "loss"],
        None if regression => &["model", "loss"],
        None => &["model", "accuracy %", "top-5 %", "loss"],
    };
    text::table(header, &rows, 1)
}

/// Rows are the true classes, columns the answers; `.` is 0. Of many classes, the most frequent mistakes.
pub fn confusion(confusion: &Confusion, classes: &[String]) -> String {
    let name = |class: usize| classes.get(class).map_or(class.to_string(), |name| name.chars().take(NAME).collect());
    let n = confusion.classes();
    if n > SMALL {
        let worst: Vec<Vec<String>> = confusion
            .worst(10)
            .into_iter()
            .map(|(truth, answer, count)| vec![name(truth), name(answer), count.to_string()])
            .collect();
        return format!("The most frequent mistakes:\n{}", text::table(&["true", "taken for", "times"], &worst, 2));
    }
    let cell = |truth, answer| match confusion.count(truth, answer) {
        0 => ".".to_owned(),
        count => count.to_string(),
    };
    let rows: Vec<Vec<String>> = (0..n)
        .map(|truth| std::iter::once(name(truth)).chain((0..n).map(|answer| cell(truth, answer))).collect())
        .collect();
    let names: Vec<String> = (0..n).map(name).collect();
    let header: Vec<&str> = std::iter::once("true \\ answer").chain(names.iter().map(String::as_str)).collect();
    text::table(&header, &rows, 1)
}

/// Precision, recall and F1 of every class, and their mean.
pub fn per_class(confusion: &Confusion, classes: &[String]) -> String {
    let percent =
        |fraction: Option<f64>| fraction.map_or("-".to_owned(), |fraction| format!("{:.1}", 100.0 * fraction));
    let row = |class: usize| {
        vec![
            classes.get(class).cloned().unwrap_or_else(|| class.to_string()),
            confusion.truths(class).to_string(),
            percent(confusion.precision(class)),
            percent(confusion.recall(class)),
            percent(confusion.f1(class)),
        ]
    };
    let rows: Vec<Vec<String>> = (0..confusion.classes()).map(row).collect();
    let table = text::table(&["class", "images", "precision %", "recall %", "F1 %"], &rows, 1);
    format!("{table}macro F1 {:.1} %\n", 100.0 * confusion.macro_f1())
}

/// Each class of pictures that may have several, and their means.
pub fn multi_label(judged: &MultiLabel, classes: &[String]) -> String {
    let percent = |share: Option<f64>| share.map_or("-".to_owned(), |share| format!("{:.1}", 100.0 * share));
    let row = |class: usize| {
        let shares = [judged.precision(class), judged.recall(class), judged.f1(class), judged.average_precision(class)];
        let name = classes.get(class).cloned().unwrap_or_else(|| class.to_string());
        [name, judged.truths(class).to_string()].into_iter().chain(shares.map(percent)).collect()
    };
    let rows: Vec<Vec<String>> = (0..judged.classes()).map(row).collect();
    let table = text::table(&["class", "images", "precision %", "recall %", "F1 %", "AP %"], &rows, 1);
    let [micro, mean, map] =
        [judged.micro_f1(), judged.macro_f1(), judged.mean_average_precision()].map(|share| 100.0 * share);
    format!("{table}micro F1 {micro:.1} %, macro F1 {mean:.1} %, mAP {map:.1} %\n")
}

/// The `val` object of the contract.
pub fn as_json(evaluation: &Evaluation, split: Split, model: &Model) -> Value {
    let mut value = json!({
        "schema": 1,
        "split": split.name(),
        "images": evaluation.images,
        "loss": evaluation.loss,
        "classes": model.classes,
    });
    if let Some(judged) = &evaluation.multi_label {
        let of = |one: &dyn Fn(usize) -> Option<f64>| (0..judged.classes()).map(one).collect::<Vec<_>>();
        let (low, high) = wilson(evaluation.right, evaluation.images);
        value["exact_match"] = json!(evaluation.top1());
        value["exact_match_interval"] = json!([low, high]);
        value["micro_f1"] = json!(judged.micro_f1());
        value["macro_f1"] = json!(judged.macro_f1());
        value["mean_average_precision"] = json!(judged.mean_average_precision());
        value["precision"] = json!(of(&|class| judged.precision(class)));
        value["recall"] = json!(of(&|class| judged.recall(class)));
        value["f1"] = json!(of(&|class| judged.f1(class)));
        value["average_precision"] = json!(of(&|class| judged.average_precision(class)));
        return value;
    }
    match (&evaluation.confusion, evaluation.absolute_error) {
        (Some(confusion), _) => {
            let n = confusion.classes();
            let interval = |right| [wilson(right, evaluation.images).0, wilson(right, evaluation.images).1];
            value["top1"] = json!(evaluation.top1());
            value["top1_interval"] = json!(interval(evaluation.right));
            value["top5"] = json!(evaluation.top5());
            value["top5_interval"] = json!(interval(evaluation.right5));
            value["calibration_error"] = json!(evaluation.calibration_error());
            value["macro_f1"] = json!(confusion.macro_f1());
            value["precision"] = json!((0..n).map(|class| confusion.precision(class)).collect::<Vec<_>>());
            value["recall"] = json!((0..n).map(|class| confusion.recall(class)).collect::<Vec<_>>());
            let row = |truth| (0..n).map(|answer| confusion.count(truth, answer)).collect::<Vec<_>>();
            value["confusion"] = json!((0..n).map(row).collect::<Vec<_>>());
        }
        (None, absolute) => {
            value["targets"] = json!(model.targets);
            value["mean_absolute_error"] = json!(absolute);
        }
    }
    value
}
