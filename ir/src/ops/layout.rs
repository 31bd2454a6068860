//! Propagation of layouts through operators that move no bytes, and of quantization parameters through operators that
//! do not change stored integers.

use smallvec::SmallVec;

use super::{ArgReduce, Gather, LayoutRule, Op, PoolFn, QuantRule, Reduce, ResizeMode, Transpose};
use crate::types::{Affine, Dim, Layout, QuantParams, Shape, TensorType};

type Order = SmallVec<[usize; 8]>;

impl Op {
    /// True where the operator is a convolution or a matrix product.
    pub fn is_contraction(&self) -> bool {
        matches!(self.quant_rule(), QuantRule::Contraction { .. })
    }

    /// The layout that results of shape `result` have when operand 0 has type `x` and no bytes are moved; `None` where
    /// bytes must be moved.
    pub fn carried(&self, x: &TensorType, result: &Shape) -> Option<Layout> {
        match self {
            Op::Transpose(op) => Some(op.carry(&x.layout)),
            Op::Reshape(_) => x.layout.reshaped(&x.shape, result),
            Op::Reduce(Reduce { axes, keep: false, .. }) => Some(without(&x.layout, axes)),
            Op::ArgReduce(ArgReduce { axis, keep: false, .. }) => Some(without(&x.layout, &[*axis])),
            Op::Gather(op) => Some(op.carry(&x.layout, (result.rank() + 1).checked_sub(x.rank())?)),
            _ if self.layout() == LayoutRule::RowMajor => {
                x.layout.is_row_major().then(|| Layout::row_major(result.rank()))
            }
            _ => (x.rank() == result.rank()).then(|| x.layout.clone()),
        }
    }

    /// The quantization parameters of a result of shape `result` that contains the stored integers of a quantized
    /// operand of type `x`; `None` where its scales are not along an axis of the result.
    pub fn carried_qparams(&self, x: &TensorType, result: &Shape) -> Option<QuantParams> {
        let qparams = x.elem.qparams()?;
        let (axis, scales) = match &qparams.map {
            Affine::PerTensor { .. } => return Some(qparams.clone()),
            Affine::PerAxis { axis, scales } => (axis, scales),
            Affine::PerBlock { .. } => return None,
        };
        let (from, to) = (x.shape.dims(), result.dims());
        let moved = match self {
            Op::Transpose(op) => op.perm.iter().position(|p| p == axis)?,
            Op::Reshape(_) => {
                let before = |dims: &[Dim]| dims.iter().map(Dim::known).product::<Option<usize>>();
                (0..to.len()).find(|&i| to[i] == from[*axis] && before(&to[..i]) == before(&from[..*axis]))?
            }
            Op::Slice(op) if op.ranges.iter().all(|r| r.axis != *axis) => *axis,
            Op::Gather(op) if *axis < op.axis => *axis,
            Op::Gather(op) if *axis > op.axis => *axis + to.len() - from.len(),
            Op::Relayout(_) => *axis,
            _ => return None,
        };
        Some(QuantParams::per_axis(qparams.storage, moved, scales.clone()))
    }

    /// True for operators that can be applied to the stored integers in place of the values they represent.
    pub fn carries_integers(&self) -> bool {
        let computes = match self {
            Op::Resize(r) => !matches!(r.mode, ResizeMode::Nearest(_)),
            Op::Pool(p) => p.f == PoolFn::Average,
            _ => false,
        };
        matches!(self.quant_rule(), QuantRule::SameAsInput | QuantRule::SharedScale) && !computes
    }
}

impl Transpose {
    /// The layout of the result, given the operand's `layout`, when no bytes are moved.
    pub fn carry(&self, layout: &Layout) -> Layout {
        let axis = |a: usize| self.perm.iter().position(|&p| p == a).unwrap_or(a);
        layout.order().map(axis).collect()
    }

    /// The layout of the operand, given the result's `layout`, when no bytes are moved.
    pub fn carry_back(&self, layout: &Layout) -> Layout {
        layout.order().map(|a| self.perm[a]).collect()
    }
}

