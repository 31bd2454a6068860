//! Parser of the text form.

use std::fmt::Display;
use std::sync::Arc;

use bytes::Bytes;
use half::f16;
use rustc_hash::FxHashMap;

use super::{Weights, operator};
use crate::graph::{Composite, Graph, Origin, Source, ValueId};
use crate::name::{is_digit, word_len};
use crate::ops::{Op, OpKind, Types};
use crate::types::{Dim, Elem, Expr, Layout, QuantParams, Shape, StorageType, Tensor, TensorType};

/// Where and why a text is not a graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is expected or wrong.
    pub message: String,
}

type Parsed<T> = Result<T, ParseError>;

/// Reads a graph. `weights` has the bytes of the constants that are digests in the text.
///
/// # Errors
/// The first position where the text is not a graph.
pub fn parse(text: &str, weights: &Weights) -> Parsed<Graph> {
    let (values, composites) = (FxHashMap::default(), FxHashMap::default());
    Parser { text, at: 0, g: Graph::default(), values, composites, weights }.graph()
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    g: Graph,
    values: FxHashMap<Id, ValueId>,
    composites: FxHashMap<usize, Composite>,
    weights: &'t Weights,
}

/// The id of a value in the text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Id {
    Number(String),
    Name(String),
}

/// A result on the left of `=`.
struct Definition {
    at: usize,
    id: Id,
    name: Option<String>,
    ty: Option<TensorType>,
}

impl<'t> Parser<'t> {
    fn graph(mut self) -> Parsed<Graph> {
        self.keyword("graph")?;
        self.g.name = self.name("the graph's name")?;
        self.expect("{")?;
        loop {
            match self.peek() {
                Some('%') => self.node()?,
                Some('}') => break,
                _ => match self.word() {
                    "meta" => {
                        let key = self.name("a key")?;
                        self.expect("=")?;
                        let value = self.name("a value")?;
                        self.g.metadata.push((key, value));
                    }
                    "output" => {
                        let name = self.name("the output's name")?;
                        self.expect("=")?;
                        let value = self.value()?;
                        self.g.add_output(name, value);
                    }
                    word => {
                        self.at -= word.len();
                        return Err(self.expected("a value `%..`, `meta`, `output` or `}`"));
                    }
                },
            }
        }
        self.expect("}")?;
        match self.peek() {
            None => Ok(self.g),
            Some(_) => Err(self.expected("the end")),
        }
    }

    fn node(&mut self) -> Parsed<()> {
        let mut results = vec![self.definition()?];
        while self.accept(",") {
            results.push(self.definition()?);
        }
        self.expect("=")?;
        self.skip();
        let at = self.at;
        let kind = self.kind()?;
        let values = match kind {
            OpKind::Input => vec![self.input(&results)?],
            OpKind::Const => vec![self.constant(&results)?],
            _ => self.operation(kind, at, &results)?,
        };
        for (r, v) in results.into_iter().zip(values) {
            if let Some(name) = r.name {
                self.g.set_name(v, name);
            }
            if self.values.insert(r.id, v).is_some() {
                return Err(self.wrong(r.at, "this value is defined twice"));
            }
        }
        Ok(())
    }

    fn definition(&mut self) -> Parsed<Definition> {
        self.skip();
        let at = self.at;
        let id = self.id()?;
        let name = match &id {
            Id::Name(name) => Some(name.clone()),
            Id::Number(_) if self.peek() == Some('"') => Some(self.string()?),
            Id::Number(_) => None,
        };
        let ty = if self.accept(":") { Some(self.ty()?) } else { None };
        Ok(Definition { at, id, name, ty })
    }

    fn input(&mut self, results: &[Definition]) -> Parsed<ValueId> {
        match results {
            [Definition { name: Some(name), ty: Some(ty), .. }] => Ok(self.g.add_input(name.as_str(), ty.clone())),
            _ => Err(self.wrong(results[0].at, "an input has one value with a name and a type")),
        }
    }

    fn constant(&mut self, results: &[Definition]) -> Parsed<ValueId> {
        let [Definition { at: start, ty: Some(ty), .. }] = results else {
            return Err(self.wrong(results[0].at, "a constant has one value with a type"));
        };
        let bytes = if self.accept("#") { self.digest()? } else { self.elements(&ty.elem)? };
        let Some(value) = Tensor::new(ty.clone(), bytes) else {
            return Err(self.wrong(*start, format!("the constant does not have the elements of {ty}")));
        };
        let origin = self.origin()?;
        Ok(self.g.add_const(value, origin))
    }

