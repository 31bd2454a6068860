//! Shape arithmetic on open extents: integer operators whose operands are constants or follow from extents are computed
//! at import, as are those whose operands are all constants.

use qcc_ir::ops::{Binary, BinaryFn, Cast, Expand, Extents, Op, Reduce, ReduceFn, Symbolic, Unary, UnaryFn};
use qcc_ir::{Elem, Expr, Graph, Shape, Tensor, ValueId};
use smallvec::SmallVec;

/// Tensors with more elements are no shape arithmetic.
const MOST_VALUES: usize = 64;

/// Integers that are known as expressions of open extents, with their extents.
#[derive(Clone, Debug)]
struct Whole {
    values: Vec<Expr>,
    shape: Extents,
    elem: Elem,
}

impl Whole {
    fn of(graph: &Graph, v: ValueId) -> Option<Whole> {
        if let Op::Symbolic(op) = graph.producer(v) {
            return Some(Whole { values: op.values.clone(), shape: op.shape.clone(), elem: op.elem() });
        }
        let t = graph.constant(v).filter(|t| t.len() <= MOST_VALUES)?;
        let values = t.integers()?.into_iter().map(Expr::from).collect();
        Some(Whole { values, shape: t.dims().into_iter().collect(), elem: t.ty().elem.clone() })
    }

    /// The element at each place of a tensor that has these extents, of this one broadcast to them.
    fn broadcast(&self, shape: &Extents) -> Option<Vec<Expr>> {
        let places: Vec<i64> = (0..self.values.len() as i64).collect();
        let places = Tensor::from_vec(Shape::known(&self.shape), places);
        let shown = Op::from(Expand { shape: Shape::known(shape) }).eval(&[&places]).ok()?;
        self.at(&shown[0])
    }

    /// The elements at these places.
    fn at(&self, places: &Tensor) -> Option<Vec<Expr>> {
        places.integers()?.iter().map(|&i| self.values.get(usize::try_from(i).ok()?).cloned()).collect()
    }
}

/// The integers of a value in row-major order, if they are constants or follow from open extents.
pub(crate) fn whole(graph: &Graph, v: ValueId) -> Option<Vec<Expr>> {
    Whole::of(graph, v).map(|whole| whole.values)
}

/// What an operator computes from values that follow from open extents.
pub(crate) enum Folded {
    Constant(Tensor),
    Open(Symbolic),
}

/// The result of an operator that does shape arithmetic on open extents; `None` if it does something else.
pub(crate) fn folded(graph: &Graph, op: &Op, operands: &[ValueId]) -> Option<Folded> {
    if !operands.iter().any(|&v| matches!(graph.producer(v), Op::Symbolic(_))) {
        return match op {
            Op::Binary(Binary { f: BinaryFn::Mul }) => zeros(graph, operands)?.folded(),
            Op::Cast(Cast { to }) if matches!(to, Elem::I32 | Elem::I64) => truncated(graph, operands[0], to)?.folded(),
            _ => None,
        };
    }
    let wholes: SmallVec<[Whole; 4]> = operands.iter().map(|&v| Whole::of(graph, v)).collect::<Option<_>>()?;
    let result = match op {
        Op::Binary(Binary { f }) => return binary(*f, &wholes[0], &wholes[1]),
        Op::Unary(Unary { f: UnaryFn::Neg }) => {
            let values = wholes[0].values.iter().map(|e| e.times(&(-1).into())).collect::<Option<_>>()?;
            Whole { values, ..wholes[0].clone() }
        }
        Op::Cast(Cast { to }) if matches!(to, Elem::I32 | Elem::I64) => Whole { elem: to.clone(), ..wholes[0].clone() },
        Op::Reduce(op) => wholes[0].reduced(op)?,
        op if moves(op) => moved(graph, op, operands, &wholes)?,
        _ => return None,
    };
    result.folded()
}

/// Whether an operator moves elements of its operands without changing them.
fn moves(op: &Op) -> bool {
    matches!(
        op,
        Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Concat(_)
            | Op::Slice(_)
            | Op::Expand(_)
            | Op::Tile(_)
            | Op::Reverse(_)
            | Op::Gather(_)
            | Op::Select(_)
    )
}

/// The product of integers of which one operand is known to be 0.
fn zeros(graph: &Graph, operands: &[ValueId]) -> Option<Whole> {
    let elem = graph.ty(operands[0]).elem.clone();
    if !elem.is_integer() {
        return None;
    }
    let known = |&v: &ValueId| graph.constant(v).filter(|t| t.len() <= MOST_VALUES)?.integers();
    operands.iter().filter_map(known).find(|known| known.iter().all(|&n| n == 0))?;
    let shape = qcc_ir::ops::broadcast(&graph.ty(operands[0]).shape, &graph.ty(operands[1]).shape).ok()?;
    let count = shape.elements().filter(|&n| n <= MOST_VALUES)?;
    let values = vec![Expr::default(); count];
    Some(Whole { values, shape: shape.extents()?.into_iter().collect(), elem })
}

