//! The differences between two disassemblies of one format.

use std::fmt::{self, Display, Formatter};

use qcc_ir::diagnostic::printable;
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

use super::align::{Key, Pairs, align};
use super::text::{ids, scales, shape, word, zero_points};
use super::{Disassembly, Entry, Listing, Named, Operator, SCHEMA, Tensor};

/// All differences, in file order.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Changes {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The format of both.
    pub format: &'static str,
    /// True if there are no differences.
    pub equal: bool,
    /// The differences.
    pub changes: Vec<Change>,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The kind of thing that differs.
    pub subject: Subject,
    /// The graph that contains it; the name of the main graph is empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub graph: String,
    /// Its name.
    pub name: String,
    /// The field that differs; empty if the whole thing was added or removed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// The old value; absent if it was added.
    pub before: Option<String>,
    /// The new value; absent if it was removed.
    pub after: Option<String>,
}

/// The kind of thing that a difference is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Subject {
    Header,
    Metadata,
    Graph,
    Input,
    Output,
    Tensor,
    Operator,
}

impl Disassembly {
    /// The differences to `other`, which must have the same format.
    pub fn diff(&self, other: &Disassembly) -> Changes {
        let mut all = Differ { format: self.format, graph: String::new(), changes: Vec::new() };
        for (subject, a, b) in
            [(Subject::Header, &self.header, &other.header), (Subject::Metadata, &self.metadata, &other.metadata)]
        {
            all.entries(subject, "", a, b);
        }
        // The main graphs correspond, whatever their names.
        let key = |(i, g): (usize, &Listing)| Key::named(Some(if i == 0 { String::new() } else { g.name.clone() }));
        let keys = |d: &Disassembly| d.graphs.iter().enumerate().map(key).collect::<Vec<_>>();
        for (i, j) in align(&keys(self), &keys(other)).in_order() {
            let (a, b) = (i.map(|i| &self.graphs[i]), j.map(|j| &other.graphs[j]));
            all.graph = if i == Some(0) { String::new() } else { a.or(b).map_or(String::new(), |g| g.name.clone()) };
            match (a, b) {
                (Some(a), Some(b)) => all.graphs(a, b),
                _ => all.whole(Subject::Graph, &all.graph.clone(), a.map(count), b.map(count)),
            }
        }
        Changes { schema: SCHEMA, format: self.format, equal: all.changes.is_empty(), changes: all.changes }
    }
}

fn count(g: &Listing) -> String {
    format!("{} operators", g.operators.len())
}

/// Collects differences.
struct Differ {
    format: &'static str,
    graph: String,
    changes: Vec<Change>,
}

/// Fields by name.
type Fields = Vec<(String, String)>;

impl Differ {
    fn whole(&mut self, subject: Subject, name: &str, before: Option<String>, after: Option<String>) {
        self.changed(subject, name, "", before, after);
    }

    fn changed(&mut self, subject: Subject, name: &str, field: &str, before: Option<String>, after: Option<String>) {
        if before != after || field.is_empty() {
            let (graph, name, field) = (self.graph.clone(), name.to_owned(), field.to_owned());
            self.changes.push(Change { subject, graph, name, field, before, after });
        }
    }

    /// Compares names and values. If `name` is empty, each is a subject of its own, else they are fields of that
    /// subject.
    fn entries(&mut self, subject: Subject, name: &str, a: &[Entry], b: &[Entry]) {
        let keys = |all: &[Entry]| all.iter().map(|e| Key::named(Some(e.name.clone()))).collect::<Vec<_>>();
        for (i, j) in align(&keys(a), &keys(b)).in_order() {
            let (a, b) = (i.map(|i| &a[i]), j.map(|j| &b[j]));
            let key = a.or(b).map_or("", |e| &e.name);
            let [before, after] = [a, b].map(|e| e.map(|e| e.value.clone()));
            if before != after {
                let (name, field) = if name.is_empty() { (key, "") } else { (name, key) };
                self.changed(subject, name, field, before, after);
            }
        }
    }

