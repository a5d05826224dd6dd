//! `ocelli predict`: what a model says about pictures.

use crate::arguments::Globals;
use crate::models::{Opened, picture};
use crate::text;
use clap::Args;
use ocelli::data::Tta;
use ocelli::error::{Error, Result};
use ocelli::exec::Inference;
use ocelli::explain::look::{self, Look};
use ocelli::metrics::{log_mean_softmax, sigmoid, softmax, top};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Say what pictures show
#[derive(Args)]
#[command(
    after_help = "Example: the pictures of a folder, by the newest run\n  ocelli predict latest samples --topk 2\n\n\
    A network names the closest of the classes that it knows, whatever a picture shows. Answers below 90 % (or what `ocelli val --unsure` stored) are marked\n\
    'unsure', pictures of quite another brightness or contrast than the training pictures 'unlike'."
)]
pub struct Predict {
    /// A run folder, latest, or a .safetensors file
    model: String,
    /// Pictures, and folders of pictures
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Answers for each picture; of several classes a picture all are told
    #[arg(long, value_name = "K", default_value = "3", value_parser = text::positive)]
    topk: usize,
    /// Writes the table as CSV
    #[arg(long, value_name = "FILE.csv")]
    output: Option<PathBuf>,
    /// Writes each picture as the network saw it
    #[arg(long, value_name = "DIR")]
    save_input: Option<PathBuf>,
    /// Averages the answers over views of each picture: flip (2), shift (6), ten-crop (10) or multi-scale (6)
    #[arg(long, value_name = "VIEWS")]
    tta: Option<Tta>,
    /// Marks answers below this probability as unsure [default: what `ocelli val --unsure` stored for the class, else 0.9]
    #[arg(long, value_name = "PROBABILITY", value_parser = text::share)]
    unsure: Option<f64>,
    /// Turns dark into light before anything else: for dark digits on light paper
    #[arg(long)]
    invert: bool,
}

/// A picture and what the model says.
struct Answer {
    path: PathBuf,
    /// Class and probability, best first; for regression the predicted numbers.
    top: Vec<(String, f64)>,
    note: &'static str,
}

impl Predict {
    /// Predicts every picture and prints the answers.
    pub fn run(self, globals: &Globals) -> Result<ExitCode> {
        let mut opened = Opened::new(&self.model)?;
        let mut inference = opened.inference(globals)?;
        let paths = pictures(&self.paths)?;
        if let Some(folder) = &self.save_input {
            std::fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
        }
        let mut answers = Vec::new();
        let mut failures: Vec<Error> = Vec::new();
        let mut dark_on_light = 0;
        for path in paths {
            match self.one(&opened, &mut inference, &path) {
                Ok((answer, look)) => {
                    dark_on_light += usize::from(look == Look::Negative);
                    answers.push(answer);
                }
                Err(error) => failures.push(error),
            }
        }
        if let Some(path) = &self.output {
            write_csv(path, &answers, opened.model.is_regression())?;
        }
        if globals.json {
            for answer in &answers {
                text::json(&as_json(answer, &opened));
            }
        } else if !answers.is_empty() && (self.output.is_none() || !globals.quiet) {
            text::print(&table(&answers, &opened));
        }
        if !globals.quiet {
            self.explain_notes(&answers, &opened, dark_on_light);
        }
        if failures.len() <= 1 {
            return failures.pop().map_or(Ok(ExitCode::SUCCESS), Err);
        }
        for failure in &failures {
            eprintln!("not read: {}", failure.what());
        }
        let total = failures.len() + answers.len();
        Err(Error::new(format!("{} of {total} pictures cannot be read, as named above", failures.len()))
            .advice("Convert or remove them; every other picture was predicted."))
    }

