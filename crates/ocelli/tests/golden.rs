//! Layers, losses, optimisers and schedules against PyTorch's numbers.

mod common;

use common::{Golden, deviation, difference, folder, rms};
use ocelli::exec::{Device, gradients};
use ocelli::net::{Net, Resolved, Role};
use ocelli::{Tensor, Tensors};
use ocelli_kernels::loss::{Cost, CrossEntropy, EachOutput, Row, cross_entropy, each_output};
use ocelli_kernels::update::{Rule, Step, Updated, update};
use ocelli_kernels::{Cpu, Isa};

fn net(golden: &Golden) -> Resolved {
    Net::from_toml(&golden.metadata["net"], &golden.name).unwrap().resolve(None, None).unwrap()
}

#[test]
fn parameters_have_the_names_and_shapes_of_pytorch() {
    for golden in folder("layers") {
        let net = net(&golden);
        let names: Vec<&String> = net.parameters().map(|parameter| &parameter.name).collect();
        for parameter in net.parameters() {
            assert_eq!(parameter.dims, golden.tensor(&parameter.name).dims, "{}: {}", golden.name, parameter.name);
            let has_gradient = golden.tensors.contains_key(&format!("grad.{}", parameter.name));
            let is_statistic = matches!(parameter.role, Role::RunningMean | Role::RunningVar);
            assert_eq!(has_gradient, !is_statistic, "{}: gradient of {}", golden.name, parameter.name);
        }
        let gradients = golden.under("grad.").len();
        let statistics = net.parameters().filter(|p| matches!(p.role, Role::RunningMean | Role::RunningVar)).count();
        assert_eq!(gradients, 1 + names.len() - statistics, "{}: {names:?}", golden.name);
    }
}

#[test]
fn output_shapes_are_those_of_pytorch() {
    for golden in folder("layers") {
        let net = net(&golden);
        let shape = net.layers[net.main_output().layer].shape;
        let output = &golden.tensor("output").dims;
        assert_eq!(shape.len(), output[1..].iter().product::<usize>(), "{}: {shape:?} {output:?}", golden.name);
    }
}

#[test]
fn optimisers_take_the_steps_of_pytorch() {
    for golden in folder("optimizers") {
        let n = |key| golden.number(key);
        let adam = |decoupled| Rule::Adam { beta1: n("beta1"), beta2: n("beta2"), eps: n("eps"), decoupled };
        let nesterov = golden.metadata.get("nesterov").is_some_and(|word| word == "true");
        let rule = match golden.metadata["optimizer"].as_str() {
            "sgd" => Rule::Sgd { momentum: n("momentum"), nesterov },
            "adam" => adam(false),
            "adamw" => adam(true),
            "adadelta" => Rule::Adadelta { rho: n("rho"), eps: n("eps") },
            other => panic!("{other}"),
        };
        let (gradients, right) = (golden.tensor("gradients"), golden.tensor("weights"));
        let [steps, size] = gradients.dims[..] else { panic!("gradients {:?}", gradients.dims) };
        for isa in Isa::available() {
            let cpu = Cpu::with_isa(1, isa).unwrap();
            let (mut w, mut a, mut b) = (golden.tensor("start").data.clone(), vec![0.0; size], vec![0.0; size]);
            for t in 0..steps {
                let row = t * size..(t + 1) * size;
                let step = Step { lr: n("lr"), decay: n("weight_decay"), scale: 1.0, count: t as u64 };
                let updated = Updated { rule, step, w: &mut w, a: &mut a, b: &mut b };
                update(&cpu, updated, &gradients.data[row.clone()]);
                let off = deviation(&w, &right.data[row]);
                assert!(off < 1e-6, "{} with {isa}, step {t}: {off:e}", golden.name);
            }
        }
    }
}

