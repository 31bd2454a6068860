//! Custom operators: operators that only the source format defines.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Operator, Types, arity, refuse};
use crate::error::TypeError;
use crate::types::{Elem, QuantParams, StorageType, TensorType};

/// A custom operator, whose semantics its format does not define. It is written unchanged, and only to that format.
/// It cannot be evaluated. Its operands and results keep the types and quantization parameters of the source, in
/// row-major layout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Custom {
    /// The name of the target whose format the operator belongs to.
    pub format: String,
    /// The operator set that it belongs to; empty where the format has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Name of the operator.
    pub name: String,
    /// Version of the operator, or of its operator set.
    pub version: i64,
    /// Attributes, in the order of the source.
    pub attributes: Vec<(String, Attribute)>,
    /// The type of each operand; `None` where the source omits an optional operand.
    #[serde(with = "ports")]
    pub operands: Vec<Option<TensorType>>,
    /// The type of each result; `None` where the source omits an optional result.
    #[serde(with = "ports")]
    pub results: Vec<Option<TensorType>>,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Attribute {
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Float(f32),
    /// A string.
    Text(String),
    /// Integers.
    Ints(Vec<i64>),
    /// Floating-point numbers.
    Floats(Vec<f32>),
    /// Strings.
    Texts(Vec<String>),
    /// Any other attribute, in the encoding of the format.
    Encoded(#[serde(with = "hexadecimal")] Vec<u8>),
}

/// Writes `domain.name`, or the name if there is no domain.
impl fmt::Display for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.domain.as_str() {
            "" => f.write_str(&self.name),
            domain => write!(f, "{domain}.{}", self.name),
        }
    }
}

impl Custom {
    /// The reason why other formats refuse it.
    pub fn refusal(&self) -> String {
        format!("it is a custom operator of {}, which is carried over to that format alone", self.format)
    }

    /// The types of the operands that are not omitted.
    pub(crate) fn given(&self) -> impl Iterator<Item = &TensorType> {
        self.operands.iter().flatten()
    }

    /// The types of the results that are not omitted.
    pub(crate) fn wanted(&self) -> Types {
        self.results.iter().flatten().cloned().collect()
    }
}

impl Operator for Custom {
    const NAME: &'static str = "custom";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        let count = self.given().count();
        arity(Self::NAME, operands, count, count)?;
        for (i, (found, declared)) in operands.iter().zip(self.given()).enumerate() {
            if found.shape != declared.shape || found.elem.real() != declared.elem.real() {
                return Err(refuse(operands, i, declared.to_string()));
            }
        }
        if self.results.iter().all(Option::is_none) {
            return Err(TypeError::Attribute("a custom operator has a result".into()));
        }
        Ok(self.wanted().iter().map(TensorType::real).collect())
    }
}

/// Types as strings such as `f32[1,4]` and `u8<0.5:128>[4]`, with known extents; an empty string is an omitted port.
mod ports {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{Elem, QuantParams, StorageType, TensorType};
    use crate::types::Shape;

