//! Optimiser updates, each one pass over parameter, gradient and state, by PyTorch's formulas; the norm of gradients.

use crate::pool::Shares;
use crate::real::Real;
use crate::simd::{Kernel, LANES, Simd, dispatch};
use crate::{Cpu, Isa};

/// Elements of a task: 64 KB of each array, and the group in which squares are summed.
const CHUNK: usize = 16_384;

/// What an update needs besides its optimiser's constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Learning rate.
    pub lr: f32,
    /// Weight decay.
    pub decay: f32,
    /// Factor of the gradient: 1, or less where gradients are clipped.
    pub scale: f32,
    /// Updates before this one.
    pub count: u64,
}

/// An optimiser with its constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// g' = g + decay · w; v = momentum · v + g' (v = g' at first); w −= lr · v, or lr · (g' + momentum · v).
    Sgd {
        /// Share of the last velocity.
        momentum: f32,
        /// Whether the update looks ahead by one velocity.
        nesterov: bool,
    },
    /// Kingma and Ba, "Adam", 2014, with both means corrected for their start at zero.
    Adam {
        /// Decay of the mean.
        beta1: f32,
        /// Decay of the mean of squares.
        beta2: f32,
        /// Added to the denominator.
        eps: f32,
        /// Whether decay shrinks the weights (AdamW, Loshchilov and Hutter 2017) instead of joining the gradient.
        decoupled: bool,
    },
    /// Zeiler, "Adadelta", 2012.
    Adadelta {
        /// Decay of both means.
        rho: f32,
        /// Added under the roots.
        eps: f32,
    },
}

impl Rule {
    /// Arrays of state that it keeps.
    fn states(self) -> usize {
        match self {
            Rule::Sgd { momentum: 0.0, .. } => 0,
            Rule::Sgd { .. } => 1,
            _ => 2,
        }
    }
}

/// Parameters and what an update of them needs; `a` and `b` are the optimiser's state (velocity; mean and mean of squares;
/// mean of squares and of squared updates), empty where the rule has none.
pub struct Updated<'a> {
    /// How to update.
    pub rule: Rule,
    /// With what rate and decay.
    pub step: Step,
    /// The parameters.
    pub w: &'a mut [f32],
    /// First state.
    pub a: &'a mut [f32],
    /// Second state.
    pub b: &'a mut [f32],
}

impl<'a> Updated<'a> {
    /// For tasks that update different ranges.
    ///
    /// # Panics
    /// A state has another length than the parameters.
    pub(crate) fn shared(self) -> SharedUpdate {
        let (n, states) = (self.w.len(), self.rule.states());
        assert!((states < 1 || self.a.len() == n) && (states < 2 || self.b.len() == n), "state for each parameter");
        let Updated { rule, step, w, a, b } = self;
        SharedUpdate { rule, step, w: Shares::new(w), a: Shares::new(a), b: Shares::new(b) }
    }
}

/// Parameters of which every task updates a range of its own.
pub(crate) struct SharedUpdate {
    rule: Rule,
    step: Step,
    w: Shares<f32>,
    a: Shares<f32>,
    b: Shares<f32>,
}

impl SharedUpdate {
    /// Updates the parameters from `start` on by as many gradients as `g` has.
    ///
    /// # Safety
    /// They exist, and no other task has them.
    pub unsafe fn range(&self, isa: Isa, start: usize, g: &[f32]) {
        let held = |state: usize| if state < self.rule.states() { (start, g.len()) } else { (0, 0) };
        // SAFETY: as the caller vouches; the states have the parameters' length.
        let (w, a, b) = unsafe {
            (self.w.part(start, g.len()), self.a.part(held(0).0, held(0).1), self.b.part(held(1).0, held(1).1))
        };
        dispatch(isa, Chunk { rule: self.rule, step: self.step, w, g, a, b });
    }
}

/// Reference of [`update`].
pub fn update_reference<T: Real>(rule: Rule, step: Step, w: &mut [T], g: &[T], a: &mut [T], b: &mut [T]) {
    let of = |x: f32| T::from_f64(x.into());
    let (lr, decay, scale) = (of(step.lr), of(step.decay), of(step.scale));
    for i in 0..w.len() {
        let gradient = g[i] * scale;
        match rule {
            Rule::Sgd { momentum, nesterov } => {
                let gradient = gradient + decay * w[i];
                if momentum == 0.0 {
                    w[i] -= lr * gradient;
                    continue;
                }
                a[i] = of(momentum) * a[i] + gradient;
                w[i] -= lr * if nesterov { gradient + of(momentum) * a[i] } else { a[i] };
            }
            Rule::Adam { beta1, beta2, eps, decoupled } => {
                let gradient = if decoupled { gradient } else { gradient + decay * w[i] };
                if decoupled {
                    w[i] = w[i] - lr * decay * w[i];
                }
                a[i] = of(beta1) * a[i] + (T::ONE - of(beta1)) * gradient;
                b[i] = of(beta2) * b[i] + (T::ONE - of(beta2)) * gradient * gradient;
                let [c1, c2] = corrections(beta1, beta2, step.count).map(T::from_f64);
                w[i] -= lr * c1 * a[i] / (b[i].sqrt() * c2 + of(eps));
            }
            Rule::Adadelta { rho, eps } => {
                let gradient = gradient + decay * w[i];
                a[i] = of(rho) * a[i] + (T::ONE - of(rho)) * gradient * gradient;
                let delta = (b[i] + of(eps)).sqrt() / (a[i] + of(eps)).sqrt() * gradient;
                b[i] = of(rho) * b[i] + (T::ONE - of(rho)) * delta * delta;
                w[i] -= lr * delta;
            }
        }
    }
}

