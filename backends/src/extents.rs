//! Integers that follow from open extents, computed by the operators of a format.

use qcc_ir::{Dim, Expr, Graph, Part, Shape, ValueId};
use rustc_hash::FxHashMap;

use crate::Unsupported;

/// The operators of a format that compute with extents.
pub(crate) trait Arithmetic {
    /// A list of integers in the file.
    type Value: Clone;

    /// The graph that is written.
    fn graph(&self) -> &Graph;

    /// Integers that are known.
    fn numbers(&mut self, values: &[i64]) -> Self::Value;

    /// The extent of a logical axis of a value that has been computed.
    fn extent(&mut self, v: ValueId, axis: usize) -> Self::Value;

    /// Element `i` of a list of integers that has been computed, or a scalar.
    fn element(&mut self, v: ValueId, i: usize) -> Self::Value;

    /// The sum of two integers.
    fn sum(&mut self, a: &Self::Value, b: &Self::Value) -> Self::Value;

    /// The product of two integers.
    fn product(&mut self, a: &Self::Value, b: &Self::Value) -> Self::Value;

    /// The quotient of an integer that is not negative and a positive one, rounded down.
    fn quotient(&mut self, a: &Self::Value, b: &Self::Value) -> Self::Value;

    /// The larger of two integers.
    fn larger(&mut self, a: &Self::Value, b: &Self::Value) -> Self::Value;

    /// The smaller of two integers.
    fn smaller(&mut self, a: &Self::Value, b: &Self::Value) -> Self::Value;

    /// Lists joined to one of `count` integers.
    fn join(&mut self, parts: &[Self::Value], count: usize) -> Self::Value;

    /// The values of expressions that have been computed.
    fn known(&mut self) -> &mut FxHashMap<Expr, Self::Value>;
}

/// The value of an expression.
pub(crate) fn value<A: Arithmetic>(a: &mut A, expr: &Expr) -> Result<A::Value, Unsupported> {
    if let Some(known) = a.known().get(expr) {
        return Ok(known.clone());
    }
    let found = if let Some((input, axis)) = given(a.graph(), expr) {
        a.extent(input, axis)
    } else if let Some((x, most)) = at_most(expr) {
        let (x, most) = (value(a, &x)?, a.numbers(&[most]));
        a.smaller(&x, &most)
    } else {
        sum_of_products(a, expr)?
    };
    a.known().insert(expr.clone(), found.clone());
    Ok(found)
}

fn sum_of_products<A: Arithmetic>(a: &mut A, expr: &Expr) -> Result<A::Value, Unsupported> {
    let mut sum: Option<A::Value> = None;
    for (n, parts) in expr.products() {
        let mut product: Option<A::Value> = None;
        for part in parts {
            let factor = match part {
                Part::Symbol(name) if expr.as_symbol() == Some(name) => symbol(a, name)?,
                Part::Symbol(name) => value(a, &Expr::symbol(name.clone()))?,
                Part::Computed(name) if *expr == Expr::computed(name.clone()) => computed(a, name)?,
                Part::Computed(name) => value(a, &Expr::computed(name.clone()))?,
                Part::Positive(of) => {
                    let (of, zero) = (value(a, of)?, a.numbers(&[0]));
                    a.larger(&of, &zero)
                }
                Part::Quotient(of, by) => quotient(a, of, by)?,
            };
            product = Some(product.map_or_else(|| factor.clone(), |p| a.product(&p, &factor)));
        }
        let term = match product {
            Some(product) if n == 1 => product,
            Some(product) => {
                let n = a.numbers(&[n]);
                a.product(&product, &n)
            }
            None => a.numbers(&[n]),
        };
        sum = Some(sum.map_or_else(|| term.clone(), |s| a.sum(&s, &term)));
    }
    Ok(sum.unwrap_or_else(|| a.numbers(&[0])))
}

/// In a graph inside an operator, the input and axis whose extent is an expression of symbols that are defined around it.
fn given(graph: &Graph, expr: &Expr) -> Option<(ValueId, usize)> {
    let mut around = false;
    expr.for_each_computed(&mut |symbol| around |= graph.definition(symbol).is_none());
    let axis = |v: ValueId| Some((v, graph.ty(v).shape.dims().iter().position(|d| d.expr() == *expr)?));
    if around { graph.inputs().find_map(axis) } else { None }
}

