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

/// A pooling's shapes, forward. The window's dilation is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolShape {
    /// Input rows and columns.
    pub input: [usize; 2],
    /// Channels of input and output.
    pub channels: usize,
    /// The sliding window.
    pub window: Window,
    /// Whether the output size is rounded up, so that the last window may reach past the padding.
    pub ceil_mode: bool,
}

impl PoolShape {
    /// Output rows and columns; `None` where the window does not fit. With `ceil_mode` as PyTorch: rounded up, but a
    /// last window that would start behind the input and the padding before it is left out.
    pub fn output_size(&self) -> Option<[usize; 2]> {
        let floor = self.window.output(self.input)?;
        if !self.ceil_mode {
            return Some(floor);
        }
        Some(std::array::from_fn(|i| {
            let (size, before) = (self.input[i] as isize, self.window.padding[i]);
            let room = size + before + self.window.padding[i + 2] - self.window.span()[i] as isize;
            let up = (room as usize).div_ceil(self.window.stride[i]) + 1;
            if ((up - 1) * self.window.stride[i]) as isize >= size + before { up - 1 } else { up }
        }))
    }

    /// Output rows and columns.
    ///
    /// # Panics
    /// The window does not fit; whoever makes a `PoolShape` checks that first.
    pub fn output(&self) -> [usize; 2] {
        self.output_size().expect("a window that fits its input")
    }

    /// Bytes of a stored window position: 1 where the window has at most 255 positions, else 4.
    pub fn index_bytes(&self) -> usize {
        if self.window.kernel[0] * self.window.kernel[1] <= 255 { 1 } else { 4 }
    }
}

impl Window {
    /// The window's rows (`axis` 0) or columns (1) that meet an input of `size` at output position `o`, dilation 1,
    /// and the input position of the first one.
    pub(crate) fn taps(&self, axis: usize, o: usize, size: usize) -> (std::ops::Range<usize>, usize) {
        let start = (o * self.stride[axis]) as isize - self.padding[axis];
        let first = (-start).clamp(0, self.kernel[axis] as isize);
        let last = (size as isize - start).clamp(first, self.kernel[axis] as isize);
        (first as usize..last as usize, (start + first).max(0) as usize)
    }

    /// The output positions, of `outputs`, whose windows meet input position `i`, dilation 1.
    pub(crate) fn meeting(&self, axis: usize, i: usize, outputs: usize) -> std::ops::Range<usize> {
        let (stride, padded) = (self.stride[axis] as isize, i as isize + self.padding[axis]);
        let first = (padded - self.kernel[axis] as isize + stride).div_euclid(stride).max(0);
        let last = (padded.div_euclid(stride) + 1).clamp(first, (outputs as isize).max(first));
        first as usize..last as usize
    }

    /// Moves [`Window::meeting`] from a position to the next one, without divisions.
    #[inline(always)]
    pub(crate) fn move_on(&self, axis: usize, i: usize, outputs: usize, meeting: &mut std::ops::Range<usize>) {
        let (stride, padded) = (self.stride[axis], i as isize + self.padding[axis]);
        while meeting.end < outputs && (meeting.end * stride) as isize <= padded {
            meeting.end += 1;
        }
        while meeting.start < meeting.end && (meeting.start * stride + self.kernel[axis]) as isize <= padded {
            meeting.start += 1;
        }
    }
}

#[cfg(test)]
mod pool_tests {
    use super::*;

    fn output(size: usize, kernel: usize, stride: usize, padding: isize, ceil_mode: bool) -> usize {
        let window = Window { stride: [stride; 2], padding: [padding; 4], ..Window::new([kernel; 2]) };
        PoolShape { input: [size; 2], channels: 1, window, ceil_mode }.output()[0]
    }

    #[test]
    fn rounding_up_adds_a_window_that_starts_inside() {
        assert_eq!(output(7, 2, 2, 0, false), 3);
        assert_eq!(output(7, 2, 2, 0, true), 4);
        assert_eq!(output(13, 3, 2, 0, true), 6);
        assert_eq!(output(112, 3, 2, 0, true), 56);
        // Rounded up it would be 4, but the last window would start in the padding at the end.
        assert_eq!(output(5, 2, 2, 1, true), 3);
        assert_eq!(output(1, 1, 2, 0, true), 1);
    }

    #[test]
    fn meeting_is_the_reverse_of_taps() {
        for (kernel, stride, padding, size) in [(3, 2, 1, 7), (2, 3, 0, 11), (3, 1, 1, 5), (2, 2, -1, 9), (1, 2, 2, 6)]
        {
            let window = Window { stride: [stride; 2], padding: [padding; 4], ..Window::new([kernel; 2]) };
            let outputs = window.output([size; 2]).unwrap()[0];
            let mut moved = 0..0;
            for i in 0..size {
                window.move_on(0, i, outputs, &mut moved);
                let expect: Vec<usize> = (0..outputs)
                    .filter(|&o| {
                        let (taps, first) = window.taps(0, o, size);
                        (first..first + taps.len()).contains(&i)
                    })
                    .collect();
                assert_eq!(window.meeting(0, i, outputs).collect::<Vec<_>>(), expect, "{window:?} {i}");
                assert_eq!(moved.clone().collect::<Vec<_>>(), expect, "{window:?} {i}");
            }
        }
    }
}