    fn one(&self, opened: &Opened, inference: &mut Inference, path: &Path) -> Result<(Answer, Look)> {
        let model = &opened.model;
        let picture = picture(&model.preparation, path, self.invert)?;
        let frame = model.preparation.frame(picture.clone())?;
        if let Some(folder) = &self.save_input {
            look::save(&frame, &folder.join(flat_name(path)))?;
        }
        let (views, numbers) = model.preparation.numbers_of_views(&picture, self.tta)?;
        let look = look::judge(&frame, &model.preparation, &model.preparation.numbers(picture)?);
        let mut scores = inference.logits(&numbers, views)?;
        scores.iter_mut().for_each(|score| *score /= model.calibration.temperature());
        let rows: Vec<&[f32]> = scores.chunks_exact(scores.len() / views).collect();
        if model.is_regression() {
            let mean = |i: usize| rows.iter().map(|row| f64::from(row[i])).sum::<f64>() / views as f64;
            let values = model.targets.iter().cloned().enumerate().map(|(i, name)| (name, mean(i)));
            return Ok((Answer { path: path.to_path_buf(), top: values.collect(), note: "" }, Look::Like));
        }
        if model.multi_label {
            let mean = |i: usize| rows.iter().map(|row| f64::from(row[i])).sum::<f64>() / views as f64;
            let scores: Vec<f32> = (0..rows[0].len()).map(|i| mean(i) as f32).collect();
            let one = |class: usize| (opened.class(class), f64::from(sigmoid(scores[class])));
            let top = top(&scores, scores.len()).into_iter().map(one).collect();
            return Ok((Answer { path: path.to_path_buf(), top, note: note(&look, false) }, look));
        }
        let scores = if views == 1 { rows[0].to_vec() } else { log_mean_softmax(&rows) };
        let probabilities = softmax(&scores);
        let best = |class: usize| (opened.class(class), f64::from(probabilities[class]));
        let order = top(&scores, self.topk);
        let sure = |class: usize| match self.unsure {
            Some(least) => f64::from(probabilities[class]) >= least,
            None => model.calibration.is_sure(class, probabilities[class]),
        };
        let unsure = !order.first().is_some_and(|class| sure(*class));
        let top: Vec<(String, f64)> = order.into_iter().map(best).collect();
        Ok((Answer { path: path.to_path_buf(), top, note: note(&look, unsure) }, look))
    }

    /// What the marks mean, and what to do.
    fn explain_notes(&self, answers: &[Answer], opened: &Opened, dark_on_light: usize) {
        if answers.is_empty() || opened.model.is_regression() {
            return;
        }
        if dark_on_light > 0 {
            let are = if dark_on_light == 1 { "is" } else { "are" };
            let (when, advice) =
                if self.invert { (" after --invert", "leave --invert out for them") } else { ("", "try --invert") };
            eprintln!(
                "note: {dark_on_light} of {} pictures {are} dark on light{when}, the network learned light on dark; {advice}",
                answers.len()
            );
        }
        if answers.iter().any(|answer| answer.note == "unlike") {
            eprintln!(
                "note: 'unlike' marks pictures far from the training pictures in brightness or contrast; --save-input shows them"
            );
        }
        let classes = opened.model.classes.len();
        if opened.model.multi_label {
            return;
        }
        eprintln!(
            "note: the network knows {classes} classes and names the closest, also for pictures of something else"
        );
    }
}

/// Where not to trust an answer.
fn note(look: &Look, unsure: bool) -> &'static str {
    match look {
        Look::Negative => "dark on light",
        Look::Unlike => "unlike",
        Look::Like if unsure => "unsure",
        Look::Like => "",
    }
}

/// The classes whose probability is a half or more.
fn likely(answer: &Answer) -> Vec<&str> {
    answer.top.iter().filter(|(_, probability)| *probability >= 0.5).map(|(class, _)| class.as_str()).collect()
}

/// Files as given; of folders, every picture below them, sorted.
fn pictures(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    const ENDINGS: [&str; 6] = ["png", "jpg", "jpeg", "bmp", "webp", "gif"];
    fn below(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
        let mut entries: Vec<PathBuf> =
            std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
        entries.sort();
        for path in entries {
            let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
            if path.is_dir() {
                below(&path, found)?;
            } else if ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str())) {
                found.push(path);
            }
        }
        Ok(())
    }
    let mut all = Vec::new();
    for path in paths {
        let before = all.len();
        if !path.is_dir() {
            all.push(path.clone());
            continue;
        }
        below(path, &mut all).map_err(|error| Error::io(path, error))?;
        if all.len() == before {
            let what = format!("{}: the folder holds no pictures", path.display());
            return Err(Error::new(what).advice(format!("Pictures end in .{}.", ENDINGS.join(", ."))));
        }
    }
    Ok(all)
}

