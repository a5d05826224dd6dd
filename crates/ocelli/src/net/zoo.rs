//! Networks that come with the program.

use super::Net;
use super::kind::unknown;
use crate::Result;

/// Name and text of each.
const ZOO: &[(&str, &str)] = &[
    ("lecun1989", include_str!("../../zoo/lecun1989.toml")),
    ("lenet5-1998", include_str!("../../zoo/lenet5-1998.toml")),
    ("lenet5", include_str!("../../zoo/lenet5.toml")),
    ("convnetjs-mnist", include_str!("../../zoo/convnetjs-mnist.toml")),
    ("convnetjs-cifar10", include_str!("../../zoo/convnetjs-cifar10.toml")),
    ("small-colour", include_str!("../../zoo/small-colour.toml")),
    ("alexnet-slide", include_str!("../../zoo/alexnet-slide.toml")),
    ("alexnet-2012-2gpu", include_str!("../../zoo/alexnet-2012-2gpu.toml")),
    ("caffenet", include_str!("../../zoo/caffenet.toml")),
    ("alexnet-owt", include_str!("../../zoo/alexnet-owt.toml")),
    ("zfnet", include_str!("../../zoo/zfnet.toml")),
    ("vgg11", include_str!("../../zoo/vgg11.toml")),
    ("vgg13", include_str!("../../zoo/vgg13.toml")),
    ("vgg16", include_str!("../../zoo/vgg16.toml")),
    ("vgg19", include_str!("../../zoo/vgg19.toml")),
    ("vgg11-bn", include_str!("../../zoo/vgg11-bn.toml")),
    ("vgg13-bn", include_str!("../../zoo/vgg13-bn.toml")),
    ("vgg16-bn", include_str!("../../zoo/vgg16-bn.toml")),
    ("vgg19-bn", include_str!("../../zoo/vgg19-bn.toml")),
    ("googlenet", include_str!("../../zoo/googlenet.toml")),
    ("googlenet-torchvision", include_str!("../../zoo/googlenet-torchvision.toml")),
    ("resnet18", include_str!("../../zoo/resnet18.toml")),
    ("resnet34", include_str!("../../zoo/resnet34.toml")),
    ("resnet50", include_str!("../../zoo/resnet50.toml")),
    ("resnet101", include_str!("../../zoo/resnet101.toml")),
    ("resnet152", include_str!("../../zoo/resnet152.toml")),
    ("se-resnet50", include_str!("../../zoo/se-resnet50.toml")),
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