    fn digest(&mut self) -> Parsed<Bytes> {
        let at = self.at;
        let digest = u64::from_str_radix(self.word(), 16).map_err(|_| self.wrong(at, "expected a digest"))?;
        let bytes = self.weights.get(&digest).cloned();
        bytes.ok_or_else(|| self.wrong(at, format!("there are no weights with the digest {digest:016x}")))
    }

    /// The bytes of `[1,2,3]`, elements of type `elem`.
    fn elements(&mut self, elem: &Elem) -> Parsed<Bytes> {
        let storage = elem.qparams().map_or_else(|| elem.clone(), |g| g.storage.elem());
        let narrow = elem.qparams().is_some_and(|g| g.storage == StorageType::I4);
        let mut bytes = Vec::new();
        self.list("[", "]", |p| {
            match storage {
                Elem::Bool => bytes.push(p.number::<u8>("0 or 1").and_then(|v| match v {
                    0 | 1 => Ok(v),
                    _ => Err(p.expected("0 or 1")),
                })?),
                Elem::I8 if narrow => bytes.push(p.number::<i8>("an i4").and_then(|v| match v {
                    -8..8 => Ok(v as u8),
                    _ => Err(p.expected("-8 to 7")),
                })?),
                Elem::I8 => bytes.extend(p.number::<i8>("an i8")?.to_le_bytes()),
                Elem::U8 => bytes.extend(p.number::<u8>("a u8")?.to_le_bytes()),
                Elem::I16 => bytes.extend(p.number::<i16>("an i16")?.to_le_bytes()),
                Elem::I32 => bytes.extend(p.number::<i32>("an i32")?.to_le_bytes()),
                Elem::I64 => bytes.extend(p.number::<i64>("an i64")?.to_le_bytes()),
                Elem::F16 => bytes.extend(f16::from_f32(p.number("a number")?).to_le_bytes()),
                Elem::F32 | Elem::Quantized(_) => bytes.extend(p.number::<f32>("a number")?.to_le_bytes()),
            }
            Ok(())
        })?;
        Ok(bytes.into())
    }

    fn operation(&mut self, kind: OpKind, at: usize, results: &[Definition]) -> Parsed<Vec<ValueId>> {
        let op = self.attributes(kind)?;
        let mut operands = Vec::new();
        // The value after an operator without operands is that of the next node.
        if kind != OpKind::Symbolic && self.peek() == Some('%') {
            operands.push(self.value()?);
            while self.accept(",") {
                operands.push(self.value()?);
            }
        }
        let origin = self.origin()?;
        let composite = self.composite()?;
        let types: Types = results.iter().filter_map(|r| r.ty.clone()).collect();
        let node = match types.len() {
            0 => self.g.add(op, &operands, origin),
            n if n == results.len() => self.g.add_typed(op, &operands, types, origin),
            _ => return Err(self.wrong(results[0].at, "either all results have a type or none")),
        };
        let node = node.map_err(|error| self.wrong(at, error))?;
        if let Some(composite) = composite {
            self.g.set_composite(node, composite);
        }
        let values: Vec<ValueId> = self.g.results(node).collect();
        if values.len() != results.len() {
            return Err(self.wrong(at, format!("{} has {} results", kind.name(), values.len())));
        }
        Ok(values)
    }

    /// The operator with the RON after its name: from an opening bracket to its closing bracket.
    fn attributes(&mut self, kind: OpKind) -> Parsed<Op> {
        let start = self.at;
        let mut depth = 0usize;
        while let Some(c) = self.rest().chars().next() {
            match c {
                '"' => {
                    self.string()?;
                    continue;
                }
                '(' | '[' => depth += 1,
                ')' | ']' if depth > 0 => depth -= 1,
                _ if depth == 0 => break,
                _ => {}
            }
            self.at += c.len_utf8();
            if depth == 0 {
                break;
            }
        }
        if depth > 0 {
            return Err(self.expected("`)`"));
        }
        let text = if self.at == start { "()" } else { &self.text[start..self.at] };
        operator(kind, text).map_err(|error| {
            let (line, column) = (error.span.start.line, error.span.start.col);
            let begin =
                self.text[start..].split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum::<usize>();
            let offset: usize = self.text[start + begin..].chars().take(column - 1).map(char::len_utf8).sum();
            self.wrong(start + begin + offset, format!("{}: {}", kind.name(), error.code))
        })
    }

    /// `from path (kind) at "line", ..`, or nothing.
    fn origin(&mut self) -> Parsed<Origin> {
        let mut sources = Vec::new();
        if !self.accept_word("from") {
            return Ok(Origin::none());
        }
        loop {
            let path = self.name("the name of a source node")?.into();
            self.expect("(")?;
            let kind = self.name("the operator of the source node")?.into();
            self.expect(")")?;
            let line = if self.accept_word("at") { Some(Arc::from(self.string()?)) } else { None };
            sources.push(Source { path, kind, line });
            if !self.accept(",") {
                return Ok(sources.into_iter().collect());
            }
        }
    }