impl Gather {
    /// The `count` axes of the index replace the gathered axis.
    fn carry(&self, layout: &Layout, count: usize) -> Layout {
        layout
            .order()
            .flat_map(|a| match a.cmp(&self.axis) {
                std::cmp::Ordering::Less => a..a + 1,
                std::cmp::Ordering::Equal => a..a + count,
                std::cmp::Ordering::Greater => a + count - 1..a + count,
            })
            .collect()
    }
}

/// The order of the remaining axes.
fn without(layout: &Layout, axes: &[usize]) -> Layout {
    let kept = layout.order().filter(|a| !axes.contains(a));
    kept.map(|a| a - axes.iter().filter(|&&r| r < a).count()).collect()
}

impl Layout {
    /// The layout that a tensor of shape `from` in this layout has after a reshape to `to` that moves no bytes; `None`
    /// where bytes must be moved.
    ///
    /// No bytes are moved where each group of axes that are merged or split is contiguous and in order.
    pub fn reshaped(&self, from: &Shape, to: &Shape) -> Option<Layout> {
        if self.same_bytes(&Layout::row_major(from.rank()), from) {
            return Some(Layout::row_major(to.rank()));
        }
        let runs = runs(from, to)?;
        let mut wide = self.order().filter(|&a| from.dims()[a] != Dim::Known(1));
        let mut order = Order::new();
        while let Some(first) = wide.next() {
            let (old, new) = runs.iter().find(|(old, _)| old[0] == first)?;
            if !old[1..].iter().all(|&a| wide.next() == Some(a)) {
                return None;
            }
            order.extend_from_slice(new);
        }
        // The position of axes of extent 1 is free: as in a usual layout, else outermost.
        let usual = [Layout::row_major(to.rank()), Layout::channels_last(to.rank())];
        let same = |l: &Layout| l.order().filter(|a| order.contains(a)).eq(order.iter().copied());
        let padded = || (0..to.rank()).filter(|a| !order.contains(a)).chain(order.iter().copied()).collect();
        Some(usual.into_iter().find(same).unwrap_or_else(padded))
    }
}

