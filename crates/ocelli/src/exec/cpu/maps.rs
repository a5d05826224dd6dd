//! Operations on feature maps that have no parameters: pooling, normalisation across channels, padding, activations,
//! sums, products, concatenation, and the changes of layout at the edges.

use super::lower::Lower;
use crate::error::Result;
use crate::graph::{Activation, Border, Pool, is_channel_factor};
use crate::plan::{Io, Run};
use ocelli_kernels::elementwise::{self, View, ViewMut};
use ocelli_kernels::layout::{self, PadShape};
use ocelli_kernels::pooling::{self, AdaptiveShape};

impl Lower<'_, '_> {
    /// `() → pictures`: channels-first pictures of the feed to channels-last.
    pub fn pictures(&mut self) -> Result<()> {
        let y = self.output(0);
        let (channels, [h, w]) = self.ty(self.node.outputs[0]).as_maps()?;
        let body = move |run: &Run, io: &mut Io| {
            let n = run.n * channels * h * w;
            layout::channels_last(run.cpu, run.n, channels, h * w, &run.feed.images[..n], &mut io.write(0)[..n]);
        };
        self.step("input", &[], &[y], Box::new(body))
    }

    /// `() → the gradient of the feed`
    pub fn output_gradient(&mut self) -> Result<()> {
        let y = self.output(0);
        let ty = self.ty(self.node.outputs[0]).clone();
        let (channels, pixels) = match ty.as_maps() {
            Ok((channels, [h, w])) => (channels, h * w),
            Err(_) => (ty.per_picture(), 1),
        };
        let body = move |run: &Run, io: &mut Io| {
            let n = run.n * channels * pixels;
            let gradient = &run.feed.output_gradient[..n];
            layout::channels_last(run.cpu, run.n, channels, pixels, gradient, &mut io.write(0)[..n]);
        };
        self.step("output gradient", &[], &[y], Box::new(body))
    }

    /// `(maps) → features`, channels first.
    pub fn flatten(&mut self) -> Result<()> {
        let per = self.layout(0);
        let x = self.input(0);
        if per.pixels == 1 {
            self.b.alias(self.node.outputs[0], x);
            return Ok(());
        }
        let y = self.output(0);
        let body = move |run: &Run, io: &mut Io| {
            let n = per.elements(run.n);
            layout::channels_first(run.cpu, run.n, per.channels, per.pixels, &io.read(0)[..n], &mut io.write(0)[..n]);
        };
        self.step("flatten", &[x], &[y], Box::new(body))
    }

    /// `(features) → maps`
    pub fn unflatten(&mut self) -> Result<()> {
        let (channels, [h, w]) = self.ty(self.node.outputs[0]).as_maps()?;
        let x = self.input(0);
        if h * w == 1 {
            self.b.alias(self.node.outputs[0], x);
            return Ok(());
        }
        let y = self.output(0);
        let body = move |run: &Run, io: &mut Io| {
            let n = run.n * channels * h * w;
            layout::channels_last(run.cpu, run.n, channels, h * w, &io.read(0)[..n], &mut io.write(0)[..n]);
        };
        self.step("unflatten", &[x], &[y], Box::new(body))
    }

    /// `(x) → y, positions`
    pub fn max_pool(&mut self, pool: Pool) -> Result<()> {
        let (channels, size) = self.ty(self.node.inputs[0]).as_maps()?;
        let shape = pool.shape(channels, size);
        let (x, y, positions) = (self.input(0), self.output(0), self.output(1));
        let wanted = self.b.readers[self.node.outputs[1].index()] > 0;
        let per_picture = self.ty(self.node.outputs[0]).per_picture() * shape.index_bytes();
        let body = move |run: &Run, io: &mut Io| {
            let positions = wanted.then(|| &mut io.write_bytes(1)[..run.n * per_picture]);
            pooling::max_pool(run.cpu, &shape, run.n, View::dense(io.read(0)), ViewMut::dense(io.write(0)), positions);
        };
        let writes = if wanted { vec![y, positions] } else { vec![y] };
        self.step("max pool", &[x], &writes, Box::new(body))
    }

