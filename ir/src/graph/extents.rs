//! Open extents of a graph, and values of them.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::FxHashSet;
use smallvec::SmallVec;

use super::check::infer_float;
use super::{Graph, NodeId};
use crate::ops::Op;
use crate::types::{Dim, Expr, Shape, Symbols, TensorType};

/// Powers of two that typical extents are multiplied with, until the model runs: some models have no result at small
/// extents, others run at few only.
const SCALES: [i32; 13] = [0, 1, 2, 3, 4, -1, -2, -3, -4, -5, -6, -7, -8];

/// The most elements of a value of open extent at typical extents.
const MOST_ELEMENTS: usize = 1 << 27;

/// The largest value that is tried for extents that a node must have.
const MOST_TRIED: usize = 2048;

impl Graph {
    /// True if an extent is open: of an input, or one that a node computes.
    pub fn is_open(&self) -> bool {
        self.has_open_inputs() || !self.definitions.is_empty()
    }

    /// True if an input has an open extent.
    pub fn has_open_inputs(&self) -> bool {
        self.inputs().any(|v| self.ty(v).shape.is_open())
    }

    /// The symbols in types and attributes that neither follow from an extent of an input nor are defined by a node.
    pub fn unknown_symbols(&self) -> BTreeSet<Expr> {
        let extents = || self.inputs().flat_map(|v| self.ty(v).shape.dims());
        let solved: FxHashSet<&str> = extents().filter_map(|d| d.solved(0)).map(|(symbol, _)| &**symbol).collect();
        let mut unknown = BTreeSet::new();
        let mut visit = |expr: &Expr| {
            expr.for_each_symbol(&mut |name, symbol| {
                if !solved.contains(&**name) && self.definition(name).is_none() {
                    unknown.insert(symbol);
                }
            });
        };
        for node in self.order() {
            let types = self.result_types(node);
            types.iter().flat_map(|ty| ty.shape.dims()).for_each(|d| visit(&d.expr()));
            self.op(node).for_each_expr(&mut visit);
        }
        unknown
    }

    /// The graph with these values of symbols.
    pub fn bound(&self, symbols: &Symbols) -> Graph {
        let mut g = self.clone();
        for node in self.order() {
            for v in self.results(node).filter(|&v| self.ty(v).shape.is_open()) {
                let ty = self.ty(v);
                g.set_type(v, TensorType { shape: ty.shape.bind(symbols), ..ty.clone() });
            }
            if let Some(op) = self.op(node).bind(symbols) {
                g.net.set_op(node, op);
            }
        }
        g
    }

