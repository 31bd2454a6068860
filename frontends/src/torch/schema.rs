//! The program that `torch.export` writes, as JSON (`torch/_export/serde/schema.py`, major version 8). Only the needed
//! fields are decoded.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::{Map, Value};

/// An exported program.
#[derive(Debug, Deserialize)]
pub(super) struct Program {
    pub(super) graph_module: GraphModule,
    #[serde(default)]
    pub(super) range_constraints: BTreeMap<String, Range>,
    pub(super) schema_version: Version,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Version {
    pub(super) major: i64,
    pub(super) minor: i64,
}

/// The range of a symbol.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Range {
    #[serde(default)]
    pub(super) min_val: Option<i64>,
    #[serde(default)]
    pub(super) max_val: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct GraphModule {
    pub(super) graph: Graph,
    pub(super) signature: Signature,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Graph {
    pub(super) inputs: Vec<Argument>,
    pub(super) outputs: Vec<Argument>,
    pub(super) nodes: Vec<Node>,
    #[serde(default)]
    pub(super) tensor_values: BTreeMap<String, TensorMeta>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Node {
    /// Namespace, operator and overload: `torch.ops.aten.add.Tensor`.
    pub(super) target: String,
    pub(super) inputs: Vec<NamedArgument>,
    pub(super) outputs: Vec<Argument>,
    #[serde(default)]
    pub(super) metadata: BTreeMap<String, String>,
}

/// An argument with its name in the operator's schema. Arguments equal to their default are omitted.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct NamedArgument {
    #[serde(default)]
    pub(super) name: String,
    pub(super) arg: Argument,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct TensorMeta {
    pub(super) dtype: i64,
    pub(super) sizes: Vec<Size>,
    pub(super) strides: Vec<Size>,
    #[serde(default)]
    pub(super) storage_offset: Option<Size>,
    #[serde(default)]
    pub(super) layout: Option<i64>,
}

/// An extent, a stride or an offset.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Size {
    Int(i64),
    /// An expression of symbols (`sympy.srepr`), and its value for the example input.
    Expr {
        text: String,
        hint: Option<i64>,
    },
}

/// A number of the program.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Int(i64),
    Float(f64),
    Bool(bool),
}

/// A number, or the name of a computed one.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Term {
    Known(Number),
    Name(String),
}

/// An argument or a result of a node.
#[derive(Clone, Debug)]
pub(super) enum Argument {
    None,
    Tensor(String),
    /// Also optional tensors: some may be absent.
    Tensors(Vec<Option<String>>),
    Number(Term),
    Numbers(Vec<Term>),
    Text(String),
    /// A number of [`TensorMeta::dtype`].
    ScalarType(i64),
    Graph(Box<Graph>),
    /// Arguments that do not affect types or values: device, memory format.
    Placement,
    Other,
}

/// The kind only.
impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Argument::None => "none",
            Argument::Tensor(_) => "a tensor",
            Argument::Tensors(_) => "a list of tensors",
            Argument::Number(_) => "a number",
            Argument::Numbers(_) => "a list of numbers",
            Argument::Text(_) => "a text",
            Argument::ScalarType(_) => "an element type",
            Argument::Graph(_) => "a graph",
            Argument::Placement => "a device or memory format",
            Argument::Other => "another object",
        })
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Signature {
    pub(super) input_specs: Vec<InputSpec>,
    pub(super) output_specs: Vec<OutputSpec>,
}

/// The kinds of the graph's inputs, in order.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum InputSpec {
    UserInput { arg: Argument },
    Parameter { arg: Name, parameter_name: String },
    Buffer { arg: Name, buffer_name: String },
    TensorConstant { arg: Name, tensor_constant_name: String },
    CustomObj { arg: Name },
    Token { arg: Name },
    ConstantInput {},
}

#[derive(Debug, Deserialize)]
pub(super) struct Name {
    pub(super) name: String,
}

/// The kinds of the graph's outputs, in order.
#[derive(Debug)]
pub(super) enum OutputSpec {
    User(Argument),
    /// The new value of a buffer.
    Buffer(String),
    /// The new value of a parameter.
    Parameter(String),
    /// The new value of an input, which is ignored.
    Input,
    Other,
}

