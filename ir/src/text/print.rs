//! Printing of the text form.

use std::borrow::Cow;
use std::fmt::{self, Write};

use half::f16;
use rustc_hash::{FxHashMap, FxHashSet};

use super::{attributes, digest};
use crate::graph::{Graph, NodeId, Origin, ValueId};
use crate::name::{Name, is_digit};
use crate::ops::Op;
use crate::types::{Elem, Tensor, TensorType};

/// Constants of at most this many elements are printed in full.
const INLINE: usize = 16;
/// Length of strings that the brief form prints in full.
const BRIEF_CHARS: usize = 60;
const BRIEF_SCALES: usize = 4;
/// Maximum length in bytes of a name that is used to refer to a value; values with longer names are numbered.
const LONGEST_NAME: usize = 256;

/// Prints the whole graph. [`super::parse()`] reads it back, with the constants of [`super::weights_of`].
pub fn print_full(g: &Graph) -> String {
    Printer { g, ids: ids(g), composites: composites(g), brief: false, whole: false }.to_string()
}

/// As [`print_full`], with the elements of all constants but those whose elements have no exact text.
pub fn print_whole(g: &Graph) -> String {
    Printer { g, ids: ids(g), composites: composites(g), brief: false, whole: true }.to_string()
}

/// Prints the graph for people: long scale lists, metadata and origins are truncated, and then it cannot be parsed.
pub fn print_brief(g: &Graph) -> String {
    Printer { g, ids: ids(g), composites: FxHashMap::default(), brief: true, whole: false }.to_string()
}

/// The id of each value. Only values without a unique name are numbered, so that an added or removed node changes few
/// ids.
pub fn ids(g: &Graph) -> FxHashMap<ValueId, String> {
    let (mut ids, mut taken) = (FxHashMap::default(), FxHashSet::default());
    let mut unnamed = 0;
    for v in g.order().into_iter().flat_map(|n| g.results(n)) {
        let name = g.name(v).filter(|name| name.len() <= LONGEST_NAME && taken.insert(*name));
        ids.insert(v, name.map_or_else(|| unnamed.to_string(), |name| Name(name).to_string()));
        unnamed += usize::from(name.is_none());
    }
    ids
}

/// The numbers of composites, in the order in which they appear.
fn composites(g: &Graph) -> FxHashMap<usize, usize> {
    let mut numbers = FxHashMap::default();
    for composite in g.order().into_iter().filter_map(|n| g.composite(n)) {
        let next = numbers.len();
        numbers.entry(composite.id()).or_insert(next);
    }
    numbers
}

struct Printer<'g> {
    g: &'g Graph,
    ids: FxHashMap<ValueId, String>,
    composites: FxHashMap<usize, usize>,
    brief: bool,
    whole: bool,
}

impl fmt::Display for Printer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "graph {} {{", Name(&self.g.name))?;
        for (key, value) in &self.g.metadata {
            writeln!(f, "  meta {} = {}", Name(key), self.string(value))?;
        }
        for node in self.g.order() {
            self.node(f, node)?;
        }
        for o in self.g.outputs() {
            writeln!(f, "  output {} = %{}", Name(&o.name), self.ids[&o.value])?;
        }
        f.write_str("}\n")
    }
}

/// The name of the operator and its attributes, as in the text form.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind().name())?;
        match self {
            Op::Const(c) => write!(f, " {}", constant(&c.value)),
            Op::Input(_) => Ok(()),
            _ => match attributes(self) {
                Ok(text) if text == "()" => Ok(()),
                Ok(text) => f.write_str(&text),
                Err(error) => write!(f, "({error})"),
            },
        }
    }
}

