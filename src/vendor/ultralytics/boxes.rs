//! Normalization of boxes for TensorFlow Lite: the Ultralytics library multiplies box coordinates (and keypoints) of
//! TFLite models by the image size, so the model has to output fractions of it.

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::ops::{Binary, BinaryFn, Concat, Op};
use qcc_ir::{Dim, Graph, Shape, Tensor, ValueId, metadata_entry};
use qcc_passes::layout::ImageOrder;
use qcc_passes::{Context, Pass, PassError};

use super::labels;
use super::literal::{Literal, literal};

/// Divides the coordinates in the outputs of a detector by width and height of its input. Other models are unchanged.
/// Detectors with built-in box selection output pixels if their input is N,C,H,W.
pub(super) fn normalize_boxes(input: ImageOrder) -> Box<dyn Pass> {
    Box::new(NormalizeBoxes { input })
}

#[derive(Debug)]
struct NormalizeBoxes {
    input: ImageOrder,
}

/// How the library interprets the rank-3 outputs of a model.
struct Head {
    /// True for selected boxes, `[N, boxes, 4 + score + class ..]`; false for `[N, 4 + classes .., boxes]`.
    selected: bool,
    /// The first row of the keypoints and the number of rows of each: x, y, and possibly a visibility.
    points: Option<(usize, usize)>,
    width: f32,
    height: f32,
}

impl Pass for NormalizeBoxes {
    fn name(&self) -> &'static str {
        "normalize-boxes"
    }

    fn run(&self, g: &mut Graph, cx: &mut Context<'_>) -> Result<(), PassError> {
        // Sources with channels last are normalized already.
        if cx.source.channels_last {
            return Ok(());
        }
        let Some(head) = head(g).filter(|h| !h.selected || self.input == ImageOrder::Nhwc) else { return Ok(()) };
        let axis = if head.selected { 2 } else { 1 };
        let mut changed = Vec::new();
        for i in 0..g.outputs().len() {
            let value = g.outputs()[i].value;
            let Some(rows) = g.ty(value).shape.dims().get(axis).and_then(Dim::known).filter(|&rows| rows > 4) else {
                continue;
            };
            if g.ty(value).rank() == 3 {
                let normalized = scale_rows(g, value, axis, &head.factors(rows))?;
                if normalized != value {
                    changed.push(g.outputs()[i].name.to_string());
                    g.set_output(i, normalized);
                }
            }
        }
        if !changed.is_empty() {
            let message = format!("boxes in output {} are fractions of the picture, not pixels", changed.join(", "));
            let help = "Ultralytics reads TFLite models so; for pixels, multiply x and width by";
            let help = format!("{help} {}, y and height by {}", head.width, head.height);
            cx.diagnostics.push(Diagnostic::warning("box-fractions", message).with_help(help));
        }
        Ok(())
    }
}

/// The head of an Ultralytics detector, according to the model's metadata.
fn head(g: &Graph) -> Option<Head> {
    let said = |key: &str| metadata_entry(&g.metadata, key);
    let task = said("task").filter(|t| ["detect", "segment", "pose", "obb"].contains(t))?;
    said("imgsz")?;
    let &[_, _, Dim::Known(height), Dim::Known(width)] = g.ty(g.inputs().next()?).shape.dims() else { return None };
    // RT-DETR's boxes are fractions already.
    if said("head").is_some_and(|head| head == "RTDETRDecoder") {
        return None;
    }
    let selected = said("end2end") == Some("True") || said("args").is_some_and(|args| args.contains("'nms': True"));
    let first = if selected { 6 } else { 4 + labels(&g.metadata).len().max(1) };
    let points = (task == "pose").then(|| (first, said("kpt_shape").and_then(numbers_of_point).unwrap_or(3)));
    Some(Head { selected, points, width: width as f32, height: height as f32 })
}