/// 1/(1 − beta1^t) and 1/√(1 − beta2^t), t = count + 1: what makes up for means that began at zero. Powers by repeated
/// multiplication, not by the system's library, so that all machines agree.
fn corrections(beta1: f32, beta2: f32, count: u64) -> [f64; 2] {
    let power = |beta: f32| {
        let (mut result, mut base, mut exponent) = (1.0f64, f64::from(beta), count + 1);
        while exponent > 0 {
            if exponent % 2 == 1 {
                result *= base;
            }
            base *= base;
            exponent /= 2;
        }
        result
    };
    [1.0 / (1.0 - power(beta1)), 1.0 / (1.0 - power(beta2)).sqrt()]
}

/// Updates parameters by gradients `g`.
///
/// # Panics
/// The slices' lengths differ.
pub fn update(cpu: &Cpu, updated: Updated, g: &[f32]) {
    let n = updated.w.len();
    assert_eq!(g.len(), n, "a gradient for each parameter");
    let shared = updated.shared();
    cpu.pool().run(n.div_ceil(CHUNK), &|task| {
        let start = task * CHUNK;
        // SAFETY: every task has its own range of each array.
        unsafe { shared.range(cpu.isa(), start, &g[start..n.min(start + CHUNK)]) };
    });
}

struct Chunk<'a> {
    rule: Rule,
    step: Step,
    w: &'a mut [f32],
    g: &'a [f32],
    a: &'a mut [f32],
    b: &'a mut [f32],
}

impl Kernel for Chunk<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Chunk { rule, step, w, g, a, b } = self;
        let (lr, decay, scale) = (s.splat(step.lr), s.splat(step.decay), s.splat(step.scale));
        let (w_at, g_at, a_at, b_at) = (w.as_mut_ptr(), g.as_ptr(), a.as_mut_ptr(), b.as_mut_ptr());
        let n = w.len();
        macro_rules! each {
            (|$w:ident, $g:ident $(, $state:ident = $at:ident)*| $body:block) => {
                for i in (0..n).step_by(LANES) {
                    let lanes = LANES.min(n - i);
                    // SAFETY: `lanes` elements from i on lie inside every array that the rule uses.
                    unsafe {
                        let mut $w = s.load_n(w_at.add(i), lanes);
                        let $g = s.mul(s.load_n(g_at.add(i), lanes), scale);
                        $(let mut $state = s.load_n($at.add(i), lanes);)*
                        $body
                        s.store_n(w_at.add(i), $w, lanes);
                        $(s.store_n($at.add(i), $state, lanes);)*
                    }
                }
            };
        }
        match rule {
            Rule::Sgd { momentum: 0.0, .. } => each!(|w, g| {
                w = s.fnma(lr, s.fma(decay, w, g), w);
            }),
            Rule::Sgd { momentum, nesterov } => {
                let momentum = s.splat(momentum);
                each!(|w, g, v = a_at| {
                    let g = s.fma(decay, w, g);
                    v = s.fma(momentum, v, g);
                    w = s.fnma(lr, if nesterov { s.fma(momentum, v, g) } else { v }, w);
                });
            }
            Rule::Adam { beta1, beta2, eps, decoupled } => {
                let [c1, c2] = corrections(beta1, beta2, step.count);
                let (rate, root) = (s.splat((f64::from(step.lr) * c1) as f32), s.splat(c2 as f32));
                let (rest1, rest2) = (s.splat(1.0 - beta1), s.splat(1.0 - beta2));
                let (beta1, beta2, eps) = (s.splat(beta1), s.splat(beta2), s.splat(eps));
                let shrink = s.mul(lr, decay);
                each!(|w, g, mean = a_at, square = b_at| {
                    let g = if decoupled { g } else { s.fma(decay, w, g) };
                    if decoupled {
                        w = s.fnma(shrink, w, w);
                    }
                    mean = s.fma(beta1, mean, s.mul(rest1, g));
                    square = s.fma(beta2, square, s.mul(rest2, s.mul(g, g)));
                    let denominator = s.fma(s.sqrt(square), root, eps);
                    w = s.fnma(rate, s.div(mean, denominator), w);
                });
            }
            Rule::Adadelta { rho, eps } => {
                let (rest, rho, eps) = (s.splat(1.0 - rho), s.splat(rho), s.splat(eps));
                each!(|w, g, square = a_at, moved = b_at| {
                    let g = s.fma(decay, w, g);
                    square = s.fma(rho, square, s.mul(rest, s.mul(g, g)));
                    let delta = s.mul(s.div(s.sqrt(s.add(moved, eps)), s.sqrt(s.add(square, eps))), g);
                    moved = s.fma(rho, moved, s.mul(rest, s.mul(delta, delta)));
                    w = s.fnma(lr, delta, w);
                });
            }
        }
    }
}