impl Program {
    /// Parses the JSON. The parser limits the nesting depth.
    pub(super) fn parse(json: &[u8]) -> Result<Program, serde_json::Error> {
        // Older versions write non-finite numbers bare, in Python's notation; newer ones as strings.
        serde_json::from_slice(json).or_else(|e| match with_quotes(json) {
            Some(quoted) => serde_json::from_slice(&quoted),
            None => Err(e),
        })
    }
}

/// The JSON with bare `NaN`, `Infinity`, `-Infinity` as strings; `None` if there are none.
fn with_quotes(json: &[u8]) -> Option<Vec<u8>> {
    let mut quoted = Vec::with_capacity(json.len());
    let (mut rest, mut in_text, mut found) = (json, false, false);
    while let Some((&byte, tail)) = rest.split_first() {
        let bare = [&b"NaN"[..], b"Infinity", b"-Infinity"].into_iter().find(|word| !in_text && rest.starts_with(word));
        if let Some(word) = bare {
            quoted.push(b'"');
            quoted.extend_from_slice(word);
            quoted.push(b'"');
            (rest, found) = (&rest[word.len()..], true);
            continue;
        }
        quoted.push(byte);
        rest = tail;
        match byte {
            b'"' => in_text = !in_text,
            b'\\' if in_text => {
                // The escaped character is part of the string, even a quotation mark.
                quoted.extend(rest.first());
                rest = rest.get(1..).unwrap_or_default();
            }
            _ => {}
        }
    }
    found.then_some(quoted)
}

/// The only key of an object and its value.
fn variant<'de, D: Deserializer<'de>>(d: D) -> Result<(String, Value), D::Error> {
    let map = Map::deserialize(d)?;
    let mut set = map.into_iter().filter(|(key, value)| !value.is_null() && key != "$type");
    match (set.next(), set.next()) {
        (Some(one), None) => Ok(one),
        _ => Err(D::Error::custom("expected an object with one key")),
    }
}

fn parse<T: serde::de::DeserializeOwned, E: Error>(value: Value) -> Result<T, E> {
    serde_json::from_value(value).map_err(E::custom)
}

impl<'de> Deserialize<'de> for Argument {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let (key, value) = variant(d)?;
        Ok(match key.as_str() {
            "as_none" => Argument::None,
            "as_tensor" => Argument::Tensor(parse::<Name, _>(value)?.name),
            "as_tensors" => {
                Argument::Tensors(parse::<Vec<Name>, _>(value)?.into_iter().map(|n| Some(n.name)).collect())
            }
            "as_optional_tensor" => parse(value)?,
            "as_optional_tensors" => {
                let tensors = parse::<Vec<Argument>, _>(value)?.into_iter().map(|t| match t {
                    Argument::Tensor(name) => Ok(Some(name)),
                    Argument::None => Ok(None),
                    other => Err(D::Error::custom(format!("{other} in a list of tensors"))),
                });
                Argument::Tensors(tensors.collect::<Result<_, _>>()?)
            }
            "as_int" | "as_float" | "as_bool" | "as_sym_int" | "as_sym_float" | "as_sym_bool" => {
                Argument::Number(parse(value)?)
            }
            "as_ints" | "as_floats" | "as_bools" | "as_sym_ints" | "as_sym_floats" => Argument::Numbers(parse(value)?),
            "as_string" => Argument::Text(parse(value)?),
            "as_scalar_type" => Argument::ScalarType(parse(value)?),
            "as_graph" => {
                let Value::Object(mut object) = value else { return Err(D::Error::custom("a graph is not an object")) };
                Argument::Graph(parse(object.remove("graph").unwrap_or_default())?)
            }
            "as_device" | "as_layout" | "as_memory_format" => Argument::Placement,
            _ => Argument::Other,
        })
    }
}

