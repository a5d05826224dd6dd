//! `radial`: units that answer how near their input is to a pattern.

use super::linear::{Linear, Units};
use crate::Result;
use crate::graph::lower::Lowering;
use crate::graph::{Op, ValueId};
use crate::net::kind::{Init, Keys, LayerKind, ParameterRule, Role};
use crate::shape::Shape;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// y = −‖x − w‖² for each unit, the Euclidean radial basis functions at the end of LeNet-5 (LeCun et al. 1998, eq. 7) with the sign
/// turned, so that the nearest pattern has the largest value and softmax reads y as scores. Weights `[units, values]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Radial {
    /// Output values.
    pub units: Units,
}

impl Keys for Radial {
    const TYPE: &'static str = "radial";
}

impl Radial {
    fn linear(&self) -> Linear {
        Linear { units: self.units, bias: false }
    }
}

impl LayerKind for Radial {
    fn shape(&self, inputs: &[Shape]) -> Result<Shape> {
        self.linear().shape(inputs)
    }

    fn lower(&self, l: &mut Lowering) -> Result<ValueId> {
        let mut inputs = vec![l.features()?];
        inputs.extend(l.parameters(&[Role::Weight]));
        l.push(Op::Radial, &inputs).map(|made| made[0])
    }

    fn parameters(&self, inputs: &[Shape]) -> Vec<ParameterRule> {
        let mut rules = self.linear().parameters(inputs);
        rules.iter_mut().for_each(|rule| rule.init = Init::Codes);
        rules
    }

    fn macs(&self, inputs: &[Shape], output: Shape) -> u64 {
        self.linear().macs(inputs, output)
    }

    fn sees_everything(&self) -> bool {
        true
    }

    fn with_classes(&self, classes: Option<usize>) -> Result<Option<Arc<dyn LayerKind>>> {
        match (self.units, classes) {
            (Units::Classes, Some(n)) => Ok(Some(Arc::new(Radial { units: Units::Number(n) }))),
            _ => self.linear().with_classes(classes).map(|_| None),
        }
    }
}
