//! The memory that a process really takes, against what the plan told. A test of its own process: others would be counted.
#![cfg(target_os = "linux")]

use ocelli::exec::{Device, Inference, memory};
use ocelli::formats::weights;
use ocelli::net::{Net, initialise};

/// A line of `/proc/self/status` in bytes: `VmRSS` is what is resident, `VmHWM` the most that ever was.
fn status(key: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn opening_a_large_network_takes_hardly_more_than_its_inference() {
    let text = "format = 1\nname = \"wide\"\ninput = [1, 64, 64]\nclasses = 10\nlayers = [\n\
        { type = \"conv\", filters = 4, kernel = 3, padding = 1 },\n\
        { type = \"linear\", units = 2048 },\n\
        { type = \"linear\", units = \"classes\" },\n]\n";
    let net = Net::from_toml(text, "wide.toml").unwrap().resolve(None, None).unwrap();
    let device = Device::cpu(1);
    let told = memory(&net, None, &device, 1).unwrap();
    let told = told.stored + told.scratch;
    assert!(told > 130_000_000, "a layer of 33,554,432 weights");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wide.safetensors");
    // Begin with the resident memory that there is before the weights.
    let before = status("VmRSS");
    {
        let tensors = initialise(&net, 0);
        weights::write(&path, tensors.iter().map(|(name, tensor)| (name.as_str().into(), tensor)), "").unwrap();
    }
    let (tensors, _) = weights::read(&path).unwrap();
    let mut inference = Inference::new(&net, tensors, &device, 1).unwrap();
    inference.logits(&[0.5; 64 * 64], 1).unwrap();
    let taken = status("VmHWM") - before;
    assert!(taken < told + told / 4, "{taken} bytes at the most, {told} told");
}
