//! Padding by which a window takes as many steps as the extent divided by the stride, rounded up.

use qcc_ir::ops::{Extents, OpenSlice, Pad, PadMode};
use qcc_ir::{Dim, Expr, ValueId};

use super::Build;
use super::window::Window;
use crate::refusal::Refusal;

/// The end of an axis that has the odd element of the padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Odd {
    Before,
    After,
}

impl Odd {
    fn halve(self, total: usize) -> [usize; 2] {
        match self {
            Odd::After => [total / 2, total - total / 2],
            Odd::Before => [total - total / 2, total / 2],
        }
    }
}

/// The padding before and after an axis where it is the same for all extents that the axis may have. More of it may be after
/// the axis than some of them need, but no window begins there.
pub(crate) fn same_padding(image: &Dim, reach: usize, stride: usize, odd: Odd) -> Option<[usize; 2]> {
    let needed = |extent| needed(extent, reach, stride, odd);
    if let Some(extent) = image.known() {
        return Some(needed(extent));
    }
    let covered = covered(&image.expr(), reach, stride)?;
    if let Some(total) = covered.minus(&image.expr())?.constant() {
        return Some(odd.halve(usize::try_from(total).unwrap_or(0)));
    }
    // It depends on the remainder of the extent.
    let [before, after] = most(reach, stride, odd);
    let suits = |extent: usize| {
        let steps = (extent + before + after).checked_sub(reach).map(|room| room / stride + 1);
        needed(extent)[0] == before && steps == Some(extent.div_ceil(stride))
    };
    (reach..reach + stride).all(suits).then_some([before, after])
}

/// The padding before and after an axis of this extent.
fn needed(extent: usize, reach: usize, stride: usize, odd: Odd) -> [usize; 2] {
    let steps = extent.div_ceil(stride).max(1);
    odd.halve(((steps - 1) * stride + reach).saturating_sub(extent))
}

/// The most padding before and after an axis of any extent.
fn most(reach: usize, stride: usize, odd: Odd) -> [usize; 2] {
    let of = |extent| needed(extent, reach, stride, odd);
    (1..=stride).map(of).fold([0, 0], |[a, b], [c, d]| [a.max(c), b.max(d)])
}

/// The elements that all steps cover.
fn covered(image: &Expr, reach: usize, stride: usize) -> Option<Expr> {
    let (reach, stride) = (i64::try_from(reach).ok()?, i64::try_from(stride).ok()?);
    let steps = image.plus(&(stride - 1).into())?.floor_div(stride)?;
    steps.plus(&(-1).into())?.times(&stride.into())?.plus(&reach.into())
}

/// Gives the window its padding for the image `x`. Where that depends on an open extent, the result is the padded image, whose
/// padding has the value `fill`, and the window has none along that axis.
///
/// # Errors
/// If it depends on an open extent, and no value is the same as padding.
pub(crate) fn same(
    n: &mut impl Build,
    mut x: ValueId,
    window: &mut Window,
    odd: Odd,
    fill: Option<f32>,
) -> Result<ValueId, Refusal> {
    let image = n.shape(x).dims().get(2..).unwrap_or_default().to_vec();
    if image.len() != window.kernel.len() || window.stride.contains(&0) {
        return Err(Refusal::Invalid(format!("a window {:?} for {}", window.kernel, n.ty(x))));
    }
    for (i, extent) in image.iter().enumerate() {
        let (reach, stride) = (window.reach(i), window.stride[i]);
        [window.before[i], window.after[i]] = match same_padding(extent, reach, stride, odd) {
            Some(padding) => padding,
            None => {
                let open = || Refusal::Open(image.iter().cloned().collect());
                let fill = fill.filter(|_| n.ty(x).elem.is_float()).ok_or_else(open)?;
                let cut = cut(extent, 2 + i, [reach, stride], odd).ok_or_else(open)?;
                x = padded(n, x, 2 + i, most(reach, stride, odd), fill)?;
                x = n.add(cut, &[x])?;
                [0, 0]
            }
        };
    }
    Ok(x)
}

/// The image with padding along one axis.
fn padded(n: &mut impl Build, x: ValueId, axis: usize, pads: [usize; 2], fill: f32) -> Result<ValueId, Refusal> {
    let along = |pad: usize| (0..n.rank(x)).map(|a| if a == axis { pad } else { 0 }).collect::<Extents>();
    let [before, after] = pads.map(along);
    n.add(Pad { before, after, mode: PadMode::Constant(fill) }, &[x])
}

/// What the windows cover of an axis of this extent with the most padding.
fn cut(extent: &Dim, axis: usize, [reach, stride]: [usize; 2], odd: Odd) -> Option<OpenSlice> {
    let image = extent.expr();
    let len = covered(&image, reach, stride)?;
    let total = len.minus(&image)?.larger(&Expr::from(0))?;
    let less = total.floor_div(2)?;
    let before = if odd == Odd::After { less } else { total.minus(&less)? };
    let start = Expr::from(i64::try_from(most(reach, stride, odd)[0]).ok()?).minus(&before)?;
    Some(OpenSlice { axis, start, len })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_of_open_extents_is_known_where_it_is_the_same() {
        let padding = |image: &str, reach, stride| {
            same_padding(&Dim::of(image.parse().unwrap()).unwrap(), reach, stride, Odd::After)
        };
        assert_eq!(padding("h", 3, 1), Some([1, 1]));
        assert_eq!(padding("2*h", 3, 2), Some([0, 1]));
        assert_eq!(padding("4*h", 2, 4), Some([0, 0]));
        assert_eq!(padding("h", 2, 2), Some([0, 1]));
        assert_eq!(padding("h", 1, 2), Some([0, 0]));
        assert_eq!(padding("h", 3, 2), None);
        assert_eq!(padding("h", 3, 3), None);
        assert_eq!(same_padding(&Dim::Known(7), 3, 2, Odd::After), Some([1, 1]));
        assert_eq!(same_padding(&Dim::Known(8), 3, 2, Odd::After), Some([0, 1]));
        assert_eq!(same_padding(&Dim::Known(8), 3, 2, Odd::Before), Some([1, 0]));
    }

    /// Padding of open extents gives each window what padding of that extent does.
    #[test]
    fn padding_that_depends_on_an_extent_gives_the_same_windows() {
        let open = Dim::symbol("n");
        for (reach, stride) in (1..8).flat_map(|reach| (1..5).map(move |stride| (reach, stride))) {
            for odd in [Odd::Before, Odd::After] {
                let most = most(reach, stride, odd);
                for extent in reach.max(1)..30 {
                    let known = same_padding(&Dim::Known(extent), reach, stride, odd).unwrap();
                    let steps = extent.div_ceil(stride);
                    assert_eq!((extent + known[0] + known[1]).saturating_sub(reach) / stride + 1, steps);
                    // Where the first window begins, and how many there are.
                    let (begin, there) = match same_padding(&open, reach, stride, odd) {
                        Some([before, after]) => (before, (extent + before + after - reach) / stride + 1),
                        None => {
                            let symbols = [("n".into(), extent)].into_iter().collect();
                            let cut = cut(&open, 2, [reach, stride], odd).unwrap();
                            let [start, len] =
                                [cut.start, cut.len].map(|e| Dim::of(e).map_or(0, |d| d.bind(&symbols).unwrap()));
                            assert!(start + len <= extent + most[0] + most[1], "{reach} {stride} {extent}");
                            (most[0] - start, (len - reach) / stride + 1)
                        }
                    };
                    assert_eq!((begin, there), (known[0], steps), "{reach} {stride} {extent} {odd:?}");
                }
            }
        }
    }
}
