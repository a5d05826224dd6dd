//! The operations of the networks of 1989 and 1998, plain loops.

use super::lower::Lower;
use crate::error::Result;
use crate::graph::Spread;
use crate::plan::{Io, Run};
use ocelli_kernels::early::{self, Positions};

impl Lower<'_, '_> {
    /// `(weights) → full weights`, once where the weights stay.
    pub fn spread(&mut self, spread: &Spread) -> Result<()> {
        let (weights, full) = (self.input(0), self.node.outputs[0]);
        if !self.b.trains() {
            let name = self.b.graph.values[full.index()].name.clone().unwrap_or_default();
            let kept = self.b.stored(&name, spread.table.len());
            self.b.alias(full, kept);
        }
        let (full, table) = (self.b.of(full), spread.table.clone());
        let body = move |_: &Run, io: &mut Io| early::spread(&table, io.read(0), io.write(0));
        self.b.constant_step("spread", &[weights], &[full], Box::new(body));
        Ok(())
    }

    /// `(gradient of the full weights) → dweights`
    pub fn gather(&mut self, spread: &Spread) -> Result<()> {
        let (dfull, dweights, table) = (self.input(0), self.output(0), spread.table.clone());
        let body = move |_: &Run, io: &mut Io| early::gather(&table, io.read(0), io.write(0));
        self.step("gather", &[dfull], &[dweights], Box::new(body))
    }

    fn positions(&self) -> Positions {
        let layout = self.layout(0);
        Positions { pixels: layout.pixels, channels: layout.channels, channels_last: true }
    }

    /// `(x, bias) → y`
    pub fn add_bias(&mut self) -> Result<()> {
        let (positions, x, bias, y) = (self.positions(), self.input(0), self.input(1), self.output(0));
        let values = positions.pixels * positions.channels;
        let body = move |run: &Run, io: &mut Io| {
            early::add_bias(positions, &io.read(0)[..run.n * values], io.read(1), io.write(0));
        };
        self.step("bias", &[x, bias], &[y], Box::new(body))
    }

    /// `(dy) → dbias`
    pub fn add_bias_gradient(&mut self) -> Result<()> {
        let (positions, dy, dbias) = (self.positions(), self.input(0), self.output(0));
        let values = positions.pixels * positions.channels;
        let body = move |run: &Run, io: &mut Io| {
            early::add_bias_gradient(positions, &io.read(0)[..run.n * values], io.write(0));
        };
        self.step("bias gradient", &[dy], &[dbias], Box::new(body))
    }

    /// `(x) → factor · x`
    pub fn scale(&mut self, factor: f32) -> Result<()> {
        let (values, x, y) = (self.per_picture(0), self.input(0), self.output(0));
        let body = move |run: &Run, io: &mut Io| {
            let x = &io.read(0)[..run.n * values];
            io.write(0).iter_mut().zip(x).for_each(|(y, x)| *y = factor * x);
        };
        self.step("scale", &[x], &[y], Box::new(body))
    }

    /// `(x, weights) → y`
    pub fn radial(&mut self) -> Result<()> {
        let (features, x, weights, y) = (self.per_picture(0), self.input(0), self.input(1), self.output(0));
        let body = move |run: &Run, io: &mut Io| {
            early::radial(features, &io.read(0)[..run.n * features], io.read(1), io.write(0));
        };
        self.step("radial", &[x, weights], &[y], Box::new(body))
    }

    /// `(dy, x, weights) → dx or dweights`
    pub fn radial_gradient(&mut self, of_weights: bool) -> Result<()> {
        let features = self.per_picture(1);
        let reads = [self.input(0), self.input(1), self.input(2)];
        let made = self.output(0);
        let body = move |run: &Run, io: &mut Io| {
            let gradient = if of_weights { early::radial_weight } else { early::radial_data };
            gradient(features, io.read(0), &io.read(1)[..run.n * features], io.read(2), io.write(0));
        };
        let name = if of_weights { "radial weight gradient" } else { "radial data gradient" };
        self.step(name, &reads, &[made], Box::new(body))
    }
}
