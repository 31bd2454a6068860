//! Recognition of outputs, and the agreement of two models on them.

use qcc_ir::text::{Weights, parse};
use qcc_ir::{Graph, Shape, Tensor};

use super::*;

fn graph(input: &str, body: &str) -> Graph {
    let text = format!("graph g {{ %x: {input} = input {body} output y = %y }}");
    parse(&text, &Weights::new()).unwrap_or_else(|e| panic!("{e}\n{body}"))
}

fn t(dims: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_vec(Shape::known(dims), values.to_vec())
}

/// The comparison of outputs with expected values.
fn compared(g: &Graph, hints: Hints, expected: &[&Tensor], found: &[&Tensor]) -> OutputQuality {
    let mut quality = OutputQuality::new("y");
    for (x, y) in expected.iter().zip(found) {
        quality.add(g, 0, hints, &[Some(x)], &[Some(y)]);
    }
    quality
}

fn percent(q: &OutputQuality) -> Option<(&'static str, f64)> {
    q.agreement().map(|a| (a.measure, (a.percent * 100.0).round() / 100.0))
}

#[test]
fn classes_agree_on_the_largest_score() {
    let logits = graph(
        "f32[2,2]",
        "%w: f32[2,3] = const [1,2,3,4,5,6] %b: f32[3] = const [1,2,3]
        %p = matmul(transpose_b:false) %x, %w %y = binary(f:Add) %p, %b",
    );
    let (a, b) = (t(&[2, 3], &[0., 2., 1., 5., 4., 5.]), t(&[2, 3], &[0., 1., 9., 8., 0., 1.]));
    let q = compared(&logits, Hints::default(), &[&a], &[&b]);
    assert_eq!((q.kind.clone(), percent(&q)), (Some(OutputKind::Scores { axis: 1 }), Some(("top-1", 50.0))));
    assert!(q.sqnr().is_some());
    let softmax = graph("f32[1,2,3]", "%s = softmax(axis:2,log:false) %x %y = transpose(perm:[0,2,1]) %s");
    let q =
        compared(&softmax, Hints::default(), &[&t(&[1, 3, 2], &[0., 5., 2., 4., 1., 5.])], &[&t(&[1, 3, 2], &[0.; 6])]);
    assert_eq!((q.kind.clone(), percent(&q)), (Some(OutputKind::Scores { axis: 1 }), Some(("top-1", 50.0))));
}

#[test]
fn vectors_agree_by_their_direction() {
    let wide = graph("f32[1,64]", "%y = unary(f:Exp) %x");
    let axis = |i: usize| t(&[1, 64], &(0..64).map(|k| if k == i { 2.0 } else { 0.0 }).collect::<Vec<f32>>());
    let q = compared(&wide, Hints::default(), &[&axis(0), &axis(1)], &[&axis(0), &axis(2)]);
    assert_eq!(percent(&q), Some(("cosine", 50.0)));
    let classes = Hints { classifies: true, detects: None };
    assert_eq!(percent(&compared(&wide, classes, &[&axis(0)], &[&axis(0)])), Some(("top-1", 100.0)));
}

#[test]
fn decisions_agree_on_what_is_there() {
    let g = graph("f32[1,4]", "%y = unary(f:Sigmoid) %x");
    let q =
        compared(&g, Hints::default(), &[&t(&[1, 4], &[0.9, 0.8, 0.1, 0.2])], &[&t(&[1, 4], &[0.6, 0.4, 0.1, 0.2])]);
    assert_eq!(percent(&q), Some(("F1 of decisions at 0.5", 66.67)));
    let none = t(&[1, 4], &[0.1; 4]);
    assert_eq!(percent(&compared(&g, Hints::default(), &[&none], &[&none])), None);
}