/// `digits/7.png` as `digits-7.png` and `digits/7.jpg` as `digits-7.jpg.png`, so that pictures don't replace each other.
fn flat_name(path: &Path) -> String {
    let parts: Vec<String> = path
        .components()
        .filter_map(|part| match part {
            std::path::Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
            _ => None,
        })
        .collect();
    let name = parts.join("-");
    if name.ends_with(".png") { name } else { format!("{name}.png") }
}

fn table(answers: &[Answer], opened: &Opened) -> String {
    let percent = |probability: &f64| format!("{:.1} %", 100.0 * probability);
    if opened.model.is_regression() {
        let header: Vec<&str> =
            std::iter::once("image").chain(opened.model.targets.iter().map(String::as_str)).collect();
        let row = |answer: &Answer| {
            let values = answer.top.iter().map(|(_, value)| text::number(*value));
            std::iter::once(answer.path.display().to_string()).chain(values).collect()
        };
        return text::table(&header, &answers.iter().map(row).collect::<Vec<_>>(), 1);
    }
    if opened.model.multi_label {
        let row = |answer: &Answer| {
            let all = answer.top.iter().map(|(class, probability)| format!("{class} {}", percent(probability)));
            let likely = likely(answer);
            let classes = if likely.is_empty() { "none".to_owned() } else { likely.join("|") };
            vec![answer.path.display().to_string(), classes, all.collect::<Vec<_>>().join(", "), answer.note.into()]
        };
        let rows: Vec<Vec<String>> = answers.iter().map(row).collect();
        return text::table(&["image", "classes", "probabilities", "note"], &rows, 4);
    }
    let row = |answer: &Answer| {
        let mut cells = vec![answer.path.display().to_string()];
        let rest = answer.top.iter().skip(1).map(|(class, probability)| format!("{class} {}", percent(probability)));
        if let Some((class, probability)) = answer.top.first() {
            cells.extend([
                class.clone(),
                percent(probability),
                rest.collect::<Vec<_>>().join(", "),
                answer.note.into(),
            ]);
        }
        cells
    };
    let rows: Vec<Vec<String>> = answers.iter().map(row).collect();
    let closest = format!("closest of {}", opened.model.classes.len());
    text::table(&["image", &closest, "share", "then", "note"], &rows, 2)
}

fn as_json(answer: &Answer, opened: &Opened) -> serde_json::Value {
    let image = answer.path.to_string_lossy();
    if opened.model.is_regression() {
        let values: serde_json::Map<String, serde_json::Value> =
            answer.top.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        return json!({ "schema": 1, "image": image, "values": values });
    }
    let top: Vec<_> =
        answer.top.iter().map(|(class, probability)| json!({ "class": class, "probability": probability })).collect();
    let mut value = json!({ "schema": 1, "image": image, "top": top, "note": answer.note });
    if opened.model.multi_label {
        value["classes"] = json!(likely(answer));
    }
    value
}

fn write_csv(path: &Path, answers: &[Answer], regression: bool) -> Result<()> {
    let failed = |error: csv::Error| Error::new(format!("{}: {error}", path.display()));
    let mut table = csv::Writer::from_writer(Vec::new());
    let most = answers.iter().map(|answer| answer.top.len()).max().unwrap_or(0);
    let mut header = vec!["image".to_owned()];
    match (regression, answers.first()) {
        (true, Some(first)) => header.extend(first.top.iter().map(|(name, _)| name.clone())),
        _ => {
            header.extend((1..=most).flat_map(|k| [format!("class_{k}"), format!("probability_{k}")]));
            header.push("note".to_owned());
        }
    }
    table.write_record(&header).map_err(failed)?;
    for answer in answers {
        let mut row = vec![answer.path.to_string_lossy().into_owned()];
        if regression {
            row.extend(answer.top.iter().map(|(_, value)| value.to_string()));
        } else {
            row.extend(answer.top.iter().flat_map(|(class, probability)| [class.clone(), probability.to_string()]));
            row.push(answer.note.to_owned());
        }
        table.write_record(&row).map_err(failed)?;
    }
    let bytes = table.into_inner().map_err(|error| Error::new(format!("{}: {error}", path.display())))?;
    ocelli::formats::write_atomically(path, |file| file.write_all(&bytes))
}