    /// `(dy, positions) → dx`
    pub fn max_pool_backward(&mut self, pool: Pool) -> Result<()> {
        let (channels, size) = self.ty(self.node.outputs[0]).as_maps()?;
        let shape = pool.shape(channels, size);
        let (dy, positions, dx) = (self.input(0), self.input(1), self.output(0));
        let per_picture = self.per_picture(0) * shape.index_bytes();
        let body = move |run: &Run, io: &mut Io| {
            let positions = &io.read_bytes(1)[..run.n * per_picture];
            let (dy, dx) = (View::dense(io.read(0)), ViewMut::dense(io.write(0)));
            pooling::max_pool_backward(run.cpu, &shape, run.n, dy, positions, dx);
        };
        self.step("max pool gradient", &[dy, positions], &[dx], Box::new(body))
    }

    /// `(x) → y` or `(dy) → dx`
    pub fn avg_pool(&mut self, pool: Pool, backward: bool) -> Result<()> {
        let wide = if backward { self.node.outputs[0] } else { self.node.inputs[0] };
        let (channels, size) = self.ty(wide).as_maps()?;
        let shape = pool.shape(channels, size);
        let (x, y) = (self.input(0), self.output(0));
        let body = move |run: &Run, io: &mut Io| {
            let (x, y) = (View::dense(io.read(0)), ViewMut::dense(io.write(0)));
            let kernel = if backward { pooling::average_pool_backward } else { pooling::average_pool };
            kernel(run.cpu, &shape, pool.count_include_pad, run.n, x, y);
        };
        self.step(if backward { "average pool gradient" } else { "average pool" }, &[x], &[y], Box::new(body))
    }

    /// `(x) → y` or `(dy) → dx`
    pub fn adaptive_avg_pool(&mut self, backward: bool) -> Result<()> {
        let (from, to) = (self.ty(self.node.inputs[0]).as_maps()?, self.ty(self.node.outputs[0]).as_maps()?);
        let ((channels, input), (_, output)) = if backward { (to, from) } else { (from, to) };
        let shape = AdaptiveShape { input, output, channels };
        let (x, y) = (self.input(0), self.output(0));
        let kernel = if backward { pooling::adaptive_average_pool_backward } else { pooling::adaptive_average_pool };
        let body = move |run: &Run, io: &mut Io| {
            kernel(run.cpu, &shape, run.n, View::dense(io.read(0)), ViewMut::dense(io.write(0)));
        };
        self.step(if backward { "average pool gradient" } else { "average pool" }, &[x], &[y], Box::new(body))
    }

    /// `(x) → y`
    pub fn activate(&mut self, activation: Activation) -> Result<()> {
        let elements = self.per_picture(0);
        let (y, in_place) = self.in_place(0);
        let x = self.input(0);
        let reads = if in_place { vec![] } else { vec![x] };
        let body = move |run: &Run, io: &mut Io| {
            let extent = elementwise::Extent::flat(run.n * elements);
            let x = (!in_place).then(|| View::dense(io.read(0)));
            elementwise::activate(run.cpu, activation, extent, x, ViewMut::dense(io.write(0)));
        };
        self.step("activation", &reads, &[y], Box::new(body))
    }

    /// `(dy, y or x) → dx`
    pub fn activate_backward(&mut self, activation: Activation) -> Result<()> {
        let elements = self.per_picture(0);
        let saved = self.input(1);
        let (dx, in_place) = self.in_place(0);
        let mut reads = vec![saved];
        if !in_place {
            reads.push(self.input(0));
        }
        let body = move |run: &Run, io: &mut Io| {
            let extent = elementwise::Extent::flat(run.n * elements);
            let dy = (!in_place).then(|| View::dense(io.read(1)));
            let (saved, dx) = (View::dense(io.read(0)), ViewMut::dense(io.write(0)));
            elementwise::activate_backward(run.cpu, activation, extent, saved, dy, dx);
        };
        self.step("activation gradient", &reads, &[dx], Box::new(body))
    }

    /// `(a, b) → a + b`, into whichever operand is free.
    pub fn add(&mut self) -> Result<()> {
        let elements = self.per_picture(0);
        let (first, second) = if self.b.may_overwrite(self.node.inputs[0]) { (0, 1) } else { (1, 0) };
        let (y, in_place) = self.in_place(first);
        let mut reads = vec![self.input(second)];
        if !in_place {
            reads.push(self.input(first));
        }
        let body = move |run: &Run, io: &mut Io| {
            let extent = elementwise::Extent::flat(run.n * elements);
            let a = (!in_place).then(|| View::dense(io.read(1)));
            elementwise::add(run.cpu, extent, a, View::dense(io.read(0)), false, ViewMut::dense(io.write(0)));
        };
        self.step("add", &reads, &[y], Box::new(body))
    }