/// Largest deviation of a layer's output or gradient, of its RMS. PyTorch's numbers come from float64, so this is our own
/// rounding: sums of up to 2,000 products of float32.
const TOLERANCE: f64 = 1e-5;
/// The same where Winograd's forms compute it.
const WINOGRAD_TOLERANCE: f64 = 1e-4;

#[test]
fn outputs_and_gradients_are_those_of_pytorch_on_both_backends() {
    let mut worst = (0.0, String::new());
    for golden in folder("layers") {
        let net = net(&golden);
        let training = golden.metadata["training"] == "true";
        let tensors: Tensors = net.parameters().map(|p| (p.name.clone(), golden.tensor(&p.name).clone())).collect();
        for device in [Device::plain(), Device::cpu(2).exact(true), Device::cpu(2)] {
            let tolerance = if device.exact { TOLERANCE } else { WINOGRAD_TOLERANCE };
            let made =
                gradients(&net, &tensors, golden.tensor("input"), golden.tensor("grad_output"), training, &device)
                    .unwrap_or_else(|e| panic!("{}: {e}", golden.name));
            let mut check = |what: &str, found: &Tensor, right: &Tensor| {
                // The gradient of a bias before batch norm is zero but for rounding: there the incoming gradient's size counts.
                let scale = rms(&right.data).max(rms(&golden.tensor("grad_output").data));
                let off = difference(&found.data, &right.data) / scale;
                assert!(off < tolerance, "{} on {device:?}: {what} is off by {off:e} of its RMS", golden.name);
                if device.exact && off > worst.0 {
                    worst = (off, format!("{} {what}", golden.name));
                }
            };
            check("output", &made.output, golden.tensor("output"));
            let expected = golden.under("grad.");
            assert_eq!(made.tensors.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{}", golden.name);
            for (name, right) in &expected {
                check(&format!("gradient of {name}"), &made.tensors[name], right);
            }
            for (name, right) in &golden.under("after.") {
                check(&format!("{name} afterwards"), &made.after[name], right);
            }
        }
    }
    println!("largest deviation: {:e} of the RMS, {}", worst.0, worst.1);
}

#[test]
fn losses_and_their_gradients_are_those_of_pytorch() {
    for golden in folder("losses") {
        let logits = golden.tensor("logits");
        let [n, classes] = logits.dims[..] else { panic!("logits {:?}", logits.dims) };
        let (right, right_gradient) = (f64::from(golden.tensor("loss").data[0]), golden.tensor("grad"));
        for isa in Isa::available() {
            let cpu = Cpu::with_isa(2, isa).unwrap();
            let (mut gradient, mut rows) = (vec![0.0; n * classes], vec![Row::default(); n]);
            let cost = match golden.metadata["loss"].as_str() {
                "mean_squared" => Some(Cost::Squared),
                "binary_cross_entropy" => Some(Cost::Logistic),
                _ => None,
            };
            let found = if let Some(cost) = cost {
                let targets = &golden.tensor("targets").data;
                let loss = EachOutput { cost, width: classes, factor: 1.0, first: 0 };
                each_output(&cpu, &loss, [&logits.data, targets], Some(&mut gradient), &mut rows)
            } else {
                let labels: Vec<u32> = golden.integers["labels"].iter().map(|&label| label as u32).collect();
                let class_weights = golden.tensors.get("class_weights").map(|t| &t.data[..]);
                let loss = CrossEntropy {
                    classes,
                    smoothing: golden.number("smoothing"),
                    class_weights,
                    factor: 1.0,
                    mixed: &[],
                    first: 0,
                };
                cross_entropy(&cpu, &loss, &logits.data, &labels, Some(&mut gradient), &mut rows)
            };
            assert!((found - right).abs() <= 2e-6 * right.abs(), "{} with {isa}: {found} against {right}", golden.name);
            let off = deviation(&gradient, &right_gradient.data);
            assert!(off < 5e-6, "{} with {isa}: gradient off by {off:e}", golden.name);
        }
    }
}