#[test]
fn maps_agree_by_pixel() {
    let g = graph(
        "f32[1,3,4,4]",
        "%w: f32[5,3,1,1] = input %y = conv(stride:[1,1],before:[0,0],after:[0,0],\
        dilation:[1,1],groups:1) %x, %w",
    );
    let map = |class: &dyn Fn(usize) -> usize| {
        let values = (0..80).map(|i| if i / 16 == class(i % 16) { 1.0f32 } else { 0.0 }).collect::<Vec<_>>();
        t(&[1, 5, 4, 4], &values)
    };
    let q = compared(&g, Hints::default(), &[&map(&|p| p % 5)], &[&map(&|p| if p < 4 { 4 } else { p % 5 })]);
    assert_eq!(percent(&q), Some(("pixels of the same class", 75.0)));
}

#[test]
fn ranked_outputs_have_no_sqnr() {
    let ranked = "%w: f32[8,8] = input %p = matmul(transpose_b:false) %x, %w
        %v, %i = top_k(axis:1,k:3,largest:true) %p";
    let values = graph("f32[1,8]", &format!("{ranked} %y = unary(f:Exp) %v"));
    let q = compared(&values, Hints::default(), &[&t(&[1, 3], &[3., 2., 1.])], &[&t(&[1, 3], &[2., 3., 1.])]);
    assert_eq!((q.sqnr(), q.agreement()), (None, None));
    let ids = |v: &[i64]| Tensor::from_vec(Shape::known(&[1, 3]), v.to_vec());
    let places = graph("f32[1,8]", &format!("{ranked} %y = binary(f:Add) %i, %i"));
    let q = compared(&places, Hints::default(), &[&ids(&[1, 2, 3])], &[&ids(&[2, 1, 4])]);
    assert_eq!((q.sqnr(), percent(&q)), (None, Some(("same entries", 66.67))));
    // Other numbers of boxes are found.
    let found = "%w: f32[4,4] = input %p = matmul(transpose_b:false) %x, %w %s: f32[1,1,3] = input
        %y = non_max_suppression(most:9,overlap:0.5,score:Some(0.1),count:\"n\") %p, %s";
    let rows = |boxes: &[i64]| {
        let rows: Vec<i64> = boxes.iter().flat_map(|&b| [0, 0, b]).collect();
        Tensor::from_vec(Shape::known(&[boxes.len(), 3]), rows)
    };
    let q = compared(&graph("f32[1,3,4]", found), Hints::default(), &[&rows(&[2, 0, 1])], &[&rows(&[0, 2])]);
    assert_eq!((q.sqnr(), percent(&q)), (None, Some(("same finds", 80.0))));
    // A selection among inputs does not depend on computed scores.
    let given = "%v, %i = top_k(axis:1,k:3,largest:true) %x %y = unary(f:Exp) %v";
    let q = compared(
        &graph("f32[1,8]", given),
        Hints::default(),
        &[&t(&[1, 3], &[3., 2., 1.])],
        &[&t(&[1, 3], &[3., 2., 0.])],
    );
    assert!(q.sqnr().is_some());
}

/// Detector boxes with a size of 0.4 of the image at some positions, each with a class.
fn head(boxes: &[(usize, f32, f32, usize, f32)]) -> Tensor {
    // 32 x 32 pixels have 16 + 4 + 1 positions.
    let mut values = vec![0.0f32; 6 * 21];
    for &(place, x, y, class, score) in boxes {
        for (row, v) in [(0, x), (1, y), (2, 12.0), (3, 12.0), (4 + class, score)] {
            values[row * 21 + place] = v;
        }
    }
    t(&[1, 6, 21], &values)
}

#[test]
fn detectors_agree_on_boxes() {
    let g = graph("f32[1,3,32,32]", "%w: f32[6,3,1,1] = input %c = conv(stride:[1,1],before:[0,0],after:[0,0],\
        dilation:[1,1],groups:1) %x, %w %s = slice(ranges:[(axis:2,start:0,len:1,step:1),(axis:3,start:0,len:21,step:1)]) %c
        %y = reshape[1,6,21] %s");
    let truth = head(&[(0, 8.0, 8.0, 0, 0.9), (1, 8.5, 8.0, 0, 0.8), (7, 20.0, 20.0, 1, 0.7)]);
    let q = compared(&g, Hints::default(), &[&truth], &[&truth]);
    assert_eq!(q.kind, Some(OutputKind::Boxes(Boxes::Raw { axis: 1, objectness: false, scores: 4..6 })));
    assert_eq!(percent(&q), Some(("boxes mAP50-95", 100.0)));
    assert_eq!(q.parts.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["boxes", "scores"]);
    // One of two boxes is found; the other has the wrong class.
    let half = head(&[(0, 8.0, 8.0, 0, 0.9), (7, 20.0, 20.0, 0, 0.7)]);
    let q = compared(&g, Hints::default(), &[&truth], &[&half]);
    let (_, found) = percent(&q).unwrap();
    assert!((50.0..52.0).contains(&found), "{found}");
    let worst = q.parts.iter().map(|p| p.distance.sqnr()).fold(f64::INFINITY, f64::min);
    assert_eq!(q.sqnr(), Some(worst));
    // No box is expected in an empty image.
    assert_eq!(percent(&compared(&g, Hints::default(), &[&head(&[])], &[&truth])), None);
}

/// Corners, classes and scores are outputs of their own.
#[test]
fn boxes_whose_scores_are_apart_are_compared_with_them() {
    let lists = "%w: f32[8,8] = input %p = matmul(transpose_b:false) %x, %w
        %v, %i = top_k(axis:1,k:8,largest:true) %p %y = reshape[2,4] %v %s = slice(ranges:[(axis:1,start:0,len:1,step:1)]) %y
        %l = reshape[2] %s output l = %l output s = %l";
    let g = graph("f32[1,8]", lists);
    let of = |corners: &[f32], classes: &[i64], scores: &[f32]| {
        let classes = Tensor::from_vec(Shape::known(&[classes.len()]), classes.to_vec());
        [t(&[scores.len(), 4], corners), classes, t(&[scores.len()], scores)]
    };
    let expected = of(&[1., 1., 9., 9., 0., 0., 5., 5.], &[3, 1], &[0.8, 0.4]);
    let compared = |found: &[Tensor; 3]| {
        let mut quality = OutputQuality::new("y");
        quality.add(&g, 0, Hints::default(), &expected.each_ref().map(Some), &found.each_ref().map(Some));
        assert_eq!(quality.kind, Some(OutputKind::Boxes(Boxes::Apart { scores: 2, classes: 1 })));
        (quality.sqnr(), percent(&quality))
    };
    // Another order, and a box more that is no candidate.
    let moved = of(&[0., 0., 5., 5., 1., 1., 9., 9., 0., 0., 1., 1.], &[1, 3, 3], &[0.45, 0.4, 0.01]);
    assert_eq!(compared(&moved), (None, Some(("boxes mAP50-95", 100.0))));
    // A first sample without boxes says nothing.
    let (mut quality, none) = (OutputQuality::new("y"), of(&[], &[], &[]));
    for sample in [&none, &expected] {
        quality.add(&g, 0, Hints::default(), &sample.each_ref().map(Some), &sample.each_ref().map(Some));
    }
    assert_eq!(percent(&quality), Some(("boxes mAP50-95", 100.0)));
    let other = of(&[1., 1., 9., 9., 0., 0., 5., 5.], &[3, 2], &[0.8, 0.4]);
    let (_, found) = compared(&other);
    assert!(found.is_some_and(|(_, percent)| (50.0..52.0).contains(&percent)), "{found:?}");
}

#[test]
fn selected_boxes_are_recognized_by_their_values() {
    let ranked = graph(
        "f32[1,8]",
        "%w: f32[8,8] = input %p = matmul(transpose_b:false) %x, %w
        %v, %i = top_k(axis:1,k:6,largest:true) %p %y = reshape[1,1,6] %v",
    );
    let rows = t(&[1, 2, 6], &[1., 1., 9., 9., 0.8, 3., 0., 0., 5., 5., 0.4, 1.]);
    let moved = t(&[1, 2, 6], &[0., 0., 5., 5., 0.45, 1., 1., 1., 9., 9., 0.4, 3.]);
    let q = compared(&ranked, Hints::default(), &[&rows], &[&moved]);
    assert_eq!((q.sqnr(), percent(&q)), (None, Some(("boxes mAP50-95", 100.0))));
}
