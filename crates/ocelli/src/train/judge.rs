//! Judging trained models: one, or several together, on one view of each picture or on several.

use std::sync::Arc;

use super::Evaluation;
use super::evaluate::Sums;
use crate::data::{Dataset, LoadOptions, Loader, Split, Tta};
use crate::exec::{Device, Inference};
use crate::metrics::log_mean_softmax;
use crate::model::Model;
use crate::{Error, Result};

/// How models are judged.
#[derive(Clone, Debug)]
pub struct EvaluateOptions {
    /// What computes.
    pub device: Device,
    /// Pictures at a time; the result does not depend on it.
    pub batch_size: usize,
    /// Threads that read pictures; the result does not depend on them.
    pub workers: usize,
    /// Leaves out pictures that cannot be read, else they are an error.
    pub skip_bad: bool,
    /// Views whose softmax outputs are averaged, in place of one.
    pub tta: Option<Tta>,
}

/// How a model does on a split of a data set, with each picture's answer. Classes are matched by name. The model's weights
/// move into the engine: it is left without them.
///
/// # Errors
/// The data has classes that the model doesn't know, the split is empty, or a picture cannot be read (and `skip_bad` is not
/// set).
pub fn evaluate(model: &mut Model, data: Dataset, split: Split, options: &EvaluateOptions) -> Result<Evaluation> {
    let mut all = evaluate_all(std::slice::from_mut(model), data, split, options)?;
    Ok(all.remove(0))
}

/// How each of some models does, and last, where there are several, all of them together: their softmax outputs are
/// averaged (of numbers and of several classes a picture, the outputs).
///
/// # Errors
/// As [`evaluate`]; models with other classes or targets than the first.
pub fn evaluate_all(
    models: &mut [Model],
    mut data: Dataset,
    split: Split,
    options: &EvaluateOptions,
) -> Result<Vec<Evaluation>> {
    let Some(first) = models.first() else { return Err(Error::new("no model to judge")) };
    let (classes, outputs) = (first.classes.clone(), first.classes.len().max(first.targets.len()));
    let multi_label = first.multi_label;
    models.iter().try_for_each(|model| model.check_labels(&data))?;
    data.match_classes(&classes)?;
    // Softmax is of one class a picture; else scores are averaged.
    let (data, of_scores) = (Arc::new(data), classes.is_empty() || multi_label);
    let mut members = Vec::new();
    for model in &mut *models {
        members.push(Member::new(model, &data, split, options)?);
    }
    let count = members.len() + usize::from(members.len() > 1);
    let mut sums: Vec<Sums> = (0..count).map(|_| Sums::new(outputs, true, multi_label)).collect();
    let mut batches: Vec<_> = members.iter().map(Member::epoch).collect();
    loop {
        let mut scores = Vec::new();
        let mut seen = None;
        for (member, batches) in members.iter_mut().zip(&mut batches) {
            let mut views = Vec::new();
            for (loader, batches) in batches.iter_mut().enumerate() {
                let Some(batch) = batches.next() else { return Ok(sums.into_iter().map(Sums::finish).collect()) };
                let mut batch = batch?;
                let images = std::mem::take(&mut batch.images);
                views.extend(member.scores(&images, batch.n, loader, outputs)?);
                let indices = batch.indices.clone();
                if seen.get_or_insert(batch).indices != indices {
                    return Err(Error::new(format!(
                        "{}: a picture can be read for one model but not for another",
                        data.name
                    ))
                    .advice("`ocelli data check DATA` lists what cannot be read: remove it."));
                }
            }
            scores.push(average(views, outputs, of_scores));
        }
        let Some(batch) = seen else { return Err(Error::new("no view of a picture")) };
        if scores.len() > 1 {
            scores.push(average(scores.clone(), outputs, of_scores));
        }
        for (sums, scores) in sums.iter_mut().zip(&scores) {
            sums.add(&batch, scores)?;
        }
    }
}

