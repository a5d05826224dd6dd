//! The optimisers, by PyTorch's formulas.

/// An optimiser with its constants. Weight decay is added to the gradient, except in AdamW, which shrinks the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimizer {
    /// v ← momentum · v + (g + decay · w); w ← w − lr · v, or w − lr · (g + decay · w + momentum · v) with Nesterov.
    Sgd {
        /// Share of the last velocity that is kept.
        momentum: f32,
        /// Look ahead by one velocity.
        nesterov: bool,
    },
    /// Kingma and Ba 2014.
    Adam {
        /// Decay of the mean of gradients.
        beta1: f32,
        /// Decay of the mean of squared gradients.
        beta2: f32,
        /// Added to the denominator.
        eps: f32,
    },
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2017).
    AdamW {
        /// Decay of the mean of gradients.
        beta1: f32,
        /// Decay of the mean of squared gradients.
        beta2: f32,
        /// Added to the denominator.
        eps: f32,
    },
    /// Zeiler 2012.
    Adadelta {
        /// Decay of both running means.
        rho: f32,
        /// Added under the roots.
        eps: f32,
    },
}

impl Optimizer {
    /// SGD with momentum.
    pub fn sgd(momentum: f32) -> Optimizer {
        Optimizer::Sgd { momentum, nesterov: false }
    }
    /// Adam with the paper's constants.
    pub fn adam() -> Optimizer {
        Optimizer::Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8 }
    }
    /// AdamW with Adam's constants.
    pub fn adamw() -> Optimizer {
        Optimizer::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 }
    }
    /// Adadelta with PyTorch's constants.
    pub fn adadelta() -> Optimizer {
        Optimizer::Adadelta { rho: 0.9, eps: 1e-6 }
    }

    /// Names of the state that it keeps for each parameter, in the order in which [`crate::graph::Op::Update`] reads it.
    pub fn state(&self) -> &'static [&'static str] {
        match self {
            Optimizer::Sgd { momentum: 0.0, .. } => &[],
            Optimizer::Sgd { .. } => &["momentum"],
            Optimizer::Adam { .. } | Optimizer::AdamW { .. } => &["exp_avg", "exp_avg_sq"],
            Optimizer::Adadelta { .. } => &["square_avg", "acc_delta"],
        }
    }
}