impl Printer<'_> {
    fn node(&self, f: &mut fmt::Formatter<'_>, node: NodeId) -> fmt::Result {
        for (i, v) in self.g.results(node).enumerate() {
            let id = &self.ids[&v];
            write!(f, "{}%{id}", if i == 0 { "  " } else { ", " })?;
            if let Some(name) = self.g.name(v).filter(|_| id.starts_with(is_digit)) {
                write!(f, " {}", self.name(name, |name| format!("{name:?}")))?;
            }
            write!(f, ": {}", self.ty(self.g.ty(v)))?;
        }
        let op = self.g.op(node);
        match op {
            Op::Const(c) if self.whole => write!(f, " = const {}", listed(&c.value, usize::MAX))?,
            _ => write!(f, " = {op}")?,
        }
        for (i, v) in self.g.operands(node).iter().enumerate() {
            write!(f, "{}%{}", if i == 0 { " " } else { ", " }, self.ids[v])?;
        }
        self.origin(f, self.g.origin(node))?;
        if let Some(composite) = self.g.composite(node)
            && let Some(number) = self.composites.get(&composite.id())
        {
            write!(f, "  for {number} {}", composite.op())?;
        }
        f.write_str("\n")
    }

    fn origin(&self, f: &mut fmt::Formatter<'_>, origin: &Origin) -> fmt::Result {
        let shown = if self.brief { 1 } else { usize::MAX };
        for (i, s) in origin.sources().iter().take(shown).enumerate() {
            let path = self.name(&s.path, |path| Name(path).to_string());
            write!(f, "{}{path} ({})", if i == 0 { "  from " } else { ", " }, Name(&s.kind))?;
            if let Some(line) = &s.line {
                write!(f, " at {line:?}")?;
            }
        }
        match origin.sources().len().saturating_sub(shown) {
            0 => Ok(()),
            more => write!(f, " +{more}"),
        }
    }

    /// A name as `spelled`; the brief form truncates a long one.
    fn name(&self, name: &str, spelled: impl Fn(&str) -> String) -> String {
        if name.len() > LONGEST_NAME { self.string(name) } else { spelled(name) }
    }

    fn string(&self, s: &str) -> String {
        match s.char_indices().nth(BRIEF_CHARS) {
            Some((cut, _)) if self.brief => format!("{:?}...", &s[..cut]),
            _ => format!("{s:?}"),
        }
    }

    fn ty(&self, ty: &TensorType) -> String {
        let full = ty.to_string();
        let long = |scales: &[f32]| self.brief && scales.len() > BRIEF_SCALES;
        match (ty.elem.qparams().map(|g| g.scales()), full.split_once(": "), full.split_once('>')) {
            (Some(scales), Some((qparams, _)), Some((_, rest))) if long(scales) => {
                let (lo, hi) = scales.iter().fold((f32::INFINITY, 0f32), |(lo, hi), &s| (lo.min(s), hi.max(s)));
                format!("{qparams}: {} scales {lo:?}..{hi:?}>{rest}", scales.len())
            }
            _ => full,
        }
    }
}

/// The stored elements, or the digest of the bytes where they are many or not exactly printable.
fn constant(t: &Tensor) -> Cow<'static, str> {
    listed(t, INLINE)
}

/// As [`constant`]: many are more than `most`.
fn listed(t: &Tensor, most: usize) -> Cow<'static, str> {
    let list = (t.len() <= most).then(|| elements(t)).flatten();
    list.unwrap_or_else(|| format!("#{:016x}", digest(t.data()))).into()
}

fn elements(t: &Tensor) -> Option<String> {
    let mut text = String::from("[");
    let sep = |i: usize| if i == 0 { "" } else { "," };
    match &t.ty().elem {
        Elem::F32 => {
            for (i, v) in t.view::<f32>().iter().enumerate() {
                (!v.is_nan() || v.to_bits() == f32::NAN.to_bits()).then_some(())?;
                write!(text, "{}{v:?}", sep(i)).ok()?;
            }
        }
        Elem::F16 => {
            for (i, v) in t.view::<f16>().iter().enumerate() {
                (!v.is_nan() || v.to_bits() == f16::NAN.to_bits()).then_some(())?;
                write!(text, "{}{:?}", sep(i), v.to_f32()).ok()?;
            }
        }
        _ => {
            for (i, v) in t.integers()?.into_iter().enumerate() {
                write!(text, "{}{v}", sep(i)).ok()?;
            }
        }
    }
    text.push(']');
    Some(text)
}
