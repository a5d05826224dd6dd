//! `ocelli val`: how good a model is on a split of a data set.

use crate::arguments::Globals;
use crate::models::{Opened, RUNS, device, open_options};
use crate::report;
use crate::text;
use clap::Args;
use ocelli::data::{self, Dataset, OpenOptions, Split, Tta};
use ocelli::error::{Error, Result};
use ocelli::explain::mistakes;
use ocelli::model::{Model, weights_path};
use ocelli::train::{self, EvaluateOptions, Evaluation, Prediction};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Judge a model on pictures that it did not learn from, or several together
#[derive(Args)]
#[command(after_help = "Example: the newest run on its own test pictures, every answer into a table\n  \
    ocelli val latest --predictions answers.csv\n\
    Three runs that answer together\n  \
    ocelli val runs/a runs/b runs/c --ensemble")]
pub struct Val {
    /// A run folder, latest, or a .safetensors file; several with --ensemble
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<String>,
    /// Averages the models' softmax outputs; reports each of them, then all together
    #[arg(long)]
    ensemble: bool,
    /// Averages the softmax outputs over views of each picture: flip (2), shift (6), ten-crop (10) or multi-scale (6)
    #[arg(long, value_name = "VIEWS")]
    tta: Option<Tta>,
    /// fit: measures on the validation split what scores are divided by, and stores it in the model; none: takes it away
    #[arg(long, value_name = "fit|none", value_parser = ["fit", "none"])]
    temperature: Option<String>,
    /// Measures on the validation split from which probability on this share of each class's answers is right, and stores
    /// it in the model: `ocelli predict` marks answers below it 'unsure'
    #[arg(long, value_name = "SHARE", value_parser = text::share)]
    unsure: Option<f64>,
    /// A known name, a folder of pictures, or a CSV list; without splits all of it [default: the run's own data]
    #[arg(long)]
    data: Option<String>,
    /// test, val or train [default: test; val where the run's data has no test pictures]
    #[arg(long)]
    split: Option<Split>,
    /// Also tells how often the true class is among the first K, 1 to 5
    #[arg(long, value_name = "K", default_value = "5", value_parser = clap::value_parser!(u8).range(1..=5))]
    topk: u8,
    /// Pictures at a time; the result does not depend on it
    #[arg(long, value_name = "N", default_value = "64", value_parser = text::batch)]
    batch_size: usize,
    /// Writes every picture's answer: image, class, answer, probability, right, loss; of several classes a picture each with
    /// its probability
    #[arg(long, value_name = "FILE.csv")]
    predictions: Option<PathBuf>,
    /// The worst mistakes as a contact sheet [default: in the run's folder]
    #[arg(long, value_name = "FILE.png")]
    mistakes: Option<PathBuf>,
    /// Leaves out pictures that cannot be read, instead of ending with an error
    #[arg(long)]
    skip_bad: bool,
}

/// Mistakes on the contact sheet.
const WORST: usize = 40;