    fn fields(&mut self, subject: Subject, name: &str, a: Fields, b: Fields) {
        let entries = |all: Fields| all.into_iter().map(|(name, value)| Entry { name, value }).collect::<Vec<_>>();
        self.entries(subject, name, &entries(a), &entries(b));
    }

    fn graphs(&mut self, a: &Listing, b: &Listing) {
        let name = self.graph.clone();
        self.changed(Subject::Graph, &name, "name", Some(a.name.clone()), Some(b.name.clone()));
        let keys = |g: &Listing| g.tensors.iter().map(|t| Key::named(self.key(t))).collect::<Vec<_>>();
        let mut tensors = Tensors::new(a, b, &keys(a), &keys(b));
        let operators = align(&self.operator_keys(a), &self.operator_keys(b));
        for &(i, j) in &operators.both {
            tensors.meet(&a.operators[i].outputs, &b.operators[j].outputs);
        }
        for &(i, j) in &operators.both {
            tensors.meet(&a.operators[i].inputs, &b.operators[j].inputs);
        }
        // Tensors without a name that no operator reads or computes are paired by position.
        let unnamed = |t: &&Tensor| self.key(t).is_none();
        let id = |t: &Tensor| Some(t.id.clone());
        let first = a.tensors.iter().filter(unnamed).filter(|t| !tensors.partners.contains_key(&t.id)).map(id);
        let second = b.tensors.iter().filter(unnamed).filter(|t| !tensors.is_met(&t.id)).map(id);
        let (first, second): (Vec<_>, Vec<_>) = (first.collect(), second.collect());
        tensors.meet(&first, &second);
        self.interface(Subject::Input, &a.inputs, &b.inputs, &tensors);
        self.interface(Subject::Output, &a.outputs, &b.outputs, &tensors);
        self.tensors(a, b, &tensors, &operators);
        self.operators(a, b, &tensors, &operators);
    }

    /// Compares inputs or outputs, whose order matters.
    fn interface(&mut self, subject: Subject, a: &[Named], b: &[Named], tensors: &Tensors<'_>) {
        for i in 0..a.len().max(b.len()) {
            match (a.get(i), b.get(i)) {
                (Some(a), Some(b)) => {
                    let [before, after] = [a, b].map(|n| Some(n.name.clone()));
                    self.changed(subject, &a.name, "name", before, after);
                    if !tensors.same(Some(&a.tensor), Some(&b.tensor)) {
                        let [before, after] = [a, b].map(|n| Some(n.tensor.clone()));
                        self.changed(subject, &a.name, "tensor", before, after);
                    }
                }
                (a, b) => {
                    let name = a.or(b).map_or("", |n| &n.name);
                    self.whole(subject, name, a.map(|n| n.tensor.clone()), b.map(|n| n.tensor.clone()));
                }
            }
        }
    }

    fn tensors(&mut self, a: &Listing, b: &Listing, tensors: &Tensors<'_>, operators: &Pairs) {
        // Results of added and removed operators are not reported separately.
        let results = |g: &Listing, all: &[usize]| -> FxHashSet<String> {
            all.iter().flat_map(|&i| g.operators[i].outputs.iter().flatten().cloned()).collect()
        };
        let (lost, new) = (results(a, &operators.first), results(b, &operators.second));
        for t in &a.tensors {
            match tensors.partner(&t.id) {
                Some(other) => self.tensor(t, other),
                None if lost.contains(&t.id) => {}
                None => self.whole(Subject::Tensor, &self.label(t), Some(t.to_string()), None),
            }
        }
        for t in b.tensors.iter().filter(|t| !tensors.is_met(&t.id) && !new.contains(&t.id)) {
            self.whole(Subject::Tensor, &self.label(t), None, Some(t.to_string()));
        }
    }

