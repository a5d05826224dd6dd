//! Grids of targets: what forward convolution and data gradient have in common.

/// An offset in the source, and which kernel element it multiplies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tap {
    pub at: [isize; 2],
    pub kernel: usize,
}

/// A grid of targets with the same taps. Pairs are `[rows, columns]`.
#[derive(Clone, Debug)]
pub(super) struct Phase {
    pub start: [usize; 2],
    pub step: [usize; 2],
    pub count: [usize; 2],
    pub source_step: [usize; 2],
    /// In the order of the sums.
    pub taps: Vec<Tap>,
}

/// A position on a phase's grid.
pub(super) struct Cursor {
    pub image: usize,
    pub row: usize,
    pub column: usize,
}

impl Cursor {
    pub fn new(phase: &Phase, pixel: usize) -> Cursor {
        let [rows, columns] = phase.count;
        Cursor { image: pixel / (rows * columns), row: pixel / columns % rows, column: pixel % columns }
    }
    /// To the first pixel of the next row.
    #[inline(always)]
    pub fn next_row(&mut self, phase: &Phase) {
        (self.column, self.row) = (0, self.row + 1);
        if self.row == phase.count[0] {
            (self.row, self.image) = (0, self.image + 1);
        }
    }
}