impl Whole {
    /// The reduction over all axes.
    fn reduced(&self, Reduce { f, axes, keep }: &Reduce) -> Option<Whole> {
        let combine = match f {
            ReduceFn::Prod => Expr::times,
            ReduceFn::Sum => Expr::plus,
            ReduceFn::Max => Expr::larger,
            ReduceFn::Min => Expr::smaller,
            _ => return None,
        };
        let (first, rest) = self.values.split_first().filter(|_| axes.len() == self.shape.len())?;
        let value = rest.iter().try_fold(first.clone(), |a, b| combine(&a, b))?;
        let shape = if *keep { Extents::from_elem(1, axes.len()) } else { Extents::new() };
        Some(Whole { values: vec![value], shape, elem: self.elem.clone() })
    }

    fn folded(self) -> Option<Folded> {
        if self.values.len() > MOST_VALUES {
            return None;
        }
        let constants: Option<Vec<i64>> = self.values.iter().map(Expr::constant).collect();
        Some(match constants {
            Some(values) => {
                let wide = Tensor::from_vec(Shape::known(&self.shape), values);
                Folded::Constant(Op::from(Cast { to: self.elem }).eval(&[&wide]).ok()?.swap_remove(0))
            }
            None => {
                let narrow = match self.elem {
                    Elem::I32 => true,
                    Elem::I64 => false,
                    _ => return None,
                };
                Folded::Open(Symbolic { values: self.values, shape: self.shape, narrow })
            }
        })
    }
}

/// The result of an operator that moves elements: it is evaluated on the places of elements.
fn moved(graph: &Graph, op: &Op, operands: &[ValueId], wholes: &[Whole]) -> Option<Whole> {
    // The other operands say where elements go.
    let moves = |i: usize| match op {
        Op::Gather(_) => i == 0,
        Op::Select(_) => i > 0,
        _ => true,
    };
    let mut all = Whole { values: Vec::new(), shape: Extents::new(), elem: Elem::I64 };
    let mut given = Vec::new();
    for (i, whole) in wholes.iter().enumerate() {
        if !moves(i) {
            given.push(graph.constant(operands[i])?.clone());
            continue;
        }
        let first = all.values.len() as i64;
        let places = (first..first + whole.values.len() as i64).collect();
        given.push(Tensor::from_vec(Shape::known(&whole.shape), places));
        all.values.extend(whole.values.iter().cloned());
        all.elem = whole.elem.clone();
    }
    let places = op.eval(&given.iter().collect::<Vec<_>>()).ok()?.swap_remove(0);
    Some(Whole { values: all.at(&places)?, shape: places.dims().into_iter().collect(), elem: all.elem })
}

fn binary(f: BinaryFn, a: &Whole, b: &Whole) -> Option<Folded> {
    let shape = qcc_ir::ops::broadcast(&Shape::known(&a.shape), &Shape::known(&b.shape)).ok()?;
    let shape: Extents = shape.extents()?.into_iter().collect();
    let (x, y) = (a.broadcast(&shape)?, b.broadcast(&shape)?);
    let pairs = || x.iter().zip(&y);
    if let Some(holds) = comparison(f) {
        let truths = pairs().map(|(x, y)| holds(&x.minus(y)?)).collect::<Option<Vec<bool>>>()?;
        return Some(Folded::Constant(Tensor::from_bools(Shape::known(&shape), truths)));
    }
    let values = pairs().map(|(x, y)| arithmetic(f, x, y)).collect::<Option<_>>()?;
    Whole { values, shape, elem: a.elem.clone() }.folded()
}

/// Whether a comparison holds, by the difference of its operands; `None` where that depends on open extents.
fn comparison(f: BinaryFn) -> Option<fn(&Expr) -> Option<bool>> {
    Some(match f {
        BinaryFn::Equal => |d| equal(d),
        BinaryFn::Less => |d| above(d, 0).map(|above_or_equal| !above_or_equal),
        BinaryFn::LessEqual => |d| above(d, 1).map(|above| !above),
        _ => return None,
    })
}

fn equal(d: &Expr) -> Option<bool> {
    match (d.constant(), above(d, 1), above(d, 0)) {
        (Some(n), ..) => Some(n == 0),
        (_, Some(true), _) | (_, _, Some(false)) => Some(false),
        _ => None,
    }
}

/// Whether an expression is at least `least`.
fn above(d: &Expr, least: i64) -> Option<bool> {
    match d.bounds() {
        (Some(low), _) if low >= least => Some(true),
        (_, Some(high)) if high < least => Some(false),
        _ => None,
    }
}