    fn tensor(&mut self, a: &Tensor, b: &Tensor) {
        let fields = |t: &Tensor| -> Fields {
            let mut fields = vec![("id".to_owned(), self.key(t).unwrap_or_default())];
            let mut field = |name: &str, value: Option<String>| fields.extend(value.map(|v| (name.to_owned(), v)));
            field("name", t.name.clone());
            field("element", Some(t.element.clone()));
            field("shape", t.shape.as_deref().map(shape));
            field("layout", t.layout.clone());
            if let Some(q) = &t.quantization {
                field("axis", q.axis.map(|n| n.to_string()));
                field("block", q.block.map(|n| n.to_string()));
                field("levels", q.levels.map(|n| n.to_string()));
                field("scales", Some(scales(&q.scales)));
                field("zero_points", Some(zero_points(&q.zero_points)));
            }
            field("constant", t.constant.as_ref().map(ToString::to_string));
            fields
        };
        let (before, after) = (fields(a), fields(b));
        self.fields(Subject::Tensor, &self.label(a), before, after);
    }

    fn operators(&mut self, a: &Listing, b: &Listing, tensors: &Tensors<'_>, operators: &Pairs) {
        for (i, j) in operators.in_order() {
            match (i.map(|i| &a.operators[i]), j.map(|j| &b.operators[j])) {
                (Some(a), Some(b)) => self.operator(a, b, tensors),
                (a, b) => {
                    let name = a.or(b).map_or(String::new(), called);
                    self.whole(Subject::Operator, &name, a.map(ToString::to_string), b.map(ToString::to_string));
                }
            }
        }
        if operators.both.windows(2).any(|w| w[0].1 > w[1].1) {
            let order = |all: &[Operator]| Some(all.iter().map(called).collect::<Vec<String>>().join(" "));
            let name = self.graph.clone();
            self.changed(Subject::Graph, &name, "order", order(&a.operators), order(&b.operators));
        }
    }

    fn operator(&mut self, a: &Operator, b: &Operator, tensors: &Tensors<'_>) {
        let name = called(a);
        let text = |value: &str| Some(value.to_owned());
        self.changed(Subject::Operator, &name, "name", a.name.clone(), b.name.clone());
        self.changed(Subject::Operator, &name, "kind", text(&a.kind), text(&b.kind));
        for (field, a, b) in [("inputs", &a.inputs, &b.inputs), ("outputs", &a.outputs, &b.outputs)] {
            let same = a.len() == b.len() && a.iter().zip(b).all(|(a, b)| tensors.same(a.as_ref(), b.as_ref()));
            if !same {
                self.changed(Subject::Operator, &name, field, Some(ids(a)), Some(ids(b)));
            }
        }
        self.entries(Subject::Operator, &name, &a.attributes, &b.attributes);
    }

    /// The keys of operators: name and kind. Operators without a name are identified by their first result.
    fn operator_keys<'g>(&self, g: &'g Listing) -> Vec<Key<'g>> {
        let keys: FxHashMap<&str, Option<String>> = g.tensors.iter().map(|t| (t.id.as_str(), self.key(t))).collect();
        let result = |op: &Operator| {
            let id = op.outputs.iter().flatten().next()?;
            keys.get(id.as_str()).cloned().unwrap_or_else(|| Some(id.clone()))
        };
        let key = |op: &'g Operator| {
            // Versions are omitted: they follow from attributes and element types.
            let kind = match self.format {
                "tflite" | "openvino" => op.kind.rsplit_once('.').map_or(op.kind.as_str(), |(kind, _)| kind),
                _ => &op.kind,
            };
            let name = op.name.clone().or_else(|| result(op)).map(|name| format!("{kind} {name}"));
            Key { name, kind: Some(kind) }
        };
        g.operators.iter().map(key).collect()
    }

    /// The key of a tensor; `None` if its id is only a number.
    fn key(&self, t: &Tensor) -> Option<String> {
        match self.format {
            "tflite" => t.name.clone().filter(|name| !name.is_empty()),
            "graph" if t.id.bytes().all(|b| b.is_ascii_digit()) => None,
            _ => Some(t.id.clone()),
        }
    }

    fn label(&self, t: &Tensor) -> String {
        self.key(t).unwrap_or_else(|| t.id.clone())
    }
}

