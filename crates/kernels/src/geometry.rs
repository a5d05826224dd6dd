//! Sizes of windows that slide over pictures, shared by convolution and pooling.
//!
//! Output size = floor((N − F + P) / S) + 1, with F = dilation·(kernel − 1) + 1 and P the padding on both sides together.

/// A window that slides over the rows and columns of a picture. Pairs are `[height, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Rows and columns of the window.
    pub kernel: [usize; 2],
    /// Step between two positions.
    pub stride: [usize; 2],
    /// Step between two elements of the window.
    pub dilation: [usize; 2],
    /// Rows and columns added around the picture: top, left, bottom, right. Negative ones crop.
    pub padding: [isize; 4],
}

impl Window {
    /// A window with stride 1, dilation 1 and no padding.
    pub fn new(kernel: [usize; 2]) -> Window {
        Window { kernel, stride: [1, 1], dilation: [1, 1], padding: [0; 4] }
    }

    /// Rows and columns that the window spans, dilation included.
    pub fn span(&self) -> [usize; 2] {
        std::array::from_fn(|i| self.dilation[i] * (self.kernel[i] - 1) + 1)
    }

    /// Output rows and columns for an input of `size`, rounded down; `None` where the window does not fit.
    pub fn output(&self, size: [usize; 2]) -> Option<[usize; 2]> {
        let one = |i: usize| {
            let padded = size[i] as isize + self.padding[i] + self.padding[i + 2];
            let room = padded - self.span()[i] as isize;
            (room >= 0).then(|| room as usize / self.stride[i] + 1)
        };
        Some([one(0)?, one(1)?])
    }
}

/// A convolution's shapes, forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Input rows and columns.
    pub input: [usize; 2],
    /// Input channels.
    pub channels: usize,
    /// Filters, that is output channels.
    pub filters: usize,
    /// Groups; channels and filters are multiples of it.
    pub groups: usize,
    /// The sliding window.
    pub window: Window,
}

impl ConvShape {
    /// Output rows and columns.
    ///
    /// # Panics
    /// The window does not fit; whoever makes a `ConvShape` checks that first.
    pub fn output(&self) -> [usize; 2] {
        self.window.output(self.input).expect("a window that fits its input")
    }
    /// Input channels of one group.
    pub fn group_channels(&self) -> usize {
        self.channels / self.groups
    }
    /// Filters of one group.
    pub fn group_filters(&self) -> usize {
        self.filters / self.groups
    }
    /// Weights: filters · channels/groups · kernel rows · kernel columns.
    pub fn weights(&self) -> usize {
        self.filters * self.group_channels() * self.window.kernel[0] * self.window.kernel[1]
    }
    /// Multiply-adds of one picture, counted as direct convolution.
    pub fn macs(&self) -> usize {
        let [h, w] = self.output();
        self.weights() * h * w
    }
}