    /// The graph at typical extents, for estimates: itself where all extents are known.
    pub fn typical(&self) -> Cow<'_, Graph> {
        if self.is_open() { Cow::Owned(self.bound(&self.typical_extents())) } else { Cow::Borrowed(self) }
    }

    /// Typical values of symbols, at which the model runs: 1 for a batch, 224 for the height and width of images, a second
    /// of sound at 16 kHz, 64 for others such as the length of a text, 1 for integers that nodes compute. Where the model
    /// does not run at these, the extents above 1 are multiplied with the same power of two; where it runs at none of these,
    /// first extents are no batches.
    pub fn typical_extents(&self) -> Symbols {
        self.typical_extents_beside(&Symbols::default())
    }

    /// As [`Graph::typical_extents`], of symbols that are not among the known ones.
    pub fn typical_extents_beside(&self, known: &Symbols) -> Symbols {
        let scaled = |usual: &Symbols, known: &Symbols, power: i32| -> Symbols {
            let scaled = |n: usize| match u32::try_from(power) {
                _ if n == 1 => 1,
                Ok(power) => n << power,
                Err(_) => (n >> power.unsigned_abs()).max(1),
            };
            usual.iter().map(|(name, &n)| (Arc::clone(name), known.get(name).copied().unwrap_or(scaled(n)))).collect()
        };
        let runs = |usual: &Symbols, known: &Symbols| {
            SCALES.into_iter().map(|power| scaled(usual, known, power)).find(|symbols| self.runs_at(symbols))
        };
        let [single, many] = [true, false].map(|batches| self.usual_extents(batches));
        let found = runs(&single, known).or_else(|| runs(&many, known));
        found.unwrap_or_else(|| {
            let wanted = self.wanted_extents(known);
            let found = runs(&single, &wanted).or_else(|| runs(&many, &wanted));
            let held = || SCALES.into_iter().map(|power| scaled(&single, known, power)).find(|s| self.holds(s));
            found.or_else(held).unwrap_or_else(|| scaled(&single, known, 0))
        })
    }

    /// The known symbols, and the least values at which matrix products have as many columns as their weights have rows,
    /// flattened rows are whole ones, and extents are those of what they are combined with. Several symbols that only
    /// together say so have one value.
    fn wanted_extents(&self, known: &Symbols) -> Symbols {
        let mut wanted = known.clone();
        for (extent, expected) in self.order().into_iter().flat_map(|n| self.wanted(n)) {
            let mut open = BTreeSet::new();
            extent.for_each_symbol(&mut |name, _| _ = open.insert(Arc::clone(name)));
            let open: Vec<_> = open.into_iter().filter(|name| !wanted.contains_key(name)).collect();
            let with = |n: usize| open.iter().map(|name| (Arc::clone(name), n)).chain(wanted.clone()).collect();
            let fits = |symbols: &Symbols| extent.value(symbols) == i64::try_from(expected).ok();
            if let Some(found) = (1..=MOST_TRIED).map(with).find(fits).filter(|_| !open.is_empty()) {
                wanted = found;
            }
        }
        wanted
    }

    /// Open extents and the numbers that they must be for a node.
    fn wanted(&self, n: NodeId) -> Vec<(Expr, usize)> {
        let operands = self.operand_types(n);
        let of = |i: usize| operands.get(i).map_or(&[][..], |ty| ty.shape.dims());
        let pairs: Vec<(Dim, Option<usize>)> = match self.op(n) {
            Op::MatMul(op) => {
                let rows = of(1).iter().rev().nth(usize::from(!op.transpose_b)).and_then(Dim::known);
                of(0).last().map(|columns| (columns.clone(), rows)).into_iter().collect()
            }
            Op::Reshape(_) => match self.ty(n.value(0)).shape.dims() {
                [Dim::Open(_), columns @ ..] => {
                    let flat = of(0).iter().skip_while(|dim| dim.known() == Some(1)).skip(1).cloned();
                    let flat = Shape::count(&flat.collect::<Vec<Dim>>());
                    let columns = columns.iter().map(Dim::known).try_fold(1, |all: usize, n| all.checked_mul(n?));
                    flat.map(|flat| (flat, columns)).into_iter().collect()
                }
                _ => Vec::new(),
            },
            Op::Binary(_) => {
                let last_first = || of(0).iter().rev().zip(of(1).iter().rev());
                let broadcast = |(a, b): (&Dim, &Dim)| (a.clone(), b.known().filter(|&n| n > 1));
                last_first().map(broadcast).chain(last_first().map(|(a, b)| broadcast((b, a)))).collect()
            }
            _ => Vec::new(),
        };
        let open = pairs.into_iter().filter(|(extent, _)| extent.known().is_none());
        open.filter_map(|(extent, expected)| Some((extent.expr(), expected?))).collect()
    }

    /// `batches`: first extents are batches.
    fn usual_extents(&self, batches: bool) -> Symbols {
        let mut symbols: Symbols = self.definitions.keys().map(|symbol| (Arc::clone(symbol), 1)).collect();
        for ty in self.inputs().map(|v| self.ty(v)) {
            for (axis, dim) in ty.shape.dims().iter().enumerate() {
                let extent = match (axis, ty.rank(), ty.elem.is_float()) {
                    (0, 2.., _) if batches => 1,
                    (0, 2.., _) => 64,
                    (_, 4, true) => 224,
                    (_, ..=2, true) => 16000,
                    _ => 64,
                };
                if let Some((name, value)) = dim.solved(extent) {
                    symbols.entry(Arc::clone(name)).or_insert(value.max(1));
                }
            }
        }
        symbols
    }

    /// True where every node takes its operands at these extents, and no value is empty that is not empty at all, or too
    /// large.
    fn runs_at(&self, symbols: &Symbols) -> bool {
        let bound = |ty: &TensorType| TensorType { shape: ty.shape.bind(symbols), ..ty.clone() };
        let is_filled = |ty: &TensorType| {
            ty.shape.dims().iter().all(|d| d.known().is_some() || d.bind(symbols).is_some_and(|n| n > 0))
        };
        let runs = |node: NodeId| {
            let op = self.op(node);
            let operands: SmallVec<[TensorType; 4]> = self.operand_types(node).into_iter().map(bound).collect();
            let operands: SmallVec<[&TensorType; 4]> = operands.iter().collect();
            let takes = || infer_float(op.bind(symbols).as_ref().unwrap_or(op), &operands).is_ok();
            self.results(node).all(|v| is_filled(self.ty(v))) && (matches!(op, Op::Input(_) | Op::Const(_)) || takes())
        };
        self.order().into_iter().all(runs) && self.holds(symbols)
    }

    /// True where no value is larger than runtimes can be expected to hold at these extents.
    fn holds(&self, symbols: &Symbols) -> bool {
        let small = |ty: &TensorType| {
            let mut extents = ty.shape.dims().iter().map(|d| d.bind(symbols).unwrap_or(1));
            extents.try_fold(1usize, usize::checked_mul).is_some_and(|n| n <= MOST_ELEMENTS)
        };
        let held = |ty: &TensorType| !ty.shape.is_open() || small(ty);
        self.order().into_iter().all(|node| self.results(node).all(|v| held(self.ty(v))))
    }
}