/// Fails where models cannot answer together: others classes, or targets, than the first.
///
/// # Errors
/// Names both, and how they differ.
pub fn check_ensemble(models: &[(&str, &Model)]) -> Result<()> {
    let Some(((first, model), others)) = models.split_first() else { return Ok(()) };
    for (name, other) in others {
        let outputs = |model: &Model| model.classes.iter().chain(&model.targets).cloned().collect::<Vec<_>>();
        let (a, b) = (outputs(model), outputs(other));
        if a == b && model.is_regression() == other.is_regression() {
            continue;
        }
        let lacks = |a: &[String], b: &[String]| a.iter().find(|class| !b.contains(class)).cloned();
        let why = match (lacks(&a, &b), lacks(&b, &a)) {
            (Some(class), _) => format!("'{class}' is only in {first}"),
            (None, Some(class)) => format!("'{class}' is only in {name}"),
            (None, None) => "the same ones in another order".to_string(),
        };
        let what = format!("{first} has {} classes, {name} has {}: {why}", a.len(), b.len());
        return Err(Error::usage(what).advice("An ensemble answers with one list of classes: leave one of them out."));
    }
    Ok(())
}

/// Log probabilities of the mean over lists of scores, `[n, outputs]` each; with `of_scores` the mean itself. One list
/// stays as it is.
fn average(mut lists: Vec<Vec<f32>>, outputs: usize, of_scores: bool) -> Vec<f32> {
    if lists.len() == 1 {
        return lists.remove(0);
    }
    let n = lists[0].len() / outputs.max(1);
    let row = |i: usize| lists.iter().map(move |list| &list[i * outputs..][..outputs]).collect::<Vec<_>>();
    let mean = |rows: Vec<&[f32]>| -> Vec<f32> {
        let of = |k: usize| rows.iter().map(|row| f64::from(row[k])).sum::<f64>() / rows.len() as f64;
        (0..outputs).map(|k| of(k) as f32).collect()
    };
    (0..n).flat_map(|i| if of_scores { mean(row(i)) } else { log_mean_softmax(&row(i)) }).collect()
}

/// A model at work.
struct Member {
    inference: Inference,
    temperature: f32,
    /// One for each canvas that views are cut from.
    loaders: Vec<Loader>,
}

impl Member {
    fn new(model: &mut Model, data: &Arc<Dataset>, split: Split, options: &EvaluateOptions) -> Result<Member> {
        let net = model.resolve()?;
        let (preparation, workers) = (&model.preparation, options.workers);
        let load = LoadOptions { workers, skip_bad: options.skip_bad, ..Default::default() };
        let loaders = Loader::with_views(data, split, preparation, options.tta, options.batch_size, &load)?;
        let batch = loaders.iter().map(|loader| options.batch_size.min(loader.len()) * loader.views()).max();
        let tensors = std::mem::take(&mut model.tensors);
        let batch = batch.unwrap_or(1).min(options.batch_size);
        let inference = Inference::new(&net, tensors, &options.device, batch)?.only_answers();
        Ok(Member { inference, temperature: model.calibration.temperature(), loaders })
    }

    fn epoch(&self) -> Vec<crate::data::Batches> {
        self.loaders.iter().map(|loader| loader.epoch(0, 0)).collect()
    }

    /// The scores of each view of the `n` pictures of a batch, whose views lie side by side.
    fn scores(&mut self, images: &[f32], n: usize, loader: usize, outputs: usize) -> Result<Vec<Vec<f32>>> {
        let views = self.loaders[loader].views();
        let mut scores = self.inference.logits(images, n * views)?;
        if scores.len() != n * views * outputs {
            return Err(Error::new(format!("{} values for {n} pictures of {outputs}", scores.len())));
        }
        scores.iter_mut().for_each(|score| *score /= self.temperature);
        let of = |view: usize| scores.chunks_exact(outputs).skip(view).step_by(views).flatten().copied().collect();
        Ok((0..views).map(of).collect())
    }
}
