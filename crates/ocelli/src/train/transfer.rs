//! A start from trained weights: what is taken, what is made anew, what stays as it is, and how fast the rest learns.

use std::collections::BTreeSet;

use super::Settings;
use crate::error::did_you_mean;
use crate::net::{Resolved, Source, initialise};
use crate::{Error, Result, Tensors};

/// The network in which more layers learn than before, from an epoch on, counted from 1.
pub(super) type Stage = (u64, Resolved);

/// Sets what of the network is trained, and the factors of its rates; hands back what learns later, and what a person
/// should know.
///
/// # Errors
/// A layer or a pattern that means nothing in this network, or nothing is left to be trained.
pub(super) fn prepare(net: &mut Resolved, settings: &Settings) -> Result<(Vec<Stage>, Vec<String>)> {
    let (mut stages, mut notes) = (Vec::new(), Vec::new());
    for entry in &settings.lr_scale {
        scale(net, entry)?;
    }
    let all = net.clone();
    if let Some(until) = &settings.freeze_until {
        let first = first_of(net, "freeze_until", until)?;
        let whole = trained(net);
        let frozen = net.layers[..first].iter_mut().flat_map(|layer| &mut layer.parameters);
        frozen.for_each(|parameter| parameter.trainable = false);
        let left = trained(net);
        if left == 0 {
            return Err(Error::usage(format!("freeze_until {until}: nothing is left to be trained"))
                .advice("Name a layer with weights, or one before it."));
        }
        notes.push(format!("{} of {} parameters stay as they are: those before {until}", whole - left, whole));
    }
    if settings.replace_head {
        if settings.init.is_none() {
            return Err(Error::usage("replace_head without init")
                .advice("Say which weights to start from: --init W.safetensors"));
        }
        let head: Vec<String> = head(net).into_iter().collect();
        notes.push(format!("{} start anew, all else as in --init", head.join(", ")));
    }
    if settings.freeze_bn {
        net.layers.iter_mut().for_each(|layer| layer.frozen_statistics = true);
        if !net.parameters().any(|parameter| parameter.role.is_statistic()) {
            return Err(Error::usage(format!("freeze_bn: {} has no batch norm", net.name)).advice("Leave it out."));
        }
    }
    for entry in &settings.unfreeze {
        let stage = unfreeze(&all, stages.last().map_or((1, &*net), |(epoch, net)| (*epoch, net)), entry, settings)?;
        stages.push(stage);
    }
    Ok((stages, notes))
}

/// The network after the one `before`, which learns from its epoch on, as `LAYER@EPOCH` says. `all` has nothing frozen.
fn unfreeze(all: &Resolved, before: (u64, &Resolved), entry: &str, settings: &Settings) -> Result<Stage> {
    let parts = entry.rsplit_once('@').and_then(|(layer, epoch)| Some((layer.trim(), epoch.trim().parse().ok()?)));
    let Some((layer, epoch)) = parts else {
        return Err(Error::usage(format!("unfreeze '{entry}' cannot be")).advice("Write LAYER@EPOCH, as layer4@3."));
    };
    if settings.freeze_until.is_none() {
        return Err(Error::usage(format!("unfreeze {entry} without freeze_until"))
            .advice("Say what learns from the start: --freeze-until LAYER"));
    }
    let first = first_of(all, "unfreeze", layer)?;
    if epoch <= before.0 || epoch > settings.epochs {
        let what = format!("unfreeze {entry}: the epoch must be after {}, {} at most", before.0, settings.epochs);
        return Err(
            Error::usage(what).advice("Write each epoch once, in order; the first is what --freeze-until says.")
        );
    }
    let mut net = before.1.clone();
    let layers = net.layers.iter_mut().zip(&all.layers).skip(first);
    for (parameter, own) in layers.flat_map(|(layer, own)| layer.parameters.iter_mut().zip(&own.parameters)) {
        if own.trainable && !parameter.trainable {
            (parameter.trainable, parameter.frozen_epochs) = (true, epoch - 1);
        }
    }
    if trained(&net) == trained(before.1) {
        return Err(Error::usage(format!("unfreeze {entry}: all from {layer} on learns before"))
            .advice("Name a layer with weights that is frozen until then, from the last to the first."));
    }
    Ok((epoch, net))
}