#[cfg(test)]
mod tests {
    use crate::text::{Weights, parse};

    fn extents(body: &str, known: &[(&str, usize)]) -> Vec<(String, usize)> {
        let g = parse(&format!("graph g {{ {body} output y = %y }}"), &Weights::new()).unwrap();
        let known = known.iter().map(|&(name, n)| (name.into(), n)).collect();
        let mut found: Vec<_> =
            g.typical_extents_beside(&known).into_iter().map(|(name, n)| (name.to_string(), n)).collect();
        found.sort();
        found
    }

    #[test]
    fn symbols_follow_from_their_multiples() {
        let found = extents("%x: f32[b,3,(2*h),(4*w+1)] = input %y = cast\"f32\" %x", &[]);
        assert_eq!(found, [("b".to_owned(), 1), ("h".to_owned(), 112), ("w".to_owned(), 55)]);
    }

    #[test]
    fn values_are_not_too_large_at_typical_extents() {
        let pairs = "%x: f32[1,4,n,n] = input %a = reshape[1,4,\"(n*n)\",1] %x %b = reshape[1,4,1,\"(n*n)\"] %x
            %y = binary(f:Mul) %a, %b";
        assert_eq!(extents(pairs, &[]), [("n".to_owned(), 56)]);
    }

    #[test]
    fn a_length_that_comes_first_is_no_batch() {
        let window = "%x: f32[n,2] = input %a = reshape[1,1,\"n\",2] %x
            %y = pool(f:Max,window:[3,1],stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1]) %a";
        assert_eq!(extents(window, &[]), [("n".to_owned(), 64)]);
    }

    #[test]
    fn models_run_at_typical_extents() {
        let pool = |size: usize, x: &str, y: &str| {
            format!("{y} = pool(f:Max,window:[{size}],stride:[{size}],before:[0],after:[0],dilation:[1]) {x} ")
        };
        let input = "%x: f32[b,4,n] = input ";
        let named = |b: usize, n: usize| vec![("b".to_owned(), b), ("n".to_owned(), n)];
        assert_eq!(extents(&format!("{input}{}", pool(2, "%x", "%y")), &[]), named(1, 64));
        assert_eq!(extents(&format!("{input}{}", pool(2, "%x", "%y")), &[("b", 3), ("n", 10)]), named(3, 10));
        // No result at 64.
        assert_eq!(extents(&format!("{input}{}", pool(100, "%x", "%y")), &[]), named(1, 128));
        // An extent must be 1.
        let removed = format!("{input}{}%y = reshape[b,4] %p", pool(20, "%x", "%p"));
        assert_eq!(extents(&removed, &[]), named(1, 32));
        // Rows of 60 numbers, and a product with 40 of them.
        let rows = format!("{input}%y = reshape[\"(floor(b*n/15))\",60] %x");
        assert_eq!(extents(&rows, &[]), named(1, 15));
        // Numbers that are added to others, where a window of them is too narrow at 1.
        let few = pool(2, "%x", "%p") + "%r = reduce(f:Sum,axes:[2],keep:true) %p ";
        let sum = format!("{input}{few}%c: f32[4,3] = const [1,2,3,4,5,6,7,8,9,10,11,12] %s = binary(f:Add) %x, %c ");
        assert_eq!(extents(&format!("{sum}%y = binary(f:Add) %s, %r"), &[]), named(1, 3));
        let weight = "%w: f32[40,1] = const [".to_owned() + &["1"; 40].join(",") + "]";
        let flat = format!("%r = reshape[b,\"(4*floor(n/2))\"] %p {weight} %y = matmul(transpose_b:false) %r, %w");
        assert_eq!(extents(&format!("{input}{}{flat}", pool(2, "%x", "%p")), &[]), named(1, 20));
    }
}