    /// `for 3 unary(f:Silu)`, or nothing.
    fn composite(&mut self) -> Parsed<Option<Composite>> {
        if !self.accept_word("for") {
            return Ok(None);
        }
        let number = self.number("the number of an operator")?;
        let op = match self.kind()? {
            OpKind::Input | OpKind::Const => return Err(self.expected("an operator with operands")),
            kind => self.attributes(kind)?,
        };
        let known = self.composites.entry(number).or_insert_with(|| Composite::new(op.clone()));
        if *known.op() != op {
            let at = self.at;
            return Err(self.wrong(at, format!("{number} is another operator above")));
        }
        Ok(Some(known.clone()))
    }

    /// The name of an operator.
    fn kind(&mut self) -> Parsed<OpKind> {
        self.skip();
        let at = self.at;
        let name = self.word();
        let known = OpKind::ALL.iter().find(|k| k.name() == name).copied();
        known.ok_or_else(|| {
            self.at = at;
            self.expected("an operator")
        })
    }

    fn ty(&mut self) -> Parsed<TensorType> {
        self.skip();
        let at = self.at;
        let name = self.word();
        let storage = StorageType::ALL.into_iter().find(|s| s.to_string() == name);
        let elem = match (Elem::plain(name), storage) {
            (None, None) => {
                self.at = at;
                return Err(self.expected("a type"));
            }
            (_, Some(storage)) if self.accept("<") => Elem::Quantized(self.qparams(storage)?),
            (Some(elem), _) if !self.accept("<") => elem,
            (plain, _) => {
                let why = if plain.is_none() { "is for quantized types only" } else { "cannot be quantized" };
                return Err(self.wrong(at, format!("{name} {why}")));
            }
        };
        let mut dims = Vec::new();
        self.list("[", "]", |p| {
            dims.push(match p.peek() {
                Some(c) if is_digit(c) => Dim::Known(p.number("an extent")?),
                Some('(') => p.derived()?,
                _ => Dim::symbol(p.name("an extent")?),
            });
            Ok(())
        })?;
        let mut ty = TensorType::new(elem, dims.into_iter().collect::<Shape>());
        ty.validate().map_err(|e| self.wrong(at, e.to_string()))?;
        if self.accept("@") {
            let at = self.at;
            let order: Option<Vec<usize>> = self.word().chars().map(|c| Some(c.to_digit(36)? as usize)).collect();
            let layout = order.and_then(|order| Layout::from_order(&order)).filter(|l| l.rank() == ty.rank());
            ty.layout =
                layout.ok_or_else(|| self.wrong(at, format!("expected the {} axes in some order", ty.rank())))?;
        }
        Ok(ty)
    }

    /// The quantization parameters after `i8<`.
    fn qparams(&mut self, storage: StorageType) -> Parsed<QuantParams> {
        if !self.accept_word("axis") {
            let scale = self.number("a scale")?;
            self.expect(":")?;
            let zero_point = self.number("a zero point")?;
            self.expect(">")?;
            return Ok(QuantParams::per_tensor(storage, scale, zero_point));
        }
        let axis = self.number("an axis")?;
        let size = if self.accept_word("by") { Some(self.number("the size of a block")?) } else { None };
        let (mut scales, mut zero_points): (Vec<f32>, Vec<i8>) = Default::default();
        self.list(":", ">", |p| {
            scales.push(p.number("a scale")?);
            if size.is_some() && p.accept(":") {
                zero_points.push(p.number("a zero point")?);
            }
            Ok(())
        })?;
        Ok(match size {
            Some(size) if zero_points.is_empty() => QuantParams::per_block(storage, axis, size, scales),
            Some(size) => QuantParams::per_block_with_zero_points(storage, axis, size, scales, zero_points),
            None => QuantParams::per_axis(storage, axis, scales),
        })
    }

    fn value(&mut self) -> Parsed<ValueId> {
        self.skip();
        let at = self.at;
        let id = self.id()?;
        self.values.get(&id).copied().ok_or_else(|| self.wrong(at, "no value of that name is defined above"))
    }

    fn id(&mut self) -> Parsed<Id> {
        self.expect("%")?;
        if self.rest().starts_with(is_digit) {
            return Ok(Id::Number(self.word().to_owned()));
        }
        Ok(Id::Name(self.name("a value's name")?))
    }