/// The expression and the number of which this is the smaller one: `x - max(0, x - most)`. Runtimes that derive bounds see
/// that it is not negative.
fn at_most(expr: &Expr) -> Option<(Expr, i64)> {
    expr.products().find_map(|(n, mut parts)| match (n, parts.next(), parts.next()) {
        (-1, Some(Part::Positive(over)), None) => {
            let x = expr.plus(&over.larger(&Expr::default())?)?;
            let most = x.minus(over)?.constant()?;
            Some((x, most))
        }
        _ => None,
    })
}

/// The quotient of an expression and a positive number, rounded down.
fn quotient<A: Arithmetic>(a: &mut A, of: &Expr, by: i64) -> Result<A::Value, Unsupported> {
    let (x, divisor) = (value(a, of)?, a.numbers(&[by]));
    if of.bounds().0.is_some_and(|least| least >= 0) {
        return Ok(a.quotient(&x, &divisor));
    }
    // Runtimes round negative quotients up: those are computed of the opposite number.
    let (zero, minus, rest) = (a.numbers(&[0]), a.numbers(&[-1]), a.numbers(&[by - 1]));
    let above = a.larger(&x, &zero);
    let above = a.quotient(&above, &divisor);
    let below = a.product(&x, &minus);
    let below = a.larger(&below, &zero);
    let below = a.sum(&below, &rest);
    let below = a.quotient(&below, &divisor);
    let below = a.product(&below, &minus);
    Ok(a.sum(&above, &below))
}

fn symbol<A: Arithmetic>(a: &mut A, name: &str) -> Result<A::Value, Unsupported> {
    let graph = a.graph();
    let extents = graph.inputs().flat_map(|v| graph.ty(v).shape.dims().iter().enumerate().map(move |(i, d)| (v, i, d)));
    let of_symbol = |(v, axis, dim): (ValueId, usize, &Dim)| match dim.expr().linear() {
        Some((symbol, by, summand)) if **symbol == *name => Some((v, axis, by, summand)),
        _ => None,
    };
    // An extent that is the symbol needs no arithmetic.
    let at = extents.filter_map(of_symbol).min_by_key(|&(_, _, by, summand)| (by, summand.abs()));
    let (input, axis, by, summand) =
        at.ok_or_else(|| format!("no input has the open extent {name}; fix it with --shape"))?;
    let mut value = a.extent(input, axis);
    if summand != 0 {
        let less = a.numbers(&[-summand]);
        value = a.sum(&value, &less);
    }
    if by != 1 {
        let by = a.numbers(&[by]);
        value = a.quotient(&value, &by);
    }
    Ok(value)
}

/// The value of a symbol that a node defines, which has been computed.
fn computed<A: Arithmetic>(a: &mut A, name: &str) -> Result<A::Value, Unsupported> {
    let graph = a.graph();
    // In a graph inside an operator it may be an extent of an input.
    let Some(node) = graph.definition(name) else { return symbol(a, name) };
    let op = graph.op(node);
    if let Some((result, axis)) = op.counted(name) {
        return Ok(a.extent(node.value(result), axis));
    }
    let i = op.defines().iter().position(|symbol| symbol == name).unwrap_or(0);
    let of = graph.operand(node, 0);
    Ok(a.element(of, i))
}

/// The list of these integers.
pub(crate) fn list<A: Arithmetic>(a: &mut A, values: &[Expr]) -> Result<A::Value, Unsupported> {
    let mut parts: Vec<A::Value> = Vec::new();
    // Integers that are known and adjacent are one list.
    for run in values.chunk_by(|a, b| a.constant().is_some() && b.constant().is_some()) {
        let known: Option<Vec<i64>> = run.iter().map(Expr::constant).collect();
        parts.push(match (known, run) {
            (Some(known), _) => a.numbers(&known),
            (None, run) => value(a, &run[0])?,
        });
    }
    Ok(match parts.as_slice() {
        [one] => one.clone(),
        parts => a.join(parts, values.len()),
    })
}

/// The list of the extents of a shape.
pub(crate) fn shape<A: Arithmetic>(a: &mut A, shape: &Shape) -> Result<A::Value, Unsupported> {
    list(a, &shape.dims().iter().map(Dim::expr).collect::<Vec<_>>())
}

