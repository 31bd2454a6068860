//! Whole numbers that depend on open extents.
//!
//! ```
//! use qcc_ir::Expr;
//! let n = Expr::symbol("n");
//! let steps = n.plus(&Expr::from(1)).and_then(|e| e.floor_div(2)).unwrap();
//! assert_eq!(steps.to_string(), "floor((n+1)/2)");
//! assert_eq!(steps.value(&[("n".into(), 7)].into_iter().collect()), Some(4));
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rustc_hash::FxHashMap;

/// The extents that symbols have in a run.
pub type Symbols = FxHashMap<Arc<str>, usize>;

/// A sum of products of symbols and of quotients that are rounded down. Equal sums have the same form, so that `==`
/// decides whether two expressions are equal for all values of their symbols; quotients are compared by their form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Expr {
    /// The coefficient of each product, not 0. The factors of a product are sorted; the product of none is 1.
    pub(super) terms: BTreeMap<Vec<Factor>, i64>,
}

/// A factor of a product.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Factor {
    /// An open extent, 1 or more.
    Symbol(Arc<str>),
    /// An integer that a node of the graph computes, 0 or more.
    Computed(Arc<str>),
    /// The quotient of an expression and a number above 1, rounded down. The last product of the expression has a positive
    /// coefficient.
    Quotient(Arc<Expr>, i64),
    /// An expression, or 0 where it is negative. Its last product has a positive coefficient: the other sign is expressed
    /// by max(0, -x) = max(0, x) - x.
    Positive(Arc<Expr>),
}

/// Maximum number of products in a sum. An expression that would have more is not made.
const MOST_TERMS: usize = 256;

/// Maximum nesting depth of an expression that is read.
const DEEPEST: usize = 16;

impl From<i64> for Expr {
    fn from(n: i64) -> Self {
        let terms = if n == 0 { BTreeMap::new() } else { BTreeMap::from([(Vec::new(), n)]) };
        Expr { terms }
    }
}

impl Expr {
    /// The value of a symbol.
    pub fn symbol(name: impl Into<Arc<str>>) -> Self {
        Expr::of(Factor::Symbol(name.into()))
    }

    /// The value of a symbol that a node of the graph defines (`Op::defines`): 0 or more.
    pub fn computed(name: impl Into<Arc<str>>) -> Self {
        Expr::of(Factor::Computed(name.into()))
    }

    fn of(factor: Factor) -> Self {
        Expr { terms: BTreeMap::from([(vec![factor], 1)]) }
    }

    /// The number, if no symbol is in it.
    pub fn constant(&self) -> Option<i64> {
        match self.terms.len() {
            0 => Some(0),
            1 => self.terms.get([].as_slice()).copied(),
            _ => None,
        }
    }

    /// The symbol, if it is nothing else.
    pub fn as_symbol(&self) -> Option<&Arc<str>> {
        let (factors, 1) = self.terms.iter().next().filter(|_| self.terms.len() == 1)? else { return None };
        match factors.as_slice() {
            [Factor::Symbol(name)] => Some(name),
            _ => None,
        }
    }

    /// The symbol, factor and summand, if it is a multiple of one symbol plus a number; the factor is positive.
    pub fn linear(&self) -> Option<(&Arc<str>, i64, i64)> {
        let mut products = self.terms.iter().filter(|(factors, _)| !factors.is_empty());
        let (Some((factors, &by)), None) = (products.next(), products.next()) else { return None };
        let summand = self.terms.get([].as_slice()).copied().unwrap_or(0);
        match factors.as_slice() {
            [Factor::Symbol(name) | Factor::Computed(name)] if by > 0 => Some((name, by, summand)),
            _ => None,
        }
    }

    /// True if the expression depends on an integer that a node of the graph computes.
    pub fn is_computed(&self) -> bool {
        let mut found = false;
        self.for_each_computed(&mut |_| found = true);
        found
    }

    /// Calls `found` with each symbol in it that a node defines.
    pub fn for_each_computed(&self, found: &mut impl FnMut(&Arc<str>)) {
        self.for_each_symbol(&mut |name, symbol| {
            if symbol.as_symbol().is_none() {
                found(name);
            }
        });
    }

