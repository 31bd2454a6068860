//! Operands that are integers: shapes, positions, axes.

use qcc_ir::{Expr, Shape, Tensor, ValueId};

use super::Build;
use super::computed::{self, shape_of};
use super::symbolic::whole;
use crate::refusal::Refusal;

/// A source node whose operands can be read one by one.
pub(crate) trait Operands: Build + Sized {
    /// Operand `i`, if given.
    fn operand(&mut self, i: usize) -> Result<Option<ValueId>, Refusal>;

    /// What the source calls operand `i`.
    fn operand_name(&self, i: usize) -> String;

    /// The constant at operand `i`, if given.
    fn optional_constant(&mut self, i: usize) -> Result<Option<Tensor>, Refusal> {
        let Some(v) = self.operand(i)? else { return Ok(None) };
        match self.constant(v) {
            Some(t) => Ok(Some(t.clone())),
            None => Err(Refusal::NotConstant { index: i, name: self.operand_name(i) }),
        }
    }

    /// The first number of the constant at operand `i`, if given.
    fn optional_number(&mut self, i: usize) -> Result<Option<f32>, Refusal> {
        Ok(self.optional_constant(i)?.and_then(|t| t.floats().first().copied()))
    }

    /// The constant integers at operand `i`, if given.
    fn optional_integers(&mut self, i: usize) -> Result<Option<Vec<i64>>, Refusal> {
        let Some(t) = self.optional_constant(i)? else { return Ok(None) };
        t.integers().map(Some).ok_or_else(|| Refusal::Invalid(format!("input {i} is {}; expected integers", t.ty())))
    }

    /// The constant integers at operand `i`.
    fn integers(&mut self, i: usize) -> Result<Vec<i64>, Refusal> {
        self.optional_integers(i)?.ok_or(Refusal::MissingInput(i))
    }

    /// The constant integer at operand `i`.
    fn integer(&mut self, i: usize) -> Result<i64, Refusal> {
        match self.integers(i)?.as_slice() {
            [n] => Ok(*n),
            other => Err(Refusal::Invalid(format!("input {i} has {} elements; expected one", other.len()))),
        }
    }

    /// The integers at operand `i`, if given: constants, or expressions of open extents.
    fn optional_whole(&mut self, i: usize) -> Result<Option<Vec<Expr>>, Refusal> {
        let Some(v) = self.operand(i)? else { return Ok(None) };
        match whole(self.graph(), v) {
            Some(values) => Ok(Some(values)),
            None => Ok(self.optional_integers(i)?.map(|values| values.into_iter().map(Expr::from).collect())),
        }
    }

    /// The integers at operand `i`: constants, or expressions of open extents.
    fn whole(&mut self, i: usize) -> Result<Vec<Expr>, Refusal> {
        self.optional_whole(i)?.ok_or(Refusal::MissingInput(i))
    }

    /// The list of integers at operand `i`, if it is one that is known at run time only.
    fn computed(&mut self, i: usize) -> Result<Option<ValueId>, Refusal> {
        let Some(v) = self.operand(i)? else { return Ok(None) };
        let known = self.constant(v).is_some() || whole(self.graph(), v).is_some();
        Ok((!known && computed::length(self, v).is_some()).then_some(v))
    }

    /// Integers as [`Operands::optional_whole`]; those that are known at run time only are symbols, and must not be
    /// negative.
    fn optional_extents(&mut self, i: usize) -> Result<Option<Vec<Expr>>, Refusal> {
        if let Some(v) = self.computed(i)?
            && let Some(values) = computed::defined(self, v)?
        {
            return Ok(Some(values));
        }
        self.optional_whole(i)
    }

    /// The integers at operand `i`, as [`Operands::optional_extents`].
    fn extents(&mut self, i: usize) -> Result<Vec<Expr>, Refusal> {
        self.optional_extents(i)?.ok_or(Refusal::MissingInput(i))
    }

    /// The shape at operand `i`.
    fn shape_at(&mut self, i: usize) -> Result<Shape, Refusal> {
        shape_of(&self.extents(i)?)
    }
}