impl<'de> Deserialize<'de> for Term {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(d)?;
        let unknown = || D::Error::custom("expected a number");
        Ok(Term::Known(match value {
            Value::Bool(b) => Number::Bool(b),
            Value::Number(n) => match n.as_i64() {
                Some(i) => Number::Int(i),
                None => Number::Float(n.as_f64().ok_or_else(unknown)?),
            },
            Value::String(s) => Number::Float(match s.as_str() {
                "Infinity" => f64::INFINITY,
                "-Infinity" => f64::NEG_INFINITY,
                "NaN" => f64::NAN,
                _ => return Err(unknown()),
            }),
            Value::Object(_) => {
                let (key, value) = variant(value).map_err(D::Error::custom)?;
                return if key == "as_name" { Ok(Term::Name(parse(value)?)) } else { parse(value) };
            }
            Value::Null | Value::Array(_) => return Err(unknown()),
        }))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Expr {
            expr_str: String,
            #[serde(default)]
            hint: Option<Value>,
        }
        let (key, value) = variant(d)?;
        match key.as_str() {
            "as_int" => Ok(Size::Int(parse(value)?)),
            "as_expr" => {
                let Expr { expr_str, hint } = parse(value)?;
                let hint = hint.and_then(|h| h.as_i64().or_else(|| h.get("as_int")?.as_i64()));
                Ok(Size::Expr { text: expr_str, hint })
            }
            _ => Err(D::Error::custom(format!("{key} is not a size"))),
        }
    }
}

impl<'de> Deserialize<'de> for OutputSpec {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let (key, mut value) = variant(d)?;
        let mut field = |name: &str| value.get_mut(name).map(Value::take).unwrap_or_default();
        Ok(match key.as_str() {
            "user_output" => OutputSpec::User(parse(field("arg"))?),
            "buffer_mutation" => OutputSpec::Buffer(parse(field("buffer_name"))?),
            "parameter_mutation" => OutputSpec::Parameter(parse(field("parameter_name"))?),
            "user_input_mutation" => OutputSpec::Input,
            _ => OutputSpec::Other,
        })
    }
}

impl Node {
    /// The operator without overload, in its out-of-place form; the namespace `aten` is omitted.
    pub(super) fn operator(&self) -> &str {
        let target = self.target.as_str();
        if let Some(aten) = target.strip_prefix("torch.ops.aten.") {
            let name = aten.split('.').next().unwrap_or(aten);
            return if in_place(name) { &name[..name.len() - 1] } else { name };
        }
        let Some(other) = target.strip_prefix("torch.ops.") else { return target };
        let namespace = other.find('.').map_or(other.len(), |dot| dot + 1);
        let end = other[namespace..].find('.').map_or(other.len(), |dot| namespace + dot);
        &other[..end]
    }

    /// The names of the node's results, in order.
    pub(super) fn results(&self) -> impl Iterator<Item = &str> {
        self.outputs.iter().flat_map(Argument::names)
    }

    /// The names of its results that are tensors.
    pub(super) fn tensor_results(&self) -> impl Iterator<Item = &str> {
        self.outputs.iter().filter(|o| !o.is_number()).flat_map(Argument::names)
    }

    /// The names of its results that are numbers.
    pub(super) fn number_results(&self) -> impl Iterator<Item = &str> {
        self.outputs.iter().filter(|o| o.is_number()).flat_map(Argument::names)
    }

    /// The modules that contain the node, outermost first: path and class, empty if absent.
    pub(super) fn modules(&self) -> impl DoubleEndedIterator<Item = (&str, &str)> {
        let stack = self.metadata.get("nn_module_stack").map(|stack| stack.split(';'));
        stack.into_iter().flatten().map(|module| {
            let mut parts = module.split(',').skip(1);
            (parts.next().unwrap_or(""), parts.next().unwrap_or(""))
        })
    }

    /// The argument of that name.
    pub(super) fn argument(&self, name: &str) -> Option<&Argument> {
        self.inputs.iter().find(|i| i.name == name).map(|i| &i.arg)
    }
}

/// True for the name of an operator that writes to its first operand.
pub(super) fn in_place(name: &str) -> bool {
    name.ends_with('_') && !name.ends_with("__")
}

impl Argument {
    /// True for a number or a list of them.
    pub(super) fn is_number(&self) -> bool {
        matches!(self, Argument::Number(_) | Argument::Numbers(_))
    }

    /// The names that it refers to.
    pub(super) fn names(&self) -> Vec<&str> {
        match self {
            Argument::Tensor(name) | Argument::Number(Term::Name(name)) => vec![name],
            Argument::Tensors(names) => names.iter().flatten().map(String::as_str).collect(),
            Argument::Numbers(terms) => {
                terms.iter().filter_map(|t| if let Term::Name(name) = t { Some(name.as_str()) } else { None }).collect()
            }
            _ => Vec::new(),
        }
    }
}