/// The second number of the shape of the keypoints (`[17, 3]`): x, y, and possibly a visibility.
fn numbers_of_point(shape: &str) -> Option<usize> {
    let Literal::List(shape) = literal(shape) else { return None };
    match shape.as_slice() {
        [_, Literal::Integer(n)] => usize::try_from(*n).ok().filter(|&n| n >= 2),
        _ => None,
    }
}

impl Head {
    /// The factor of each row: the inverse of the library's.
    fn factors(&self, rows: usize) -> Vec<f32> {
        let of_point = |row: usize| self.points.and_then(|(first, each)| Some(row.checked_sub(first)? % each));
        let factor = |row: usize| match (row, of_point(row)) {
            (0 | 2, _) | (_, Some(0)) => self.width.recip(),
            (1 | 3, _) | (_, Some(1)) => self.height.recip(),
            _ => 1.0,
        };
        (0..rows).map(factor).collect()
    }
}

/// `value` with the rows along `axis` multiplied. If a Concat joins the rows, its operands are multiplied instead, so
/// that none shares quantization parameters with numbers of another magnitude.
fn scale_rows(g: &mut Graph, value: ValueId, axis: usize, factors: &[f32]) -> Result<ValueId, PassError> {
    if factors.iter().all(|&f| f == 1.0) {
        return Ok(value);
    }
    let origin = g.origin(value.node).clone();
    if matches!(g.producer(value), Op::Concat(op) if op.axis == axis) {
        let (mut parts, mut first) = (g.operands(value.node), 0);
        for part in &mut parts {
            let rows = g.ty(*part).shape.dims()[axis].known().unwrap_or(0);
            *part = scale_rows(g, *part, axis, &factors[first..first + rows])?;
            first += rows;
        }
        return Ok(g.add1(Concat { axis }, &parts, origin)?);
    }
    let shape = Shape::known(&[1; 3]).with(axis, factors.len());
    let by = g.add_const(Tensor::from_vec(shape, factors.to_vec()), origin.clone());
    Ok(g.add1(Binary { f: BinaryFn::Mul }, &[value, by], origin)?)
}

#[cfg(test)]
mod tests {
    use qcc_backends::Format;
    use qcc_ir::TensorType;
    use qcc_ir::eval::Executor;
    use qcc_ir::ops::{Extents, Transpose};

    use super::*;

    fn apply(g: &mut Graph, input: ImageOrder) -> Vec<Diagnostic> {
        let mut cx = Context::new(Format::Tflite.target());
        normalize_boxes(input).run(g, &mut cx).unwrap();
        g.sweep();
        g.verify().unwrap();
        cx.diagnostics
    }

    /// The values of the first output for inputs of all ones.
    fn output(g: &Graph) -> Vec<f32> {
        let one = |v| Tensor::from_vec(g.ty(v).shape.clone(), vec![1.0f32; g.ty(v).shape.elements().unwrap()]);
        let inputs: Vec<Tensor> = g.inputs().map(one).collect();
        Executor::new(g).run(&inputs, &mut |_, _| {}).unwrap()[0].floats().into_owned()
    }

    /// A detector with boxes and scores in one output.
    fn detector(task: &str, end2end: &str, rows: usize) -> Graph {
        let mut g = Graph::new("detector");
        g.metadata = [("task", task), ("imgsz", "[4, 8]"), ("end2end", end2end)]
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .to_vec();
        g.add_input("images", TensorType::f32(&[1, 3, 4, 8]));
        let boxes = g.add_input("boxes", TensorType::f32(&[1, 4, 3]));
        let rest = g.add_input("rest", TensorType::f32(&[1, rows - 4, 3]));
        let mut y = g.add1(Concat { axis: 1 }, &[boxes, rest], Default::default()).unwrap();
        if end2end == "True" {
            y = g.add1(Transpose { perm: Extents::from_slice(&[0, 2, 1]) }, &[y], Default::default()).unwrap();
        }
        g.add_output("output0", y);
        g
    }

