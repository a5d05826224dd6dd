//! Layers that all kernels are tested with.

use crate::geometry::{ConvShape, Window};

#[allow(clippy::too_many_arguments)]
pub(super) fn shape(
    input: [usize; 2],
    c: usize,
    k: usize,
    kernel: usize,
    stride: usize,
    padding: isize,
    groups: usize,
) -> ConvShape {
    let window = Window { kernel: [kernel; 2], stride: [stride; 2], padding: [padding; 4], ..Window::new([kernel; 2]) };
    ConvShape { input, channels: c, filters: k, groups, window }
}

/// Layers of well-known networks, some with fewer rows and channels, so that the reference takes no minutes.
pub(super) fn known_layers() -> Vec<(&'static str, ConvShape, usize)> {
    vec![
        ("LeNet-5 conv1", shape([28, 28], 1, 6, 5, 1, 2, 1), 3),
        ("LeNet-5 conv2", shape([14, 14], 6, 16, 5, 1, 0, 1), 20),
        ("ConvNetJS conv1", shape([32, 32], 3, 16, 5, 1, 2, 1), 2),
        ("ConvNetJS conv2", shape([16, 16], 16, 20, 5, 1, 2, 1), 5),
        ("ConvNetJS conv3", shape([8, 8], 20, 20, 5, 1, 2, 1), 9),
        ("16 to 16 channels", shape([20, 35], 16, 16, 3, 1, 1, 1), 2),
        ("6 filters at a stride of 2", shape([29, 30], 3, 6, 5, 2, 2, 1), 3),
        ("few outputs of many inputs", shape([12, 12], 16, 32, 5, 1, 0, 1), 3),
        ("AlexNet conv1", shape([67, 67], 3, 96, 11, 4, 0, 1), 1),
        ("AlexNet conv2", shape([27, 27], 48, 64, 5, 1, 2, 2), 1),
        ("AlexNet conv3", shape([13, 13], 64, 70, 3, 1, 1, 1), 5),
        ("5x5 of many channels", shape([15, 9], 40, 36, 5, 1, 2, 1), 9),
        ("more channels and filters than a task has", shape([9, 14], 144, 150, 3, 1, 1, 1), 3),
        ("the same in groups", shape([7, 9], 280, 140, 3, 1, 1, 2), 2),
        ("VGG conv1", shape([40, 40], 3, 64, 3, 1, 1, 1), 2),
        ("ResNet conv1", shape([49, 49], 3, 64, 7, 2, 3, 1), 1),
        ("ResNet layer2.0.conv1", shape([20, 20], 64, 128, 3, 2, 1, 1), 1),
        ("ResNet layer2.0.downsample", shape([28, 28], 64, 128, 1, 2, 0, 1), 2),
        ("ResNet layer4", shape([7, 7], 64, 64, 3, 1, 1, 1), 17),
        ("MobileNet depthwise", shape([28, 28], 96, 96, 3, 1, 1, 96), 2),
        ("MobileNet depthwise, stride 2", shape([28, 28], 72, 72, 3, 2, 1, 72), 2),
        ("ResNeXt", shape([14, 14], 64, 64, 3, 1, 1, 16), 2),
        ("ResNeXt, stride 2", shape([15, 14], 72, 72, 3, 2, 1, 18), 2),
        ("groups of two", shape([9, 14], 70, 70, 3, 1, 1, 35), 2),
        ("groups of eight", shape([9, 14], 32, 32, 3, 1, 1, 4), 2),
        ("few channels in groups, as kernel rows", shape([20, 23], 16, 64, 7, 2, 3, 4), 2),
        ("groups of which several are one of Winograd's form", shape([20, 20], 64, 128, 3, 1, 1, 16), 2),
        ("groups of one channel and two filters", shape([14, 28], 10, 20, 3, 1, 1, 10), 3),
        ("few channels in groups, as vectors of pixels at a stride", shape([33, 60], 20, 12, 2, 2, 1, 4), 2),
        ("more elements than a segment's sums of several groups", shape([31, 40], 6, 24, 9, 2, 4, 2), 2),
        ("data gradient of few channels in groups at a stride", shape([20, 30], 8, 32, 7, 2, 3, 2), 2),
        ("grids of unlike rows, some of which no kernel element meets", shape([20, 44], 12, 24, 2, 3, 1, 2), 2),
        ("grids of unlike rows in groups, as tasks of all grids", shape([37, 61], 80, 60, 2, 3, 0, 2), 2),
        ("a kernel as large as the input", shape([5, 5], 16, 24, 5, 1, 0, 1), 60),
        ("the same of more pixels", shape([6, 6], 21, 40, 6, 1, 0, 1), 3),
        ("few outputs of a large kernel", shape([9, 8], 20, 40, 7, 1, 0, 1), 14),
        ("few outputs of many weights", shape([7, 7], 72, 112, 5, 2, 0, 1), 3),
        (
            "few outputs of many weights at a stride that no kernel element meets",
            shape([14, 9], 70, 130, 3, 4, 0, 1),
            20,
        ),
        ("more padding than picture", shape([4, 5], 36, 40, 9, 1, 4, 2), 13),
        ("pointwise groups, several as one", shape([50, 41], 24, 30, 1, 1, 0, 6), 2),
        ("groups on narrow pictures, several as one", shape([9, 7], 30, 36, 3, 1, 1, 6), 20),
        ("groups that share cache lines", shape([9, 11], 20, 40, 1, 1, 0, 2), 3),
        ("a stride that few kernel elements meet", shape([12, 13], 40, 72, 3, 4, 1, 1), 2),
        ("a large kernel on groups of four", shape([12, 12], 20, 20, 9, 1, 4, 5), 1),
        ("one picture of several bands, few channels", shape([45, 61], 16, 96, 1, 1, 0, 1), 1),
        ("pictures of which several are a segment, few channels", shape([6, 7], 24, 144, 1, 1, 0, 1), 20),
        ("one vector of filters, several bands", shape([70, 81], 20, 16, 5, 2, 2, 1), 2),
        ("one picture of several bands, 3x3", shape([70, 66], 16, 16, 3, 1, 1, 1), 1),
        ("several panels of filters", shape([9, 11], 140, 150, 1, 1, 0, 1), 3),
        ("the same with a stride", shape([9, 11], 133, 150, 1, 2, 0, 1), 2),
        ("several panels of filters, 3x3", shape([9, 11], 130, 140, 3, 2, 1, 1), 2),
        ("a linear layer", shape([1, 1], 300, 40, 1, 1, 0, 1), 33),
        ("a picture wider than a segment", shape([3, 1100], 2, 3, 3, 1, 1, 1), 1),
        ("a kernel larger than the gather buffer", shape([33, 33], 2, 3, 31, 1, 15, 1), 1),
        ("a large kernel in several passes", shape([20, 20], 13, 3, 19, 1, 9, 1), 1),
        ("ConvNeXt depthwise", shape([9, 14], 33, 33, 7, 1, 3, 33), 2),
        ("EfficientNet depthwise, stride 2", shape([15, 17], 56, 56, 5, 2, 2, 56), 2),
        ("narrow depthwise outputs", shape([20, 13], 12, 12, 9, 1, 0, 12), 2),
        ("depthwise at a stride of 3", shape([16, 29], 48, 48, 5, 3, 2, 48), 2),
        ("a depthwise kernel larger than its picture", shape([12, 12], 20, 20, 31, 1, 15, 20), 1),
    ]
}
