//! The values of a layer's keys: numbers with limits, and the list of a layer's keys itself.

use crate::shape::{MAX_SIZE, MAX_WINDOW};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

/// Reads a whole number from `least` to `most`.
struct Whole {
    least: usize,
    most: usize,
}

impl Visitor<'_> for Whole {
    type Value = usize;
    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "a whole number from {} to {}", self.least, self.most)
    }
    fn visit_i64<E: de::Error>(self, n: i64) -> Result<usize, E> {
        match usize::try_from(n) {
            Ok(n) if (self.least..=self.most).contains(&n) => Ok(n),
            _ => Err(E::invalid_value(de::Unexpected::Signed(n), &self)),
        }
    }
}

/// Channels, units, repeats: from 1 up.
pub mod count {
    use super::*;
    /// Reads a whole number from 1 to [`MAX_SIZE`].
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_any(Whole { least: 1, most: MAX_SIZE })
    }
    /// Writes the number.
    pub fn serialize<S: Serializer>(n: &usize, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(i64::try_from(*n).unwrap_or(i64::MAX))
    }
}

/// Kernel, stride, dilation: a number, or `[height, width]`.
pub mod pair {
    use super::*;
    struct Pair;
    impl<'de> Visitor<'de> for Pair {
        type Value = [usize; 2];
        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            write!(f, "a whole number from 1 to {MAX_WINDOW}, or [height, width] of such numbers")
        }
        fn visit_i64<E: de::Error>(self, n: i64) -> Result<[usize; 2], E> {
            match usize::try_from(n) {
                Ok(n) if (1..=MAX_WINDOW).contains(&n) => Ok([n, n]),
                _ => Err(E::invalid_value(de::Unexpected::Signed(n), &self)),
            }
        }
        fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<[usize; 2], A::Error> {
            let mut numbers = Vec::new();
            while let Some(n) = seq.next_element::<i64>()? {
                let [n, _] = Pair.visit_i64(n)?;
                numbers.push(n);
                if numbers.len() > 2 {
                    break;
                }
            }
            numbers.try_into().map_err(|n: Vec<usize>| de::Error::invalid_length(n.len(), &self))
        }
    }
    /// Reads one number for both, or two.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[usize; 2], D::Error> {
        deserializer.deserialize_any(Pair)
    }
    /// Writes one number if both are equal.
    pub fn serialize<S: Serializer>(pair: &[usize; 2], serializer: S) -> Result<S::Ok, S::Error> {
        let [h, w] = pair.map(|n| i64::try_from(n).unwrap_or(i64::MAX));
        if h == w { serializer.serialize_i64(h) } else { [h, w].serialize(serializer) }
    }
    /// A pair that may be absent.
    pub mod optional {
        use super::*;
        /// Reads a present pair.
        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[usize; 2]>, D::Error> {
            super::deserialize(deserializer).map(Some)
        }
        /// Writes the pair; absent ones are skipped by their field.
        pub fn serialize<S: Serializer>(pair: &Option<[usize; 2]>, serializer: S) -> Result<S::Ok, S::Error> {
            match pair {
                Some(pair) => super::serialize(pair, serializer),
                None => serializer.serialize_none(),
            }
        }
    }
}

/// The keys of a struct as serde knows them, so that no second list has to be kept.
pub(crate) fn fields<T: for<'a> Deserialize<'a>>() -> &'static [&'static str] {
    struct Listing<'a>(&'a mut &'static [&'static str]);
    impl<'de> Deserializer<'de> for Listing<'_> {
        type Error = de::value::Error;
        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(de::Error::custom("only structs have keys"))
        }
        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Self::Error> {
            *self.0 = fields;
            self.deserialize_any(visitor)
        }
        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }
    let mut keys: &'static [&'static str] = &[];
    // The error is how the listing stops the reading.
    let _ = T::deserialize(Listing(&mut keys));
    keys
}

/// Whether a key holds its default value and is left out of the text.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