impl Val {
    /// Runs the models on the split and prints what they are worth.
    pub fn run(self, globals: &Globals) -> Result<ExitCode> {
        let fits = self.temperature.is_some() || self.unsure.is_some();
        let first = &self.models[0];
        if self.models.len() > 1 && !self.ensemble {
            return Err(Error::usage(format!("{} models without --ensemble", self.models.len()))
                .advice("Add --ensemble to average their answers, or judge one at a time."));
        }
        if self.models.len() > 1 && fits {
            return Err(
                Error::usage("--temperature and --unsure are stored in one model").advice("Name only that one.")
            );
        }
        let mut opened = Opened::new(first)?;
        let settings = opened.settings()?;
        let own = settings.as_ref().filter(|run| self.data.as_ref().is_none_or(|data| is_same(data, &run.data)));
        let Some(spec) = self.data.clone().or_else(|| own.map(|settings| settings.data.clone())) else {
            return Err(Error::usage(format!("{first}: the file does not say which data to use"))
                .advice("Name it: --data DATA"));
        };
        let opening = OpenOptions { judged_whole: own.is_none() && !fits, ..open_options(globals, own) };
        let mut data = data::open(&spec, &opening)?;
        opened.model.check_labels(&data)?;
        data.match_classes(&opened.model.classes)?;
        if own.is_none() && !globals.quiet {
            data.notes.iter().for_each(|note| eprintln!("note: {note}"));
        }
        let split = self.split.unwrap_or(if data.is_empty(Split::Test) { Split::Val } else { Split::Test });
        let options = EvaluateOptions {
            device: device(globals),
            batch_size: self.batch_size,
            workers: globals.threads(),
            skip_bad: self.skip_bad || own.is_some_and(|settings| settings.skip_bad),
            tta: self.tta,
        };
        let mut out = if fits { self.fit(&mut opened, &data, &options, globals)? } else { String::new() };
        let mut models = vec![std::mem::replace(&mut opened.model, Model::load(first, Path::new(RUNS))?)];
        for name in &self.models[1..] {
            models.push(Opened::new(name)?.model);
        }
        train::check_ensemble(&self.models.iter().map(String::as_str).zip(&models).collect::<Vec<_>>())?;
        let all = train::evaluate_all(&mut models, data.clone(), split, &options)?;
        let (evaluation, members) = match all.split_last() {
            Some((whole, members)) => (whole, members),
            None => return Err(Error::new("nothing was judged")),
        };
        if let Some(path) = &self.predictions {
            write_predictions(path, evaluation, &data, split, &opened)?;
        }
        let of_other = if own.is_some() { String::new() } else { format!("{}-", data.name) };
        let in_run = opened.run.as_ref().filter(|_| members.is_empty());
        let in_run = in_run.map(|run| run.join(format!("mistakes-{of_other}{split}.png")));
        let sheet = match self.mistakes.clone().or(in_run) {
            Some(path) => draw_mistakes(path, evaluation, &data, split, &opened)?,
            None => None,
        };
        if globals.json {
            let mut value = report::as_json(evaluation, split, &opened.model);
            value["data"] = spec.into();
            if !members.is_empty() {
                let one = |(name, member): (&String, &Evaluation)| {
                    let mut value = report::as_json(member, split, &opened.model);
                    value["model"] = name.as_str().into();
                    value
                };
                value["members"] = self.models.iter().zip(members).map(one).collect();
            }
            text::json(&value);
            return Ok(ExitCode::SUCCESS);
        }
        match members {
            [] => out.push_str(&format!("{} on {}\n", opened.net.name, data.name)),
            _ => {
                out.push_str(&format!("{} models on {}\n", members.len(), data.name));
                out.push_str(&format!("{}\nTogether:\n", report::members(&self.models, members)));
            }
        }
        let pictures = report::pictures(evaluation.images, split, own.is_some());
        out.push_str(&report::headline(evaluation, &pictures, &opened.model));
        if (2..5).contains(&self.topk) && evaluation.confusion.is_some() {
            out.push_str(&report::top_line(evaluation, usize::from(self.topk)));
        }
        out.push_str(&report::calibration(evaluation, &opened.model));
        if let Some(multi_label) = &evaluation.multi_label {
            out.push_str(&format!("\n{}", report::multi_label(multi_label, &opened.model.classes)));
        }
        if let Some(confusion) = &evaluation.confusion {
            out.push_str(&format!("\n{}", report::per_class(confusion, &opened.model.classes)));
            out.push_str(&format!("\n{}", report::confusion(confusion, &opened.model.classes)));
        }
        if let Some(path) = sheet {
            out.push_str(&format!("\nThe worst mistakes: {}\n", path.display()));
        }
        if let Some(path) = &self.predictions {
            out.push_str(&format!("Every answer: {}\n", path.display()));
        }
        text::print(&out);
        Ok(ExitCode::SUCCESS)
    }