fn arithmetic(f: BinaryFn, x: &Expr, y: &Expr) -> Option<Expr> {
    match f {
        BinaryFn::Add => x.plus(y),
        BinaryFn::Sub => x.minus(y),
        BinaryFn::Mul => x.times(y),
        // Integers are divided towards 0.
        BinaryFn::Div => match y.constant() {
            Some(by) if x.bounds().0.is_some_and(|low| low >= 0) => x.floor_div(by),
            by => x.exact_div(y).or_else(|| {
                let (by, zero, minus) = (by?, Expr::default(), x.times(&(-1).into())?);
                x.larger(&zero)?.floor_div(by)?.minus(&minus.larger(&zero)?.floor_div(by)?)
            }),
        },
        BinaryFn::FloorDiv => match y.constant() {
            Some(by) if by > 0 => x.floor_div(by),
            _ => x.exact_div(y),
        },
        BinaryFn::Rem if x.bounds().0.is_none_or(|low| low < 0) => None,
        BinaryFn::FloorMod | BinaryFn::Rem => {
            let by = y.constant()?;
            x.minus(&x.floor_div(by)?.times(&by.into())?)
        }
        BinaryFn::Max => x.larger(y),
        BinaryFn::Min => x.smaller(y),
        _ => None,
    }
}

/// Numbers as quotients of integers that follow from open extents by a positive divisor.
struct Quotients {
    whole: Whole,
    by: i64,
}

/// The largest factor and divisor of quotients. With extents of real tensors such numbers are exact in `f32`, or, where the
/// divisor is no power of two, on the same side of each integer.
const MOST_FACTOR: i64 = 1 << 12;
/// The most operators between quotients and the integers that they follow from.
const MOST_STEPS: usize = 8;

impl Quotients {
    /// The numbers of a floating-point value that follows from open extents.
    fn of(graph: &Graph, v: ValueId, steps: usize) -> Option<Quotients> {
        let steps = steps.checked_sub(1)?;
        let operands = graph.operands(v.node);
        let from = |i: usize| Quotients::of(graph, *operands.get(i)?, steps);
        match graph.producer(v) {
            Op::Cast(Cast { to: Elem::F32 }) if graph.ty(operands[0]).elem == Elem::F32 => from(0),
            Op::Cast(Cast { to: Elem::F32 }) => Some(Quotients { whole: Whole::of(graph, operands[0])?, by: 1 }),
            Op::Unary(Unary { f: UnaryFn::Floor }) => from(0)?.rounded(false),
            Op::Unary(Unary { f: UnaryFn::Ceil }) => from(0)?.rounded(true),
            Op::Binary(Binary { f: BinaryFn::Div }) => from(0)?.over(ratio(graph, operands[1])?),
            Op::Binary(Binary { f: BinaryFn::Mul }) => match ratio(graph, operands[1]) {
                Some((factor, by)) => from(0)?.over((by, factor)),
                None => ratio(graph, operands[0]).and_then(|(factor, by)| from(1)?.over((by, factor))),
            },
            Op::Reduce(op) if matches!(op.f, ReduceFn::Max | ReduceFn::Min) => {
                let Quotients { whole, by } = from(0)?;
                Some(Quotients { whole: whole.reduced(op)?, by })
            }
            op if moves(op) && operands.len() == 1 => {
                let Quotients { whole, by } = from(0)?;
                Some(Quotients { whole: moved(graph, op, &operands, &[whole])?, by })
            }
            _ => None,
        }
    }

    /// These divided by `divisor / factor`. Only a divisor that is a power of two leaves numbers that can be divided again.
    fn over(self, (divisor, factor): (i64, i64)) -> Option<Quotients> {
        let by = self.by.checked_mul(divisor).filter(|&by| by <= MOST_FACTOR && self.by.count_ones() == 1)?;
        let values = self.whole.values.iter().map(|e| e.times(&factor.into())).collect::<Option<_>>()?;
        Some(Quotients { whole: Whole { values, ..self.whole }, by })
    }

    /// These rounded to integers.
    fn rounded(self, up: bool) -> Option<Quotients> {
        let added = if up { self.by - 1 } else { 0 };
        let rounded = |e: &Expr| e.plus(&added.into())?.floor_div(self.by);
        let values = self.whole.values.iter().map(rounded).collect::<Option<_>>()?;
        Some(Quotients { whole: Whole { values, ..self.whole }, by: 1 })
    }
}

/// A positive constant as a quotient of small integers, of which one is a power of two.
fn ratio(graph: &Graph, v: ValueId) -> Option<(i64, i64)> {
    let t = graph.constant(v).filter(|t| t.len() == 1)?;
    let number = f64::from(*t.floats().first()?);
    let small = |n: f64| (1.0..=MOST_FACTOR as f64).contains(&n) && n.fract() == 0.0;
    let by = (0..=12).map(|bits| 1i64 << bits).find(|&by| small(number * by as f64))?;
    Some(((number * by as f64) as i64, by))
}

/// The integers to which a cast makes numbers that follow from open extents and are not negative.
fn truncated(graph: &Graph, v: ValueId, to: &Elem) -> Option<Whole> {
    let ty = graph.ty(v);
    if ty.elem != Elem::F32 || ty.shape.elements().is_none_or(|n| n > MOST_VALUES) {
        return None;
    }
    let quotients = Quotients::of(graph, v, MOST_STEPS)?;
    let counts = quotients.whole.values.iter().all(|e| e.bounds().0.is_some_and(|low| low >= 0));
    let values = quotients.rounded(false).filter(|_| counts)?.whole.values;
    Some(Whole { values, shape: ty.shape.extents()?.into_iter().collect(), elem: to.clone() })
}