/// The shortest groups of axes (without those of extent 1) that have the same number of elements in both shapes.
fn runs(from: &Shape, to: &Shape) -> Option<Vec<(Order, Order)>> {
    let wide = |s: &Shape| -> Order { (0..s.rank()).filter(|&a| s.dims()[a] != Dim::Known(1)).collect() };
    let (old, new) = (wide(from), wide(to));
    let (mut i, mut j) = (0, 0);
    let mut runs = Vec::new();
    while i < old.len() && j < new.len() {
        let (first, second) = (i, j);
        let (mut a, mut b) = (from.dims()[old[i]].clone(), to.dims()[new[j]].clone());
        while a != b {
            let (x, y) = (a.known()?, b.known()?);
            if x < y {
                i += 1;
                a = Dim::Known(x * from.dims()[*old.get(i)?].known()?);
            } else {
                j += 1;
                b = Dim::Known(y * to.dims()[*new.get(j)?].known()?);
            }
        }
        (i, j) = (i + 1, j + 1);
        runs.push((Order::from_slice(&old[first..i]), Order::from_slice(&new[second..j])));
    }
    (i == old.len() && j == new.len()).then_some(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(order: &[usize]) -> Layout {
        order.iter().copied().collect()
    }

    #[test]
    fn reshape_keeps_contiguous_axes() {
        type Case<'a> = (&'a [usize], &'a [usize], &'a [usize], Option<&'a [usize]>);
        let cases: [Case<'_>; 9] = [
            // Merged spatial axes of a channels-last image.
            (&[2, 8, 4, 5], &[0, 2, 3, 1], &[2, 8, 20], Some(&[0, 2, 1])),
            // Split channels.
            (&[2, 8, 4, 5], &[0, 2, 3, 1], &[2, 2, 4, 20], Some(&[0, 3, 1, 2])),
            // To flatten an image, bytes must be moved,
            (&[2, 8, 4, 5], &[0, 2, 3, 1], &[2, 160], None),
            // unless it is one pixel.
            (&[2, 8, 1, 1], &[0, 2, 3, 1], &[2, 8], Some(&[0, 1])),
            // Axes of extent 1 are added and removed.
            (&[2, 8, 5], &[0, 2, 1], &[2, 8, 1, 5], Some(&[0, 2, 3, 1])),
            (&[2, 8, 1, 5], &[0, 2, 3, 1], &[2, 8, 5], Some(&[0, 2, 1])),
            // Channels merged with height.
            (&[2, 8, 4, 5], &[0, 2, 3, 1], &[2, 32, 5], None),
            (&[2, 8, 4, 5], &[0, 1, 2, 3], &[2, 32, 5], Some(&[0, 1, 2])),
            // Axes that change on both sides.
            (&[6, 4, 3], &[2, 0, 1], &[8, 3, 3], Some(&[2, 0, 1])),
        ];
        for (from, order, to, expected) in cases {
            let found = layout(order).reshaped(&Shape::known(from), &Shape::known(to));
            assert_eq!(found, expected.map(layout), "{from:?} in {order:?} to {to:?}");
        }
    }

    #[test]
    fn dropped_and_gathered_axes() {
        let x = TensorType { layout: Layout::channels_last(4), ..TensorType::f32(&[2, 8, 4, 5]) };
        let mean = Reduce { f: super::super::ReduceFn::Mean, axes: [2, 3].into_iter().collect(), keep: false };
        assert_eq!(Op::from(mean).carried(&x, &Shape::known(&[2, 8])), Some(layout(&[0, 1])));
        let arg = ArgReduce { axis: 1, largest: true, keep: false };
        assert_eq!(Op::from(arg).carried(&x, &Shape::known(&[2, 4, 5])), Some(layout(&[0, 1, 2])));
        let pick = |shape: &[usize]| Op::from(Gather { axis: 1 }).carried(&x, &Shape::known(shape));
        assert_eq!(pick(&[2, 3, 4, 5]), Some(layout(&[0, 2, 3, 1])));
        assert_eq!(pick(&[2, 4, 5]), Some(layout(&[0, 1, 2])));
        assert_eq!(pick(&[2, 3, 3, 4, 5]), Some(layout(&[0, 3, 4, 1, 2])));
    }

    #[test]
    fn scales_follow_their_axis() {
        let qparams = QuantParams::per_axis(crate::types::StorageType::I8, 1, vec![1.0, 2.0, 3.0]);
        let x = TensorType::new(crate::types::Elem::Quantized(qparams), Shape::known(&[2, 3, 4]));
        let axis = |op: Op, result: &[usize]| match op.carried_qparams(&x, &Shape::known(result))?.map {
            Affine::PerAxis { axis, .. } => Some(axis),
            Affine::PerTensor { .. } | Affine::PerBlock { .. } => None,
        };
        let transpose = Transpose { perm: [2, 0, 1].into_iter().collect() };
        assert_eq!(axis(transpose.into(), &[4, 2, 3]), Some(2));
        let reshape = |dims: &[usize]| axis(super::super::Reshape { shape: Shape::known(dims) }.into(), dims);
        assert_eq!(reshape(&[1, 2, 3, 2, 2]), Some(2));
        assert_eq!(reshape(&[6, 4]), None);
        assert_eq!(axis(super::super::Reverse { axes: [1].into_iter().collect() }.into(), &[2, 3, 4]), None);
    }

    #[test]
    fn transpose_there_and_back() {
        let t = Transpose { perm: [0, 2, 3, 1].into_iter().collect() };
        assert_eq!(t.carry(&Layout::channels_last(4)), Layout::row_major(4));
        assert_eq!(t.carry_back(&Layout::row_major(4)), Layout::channels_last(4));
    }
}