    pub(super) fn serialize<S: Serializer>(ports: &[Option<TensorType>], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(ports.iter().map(|port| port.as_ref().map_or_else(String::new, TensorType::to_string)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Option<TensorType>>, D::Error> {
        let port = |text: &String| match text.as_str() {
            "" => Ok(None),
            text => parse(text).map(Some).ok_or_else(|| D::Error::custom(format!("{text} is no type"))),
        };
        Vec::<String>::deserialize(d)?.iter().map(port).collect()
    }

    pub(super) fn parse(text: &str) -> Option<TensorType> {
        let (elem, dims) = text.strip_suffix(']')?.split_once('[')?;
        let elem = match elem.strip_suffix('>').and_then(|elem| elem.split_once('<')) {
            None => Elem::plain(elem)?,
            Some((store, map)) => {
                let store = StorageType::ALL.into_iter().find(|s| s.to_string() == store)?;
                let (scale, zero_point) = map.split_once(':')?;
                Elem::Quantized(QuantParams::per_tensor(store, scale.parse().ok()?, zero_point.parse().ok()?))
            }
        };
        let dims: Option<Vec<usize>> = match dims {
            "" => Some(Vec::new()),
            dims => dims.split(',').map(|d| d.parse().ok()).collect(),
        };
        let ty = TensorType::new(elem, Shape::known(&dims?));
        ty.validate().ok().map(|()| ty)
    }
}

/// Bytes as hexadecimal digits.
mod hexadecimal {
    use std::fmt::Write;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(2 * bytes.len());
        for byte in bytes {
            write!(text, "{byte:02x}").map_err(serde::ser::Error::custom)?;
        }
        s.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(d)?;
        let digit = |c: u8| char::from(c).to_digit(16).map(|d| d as u8);
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let bytes =
            pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect::<Option<Vec<u8>>>();
        bytes.filter(|_| rest.is_empty()).ok_or_else(|| D::Error::custom("expected pairs of hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::EvalError;
    use crate::eval::{Executor, opaque};
    use crate::text::{Weights, parse, print_full};
    use crate::types::{Shape, Tensor};

    const BODY: &str = r#"graph g {
        %x: f32[2,4] = input
        %k: u8<0.5:128>[4] = input
        %y: f32[2], %q: u8<0.25:3>[1] = custom(format:"f",domain:"a.b",name:"Op",version:3,attributes:[("n",Int(-7)),
            ("a",Float(0.1)),("t",Text("say \"hi\"\n")),("ns",Ints([1,2])),("as",Floats([1.5])),("ts",Texts(["a",")"])),
            ("raw",Encoded("00ff7b"))],operands:["f32[2,4]","","u8<0.5:128>[4]"],results:["f32[2]","","u8<0.25:3>[1]"]) %x, %k
        %z = unary(f:Neg) %y
        %n = unary(f:Neg) %x
        output y = %z
        output n = %n
        output q = %q
    }"#;

    fn refused(change: [&str; 2]) -> String {
        assert!(BODY.contains(change[0]), "{}", change[0]);
        parse(&BODY.replacen(change[0], change[1], 1), &Weights::new()).unwrap_err().message
    }

    #[test]
    fn the_text_form_has_all_of_it() {
        let g = parse(BODY, &Weights::new()).unwrap();
        let text = print_full(&g);
        let again = parse(&text, &Weights::new()).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert!(again.same(&g), "{text}");
        let custom = g.order().into_iter().find_map(|n| match g.op(n) {
            crate::ops::Op::Custom(op) => Some(op.clone()),
            _ => None,
        });
        let custom = custom.unwrap();
        assert_eq!(custom.to_string(), "a.b.Op");
        assert_eq!(custom.attributes[2].1, Attribute::Text("say \"hi\"\n".into()));
        assert_eq!(custom.attributes[6].1, Attribute::Encoded(vec![0, 255, 123]));
        assert_eq!(custom.operands[1], None);
    }

    #[test]
    fn types_are_those_of_the_source() {
        assert_eq!(refused(["%x: f32[2,4]", "%x: f32[2,5]"]), "operand 0 is f32[2,5]; expected f32[2,4]");
        assert_eq!(refused(["%x: f32[2,4]", "%x: f16[2,4]"]), "operand 0 is f16[2,4]; expected f32[2,4]");
        let grid = "operand 1 is u8<0.5:127>[4]; expected u8<0.5:128>[4]";
        assert_eq!(refused(["%k: u8<0.5:128>", "%k: u8<0.5:127>"]), grid);
        let layout = "result 0 is f32[2]; expected a row-major layout of all operands and results";
        assert_eq!(refused(["%x: f32[2,4]", "%x: f32[2,4] @10"]), layout);
        assert_eq!(refused(["%y: f32[2]", "%y: f32[3]"]), "result 0 is f32[3]; expected f32[2]");
        assert_eq!(refused(["%q: u8<0.25:3>", "%q: f32"]), "result 1 is f32[1]; expected u8<0.25:3>[1]");
        assert_eq!(refused(["%x, %k", "%x"]), "custom takes 2 to 2 operands, found 1");
        assert!(refused(["\"f32[2,4]\"", "\"f32[1,4\""]).contains("f32[1,4 is no type"));
        assert!(refused(["00ff7b", "00ff7"]).contains("pairs of hexadecimal digits"));
        let none = "results:[\"\",\"\",\"\"]";
        assert_eq!(refused(["results:[\"f32[2]\",\"\",\"u8<0.25:3>[1]\"]", none]), "a custom operator has a result");
    }

    /// Values that do not depend on a custom operator are evaluated.
    #[test]
    fn runs_end_where_it_is_needed() {
        let g = parse(BODY, &Weights::new()).unwrap();
        let outputs: Vec<_> = g.outputs().iter().map(|o| o.value.node).collect();
        let unknown = opaque(&g);
        assert_eq!(outputs.iter().map(|n| unknown.contains_key(n)).collect::<Vec<_>>(), [true, false, true]);
        let x = Tensor::from_vec(Shape::known(&[2, 4]), vec![1.0f32; 8]);
        let k = Tensor::of(g.ty(g.inputs().nth(1).unwrap()).clone(), vec![0u8; 4]);
        let (executor, mut seen) = (Executor::new(&g), Vec::new());
        let known = executor.run_known(&[x.clone(), k.clone()], &mut |v, _| seen.push(v.node)).unwrap();
        assert_eq!(known.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false]);
        assert!(seen.contains(&outputs[1]) && !seen.contains(&outputs[0]) && !seen.contains(&outputs[2]));
        let error = executor.run(&[x, k], &mut |_, _| panic!("nothing is evaluated")).unwrap_err();
        assert_eq!(error.error, EvalError::Custom("a.b.Op".into()));
    }
}