    /// `(a, b) → a · b`
    pub fn multiply(&mut self) -> Result<()> {
        let per = self.layout(0);
        let per_channel = is_channel_factor(self.ty(self.node.inputs[0]), self.ty(self.node.inputs[1]));
        let (a, b, y) = (self.input(0), self.input(1), self.output(0));
        let body = move |run: &Run, io: &mut Io| {
            let b = if per_channel { View::per_sample(io.read(1)) } else { View::dense(io.read(1)) };
            let (a, y) = (View::dense(io.read(0)), ViewMut::dense(io.write(0)));
            elementwise::multiply(run.cpu, per.extent(run.n), Some(a), b, y);
        };
        self.step("multiply", &[a, b], &[y], Box::new(body))
    }

    /// `(a, b) → Σ a · b` of each map
    pub fn multiply_reduce(&mut self) -> Result<()> {
        let per = self.layout(0);
        let (a, b, y) = (self.input(0), self.input(1), self.output(0));
        let body = move |run: &Run, io: &mut Io| {
            let sums = &mut io.write(0)[..run.n * per.channels];
            let (a, b) = (View::dense(io.read(0)), View::dense(io.read(1)));
            elementwise::channel_sums(run.cpu, per.extent(run.n), a, Some(b), sums);
        };
        self.step("multiply gradient", &[a, b], &[y], Box::new(body))
    }

    /// `(a, b, …) → ` one after the other: a copy for each input that does not lie there already.
    pub fn concat(&mut self) -> Result<()> {
        let y = self.output(0);
        let total: usize = (0..self.node.inputs.len()).map(|i| self.layout(i).channels).sum();
        let mut start = 0;
        for i in 0..self.node.inputs.len() {
            let per = self.layout(i);
            if self.within[self.node.inputs[i].index()].is_none() {
                let x = self.input(i);
                let body = move |run: &Run, io: &mut Io| {
                    let y = ViewMut::strided(&mut io.write(0)[start..], total);
                    elementwise::copy(run.cpu, per.extent(run.n), View::dense(io.read(0)), y);
                };
                self.step("concat", &[x], &[y], Box::new(body))?;
            }
            start += per.channels;
        }
        Ok(())
    }

    /// `(x) → ` some of its channels
    pub fn slice(&mut self, start: usize) -> Result<()> {
        let wide = self.layout(0).channels;
        let (channels, size) = match self.ty(self.node.outputs[0]).as_maps() {
            Ok((channels, [h, w])) => (channels, h * w),
            Err(_) => (self.ty(self.node.outputs[0]).per_picture(), 1),
        };
        let (x, y) = (self.input(0), self.output(0));
        let body = move |run: &Run, io: &mut Io| {
            let extent = elementwise::Extent { samples: run.n, pixels: size, channels };
            let x = View::strided(&io.read(0)[start..], wide);
            elementwise::copy(run.cpu, extent, x, ViewMut::dense(io.write(0)));
        };
        self.step("slice", &[x], &[y], Box::new(body))
    }

    /// `(x) → y` with a border, or `(dy) → dx`
    pub fn pad(&mut self, amount: [usize; 4], border: Border, backward: bool) -> Result<()> {
        let narrow = if backward { self.node.outputs[0] } else { self.node.inputs[0] };
        let (channels, input) = self.ty(narrow).as_maps()?;
        let shape = PadShape { input, amount, border };
        let (inside, outside) = (input.iter().product::<usize>(), shape.output().iter().product::<usize>());
        let (from, to) = if backward { (outside, inside) } else { (inside, outside) };
        let (x, y) = (self.input(0), self.output(0));
        let body = move |run: &Run, io: &mut Io| {
            let x = &io.read(0)[..run.n * from * channels];
            let y = &mut io.write(0)[..run.n * to * channels];
            let kernel = if backward { layout::pad_backward } else { layout::pad };
            kernel(run.cpu, &shape, run.n, channels, x, y);
        };
        self.step(if backward { "pad gradient" } else { "pad" }, &[x], &[y], Box::new(body))
    }
}