    /// Calls `found` with each symbol in it, by name and as an expression.
    pub fn for_each_symbol(&self, found: &mut impl FnMut(&Arc<str>, Expr)) {
        for factor in self.terms.keys().flatten() {
            match factor {
                Factor::Symbol(name) | Factor::Computed(name) => found(name, Expr::of(factor.clone())),
                Factor::Quotient(of, _) | Factor::Positive(of) => of.for_each_symbol(found),
            }
        }
    }

    /// The name of the symbol, if it is nothing else, or the expression as text.
    pub fn label(&self) -> String {
        self.as_symbol().map_or_else(|| self.to_string(), |name| name.to_string())
    }

    /// Number of products and factors: which of two equal extents is simpler.
    pub fn size(&self) -> usize {
        let factor = |f: &Factor| match f {
            Factor::Symbol(_) | Factor::Computed(_) => 1,
            Factor::Quotient(of, _) => 1 + of.size(),
            Factor::Positive(of) => 1 + of.size(),
        };
        self.terms.keys().map(|factors| 1 + factors.iter().map(factor).sum::<usize>()).sum()
    }

    /// The sum, or `None` where it has too many terms or its numbers are too large, as in all arithmetic here.
    pub fn plus(&self, other: &Expr) -> Option<Expr> {
        let mut terms = self.terms.clone();
        for (factors, n) in &other.terms {
            let sum = terms.get(factors).copied().unwrap_or(0).checked_add(*n)?;
            match sum {
                0 => terms.remove(factors),
                _ => terms.insert(factors.clone(), sum),
            };
        }
        (terms.len() <= MOST_TERMS).then_some(Expr { terms })
    }

    /// The difference.
    pub fn minus(&self, other: &Expr) -> Option<Expr> {
        self.plus(&other.times(&Expr::from(-1))?)
    }

    /// The product.
    pub fn times(&self, other: &Expr) -> Option<Expr> {
        let mut product = Expr::default();
        for (a, m) in &self.terms {
            for (b, n) in &other.terms {
                let mut factors = [a.as_slice(), b].concat();
                factors.sort();
                let terms = BTreeMap::from([(factors, m.checked_mul(*n)?)]);
                product = product.plus(&Expr { terms })?;
            }
        }
        Some(product)
    }

    /// The quotient rounded down; `None` also where `by` is not positive.
    pub fn floor_div(&self, by: i64) -> Option<Expr> {
        if by <= 0 {
            return None;
        }
        // Multiples of the divisor are taken out, so that equal quotients have one form.
        let (mut whole, mut rest) = (Expr::default(), Expr::default());
        for (factors, &n) in &self.terms {
            let term = |n: i64| Expr { terms: if n == 0 { BTreeMap::new() } else { [(factors.clone(), n)].into() } };
            let out = if factors.is_empty() || n % by == 0 { n.div_euclid(by) } else { 0 };
            whole = whole.plus(&term(out))?;
            rest = rest.plus(&term(n.checked_sub(out.checked_mul(by)?)?))?;
        }
        if let Some(n) = rest.constant() {
            return whole.plus(&Expr::from(n.div_euclid(by)));
        }
        // Neither has a factor that the other has.
        let common = rest.terms.values().fold(by, |a, &b| gcd(a, b));
        if common > 1 {
            let terms = rest.terms.into_iter().map(|(factors, n)| (factors, n / common)).collect();
            return whole.plus(&Expr { terms }.floor_div(by / common)?);
        }
        // The last product has a positive coefficient: floor(-e/by) is -floor((e + by - 1)/by).
        if rest.terms.values().next_back().is_some_and(|&n| n < 0) {
            let other = Expr::from(by - 1).minus(&rest)?.floor_div(by)?;
            return whole.minus(&other);
        }
        // floor((floor(e/m) + n) / by) is floor((e + n*m) / (by*m)).
        let n = rest.terms.get([].as_slice()).copied().unwrap_or(0);
        let single = rest.minus(&Expr::from(n))?;
        if let Some(([Factor::Quotient(of, m)], 1)) = single.terms.iter().next().map(|(f, n)| (f.as_slice(), *n))
            && single.terms.len() == 1
        {
            let inner = of.plus(&Expr::from(n.checked_mul(*m)?))?.floor_div(by.checked_mul(*m)?)?;
            return whole.plus(&inner);
        }
        whole.plus(&Expr::of(Factor::Quotient(Arc::new(rest), by)))
    }