/// The target shape of a reshape of a value of shape `x`, with at most one -1 for an open extent, and 0 where the extent
/// is that of `x` if the format has that (`copies`). `None` if more has to be computed: where the numbers of elements are
/// equal at some extents only, the runtime has to refuse others, and -1 would take them.
pub(crate) fn target(x: Option<&Shape>, y: &Shape, copies: bool) -> Option<Vec<i64>> {
    let open = || y.dims().iter().enumerate().filter(|(_, d)| d.known().is_none());
    let copied = |axis: usize| copies && x.is_some_and(|x| x.dims().get(axis) == Some(&y.dims()[axis]));
    let exact = x.is_none_or(|x| x.has_elements_of(y));
    // Beside an extent of 0 there is no rest.
    let mut empty = open().filter(|(_, d)| d.expr().bounds().0.is_none_or(|least| least < 1));
    let (may_be_empty, second) = (empty.next(), empty.next());
    if second.is_some() {
        return None;
    }
    // Of others, the first that cannot be copied is the rest.
    let rest = if !exact {
        None
    } else if may_be_empty.is_some() {
        may_be_empty
    } else if open().count() == 1 {
        open().next()
    } else {
        open().find(|(axis, _)| !copied(*axis))
    };
    let rest = rest.map(|(axis, _)| axis);
    let extents = y.dims().iter().enumerate().map(|(axis, d)| match d.known() {
        Some(n) => Some(n as i64),
        None if Some(axis) == rest => Some(-1),
        None => copied(axis).then_some(0),
    });
    // 0 is an extent where nothing is copied.
    extents
        .collect::<Option<Vec<i64>>>()
        .filter(|t| open().count() < 2 || !y.dims().contains(&Dim::Known(0)) || !t.contains(&0))
}

#[cfg(test)]
mod tests {
    use qcc_ir::{Symbols, TensorType};

    use super::*;

    /// Numbers in place of values of a file, for inputs of these extents. Quotients are those of runtimes.
    struct Numbers {
        graph: Graph,
        symbols: Symbols,
        known: FxHashMap<Expr, i64>,
    }

    impl Arithmetic for Numbers {
        type Value = i64;

        fn graph(&self) -> &Graph {
            &self.graph
        }

        fn numbers(&mut self, values: &[i64]) -> i64 {
            values[0]
        }

        fn extent(&mut self, v: ValueId, axis: usize) -> i64 {
            self.graph.ty(v).shape.dims()[axis].bind(&self.symbols).unwrap() as i64
        }

        fn element(&mut self, _: ValueId, _: usize) -> i64 {
            unreachable!("no list is computed")
        }

        fn sum(&mut self, a: &i64, b: &i64) -> i64 {
            a + b
        }

        fn product(&mut self, a: &i64, b: &i64) -> i64 {
            a * b
        }

        fn quotient(&mut self, a: &i64, b: &i64) -> i64 {
            assert!(*a >= 0, "runtimes round {a}/{b} up");
            a / b
        }

        fn larger(&mut self, a: &i64, b: &i64) -> i64 {
            *a.max(b)
        }

        fn smaller(&mut self, a: &i64, b: &i64) -> i64 {
            *a.min(b)
        }

        fn join(&mut self, _: &[i64], _: usize) -> i64 {
            unreachable!("no list is joined")
        }

        fn known(&mut self) -> &mut FxHashMap<Expr, i64> {
            &mut self.known
        }
    }

    #[test]
    fn expressions_have_their_values_in_files() {
        let texts = [
            "n",
            "h",
            "floor((n-h)/3)",
            "floor((h-n-5)/4)",
            "-floor(-h/4)*4-h",
            "max(n,7)-2*h",
            "floor(h*n/2)",
            "n-max(0,n-4)",
            "n*h-max(0,n*h-9)",
        ];
        let dims = ["n", "4*h-1", "2*n+h"].map(|text| Dim::of(text.parse().unwrap()).unwrap());
        let ty = TensorType { shape: dims.into_iter().collect(), ..TensorType::f32(&[1, 1, 1]) };
        for (n, h) in [(1, 1), (1, 9), (10, 2), (7, 31)] {
            let symbols = Symbols::from_iter([("n".into(), n), ("h".into(), h)]);
            let mut graph = Graph::new("g");
            graph.add_input("x", ty.clone());
            let mut numbers = Numbers { graph, symbols: symbols.clone(), known: FxHashMap::default() };
            for text in texts {
                let expr: Expr = text.parse().unwrap();
                assert_eq!(value(&mut numbers, &expr).ok(), expr.value(&symbols), "{text} at {n}, {h}");
            }
        }
    }
}