/// The name of an operator in messages.
fn called(op: &Operator) -> String {
    let result = || op.outputs.iter().flatten().next().cloned();
    op.name.clone().or_else(result).unwrap_or_else(|| op.kind.clone())
}

/// Correspondence of tensors.
struct Tensors<'d> {
    /// The tensors of the second graph, by id.
    second: FxHashMap<&'d str, &'d Tensor>,
    /// Maps ids of the first graph to ids of the second.
    partners: FxHashMap<String, String>,
    met: FxHashSet<String>,
}

impl<'d> Tensors<'d> {
    fn new(a: &Listing, b: &'d Listing, first: &[Key<'_>], second: &[Key<'_>]) -> Self {
        let mut all = Tensors {
            second: b.tensors.iter().map(|t| (t.id.as_str(), t)).collect(),
            partners: FxHashMap::default(),
            met: FxHashSet::default(),
        };
        for (i, j) in align(first, second).both {
            all.pair(&a.tensors[i].id, &b.tensors[j].id);
        }
        all
    }

    fn pair(&mut self, a: &str, b: &str) {
        if !self.partners.contains_key(a) && self.met.insert(b.to_owned()) {
            self.partners.insert(a.to_owned(), b.to_owned());
        }
    }

    /// Pairs the operands or results of two corresponding operators by position.
    fn meet(&mut self, a: &[Option<String>], b: &[Option<String>]) {
        for (a, b) in a.iter().zip(b) {
            if let (Some(a), Some(b)) = (a, b) {
                self.pair(a, b);
            }
        }
    }

    fn same(&self, a: Option<&String>, b: Option<&String>) -> bool {
        match (a, b) {
            (Some(a), Some(b)) => self.partners.get(a).map_or(a == b, |partner| partner == b),
            (a, b) => a == b,
        }
    }

    fn partner(&self, a: &str) -> Option<&'d Tensor> {
        self.second.get(self.partners.get(a)?.as_str()).copied()
    }

    fn is_met(&self, b: &str) -> bool {
        self.met.contains(b)
    }
}

/// One line per difference.
impl Display for Changes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.changes.iter().try_for_each(|change| writeln!(f, "{change}"))?;
        match self.changes.len() {
            0 => writeln!(f, "no difference"),
            1 => writeln!(f, "1 difference"),
            n => writeln!(f, "{n} differences"),
        }
    }
}

/// `~ tensor w constant: 4 bytes sha256:.. -> 4 bytes sha256:..`, `+ operator ..`, `- metadata ..`
impl Display for Change {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let sign = match (&self.before, &self.after) {
            (None, Some(_)) if self.field.is_empty() => '+',
            (Some(_), None) if self.field.is_empty() => '-',
            _ => '~',
        };
        write!(f, "{sign} ")?;
        if !self.graph.is_empty() && self.subject != Subject::Graph {
            write!(f, "graph {} ", word(&self.graph))?;
        }
        write!(f, "{}", format!("{:?}", self.subject).to_lowercase())?;
        if !self.name.is_empty() {
            write!(f, " {}", word(&self.name))?;
        }
        if !self.field.is_empty() {
            write!(f, " {}", word(&self.field))?;
        }
        let shown = |value: &Option<String>| printable(value.as_deref().unwrap_or("-")).into_owned();
        match (&self.before, &self.after) {
            (None, Some(_)) if sign == '+' => write!(f, ": {}", shown(&self.after)),
            (Some(_), None) if sign == '-' => write!(f, ": {}", shown(&self.before)),
            _ => write!(f, ": {} -> {}", shown(&self.before), shown(&self.after)),
        }
    }
}
