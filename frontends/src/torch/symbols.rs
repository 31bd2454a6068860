//! Symbolic extents: expressions in the notation of `sympy.srepr`.

use std::collections::BTreeMap;

use super::schema::Size;

/// The values of symbols.
pub(super) type Symbols = BTreeMap<String, i64>;

/// Maximum nesting depth of expressions.
const DEEPEST: usize = 32;

/// An expression of symbols.
#[derive(Clone, Debug, PartialEq)]
enum Expr {
    Number(i64),
    Symbol(String),
    Call(String, Vec<Expr>),
}

impl Size {
    /// The value, if all of its symbols are known.
    pub(super) fn value(&self, symbols: &Symbols) -> Option<i64> {
        match self {
            Size::Int(n) => Some(*n),
            Size::Expr { text, .. } => value(&parse(text)?, symbols),
        }
    }

    /// The name, if it is only a symbol.
    pub(super) fn symbol(&self) -> Option<String> {
        let Size::Expr { text, .. } = self else { return None };
        match parse(text)? {
            Expr::Symbol(name) => Some(name),
            _ => None,
        }
    }

    /// The expression in the form shown to the user.
    pub(super) fn shown(&self) -> String {
        match self {
            Size::Int(n) => n.to_string(),
            Size::Expr { text, .. } => parse(text).as_ref().map_or_else(|| "?".into(), shown),
        }
    }
}

fn value(expr: &Expr, symbols: &Symbols) -> Option<i64> {
    let (name, arguments) = match expr {
        Expr::Number(n) => return Some(*n),
        Expr::Symbol(name) => return symbols.get(name).copied(),
        Expr::Call(name, arguments) => (name.as_str(), arguments),
    };
    let values: Vec<i64> = arguments.iter().map(|a| value(a, symbols)).collect::<Option<_>>()?;
    match (name, values.as_slice()) {
        ("Add", values) => values.iter().try_fold(0i64, |a, &b| a.checked_add(b)),
        ("Mul", values) => values.iter().try_fold(1i64, |a, &b| a.checked_mul(b)),
        ("Max", values) => values.iter().copied().max(),
        ("Min", values) => values.iter().copied().min(),
        ("Pow", &[a, b]) => a.checked_pow(u32::try_from(b).ok()?),
        ("FloorDiv" | "CleanDiv", &[a, b]) => a.checked_div_euclid(b).filter(|_| b > 0),
        ("Mod" | "PythonMod", &[a, b]) => a.checked_rem_euclid(b).filter(|_| b > 0),
        ("TruncToInt" | "CeilToInt" | "FloorToInt" | "Identity", &[a]) => Some(a),
        _ => None,
    }
}

fn shown(expr: &Expr) -> String {
    match expr {
        Expr::Number(n) => n.to_string(),
        Expr::Symbol(name) => name.clone(),
        Expr::Call(name, arguments) => {
            let arguments: Vec<String> = arguments.iter().map(shown).collect();
            match name.as_str() {
                "Mul" => arguments.join("*"),
                "Add" => arguments.join("+"),
                _ => format!("{name}({})", arguments.join(", ")),
            }
        }
    }
}

/// `Mul(Integer(2), Symbol('s0', positive=True, integer=True))`
fn parse(text: &str) -> Option<Expr> {
    let mut rest = text;
    let expr = term(&mut rest, 0)?;
    rest.trim().is_empty().then_some(expr)
}

fn term(rest: &mut &str, depth: usize) -> Option<Expr> {
    *rest = rest.trim_start();
    if depth > DEEPEST {
        return None;
    }
    let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-' || c == '.')).unwrap_or(rest.len());
    let (word, tail) = rest.split_at(end);
    let Some(mut inside) = tail.strip_prefix('(') else {
        *rest = tail;
        return word.parse().ok().map(Expr::Number);
    };
    if word == "Symbol" {
        let (name, tail) = inside.trim_start().strip_prefix('\'')?.split_once('\'')?;
        // Assumptions follow: positive=True, integer=True.
        *rest = tail.split_once(')')?.1;
        return Some(Expr::Symbol(name.into()));
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
        ("Integer", [number @ Expr::Number(_)]) => Some(number.clone()),
        _ => Some(Expr::Call(word.into(), arguments)),
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
        let symbols = Symbols::from([("s0".to_string(), 6)]);
        let s0 = "Symbol('s0', positive=True, integer=True)";
        assert_eq!(size(s0).symbol().as_deref(), Some("s0"));
        assert_eq!(size(s0).value(&symbols), Some(6));
        let twice = size(&format!("Add(Mul(Integer(2), {s0}), Integer(-1))"));
        assert_eq!((twice.value(&symbols), twice.shown().as_str(), twice.symbol()), (Some(11), "2*s0+-1", None));
        assert_eq!(size(&format!("FloorDiv({s0}, Integer(4))")).value(&symbols), Some(1));
        assert_eq!(size(&format!("FloorDiv({s0}, Integer(0))")).value(&symbols), None);
        assert_eq!(size("Symbol('s9', integer=True)").value(&symbols), None);
    }

    #[test]
    fn damaged_expressions_have_no_value() {
        for text in ["", "Mul(", "Symbol('s0", "Integer(1))", "Mul(Integer(1) Integer(2))x", &"Add(".repeat(10_000)] {
            assert_eq!(size(text).value(&Symbols::new()), None, "{text}");
        }
    }
}
