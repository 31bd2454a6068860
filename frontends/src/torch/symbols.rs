//! Symbolic extents: expressions in the notation of `sympy.srepr`.

use std::collections::BTreeMap;

use qcc_ir::Expr;

use super::schema::Size;

/// What the symbols of a program are in the graph: numbers, or symbols that stay open.
pub(super) type Symbols = BTreeMap<String, Expr>;

/// Maximum nesting depth of expressions.
const DEEPEST: usize = 32;

/// Maximum exponent of a power.
const MOST_FACTORS: i64 = 8;

/// An expression of symbols.
#[derive(Clone, Debug, PartialEq)]
enum Formula {
    Number(i64),
    Symbol(String),
    Call(String, Vec<Formula>),
}

impl Size {
    /// The extent, if its symbols are among the given ones.
    pub(super) fn expr(&self, symbols: &Symbols) -> Option<Expr> {
        self.of(&|name| symbols.get(name).cloned())
    }

    /// The number, if the extent is one.
    pub(super) fn value(&self, symbols: &Symbols) -> Option<i64> {
        self.expr(symbols)?.constant()
    }

    /// The extent with all symbols open.
    pub(super) fn open(&self) -> Option<Expr> {
        self.of(&|name| Some(Expr::symbol(name)))
    }

    fn of(&self, symbol: &dyn Fn(&str) -> Option<Expr>) -> Option<Expr> {
        match self {
            Size::Int(n) => Some(Expr::from(*n)),
            Size::Expr { text, .. } => value(&parse(text)?, symbol),
        }
    }

    /// The expression in the form shown to the user.
    pub(super) fn shown(&self) -> String {
        self.open().map_or_else(|| "?".into(), |expr| expr.label())
    }
}

fn value(formula: &Formula, symbol: &dyn Fn(&str) -> Option<Expr>) -> Option<Expr> {
    let (name, arguments) = match formula {
        Formula::Number(n) => return Some(Expr::from(*n)),
        Formula::Symbol(name) => return symbol(name),
        Formula::Call(name, arguments) => (name.as_str(), arguments),
    };
    if let ("CeilToInt" | "FloorToInt" | "TruncToInt", [Formula::Call(divided, operands)]) =
        (name, arguments.as_slice())
        && matches!(divided.as_str(), "IntTrueDiv" | "FloatTrueDiv")
    {
        let values: Vec<Expr> = operands.iter().map(|a| value(a, symbol)).collect::<Option<_>>()?;
        let [a, b] = values.as_slice() else { return None };
        let by = b.constant()?;
        return match name {
            "CeilToInt" => ceil_div(a, by),
            // Numbers that are cut off and rounded down differ below 0.
            "TruncToInt" if a.bounds().0.is_none_or(|least| least < 0) => None,
            _ => a.floor_div(by),
        };
    }
    let values: Vec<Expr> = arguments.iter().map(|a| value(a, symbol)).collect::<Option<_>>()?;
    let all = |f: fn(&Expr, &Expr) -> Option<Expr>| {
        let (first, rest) = values.split_first()?;
        rest.iter().try_fold(first.clone(), |a, b| f(&a, b))
    };
    match (name, values.as_slice()) {
        ("Add", _) => all(Expr::plus),
        ("Mul", _) => all(Expr::times),
        ("Max", _) => all(Expr::larger),
        ("Min", _) => all(Expr::smaller),
        ("Pow", [a, b]) => power(a, b.constant()?),
        ("FloorDiv" | "CleanDiv", [a, b]) => quotient(a, b),
        ("Mod" | "PythonMod", [a, b]) => remainder(a, b),
        ("TruncToInt" | "CeilToInt" | "FloorToInt" | "Identity" | "ToFloat", [a]) => Some(a.clone()),
        _ => None,
    }
}

/// A product of equal factors.
pub(super) fn power(base: &Expr, exponent: i64) -> Option<Expr> {
    let mut factors = (0..exponent).map(|_| base);
    (0..=MOST_FACTORS).contains(&exponent).then(|| factors.try_fold(Expr::from(1), |a, b| a.times(b)))?
}

/// The quotient rounded down.
pub(super) fn quotient(a: &Expr, b: &Expr) -> Option<Expr> {
    match b.constant() {
        Some(by) if by < 0 => a.times(&(-1).into())?.floor_div(by.checked_neg()?),
        Some(by) => a.floor_div(by),
        None => a.exact_div(b),
    }
}

/// The quotient rounded up.
pub(super) fn ceil_div(a: &Expr, by: i64) -> Option<Expr> {
    a.times(&(-1).into())?.floor_div(by)?.times(&(-1).into())
}