    /// The larger of two expressions: one of them where their difference has a known sign.
    pub fn larger(&self, other: &Expr) -> Option<Expr> {
        let difference = self.minus(other)?;
        match difference.bounds() {
            (Some(0..), _) => return Some(self.clone()),
            (_, Some(..=0)) => return Some(other.clone()),
            _ => {}
        }
        let falls = difference.terms.values().next_back().is_some_and(|&n| n < 0);
        let (base, over) = if falls { (self, other.minus(self)?) } else { (other, difference) };
        base.plus(&Expr::of(Factor::Positive(Arc::new(over))))
    }

    /// The smaller of two expressions.
    pub fn smaller(&self, other: &Expr) -> Option<Expr> {
        self.plus(other)?.minus(&self.larger(other)?)
    }

    /// The quotient, if it is exact for all values of the symbols.
    pub fn exact_div(&self, by: &Expr) -> Option<Expr> {
        let (lead, n) = by.terms.iter().next_back()?;
        let (mut quotient, mut rest) = (Expr::default(), self.clone());
        while let Some((factors, m)) = rest.terms.iter().next_back() {
            let mut left = factors.clone();
            for factor in lead {
                left.remove(left.iter().position(|f| f == factor)?);
            }
            if m % n != 0 {
                return None;
            }
            let term = Expr { terms: BTreeMap::from([(left, m / n)]) };
            let smaller = rest.minus(&term.times(by)?)?;
            if smaller.terms.keys().next_back() >= Some(factors) {
                return None;
            }
            (quotient, rest) = (quotient.plus(&term)?, smaller);
        }
        Some(quotient)
    }

    /// The number that it is for these values of symbols; `None` where a symbol has no value.
    pub fn value(&self, symbols: &Symbols) -> Option<i64> {
        let factor = |f: &Factor| match f {
            Factor::Symbol(name) | Factor::Computed(name) => i64::try_from(*symbols.get(name)?).ok(),
            Factor::Quotient(of, by) => Some(of.value(symbols)?.div_euclid(*by)),
            Factor::Positive(of) => Some(of.value(symbols)?.max(0)),
        };
        self.terms.iter().try_fold(0i64, |sum, (factors, &n)| {
            sum.checked_add(factors.iter().try_fold(n, |product, f| product.checked_mul(factor(f)?))?)
        })
    }

    /// The expression with the numbers of these symbols in their place; `None` where it is too large.
    pub fn bind(&self, symbols: &Symbols) -> Option<Expr> {
        self.replaced(&|name| Some(Expr::from(i64::try_from(*symbols.get(name)?).ok()?)))
    }

    /// The expression with other names of integers that nodes compute.
    pub fn renamed(&self, names: &FxHashMap<Arc<str>, Arc<str>>) -> Expr {
        let name = |name: &Arc<str>| names.get(name).map(|name| Expr::computed(Arc::clone(name)));
        self.replaced(&name).unwrap_or_else(|| self.clone())
    }

    /// The expression with others in place of symbols, where there are some; `None` where it is too large.
    fn replaced(&self, other: &dyn Fn(&Arc<str>) -> Option<Expr>) -> Option<Expr> {
        let mut sum = Expr::default();
        for (factors, &n) in &self.terms {
            let mut product = Expr::from(n);
            for factor in factors {
                let factor = match factor {
                    Factor::Symbol(name) | Factor::Computed(name) => {
                        other(name).unwrap_or_else(|| Expr::of(factor.clone()))
                    }
                    Factor::Quotient(of, by) => of.replaced(other)?.floor_div(*by)?,
                    Factor::Positive(of) => of.replaced(other)?.larger(&Expr::default())?,
                };
                product = product.times(&factor)?;
            }
            sum = sum.plus(&product)?;
        }
        Some(sum)
    }

