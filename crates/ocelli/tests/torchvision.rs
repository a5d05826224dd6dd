//! The nets of the zoo against torchvision, with the same weights and the same picture.

mod common;

use common::{deviation, path};
use ocelli::exec::{Device, Inference};
use ocelli::net::{Net, Resolved};
use ocelli::{Tensor, Tensors};

/// Values by the rule of `scripts/make_torchvision.py`: splitmix64 over a counter that begins at FNV-1a of the name.
fn drawn(name: &str, dims: &[usize]) -> Vec<f32> {
    let seed = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let fan_in: usize = dims.iter().skip(1).product();
    let limit = (6.0 / fan_in as f64).sqrt() as f32;
    let kind = name.rsplit_once('.').map_or("picture", |(_, kind)| kind);
    let count = dims.iter().product::<usize>() as u64;
    let parts = (1..=count).map(|i| {
        let mut z = seed.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) >> 40) as f32 / 16_777_216.0
    });
    match (kind, dims.len()) {
        ("running_var", _) | ("weight", 1) => parts.map(|u| u + 0.5).collect(),
        ("weight", _) => parts.map(|u| (2.0 * u - 1.0) * limit).collect(),
        ("bias" | "running_mean", _) => parts.map(|u| (2.0 * u - 1.0) * 0.1).collect(),
        _ => parts.map(|u| 2.0 * u - 1.0).collect(),
    }
}

/// The net with ten classes; of several outputs, the one that is asked for first.
fn resolved(name: &str, size: usize, output: &str) -> Resolved {
    let mut net = Net::zoo(name).unwrap();
    if let Some(at) = net.outputs.iter().position(|o| o.name == output) {
        net.outputs.iter_mut().for_each(|o| o.training_only = false);
        net.outputs.swap(0, at);
    }
    net.resolve(Some(10), Some([3, size, size])).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn outputs_are_torchvisions_with_the_same_weights() {
    let mut rows = csv::Reader::from_path(path("torchvision/outputs.csv")).unwrap();
    let (mut count, mut worst) = (0, (0.0, String::new()));
    for row in rows.records() {
        let row = row.unwrap();
        let (name, size, output) = (&row[0], row[1].parse().unwrap(), &row[2]);
        let right: Vec<f32> = row.iter().skip(3).map(|value| value.parse().unwrap()).collect();
        let net = resolved(name, size, output);
        let tensors: Tensors =
            net.parameters().map(|p| (p.name.clone(), Tensor::new(p.dims.clone(), drawn(&p.name, &p.dims)))).collect();
        let picture = drawn("input", &[1, 3, size, size]);
        let found = Inference::new(&net, tensors, &Device::cpu(2), 1).unwrap().logits(&picture, 1).unwrap();
        let off = deviation(&found, &right);
        assert!(off < 1e-4, "{name}, {output}: off by {off:e} of their RMS\n{found:?}\n{right:?}");
        if off > worst.0 {
            worst = (off, format!("{name} {output}"));
        }
        count += 1;
    }
    assert_eq!(count, 19);
    println!("largest deviation: {:e} of the RMS, {}", worst.0, worst.1);
}