    /// `open item, item close`, possibly without items.
    fn list(&mut self, open: &str, close: &str, mut item: impl FnMut(&mut Self) -> Parsed<()>) -> Parsed<()> {
        self.expect(open)?;
        if self.accept(close) {
            return Ok(());
        }
        loop {
            item(self)?;
            if !self.accept(",") {
                return self.expect(close);
            }
        }
    }

    /// A word or a string.
    fn name(&mut self, what: &str) -> Parsed<String> {
        match self.peek() {
            Some('"') => self.string(),
            _ => match self.word() {
                "" => Err(self.expected(what)),
                word => Ok(word.to_owned()),
            },
        }
    }

    /// An expression of extents in parentheses.
    fn derived(&mut self) -> Parsed<Dim> {
        let (mut depth, mut quoted) = (0, false);
        let end = self.rest().find(|c| {
            quoted ^= c == '\'';
            depth += match c {
                '(' if !quoted => 1,
                ')' if !quoted => -1,
                _ => 0,
            };
            depth == 0
        });
        let text = self.rest().get(1..end.unwrap_or(0)).unwrap_or_default();
        let expr: Expr = text.parse().map_err(|_| self.expected("an expression of extents"))?;
        self.at += text.len() + 2;
        Dim::of(expr).ok_or_else(|| self.expected("an extent"))
    }

    fn number<T: std::str::FromStr>(&mut self, what: &str) -> Parsed<T> {
        self.skip();
        let len = self.rest().find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)));
        let len = len.unwrap_or(self.rest().len());
        let number = self.rest()[..len].parse().map_err(|_| self.expected(what))?;
        self.at += len;
        Ok(number)
    }

    /// A string in quotes, with the escapes of Rust.
    fn string(&mut self) -> Parsed<String> {
        self.expect("\"")?;
        let start = self.at;
        let mut text = String::new();
        let mut chars = self.text[start..].char_indices();
        while let Some((i, c)) = chars.next() {
            match c {
                '"' => {
                    self.at = start + i + 1;
                    return Ok(text);
                }
                '\\' => {
                    let escaped = match chars.next().map(|(_, c)| c) {
                        Some('n') => Some('\n'),
                        Some('r') => Some('\r'),
                        Some('t') => Some('\t'),
                        Some('0') => Some('\0'),
                        Some(c @ ('\\' | '"' | '\'')) => Some(c),
                        Some('u') => {
                            let code: String = chars.by_ref().map(|(_, c)| c).take_while(|&c| c != '}').collect();
                            code.strip_prefix('{')
                                .and_then(|c| u32::from_str_radix(c, 16).ok())
                                .and_then(char::from_u32)
                        }
                        _ => None,
                    };
                    text.push(escaped.ok_or_else(|| self.wrong(start + i, "unknown escape"))?);
                }
                c => text.push(c),
            }
        }
        Err(self.wrong(start - 1, "the string does not end"))
    }

    fn keyword(&mut self, word: &str) -> Parsed<()> {
        if self.accept_word(word) { Ok(()) } else { Err(self.expected(&format!("`{word}`"))) }
    }

    fn accept_word(&mut self, word: &str) -> bool {
        self.skip();
        let found = &self.rest()[..word_len(self.rest())] == word;
        self.at += if found { word.len() } else { 0 };
        found
    }

    fn expect(&mut self, token: &str) -> Parsed<()> {
        if self.accept(token) { Ok(()) } else { Err(self.expected(&format!("`{token}`"))) }
    }

    fn accept(&mut self, token: &str) -> bool {
        self.skip();
        let found = self.rest().starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    /// The next word, which may be empty.
    fn word(&mut self) -> &'t str {
        self.skip();
        let start = self.at;
        self.at += word_len(self.rest());
        &self.text[start..self.at]
    }

    fn peek(&mut self) -> Option<char> {
        self.skip();
        self.rest().chars().next()
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// Skips white space and comments.
    fn skip(&mut self) {
        loop {
            self.at = self.text.len() - self.rest().trim_start().len();
            if !self.rest().starts_with("//") {
                return;
            }
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    /// An error at the next token.
    fn expected(&mut self, what: &str) -> ParseError {
        self.skip();
        let found = match (word_len(self.rest()), self.rest().chars().next()) {
            (_, None) => "the end".to_owned(),
            (0, Some(c)) => format!("`{c}`"),
            (n, _) => format!("`{}`", &self.rest()[..n]),
        };
        self.wrong(self.at, format!("expected {what}, found {found}"))
    }

    fn wrong(&self, at: usize, message: impl Display) -> ParseError {
        let before = &self.text[..at];
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        ParseError {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: message.to_string(),
        }
    }
}