    /// The sum as a list of products for a writer: each a coefficient and factors.
    pub fn products(&self) -> impl Iterator<Item = (i64, impl Iterator<Item = Part<'_>>)> {
        self.terms.iter().map(|(factors, &n)| {
            let parts = factors.iter().map(|f| match f {
                Factor::Symbol(name) => Part::Symbol(name),
                Factor::Computed(name) => Part::Computed(name),
                Factor::Quotient(of, by) => Part::Quotient(of, *by),
                Factor::Positive(of) => Part::Positive(of),
            });
            (n, parts)
        })
    }
}

/// A factor of a product, see [`Expr::products`].
#[derive(Clone, Copy, Debug)]
pub enum Part<'e> {
    /// An open extent.
    Symbol(&'e Arc<str>),
    /// An integer that a node defines.
    Computed(&'e Arc<str>),
    /// The quotient of an expression and a positive number, rounded down.
    Quotient(&'e Expr, i64),
    /// An expression, or 0 where it is negative.
    Positive(&'e Expr),
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.terms.is_empty() {
            return f.write_str("0");
        }
        // Products of more factors come first, numbers last.
        let mut terms: Vec<_> = self.terms.iter().collect();
        terms.sort_by_key(|(factors, _)| std::cmp::Reverse(factors.len()));
        for (i, (factors, n)) in terms.into_iter().enumerate() {
            let sign = if *n < 0 {
                "-"
            } else if i == 0 {
                ""
            } else {
                "+"
            };
            f.write_str(sign)?;
            let n = n.unsigned_abs();
            if n != 1 || factors.is_empty() {
                write!(f, "{n}{}", if factors.is_empty() { "" } else { "*" })?;
            }
            for (i, factor) in factors.iter().enumerate() {
                f.write_str(if i == 0 { "" } else { "*" })?;
                match factor {
                    Factor::Symbol(name) => name_of(f, "", name)?,
                    Factor::Computed(name) => name_of(f, "$", name)?,
                    Factor::Quotient(of, by) if of.terms.len() == 1 => write!(f, "floor({of}/{by})")?,
                    Factor::Quotient(of, by) => write!(f, "floor(({of})/{by})")?,
                    Factor::Positive(of) => write!(f, "max(0,{of})")?,
                }
            }
        }
        Ok(())
    }
}

fn name_of(f: &mut fmt::Formatter<'_>, mark: &str, name: &str) -> fmt::Result {
    if is_word(name) { write!(f, "{mark}{name}") } else { write!(f, "{mark}'{}'", name.replace('\'', "''")) }
}

fn is_word(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(in_word)
}

fn in_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

impl serde::Serialize for Expr {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Expr {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A text that is no expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no expression of extents")]
pub struct NoExpr(String);

impl FromStr for Expr {
    type Err = NoExpr;

    /// Reads what `Display` writes.
    fn from_str(text: &str) -> Result<Self, NoExpr> {
        let mut reader = Reader { rest: text };
        let read = reader.sum(0).filter(|_| reader.rest.is_empty());
        read.ok_or_else(|| NoExpr(text.into()))
    }
}

struct Reader<'t> {
    rest: &'t str,
}

impl Reader<'_> {
    fn accept(&mut self, token: &str) -> bool {
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn sum(&mut self, depth: usize) -> Option<Expr> {
        let mut sum = Expr::default();
        let mut minus = self.accept("-");
        loop {
            let product = self.product(depth)?;
            sum = if minus { sum.minus(&product)? } else { sum.plus(&product)? };
            minus = self.accept("-");
            if !minus && !self.accept("+") {
                return Some(sum);
            }
        }
    }

    fn product(&mut self, depth: usize) -> Option<Expr> {
        let mut product = self.factor(depth)?;
        while self.accept("*") {
            product = product.times(&self.factor(depth)?)?;
        }
        Some(product)
    }

    fn factor(&mut self, depth: usize) -> Option<Expr> {
        if depth > DEEPEST {
            return None;
        }
        if self.accept("(") {
            let inner = self.sum(depth + 1)?;
            return self.accept(")").then_some(inner);
        }
        if self.accept("floor(") {
            let of = self.sum(depth + 1)?;
            let by = if self.accept("/") { self.number()? } else { return None };
            return if self.accept(")") { of.floor_div(by) } else { None };
        }
        if self.accept("max(") {
            let a = self.sum(depth + 1)?;
            let b = if self.accept(",") { self.sum(depth + 1)? } else { return None };
            return if self.accept(")") { a.larger(&b) } else { None };
        }
        if self.rest.starts_with(|c: char| c.is_ascii_digit()) {
            return Some(Expr::from(self.number()?));
        }
        match self.accept("$") {
            true => self.name().map(Expr::computed),
            false => self.name().map(Expr::symbol),
        }
    }

    fn name(&mut self) -> Option<String> {
        if self.accept("'") {
            // A quote in the name is doubled.
            let mut name = String::new();
            loop {
                let (part, rest) = self.rest.split_once('\'')?;
                name.push_str(part);
                self.rest = rest;
                if !self.accept("'") {
                    return Some(name);
                }
                name.push('\'');
            }
        }
        self.word().filter(|word| is_word(word)).map(String::from)
    }

    fn number(&mut self) -> Option<i64> {
        self.word()?.parse().ok()
    }

    fn word(&mut self) -> Option<&str> {
        let (word, rest) = self.rest.split_at(self.rest.find(|c| !in_word(c)).unwrap_or(self.rest.len()));
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }
}

/// The greatest common divisor of a positive number and another.
fn gcd(a: i64, b: i64) -> i64 {
    let (mut a, mut b) = (a.unsigned_abs(), b.unsigned_abs());
    while b > 0 {
        (a, b) = (b, a % b);
    }
    i64::try_from(a).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn e(text: &str) -> Expr {
        text.parse().unwrap()
    }

    #[test]
    fn equal_expressions_have_one_form() {
        let same = [
            ("n+m", "m+n"),
            ("2*n-n", "n"),
            ("(n+1)*(n-1)", "n*n-1"),
            ("floor((2*n+3)/2)", "n+1"),
            ("floor(floor(n/2)/2)", "floor(n/4)"),
            ("floor((floor((n-1)/2)+1-1)/2)", "floor((n-1)/4)"),
            ("floor(-n/2)", "-floor((n+1)/2)"),
            ("floor((3-n)/4)", "-floor(n/4)"),
            ("n-n", "0"),
            ("n+max(0,256-n)", "max(n,256)"),
            ("max(n,m)", "max(m,n)"),
        ];
        for (a, b) in same {
            assert_eq!(e(a), e(b), "{a}");
        }
        assert_ne!(e("2*floor(n/2)"), e("n"));
        assert_eq!((e("n").as_symbol().map(|s| &**s), e("n+1").as_symbol()), (Some("n"), None));
        assert_eq!((e("7").constant(), e("n").constant(), e("0").constant()), (Some(7), None, Some(0)));
    }

    #[test]
    fn multiples_of_one_symbol_are_linear() {
        let linear = |text: &str| e(text).linear().map(|(name, by, summand)| (name.to_string(), by, summand));
        assert_eq!(linear("n"), Some(("n".into(), 1, 0)));
        assert_eq!(linear("8*n-3"), Some(("n".into(), 8, -3)));
        assert_eq!(linear("2*$z+1"), Some(("z".into(), 2, 1)));
        for other in ["4", "-n", "n+m", "n*n", "2*n*m", "floor(n/2)", "max(n,3)"] {
            assert_eq!(linear(other), None, "{other}");
        }
    }

    #[test]
    fn names_are_quoted_where_needed() {
        for name in ["n", "batch size", "a'b", "n-1", "floor", "1st", ""] {
            let sum = Expr::symbol(name).plus(&Expr::from(1)).unwrap();
            assert_eq!(e(&sum.to_string()), sum);
            let sum = Expr::computed(name).plus(&Expr::symbol(name)).unwrap();
            assert_eq!((e(&sum.to_string()), sum.size()), (sum, 4));
        }
    }

    #[test]
    fn damaged_text_is_no_expression() {
        for text in
            ["", "n+", "(n", "floor(n)", "floor(n/0)", "n//2", "'n", &"(".repeat(10_000), "99999999999999999999"]
        {
            assert!(text.parse::<Expr>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_exact_quotients_are_divisions() {
        let exact = |a, b| e(a).exact_div(&e(b)).map(|q| q.to_string());
        assert_eq!(exact("64*b*s", "b*s").as_deref(), Some("64"));
        assert_eq!(exact("b*s*64+b*64", "s+1").as_deref(), Some("64*b"));
        assert_eq!(exact("n*n-1", "n+1").as_deref(), Some("n-1"));
        assert_eq!((exact("n+1", "2"), exact("n", "m"), exact("n", "0")), (None, None, None));
    }

    fn expressions() -> impl Strategy<Value = Expr> {
        let leaf =
            prop_oneof![(-9i64..10).prop_map(Expr::from), "[nmk]".prop_map(Expr::symbol), Just(Expr::computed("z"))];
        leaf.prop_recursive(4, 24, 2, |inner| {
            prop_oneof![
                (inner.clone(), inner.clone()).prop_filter_map("large", |(a, b)| a.plus(&b)),
                (inner.clone(), inner.clone()).prop_filter_map("large", |(a, b)| a.minus(&b)),
                (inner.clone(), inner.clone()).prop_filter_map("large", |(a, b)| a.times(&b)),
                (inner.clone(), inner.clone()).prop_filter_map("large", |(a, b)| a.larger(&b)),
                (inner, 1i64..5).prop_filter_map("large", |(a, by)| a.floor_div(by)),
            ]
        })
    }

    proptest! {
        #[test]
        fn arithmetic_agrees_with_numbers(a in expressions(), b in expressions(), n in 0usize..50, m in 0usize..50, z in 0usize..9, by in 1i64..9) {
            let symbols = Symbols::from_iter([("n".into(), n), ("m".into(), m), ("k".into(), 3), ("z".into(), z)]);
            let at = |e: &Expr| e.value(&symbols);
            let (Some(x), Some(y)) = (at(&a), at(&b)) else { return Ok(()) };
            if let Some(sum) = a.plus(&b) { prop_assert_eq!(at(&sum), x.checked_add(y)); }
            if let Some(difference) = a.minus(&b) { prop_assert_eq!(at(&difference), x.checked_sub(y)); }
            if let (Some(product), Some(xy)) = (a.times(&b), x.checked_mul(y))
                && let Some(found) = at(&product) { prop_assert_eq!(found, xy); }
            if let Some(larger) = a.larger(&b)
                && n > 0 && m > 0 && let Some(found) = at(&larger) { prop_assert_eq!(found, x.max(y)); }
            if let Some(smaller) = a.smaller(&b)
                && n > 0 && m > 0 && let Some(found) = at(&smaller) { prop_assert_eq!(found, x.min(y)); }
            if let Some(quotient) = a.floor_div(by)
                && let Some(found) = at(&quotient) { prop_assert_eq!(found, x.div_euclid(by)); }
            if let Some(quotient) = a.exact_div(&b)
                && y != 0 && let Some(found) = at(&quotient) { prop_assert_eq!(found.checked_mul(y), Some(x)); }
            let only = Symbols::from_iter([("n".into(), n), ("z".into(), z)]);
            if n > 0 && m > 0 && let Some(partly) = a.bind(&only) { prop_assert_eq!(at(&partly), Some(x)); }
            let (low, high) = a.bounds();
            if n > 0 && m > 0 {
                prop_assert!(low.is_none_or(|low| low <= x) && high.is_none_or(|high| high >= x));
            }
            prop_assert_eq!(a.to_string().parse::<Expr>(), Ok(a));
        }
    }
}