/// The first layer of that name, or of a block of that name.
fn first_of(net: &Resolved, key: &str, name: &str) -> Result<usize> {
    let within = |layer: &str| layer.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    net.layers.iter().position(|layer| within(&layer.name)).ok_or_else(|| {
        let error = Error::usage(format!("{key} {name}: {} has no such layer", net.name));
        match did_you_mean(name, net.layers.iter().map(|layer| layer.name.as_str())) {
            Some(layer) => error.advice(format!("Did you mean {layer}?")),
            None => error.advice("`ocelli summary NET` lists the layers."),
        }
    })
}

/// Values that the optimiser changes.
pub(super) fn trained(net: &Resolved) -> usize {
    net.parameters().filter(|parameter| parameter.trainable).map(|parameter| parameter.len()).sum()
}

/// Multiplies the rate of the parameters that `PATTERN=FACTOR` means.
fn scale(net: &mut Resolved, entry: &str) -> Result<()> {
    let advice = "Write PATTERN=FACTOR, as conv*=0.1 or *.bias=2; * stands for any letters.";
    let parts =
        entry.rsplit_once('=').and_then(|(pattern, factor)| Some((pattern.trim(), factor.trim().parse::<f32>().ok()?)));
    let Some((pattern, factor)) = parts.filter(|(_, factor)| factor.is_finite() && *factor > 0.0) else {
        return Err(Error::usage(format!("lr_scale '{entry}' cannot be")).advice(advice));
    };
    let trained = net.layers.iter_mut().flat_map(|layer| &mut layer.parameters).filter(|p| p.trainable);
    let mut found = false;
    for parameter in trained {
        if matches(pattern, &parameter.name) {
            parameter.lr *= factor;
            found = true;
        }
    }
    match found {
        true => Ok(()),
        false => Err(Error::usage(format!("lr_scale '{pattern}' means no parameter of {}", net.name)).advice(advice)),
    }
}

/// Whether a pattern with `*` for any letters is the name of a parameter, or of its layer or block.
fn matches(pattern: &str, name: &str) -> bool {
    fn whole(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|start| whole(rest, &text[start..])),
            Some((letter, rest)) => text.first() == Some(letter) && whole(rest, &text[1..]),
        }
    }
    // Many stars against a long name would take long; names have few.
    pattern.matches('*').count() <= 4
        && name
            .match_indices('.')
            .map(|(end, _)| &name[..end])
            .chain([name])
            .any(|part| whole(pattern.as_bytes(), part.as_bytes()))
}

/// The parameters that make the outputs: of each output, those of the last layer that has some.
pub(super) fn head(net: &Resolved) -> BTreeSet<String> {
    let last = |mut at: usize| loop {
        let layer = &net.layers[at];
        match layer.inputs.first() {
            Some(Source::Layer(before)) if layer.parameters.is_empty() => at = *before,
            _ => return layer.parameters.iter().map(|parameter| parameter.name.clone()),
        }
    };
    net.outputs.iter().flat_map(|output| last(output.layer)).collect()
}

/// Weights from a file, with a new head: what the file says of the head is left out, random weights stand for it.
pub(super) fn with_new_head(net: &Resolved, mut found: Tensors, seed: u64) -> Tensors {
    let head = head(net);
    found.retain(|name, _| !head.contains(name));
    found.extend(initialise(net, seed).into_iter().filter(|(name, _)| head.contains(name)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Net;

    #[test]
    fn patterns_mean_parameters_layers_and_blocks() {
        let means = |pattern: &str, name: &str| matches(pattern, name);
        assert!(
            means("conv*", "conv1.weight") && means("conv1", "conv1.bias") && means("*.bias", "layer1.0.conv1.bias")
        );
        assert!(means("layer1", "layer1.0.conv1.bias") && means("layer1.*.conv1", "layer1.0.conv1.bias"));
        assert!(!means("conv1", "conv10.weight") && !means("bias", "conv1.bias") && !means("layer", "layer1.0.w"));
    }

    #[test]
    fn heads_are_the_last_layers_with_weights_of_every_output() {
        let head_of = |net: &str| head(&Net::zoo(net).unwrap().resolve(Some(3), None).unwrap());
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<BTreeSet<_>>();
        assert_eq!(head_of("resnet18"), names(&["fc.bias", "fc.weight"]));
        assert_eq!(
            head_of("googlenet-torchvision"),
            names(&["aux1.fc2.bias", "aux1.fc2.weight", "aux2.fc2.bias", "aux2.fc2.weight", "fc.bias", "fc.weight"])
        );
    }
}
