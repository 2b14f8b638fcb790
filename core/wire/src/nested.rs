//! Refusals within others, decoded one deep: bytes that nest them further are refused, so that none
//! exhaust the stack.

use crate::lock::Refusal;
use core::fmt;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, EnumAccess, Error, IntoDeserializer, Visitor},
    forward_to_deserialize_any,
};

/// Variants of [`Refusal`] that have another within.
const NESTING: [&str; 2] = ["after-demotion", "of-set"];

/// Decodes a refusal that has no other within.
pub(crate) fn leaf<'de, D: Deserializer<'de>>(from: D) -> Result<Refusal, D::Error> {
    Refusal::deserialize(Leaf(from))
}

/// As [`leaf`], in a box.
pub(crate) fn boxed_leaf<'de, D: Deserializer<'de>>(from: D) -> Result<Box<Refusal>, D::Error> {
    leaf(from).map(Box::new)
}

struct Leaf<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Leaf<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, D::Error> {
        Err(D::Error::custom("a refusal is an enumeration"))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        inner: V,
    ) -> Result<V::Value, D::Error> {
        let guard = LeafVisitor { inner, variants };
        self.0.deserialize_enum(name, variants, guard)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct LeafVisitor<V> {
    inner: V,
    variants: &'static [&'static str],
}

impl<'de, V: Visitor<'de>> Visitor<'de> for LeafVisitor<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a refusal that has no other within")
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        self.inner.visit_enum(LeafAccess {
            access,
            variants: self.variants,
        })
    }
}

struct LeafAccess<A> {
    access: A,
    variants: &'static [&'static str],
}

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for LeafAccess<A> {
    type Error = A::Error;
    type Variant = A::Variant;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, A::Variant), A::Error> {
        // The format has variants as numbers.
        let (index, rest) = self.access.variant::<u32>()?;
        let name = usize::try_from(index)
            .ok()
            .and_then(|at| self.variants.get(at));
        if name.is_some_and(|name| NESTING.contains(name)) {
            return Err(A::Error::custom(
                "a refusal within one that is within another",
            ));
        }
        let index: serde::de::value::U32Deserializer<A::Error> = index.into_deserializer();
        Ok((seed.deserialize(index)?, rest))
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        client::{MESSAGE_LEN_MAX, ToClient},
        codec::{self, DecodeError},
        deadlock::DeadlockReport,
        lock::Refusal,
        sets::MemberRefusal,
    };
    use mainstay_base::{ResourceName, VictimPolicy};

    fn refused(why: Refusal) -> ToClient {
        ToClient::Done {
            request: 4,
            result: Err(why),
        }
    }

    fn of_set(why: Refusal) -> Refusal {
        MemberRefusal::at(1, ResourceName::new("a").unwrap(), why)
    }

    fn decode(bytes: &[u8]) -> Result<ToClient, DecodeError> {
        codec::decode("message", MESSAGE_LEN_MAX, bytes)
    }

    /// Protects what is sent: refusals within others come back as they were, with all they carry.
    #[test]
    fn one_within_another_comes_back() {
        let report = DeadlockReport {
            policy: VictimPolicy::Youngest,
            waits: Vec::new(),
        };
        let causes = [
            Refusal::NotQueued,
            Refusal::Whole,
            Refusal::Limit("so many".to_owned()),
            Refusal::DeadlockCycle(Box::new(report)),
        ];
        for cause in causes {
            let demoted = Refusal::AfterDemotion(Box::new(cause.clone()));
            for why in [cause.clone(), demoted, of_set(cause)] {
                let message = refused(why);
                assert_eq!(decode(&codec::to_vec(&message)), Ok(message));
            }
        }
    }

    /// Protects the stack from hostile bytes: refusals that nest are refused at the second level, and so
    /// a message full of them costs no more than two.
    #[test]
    fn deep_nesting_is_refused() {
        let demoted = |why| Refusal::AfterDemotion(Box::new(why));
        let deep = [
            demoted(demoted(Refusal::Busy)),
            demoted(of_set(Refusal::Busy)),
            of_set(demoted(Refusal::Busy)),
            of_set(of_set(Refusal::Busy)),
        ];
        for why in deep {
            let refused = decode(&codec::to_vec(&refused(why)));
            assert!(
                matches!(refused, Err(DecodeError::Malformed { .. })),
                "{refused:?}"
            );
        }
        let shallow = codec::to_vec(&refused(Refusal::NotQueued));
        for why in [demoted(Refusal::NotQueued), of_set(Refusal::NotQueued)] {
            let whole = codec::to_vec(&refused(why));
            // What precedes the refusal, and what one level adds.
            let head = &whole[..shallow.len() - 1];
            let level = &whole[head.len()..whole.len() - 1];
            let mut bytes = head.to_vec();
            while bytes.len() + level.len() < MESSAGE_LEN_MAX {
                bytes.extend_from_slice(level);
            }
            bytes.push(0);
            let refused = decode(&bytes);
            assert!(
                matches!(refused, Err(DecodeError::Malformed { .. })),
                "{refused:?}"
            );
        }
    }
}