    /// The divisor of each row.
    fn divisors(task: &str, end2end: &str, rows: usize, input: ImageOrder) -> Vec<f32> {
        let before = detector(task, end2end, rows);
        let mut after = before.clone();
        apply(&mut after, input);
        let step = if end2end == "True" { 1 } else { 3 };
        let (a, b) = (output(&before), output(&after));
        (0..rows).map(|r| (a[r * step] / b[r * step]).round()).collect()
    }

    #[test]
    fn coordinates_become_fractions() {
        assert_eq!(divisors("detect", "False", 6, ImageOrder::Nhwc), [8., 4., 8., 4., 1., 1.]);
        assert_eq!(divisors("detect", "False", 6, ImageOrder::Nchw), [8., 4., 8., 4., 1., 1.]);
        assert_eq!(divisors("pose", "False", 9, ImageOrder::Nhwc), [8., 4., 8., 4., 1., 8., 4., 1., 8.]);
        assert_eq!(divisors("detect", "True", 6, ImageOrder::Nhwc), [8., 4., 8., 4., 1., 1.]);
        assert_eq!(divisors("detect", "True", 6, ImageOrder::Nchw), [1.; 6]);
        assert_eq!(divisors("classify", "False", 6, ImageOrder::Nhwc), [1.; 6]);
    }

    /// Keypoints follow the scores of all classes; the model says how many numbers a point has.
    #[test]
    fn keypoints_follow_the_classes() {
        let divisors = |entries: &[(&str, &str)], rows| {
            let before = {
                let mut g = detector("pose", "False", rows);
                g.metadata.extend(entries.iter().map(|(k, v)| (k.to_string(), v.to_string())));
                g
            };
            let mut after = before.clone();
            apply(&mut after, ImageOrder::Nhwc);
            let (a, b) = (output(&before), output(&after));
            (4..rows).map(|r| (a[r * 3] / b[r * 3]).round()).collect::<Vec<f32>>()
        };
        let names = ("names", "{0: 'a', 1: 'b', 2: 'c'}");
        assert_eq!(divisors(&[names, ("kpt_shape", "[2, 3]")], 13), [1., 1., 1., 8., 4., 1., 8., 4., 1.]);
        assert_eq!(divisors(&[names, ("kpt_shape", "(2, 2)")], 11), [1., 1., 1., 8., 4., 8., 4.]);
        assert_eq!(divisors(&[("kpt_shape", "[2, 2]")], 9), [1., 8., 4., 8., 4.]);
    }

    #[test]
    fn the_batch_may_be_open() {
        let mut g = detector("detect", "False", 6);
        for v in g.order().into_iter().map(|n| n.value(0)).collect::<Vec<_>>() {
            let ty = g.ty(v).clone();
            g.set_type(v, TensorType { shape: ty.shape.with(0, Dim::symbol("n")), ..ty });
        }
        assert_eq!(apply(&mut g, ImageOrder::Nhwc).len(), 1);
        let bound = g.bound(&[("n".into(), 2)].into_iter().collect());
        let factor = |row: usize| output(&bound)[row * 3];
        assert_eq!([0, 1, 4].map(factor), [0.125, 0.25, 1.0]);
    }

    /// Users who expect pixels have to know.
    #[test]
    fn fractions_are_told() {
        let told = |task: &str| apply(&mut detector(task, "False", 6), ImageOrder::Nhwc);
        let [warning] = told("detect").try_into().unwrap();
        assert_eq!(warning.message, "boxes in output output0 are fractions of the picture, not pixels");
        assert!(warning.help.unwrap().ends_with("multiply x and width by 8, y and height by 4"));
        assert_eq!(told("classify"), []);
    }

    #[test]
    fn scores_keep_their_branch() {
        let mut g = detector("detect", "False", 6);
        apply(&mut g, ImageOrder::Nhwc);
        let output = g.outputs()[0].value;
        let parts = g.operands(output.node);
        assert!(matches!(g.producer(parts[0]), Op::Binary(_)) && matches!(g.producer(parts[1]), Op::Input(_)));
    }
}