/// What division leaves, with the sign of the divisor.
pub(super) fn remainder(a: &Expr, b: &Expr) -> Option<Expr> {
    a.minus(&quotient(a, b)?.times(b)?)
}

/// `Mul(Integer(2), Symbol('s0', positive=True, integer=True))`
fn parse(text: &str) -> Option<Formula> {
    let mut rest = text;
    let expr = term(&mut rest, 0)?;
    rest.trim().is_empty().then_some(expr)
}

fn term(rest: &mut &str, depth: usize) -> Option<Formula> {
    *rest = rest.trim_start();
    if depth > DEEPEST {
        return None;
    }
    let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-' || c == '.')).unwrap_or(rest.len());
    let (word, tail) = rest.split_at(end);
    let Some(mut inside) = tail.strip_prefix('(') else {
        *rest = tail;
        return word.parse().ok().map(Formula::Number);
    };
    if word == "Symbol" {
        let (name, tail) = inside.trim_start().strip_prefix('\'')?.split_once('\'')?;
        // Assumptions follow: positive=True, integer=True.
        *rest = tail.split_once(')')?.1;
        return Some(Formula::Symbol(name.into()));
    }
    let mut arguments = Vec::new();
    loop {
        inside = inside.trim_start();
        if let Some(tail) = inside.strip_prefix(')') {
            *rest = tail;
            break;
        }
        arguments.push(term(&mut inside, depth + 1)?);
        inside = inside.trim_start();
        inside = inside.strip_prefix(',').unwrap_or(inside);
    }
    match (word, arguments.as_slice()) {
        ("Integer", [number @ Formula::Number(_)]) => Some(number.clone()),
        _ => Some(Formula::Call(word.into(), arguments)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(text: &str) -> Size {
        Size::Expr { text: text.into(), hint: None }
    }

    #[test]
    fn expressions_are_computed_and_shown() {
        let symbols = Symbols::from([("s0".to_string(), 6.into()), ("s1".to_string(), Expr::symbol("n"))]);
        let s0 = "Symbol('s0', positive=True, integer=True)";
        assert_eq!(size(s0).value(&symbols), Some(6));
        let twice = size(&format!("Add(Mul(Integer(2), {s0}), Integer(-1))"));
        assert_eq!((twice.value(&symbols), twice.shown().as_str()), (Some(11), "2*s0-1"));
        assert_eq!(size(&format!("FloorDiv({s0}, Integer(4))")).value(&symbols), Some(1));
        assert_eq!(size(&format!("FloorDiv({s0}, Integer(0))")).value(&symbols), None);
        assert_eq!(size("Symbol('s9', integer=True)").expr(&symbols), None);
    }

    #[test]
    fn open_expressions_have_the_form_of_the_graph() {
        let symbols = Symbols::from([("s1".to_string(), Expr::symbol("n"))]);
        let s1 = "Symbol('s1', positive=True, integer=True)";
        let cases = [
            (format!("Mul(Integer(2), {s1})"), "2*n"),
            (format!("FloorDiv(Add({s1}, Integer(1)), Integer(2))"), "floor((n+1)/2)"),
            (format!("CeilToInt(IntTrueDiv({s1}, Integer(2)))"), "-floor(-n/2)"),
            (format!("TruncToInt(IntTrueDiv({s1}, Integer(2)))"), "floor(n/2)"),
            (format!("Mod({s1}, Integer(8))"), "-8*floor(n/8)+n"),
            (format!("Max(Integer(4), {s1})"), "max(n,4)"),
            (format!("Min(Integer(1), {s1})"), "1"),
            (format!("Pow({s1}, Integer(2))"), "n*n"),
            (format!("FloorDiv(Mul({s1}, Integer(6)), {s1})"), "6"),
        ];
        for (text, wanted) in cases {
            assert_eq!(size(&text).expr(&symbols), wanted.parse().ok(), "{text}");
        }
        for text in [
            format!("TruncToInt(IntTrueDiv(Mul(Integer(-1), {s1}), Integer(2)))"),
            format!("FloorDiv(Integer(6), {s1})"),
            format!("Pow({s1}, Integer(-1))"),
        ] {
            assert_eq!(size(&text).expr(&symbols), None, "{text}");
        }
    }

    #[test]
    fn damaged_expressions_have_no_value() {
        for text in ["", "Mul(", "Symbol('s0", "Integer(1))", "Mul(Integer(1) Integer(2))x", &"Add(".repeat(10_000)] {
            assert_eq!(size(text).value(&Symbols::new()), None, "{text}");
        }
    }
}
