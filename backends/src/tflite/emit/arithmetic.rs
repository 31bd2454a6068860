//! Operators that compute with extents at run time.

use qcc_formats::tflite::{
    Add, BuiltinOperator, Cast, Concatenation, Mul, Options, OptionsType, ShapeOf, StridedSlice, Tensor,
    TensorType as Stored,
};
use qcc_ir::{Dim, Elem, Expr, Graph, Shape, TensorType, ValueId};
use rustc_hash::FxHashMap;

use super::{Emitter, stored};
use crate::extents::Arithmetic;

impl Emitter<'_> {
    /// As many zeros as a list of integers has, computed from it at run time.
    pub(in crate::tflite) fn zeros(&mut self, list: i32, count: usize) -> i32 {
        let zero = self.indices(&[0]);
        self.computed(BuiltinOperator::MUL, Mul::default(), &[list, zero], count)
    }

    /// Element `i` of a list of integers.
    fn at(&mut self, list: i32, i: usize) -> i32 {
        let inputs = [list, self.indices(&[i as i32]), self.indices(&[i as i32 + 1]), self.indices(&[1])];
        let options = StridedSlice::default();
        self.computed(BuiltinOperator::STRIDED_SLICE, options, &inputs, 1)
    }

    /// The first extent of a tensor of a rank, computed at run time.
    pub(in crate::tflite) fn first_extent(&mut self, x: i32, rank: usize) -> i32 {
        let all = self.extents(x, rank);
        self.at(all, 0)
    }

    /// The extents of a tensor of a rank, computed at run time.
    fn extents(&mut self, x: i32, rank: usize) -> i32 {
        let options = ShapeOf { output: Stored::INT32 };
        self.computed(BuiltinOperator::SHAPE, options, &[x], rank)
    }

    /// An operator that computes `count` extents.
    fn computed(&mut self, op: BuiltinOperator, options: impl Into<Options>, inputs: &[i32], count: usize) -> i32 {
        let name = self.unique("extents");
        let ty = TensorType::new(Elem::I32, Shape::known(&[count]));
        let result = self.push(Tensor { name, ..self.describe(&ty) });
        self.push_operator(op, 1, options, inputs, &[result]);
        result
    }
}

impl Arithmetic for Emitter<'_> {
    type Value = i32;

    fn graph(&self) -> &Graph {
        self.graph
    }

    fn numbers(&mut self, values: &[i64]) -> i32 {
        let narrow: Vec<i32> = values.iter().map(|&n| n as i32).collect();
        self.indices(&narrow)
    }

    fn extent(&mut self, v: ValueId, axis: usize) -> i32 {
        let (x, ty) = (self.tensor(v), self.graph.ty(v));
        let all = self.extents(x, ty.rank());
        self.at(all, ty.layout.position(axis))
    }

    fn element(&mut self, v: ValueId, i: usize) -> i32 {
        let (mut x, ty) = (self.tensor(v), self.graph.ty(v));
        if ty.elem != Elem::I32 {
            let options = Cast { from: stored(&ty.elem), to: Stored::INT32 };
            x = self.computed(BuiltinOperator::CAST, options, &[x], ty.shape.elements().unwrap_or(1));
        }
        match ty.shape.dims() {
            [Dim::Known(1)] => x,
            [] => {
                let shape = self.indices(&[1]);
                let options = Options::Other(OptionsType::RESHAPE);
                self.computed(BuiltinOperator::RESHAPE, options, &[x, shape], 1)
            }
            _ => self.at(x, i),
        }
    }

    fn sum(&mut self, a: &i32, b: &i32) -> i32 {
        self.computed(BuiltinOperator::ADD, Add::default(), &[*a, *b], 1)
    }

    fn product(&mut self, a: &i32, b: &i32) -> i32 {
        self.computed(BuiltinOperator::MUL, Mul::default(), &[*a, *b], 1)
    }

    fn quotient(&mut self, a: &i32, b: &i32) -> i32 {
        let options = Options::Other(OptionsType::FLOOR_DIV);
        self.computed(BuiltinOperator::FLOOR_DIV, options, &[*a, *b], 1)
    }

    fn larger(&mut self, a: &i32, b: &i32) -> i32 {
        let options = Options::Other(OptionsType::MAXIMUM_MINIMUM);
        self.computed(BuiltinOperator::MAXIMUM, options, &[*a, *b], 1)
    }

    fn smaller(&mut self, a: &i32, b: &i32) -> i32 {
        let options = Options::Other(OptionsType::MAXIMUM_MINIMUM);
        self.computed(BuiltinOperator::MINIMUM, options, &[*a, *b], 1)
    }

    fn join(&mut self, parts: &[i32], count: usize) -> i32 {
        let options = Concatenation::default();
        self.computed(BuiltinOperator::CONCATENATION, options, parts, count)
    }

    fn known(&mut self) -> &mut FxHashMap<Expr, i32> {
        &mut self.scope.extents
    }
}