/// Σ x², in double precision: chunks of 16,384 elements in order, then the chunks in order.
pub fn square_sum(cpu: &Cpu, x: &[f32]) -> f64 {
    // One chunk after the other on this thread would read at a core's pace; groups of 64 chunks run side by side.
    const GROUP: usize = 64;
    let mut total = 0.0;
    for group in x.chunks(GROUP * CHUNK) {
        let mut sums = [0.0f64; GROUP];
        let shares = Shares::new(&mut sums);
        cpu.pool().run(group.len().div_ceil(CHUNK), &|task| {
            let chunk = &group[task * CHUNK..group.len().min((task + 1) * CHUNK)];
            // SAFETY: every task has its own sum.
            let sum = unsafe { &mut shares.part(task, 1)[0] };
            let mut lanes = [0.0f64; LANES];
            for part in chunk.chunks(LANES) {
                lanes.iter_mut().zip(part).for_each(|(lane, &x)| *lane += f64::from(x) * f64::from(x));
            }
            *sum = lanes.iter().sum();
        });
        total += sums.iter().sum::<f64>();
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: [Rule; 6] = [
        Rule::Sgd { momentum: 0.0, nesterov: false },
        Rule::Sgd { momentum: 0.9, nesterov: false },
        Rule::Sgd { momentum: 0.9, nesterov: true },
        Rule::Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8, decoupled: false },
        Rule::Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8, decoupled: true },
        Rule::Adadelta { rho: 0.9, eps: 1e-6 },
    ];

    fn numbers(n: usize, salt: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + salt * 31) % 2003) as f32 / 1001.5 - 1.0).collect()
    }

    #[test]
    fn three_updates_equal_the_double_precision_reference_and_all_paths_agree() {
        for rule in RULES {
            for n in [1, 15, 16, 37, CHUNK + 3] {
                let mut bits: Option<Vec<u32>> = None;
                for isa in Isa::available() {
                    for threads in [1, 3] {
                        let cpu = Cpu::with_isa(threads, isa).unwrap();
                        let (mut w, mut a, mut b) = (numbers(n, 1), vec![0.0; n], vec![0.0; n]);
                        let mut expect: Vec<f64> = w.iter().map(|&x| x.into()).collect();
                        let (mut ea, mut eb) = (vec![0.0; n], vec![0.0; n]);
                        for count in 0..3 {
                            let step = Step { lr: 0.05, decay: 0.01, scale: 0.5, count };
                            let g = numbers(n, 7 + count as usize);
                            update(&cpu, Updated { rule, step, w: &mut w, a: &mut a, b: &mut b }, &g);
                            let g: Vec<f64> = g.iter().map(|&x| x.into()).collect();
                            update_reference(rule, step, &mut expect, &g, &mut ea, &mut eb);
                        }
                        for (i, (w, e)) in w.iter().zip(&expect).enumerate() {
                            assert!((f64::from(*w) - e).abs() < 2e-6, "{rule:?} {isa:?} {i}: {w} {e}");
                        }
                        if isa != Isa::Portable {
                            let got: Vec<u32> = w.iter().map(|x| x.to_bits()).collect();
                            assert_eq!(*bits.get_or_insert(got.clone()), got, "{rule:?} {isa:?} {threads} threads");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn first_momentum_step_is_plain_gradient_descent() {
        let cpu = Cpu::new(1).unwrap();
        let (mut w, mut v) = (vec![1.0], vec![0.0]);
        let step = Step { lr: 0.1, decay: 0.0, scale: 1.0, count: 0 };
        update(&cpu, Updated { rule: RULES[1], step, w: &mut w, a: &mut v, b: &mut [] }, &[2.0]);
        assert_eq!((w[0], v[0]), (0.8, 2.0));
    }

    #[test]
    fn squares_are_summed_in_double_precision_and_in_one_order() {
        let x = numbers(3 * 64 * CHUNK / 2 + 5, 3);
        let expect: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        let sums: Vec<u64> = [1, 2, 5].map(|t| square_sum(&Cpu::new(t).unwrap(), &x).to_bits()).into();
        assert!((f64::from_bits(sums[0]) / expect - 1.0).abs() < 1e-12);
        assert!(sums.iter().all(|s| *s == sums[0]));
    }
}
