//! `linear`: every unit sees every value (fully connected).

use super::{is_yes, yes};
use crate::graph::lower::Lowering;
use crate::graph::{Op, ValueId};
use crate::net::kind::{Init, Keys, LayerKind, ParameterRule, Role};
use crate::shape::{MAX_SIZE, Shape};
use crate::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::sync::Arc;

/// y = W·x + b over all values of the input, flattened channels first. Weights `[units, values]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    /// Output values.
    pub units: Units,
    /// Whether each unit has a bias.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub bias: bool,
}

/// A number of units, or as many as the data has classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Units {
    /// That many.
    Number(usize),
    /// `"classes"`.
    Classes,
}

impl Serialize for Units {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Units::Number(n) => crate::net::keys::count::serialize(n, serializer),
            Units::Classes => serializer.serialize_str("classes"),
        }
    }
}

impl<'de> Deserialize<'de> for Units {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Units, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Units;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                write!(f, "a whole number from 1 to {MAX_SIZE} or \"classes\"")
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Units, E> {
                match usize::try_from(n) {
                    Ok(n) if (1..=MAX_SIZE).contains(&n) => Ok(Units::Number(n)),
                    _ => Err(E::invalid_value(de::Unexpected::Signed(n), &self)),
                }
            }
            fn visit_str<E: de::Error>(self, word: &str) -> Result<Units, E> {
                match word {
                    "classes" => Ok(Units::Classes),
                    _ => Err(E::invalid_value(de::Unexpected::Str(word), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Keys for Linear {
    const TYPE: &'static str = "linear";
}

impl Linear {
    /// The number of units; a resolved net has no other.
    ///
    /// # Errors
    /// `"classes"` was not replaced.
    pub fn units(&self) -> Result<usize> {
        match self.units {
            Units::Number(n) => Ok(n),
            Units::Classes => Err(Error::new("units = \"classes\", but the number of classes is not known")
                .advice("Put `classes = N` into the net's file, or give data.")),
        }
    }
}

impl LayerKind for Linear {
    fn shape(&self, _inputs: &[Shape]) -> Result<Shape> {
        Ok(Shape::Flat(self.units()?))
    }

    fn lower(&self, l: &mut Lowering) -> Result<ValueId> {
        let mut inputs = vec![l.features()?];
        inputs.extend(l.parameters(&[Role::Weight, Role::Bias]));
        l.push(Op::Linear { activation: None }, &inputs).map(|made| made[0])
    }

    fn parameters(&self, inputs: &[Shape]) -> Vec<ParameterRule> {
        let Ok(units) = self.units() else { return Vec::new() };
        let mut parameters = vec![ParameterRule::new(Role::Weight, [units, inputs[0].len()], Init::He)];
        if self.bias {
            parameters.push(ParameterRule::new(Role::Bias, [units], Init::Constant(0.0)));
        }
        parameters
    }

    fn macs(&self, inputs: &[Shape], output: Shape) -> u64 {
        (inputs[0].len() as u64).saturating_mul(output.len() as u64)
    }

    fn connections(&self, inputs: &[Shape], output: Shape) -> u64 {
        let biases = if self.bias { output.len() as u64 } else { 0 };
        self.macs(inputs, output).saturating_add(biases)
    }

    fn sees_everything(&self) -> bool {
        true
    }

    fn with_classes(&self, classes: Option<usize>) -> Result<Option<Arc<dyn LayerKind>>> {
        match (self.units, classes) {
            (Units::Number(_), _) => Ok(None),
            (Units::Classes, Some(n)) => Ok(Some(Arc::new(Linear { units: Units::Number(n), ..self.clone() }))),
            (Units::Classes, None) => self.units().map(|_| None),
        }
    }
}
