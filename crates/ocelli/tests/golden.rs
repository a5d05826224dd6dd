//! Layers, losses, optimisers and schedules against PyTorch's numbers.

mod common;

use common::{Golden, deviation, folder};
use ocelli::net::{Net, Resolved, Role};
use ocelli_kernels::update::{Rule, Step, update};
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
                update(&cpu, rule, step, &mut w, &gradients.data[row.clone()], &mut a, &mut b);
                let off = deviation(&w, &right.data[row]);
                assert!(off < 1e-6, "{} with {isa}, step {t}: {off:e}", golden.name);
            }
        }
    }
}