    /// Fits what is asked for on the validation split, stores it in the model's file, and says what it is.
    fn fit(&self, opened: &mut Opened, data: &Dataset, options: &EvaluateOptions, globals: &Globals) -> Result<String> {
        let options = EvaluateOptions { tta: None, ..options.clone() };
        let mut out = String::new();
        match self.temperature.as_deref() {
            Some("fit") => {
                let temperature = train::fit_temperature(&opened.model, data.clone(), Split::Val, &options)?;
                opened.model.calibration.temperature = Some(temperature);
                out.push_str(&format!("temperature {temperature:.3}, measured on the validation split\n"));
            }
            Some(_) => opened.model.calibration.temperature = None,
            None => {}
        }
        if let Some(share) = self.unsure {
            if opened.model.is_regression() || opened.model.multi_label {
                let what =
                    if opened.model.multi_label { "answers several classes a picture" } else { "predicts numbers" };
                return Err(Error::usage(format!("--unsure for a model that {what}")).advice("Leave it out."));
            }
            let judged = train::evaluate(&mut opened.model.clone(), data.clone(), Split::Val, &options)?;
            let thresholds = train::fit_unsure(&judged, opened.model.classes.len(), share);
            let row = |(class, threshold): (&String, &f32)| {
                let text = if threshold.is_finite() { format!("{:.1}", 100.0 * threshold) } else { "never".to_owned() };
                vec![class.clone(), text]
            };
            let rows: Vec<Vec<String>> = opened.model.classes.iter().zip(&thresholds).map(row).collect();
            out.push_str(&text::table(&["class", "sure from %"], &rows, 1));
            opened.model.calibration.unsure = thresholds;
        }
        let path = weights_path(&self.models[0], Path::new(RUNS))?;
        opened.model.save(&path)?;
        out.push_str(&format!("Stored in {}\n\n", path.display()));
        Ok(if globals.json { String::new() } else { out })
    }
}

/// Draws the contact sheet, where there are mistakes, and hands back its path.
fn draw_mistakes(
    path: PathBuf,
    evaluation: &Evaluation,
    data: &Dataset,
    split: Split,
    opened: &Opened,
) -> Result<Option<PathBuf>> {
    let worst = evaluation.worst(WORST);
    if worst.is_empty() || evaluation.confusion.is_none() {
        return Ok(None);
    }
    let tiles = worst
        .iter()
        .map(|wrong| {
            let picture = opened.model.preparation.frame(data.picture(split, wrong.position)?)?;
            let (answer, probability) = answer(wrong);
            let truth = opened.class(wrong.truth.unwrap_or(0) as usize);
            Ok(mistakes::Mistake { picture, truth, answer: opened.class(answer), probability })
        })
        .collect::<Result<Vec<_>>>()?;
    mistakes::sheet(&tiles).save(&path)?;
    Ok(Some(path))
}

/// Whether two names mean the same data, also where one is a path from elsewhere.
fn is_same(data: &str, other: &str) -> bool {
    data == other || std::fs::canonicalize(data).is_ok_and(|path| std::fs::canonicalize(other).is_ok_and(|o| o == path))
}

fn answer(prediction: &Prediction) -> (usize, f32) {
    prediction.top.first().map_or((0, f32::NAN), |(class, probability)| (*class as usize, *probability))
}

fn write_predictions(
    path: &Path,
    evaluation: &Evaluation,
    data: &Dataset,
    split: Split,
    opened: &Opened,
) -> Result<()> {
    let mut table = csv::Writer::from_writer(Vec::new());
    // Of each output by itself: its truth and what was said.
    let (targets, said) = match opened.model.multi_label {
        true => (&opened.model.classes, "probability"),
        false => (&opened.model.targets, "predicted"),
    };
    let header: Vec<String> = match targets.is_empty() {
        true => ["image", "class", "answer", "probability", "right", "loss"].map(str::to_owned).to_vec(),
        false => std::iter::once("image".to_owned())
            .chain(targets.iter().flat_map(|name| [name.clone(), format!("{name}_{said}")]))
            .collect(),
    };
    let failed = |error: csv::Error| Error::new(format!("{}: {error}", path.display()));
    table.write_record(&header).map_err(failed)?;
    for prediction in &evaluation.predictions {
        let mut row = vec![data.picture_name(split, prediction.position)];
        if targets.is_empty() {
            let (class, probability) = answer(prediction);
            row.push(opened.class(prediction.truth.unwrap_or(0) as usize));
            row.extend([
                opened.class(class),
                probability.to_string(),
                prediction.is_right().to_string(),
                prediction.loss.to_string(),
            ]);
        } else {
            let both = data.target(split, prediction.position).iter().zip(&prediction.values);
            row.extend(both.flat_map(|(target, value)| [target.to_string(), value.to_string()]));
        }
        table.write_record(&row).map_err(failed)?;
    }
    let bytes = table.into_inner().map_err(|error| Error::new(format!("{}: {error}", path.display())))?;
    ocelli::formats::write_atomically(path, |file| file.write_all(&bytes))
}
