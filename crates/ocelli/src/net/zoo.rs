//! Networks that come with the program.

use super::Net;
use super::kind::unknown;
use crate::Result;

/// Name and text of each.
const ZOO: &[(&str, &str)] = &[
    ("lenet5", include_str!("../../zoo/lenet5.toml")),
    ("convnetjs-mnist", include_str!("../../zoo/convnetjs-mnist.toml")),
    ("convnetjs-cifar10", include_str!("../../zoo/convnetjs-cifar10.toml")),
    ("small-colour", include_str!("../../zoo/small-colour.toml")),
    ("alexnet-slide", include_str!("../../zoo/alexnet-slide.toml")),
    ("alexnet-2012-2gpu", include_str!("../../zoo/alexnet-2012-2gpu.toml")),
    ("vgg16", include_str!("../../zoo/vgg16.toml")),
    ("resnet18", include_str!("../../zoo/resnet18.toml")),
    ("mobilenet_v2", include_str!("../../zoo/mobilenet_v2.toml")),
];

impl Net {
    /// A net by its name in the zoo or by its `.toml` file.
    ///
    /// # Errors
    /// There is no such name or file, or the file is not a net.
    pub fn open(name: &str) -> Result<Net> {
        let path = std::path::Path::new(name);
        if !name.ends_with(".toml") && !path.is_file() {
            return Net::zoo(name);
        }
        let text = std::fs::read_to_string(path).map_err(|error| crate::Error::io(path, error))?;
        Net::from_toml(&text, name)
    }

    /// A net of the zoo.
    ///
    /// # Errors
    /// There is none of that name; the message has the nearest one.
    pub fn zoo(name: &str) -> Result<Net> {
        match ZOO.iter().find(|(known, _)| *known == name) {
            Some((name, text)) => Net::from_toml(text, &format!("{name}.toml")),
            None => Err(unknown("net", name, Net::zoo_names()).into_usage()),
        }
    }

    /// The names of the zoo.
    pub fn zoo_names() -> impl Iterator<Item = &'static str> + Clone {
        ZOO.iter().map(|(name, _)| *name)
    }
}
