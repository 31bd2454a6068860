use std::collections::BTreeMap;

use qcc_ir::text::{Weights, parse};
use qcc_ir::{Checked, Graph};

use super::*;
use crate::{Attachments, Format, Kind, Memory, WriteOptions};

/// A matrix product with a weight, followed by other operators.
const NET: &str = "graph net {
  meta author = \"somebody\"
  %x: f32[2,120] = input
  %w: f32[3,120] = const WEIGHT
  %b: f32[3] = const [0.5,-1.0,2.0]
  %p: f32[2,3] = matmul(transpose_b:true) %x, %w, %b from /fc (Gemm)
  %r: f32[2,3] = unary(f:Tanh) %p from /act (Tanh)
  %y: f32[2,3] = binary(f:Mul) %r, %r from /square (Mul)
  output y = %y
}
";

fn net() -> String {
    let weight: Vec<String> = (0..360).map(|i| format!("{:?}", (i % 17) as f32 - 8.0)).collect();
    NET.replace("WEIGHT", &format!("[{}]", weight.join(",")))
}

fn graph(text: &str) -> Graph {
    parse(text, &Weights::new()).unwrap()
}

fn files(text: &str, format: Format, form: WriteOptions) -> BTreeMap<String, Vec<u8>> {
    let mut files = Memory::new(format!("net.{}", format.with(WriteOptions::PLAIN).extension()));
    let g = graph(text);
    let checked = Checked::new(&g, format.target_for(form)).unwrap();
    format.with(form).write(checked, &Attachments::default(), &mut files).unwrap();
    files.files
}

/// The disassembly of an artefact.
fn read(files: &BTreeMap<String, Vec<u8>>, format: Format) -> Disassembly {
    let main = format!("net.{}", format.with(WriteOptions::PLAIN).extension());
    let beside = |name: &str| files.get(name).map(|f| Bytes::from(f.clone())).ok_or_else(|| format!("no {name}"));
    let file = Bytes::from(files[&main].clone());
    Kind::of(&file).unwrap().disassemble(&file, &main, &beside).unwrap()
}

fn of_text(text: &str) -> Disassembly {
    Kind::of(text.as_bytes())
        .unwrap()
        .disassemble(&Bytes::from(text.to_owned()), "net.qir", &|_| Err(String::new()))
        .unwrap()
}

fn told(a: &Disassembly, b: &Disassembly) -> Vec<String> {
    assert_eq!((a.diff(a).changes, b.diff(b).changes), (Vec::new(), Vec::new()));
    assert!(a.diff(b).equal == a.diff(b).changes.is_empty());
    a.diff(b).changes.iter().map(ToString::to_string).collect()
}

fn artefacts() -> [(Format, WriteOptions); 4] {
    let outside = WriteOptions { external_data: true, ..WriteOptions::PLAIN };
    [
        (Format::Tflite, WriteOptions::PLAIN),
        (Format::Onnx, WriteOptions::PLAIN),
        (Format::Onnx, outside),
        (Format::Openvino, WriteOptions::PLAIN),
    ]
}

/// The bytes of the weight, which are the same in every artefact.
fn weight() -> Vec<u8> {
    (0..360).flat_map(|i| ((i % 17) as f32 - 8.0).to_le_bytes()).collect()
}

#[test]
fn the_digest_is_that_of_the_stored_bytes() {
    let digest = Digest::of(&weight());
    assert_eq!(
        Digest::of(b"abc").to_string(),
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    for (backend, form) in artefacts() {
        let all = read(&files(&net(), backend, form), backend);
        let found: Vec<&Constant> = all.graphs[0].tensors.iter().filter_map(|t| t.constant.as_ref()).collect();
        assert!(found.iter().any(|c| c.digest == digest && c.bytes == 1440 && c.values.is_none()), "{all}");
        assert!(found.iter().any(|c| c.values.as_deref() == Some(&["0.5", "-1.0", "2.0"].map(String::from))), "{all}");
    }
}

#[test]
fn a_flipped_byte_of_a_weight_is_found() {
    for (backend, form) in artefacts() {
        let plain = files(&net(), backend, form);
        let mut flipped = plain.clone();
        let weight = weight();
        let place = |file: &[u8]| file.windows(weight.len()).position(|w| w == weight);
        let (name, at) = plain.iter().find_map(|(name, file)| Some((name.clone(), place(file)?))).unwrap();
        flipped.get_mut(&name).unwrap()[at + 77] ^= 1;
        let found = told(&read(&plain, backend), &read(&flipped, backend));
        let [found] = found.as_slice() else { panic!("{backend:?}: {found:?}") };
        let tensor = found.strip_prefix("~ tensor w").unwrap_or_else(|| panic!("{found}"));
        assert!(
            tensor.contains(&format!("constant: 1440 bytes {} -> 1440 bytes sha256:", Digest::of(&weight))),
            "{found}"
        );
    }
}

#[test]
fn what_is_written_twice_is_the_same() {
    for (backend, form) in artefacts() {
        let [a, b] = [0, 1].map(|_| read(&files(&net(), backend, form), backend));
        assert_eq!(told(&a, &b), [] as [&str; 0]);
        assert_eq!(a.to_string(), b.to_string());
    }
}

#[test]
fn a_file_with_an_unnamed_tensor_that_nothing_reads_is_the_same_as_itself() {
    let (backend, form) = artefacts().into_iter().next().unwrap();
    let mut all = read(&files(&net(), backend, form), backend);
    let graph = &mut all.graphs[0];
    let spare = super::Tensor { id: "%99".into(), name: Some(String::new()), ..graph.tensors[0].clone() };
    graph.inputs.push(super::Named { name: "spare".into(), tensor: spare.id.clone() });
    graph.tensors.push(spare);
    assert_eq!(all.format, "tflite");
    assert_eq!(told(&all, &all), [] as [&str; 0]);
}

#[test]
fn a_renamed_output_is_found() {
    let renamed = net().replace("output y", "output z");
    for (backend, form) in artefacts() {
        let [a, b] = [&net(), &renamed].map(|text| read(&files(text, backend, form), backend));
        let found = told(&a, &b);
        assert!(found.contains(&"~ output y name: y -> z".to_owned()), "{backend:?}: {found:?}");
        assert!(found.iter().all(|f| f.starts_with('~')), "{backend:?}: {found:?}");
    }
}

#[test]
fn a_changed_scale_is_found() {
    let text = "graph q {
      %x: u8<0.1:3>[2,3] = input
      %w: i8<axis 0: 0.5,0.25>[2,3] = const [1,2,3,4,5,6]
      %b: i32<axis 0: 0.05,0.025>[2] = const [7,8]
      %y: u8<SCALE:9>[2,2] = matmul(transpose_b:true) %x, %w, %b
      output y = %y
    }
    ";
    // The plugin's products are floats, which are quantized afterwards.
    let behind = text.replace("%b: i32<axis 0: 0.05,0.025>[2] = const [7,8]", "%b: f32[2] = const [0.3,0.2]");
    let behind = behind.replace("%y: u8<SCALE:9>[2,2] =", "%p: f32[2,2] =");
    let behind = behind.replace("output", "%y: u8<SCALE:9>[2,2] = quantize %p output");
    for (backend, text) in [(Format::Onnx, text), (Format::Openvino, &behind)] {
        let [a, b] = ["0.2", "0.21"]
            .map(|scale| read(&files(&text.replace("SCALE", scale), backend, WriteOptions::PLAIN), backend));
        let found = told(&a, &b);
        assert!(found.iter().any(|f| f.contains("scales: 0.2 -> 0.21")), "{backend:?}: {found:?}");
        assert!(found.iter().all(|f| f.starts_with("~ tensor")), "{backend:?}: {found:?}");
    }
    let text = text.replace("u8", "i8").replace("%b: i32<axis 0: 0.05,0.025>[2] = const [7,8]", "").replace(", %b", "");
    let scaled = |scale: &str| text.replace("SCALE", scale);
    let [a, b] = ["0.2", "0.21"].map(|scale| of_text(&scaled(scale)));
    assert_eq!(told(&a, &b), ["~ tensor y scales: 0.2 -> 0.21"]);
    let [a, b] = ["0.2", "0.21"].map(|s| read(&files(&scaled(s), Format::Tflite, WriteOptions::PLAIN), Format::Tflite));
    assert_eq!(told(&a, &b), ["~ tensor y scales: 0.2 -> 0.21"]);
    let [a, b] = [":9>", ":8>"].map(|zero| of_text(&text.replace("SCALE", "0.5").replace(":9>", zero)));
    assert_eq!(told(&a, &b), ["~ tensor y zero_points: 9 -> 8"]);
}

#[test]
fn attributes_of_graphs_are_told_one_by_one() {
    let conv = "graph c {
      %x: f32[1,2,6,6] = input
      %w: f32[1,2,1,1] = const [1,2]
      %c: f32[1,1,6,6] = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %x, %w
      output y = %c
    }
    ";
    let found = told(&of_text(conv), &of_text(&conv.replace("dilation:[1,1]", "dilation:[2,1]")));
    assert_eq!(found, ["~ operator c dilation: [1,1] -> [2,1]"]);
    let found = told(&of_text(&net()), &of_text(&net().replace("somebody", "nobody")));
    assert_eq!(found, ["~ metadata author: somebody -> nobody"]);
}

/// Operators after an inserted one keep their partners, also if values have numbers as names.
#[test]
fn operators_come_and_go() {
    let unnamed = net().replace("%r:", "%0:").replace("%r", "%0").replace(" from /act (Tanh)", "");
    let more = unnamed
        .replace("%0: f32[2,3] = unary(f:Tanh) %p", "%0: f32[2,3] = unary(f:Neg) %p\n  %1: f32[2,3] = unary(f:Tanh) %0")
        .replace("%0, %0", "%1, %1");
    let found = told(&of_text(&unnamed), &of_text(&more));
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found.iter().all(|f| f.starts_with(['+', '~']) && f.contains("operator")), "{found:?}");
    let named = net()
        .replace("%r, %r from", "%s, %s from")
        .replace("  %y:", "  %s: f32[2,3] = unary(f:Neg) %r from /neg (Neg)\n  %y:");
    let found = told(&of_text(&net()), &of_text(&named));
    let new = "+ operator /neg: s = unary r {f: Neg} \"/neg\"";
    assert_eq!(found, ["~ operator /square inputs: r, r -> s, s", new]);
    let found = told(&of_text(&named), &of_text(&net()));
    assert!(found.contains(&"- operator /neg: s = unary r {f: Neg} \"/neg\"".to_owned()), "{found:?}");
}

#[test]
fn many_operators_are_aligned_quickly() {
    let chain = |first: usize| {
        let mut text = String::from("graph long {\n  %x: f32[4] = input\n");
        let mut last = "x".to_owned();
        for i in first..20_000 {
            text += &format!("  %{i}: f32[4] = unary(f:Tanh) %{last}\n");
            last = i.to_string();
        }
        of_text(&(text + &format!("  output y = %{last}\n}}\n")))
    };
    let (a, b) = (chain(0), chain(10));
    let started = std::time::Instant::now();
    assert!(!a.diff(&b).equal && !b.diff(&a).equal);
    assert!(started.elapsed().as_secs() < 10);
}

#[test]
fn constants_that_cannot_be_had_are_refused() {
    for (backend, form) in artefacts().into_iter().skip(2) {
        let mut all = files(&net(), backend, form);
        let main = format!("net.{}", backend.with(WriteOptions::PLAIN).extension());
        let file = Bytes::from(all.remove(&main).unwrap());
        let kind = Kind::of(&file).unwrap();
        let refused = kind.disassemble(&file, &main, &|name| Err(format!("there is no {name}"))).unwrap_err();
        assert!(matches!(refused, Unreadable::Missing { .. }), "{refused}");
        let cut = |_: &str| Ok(Bytes::from_static(b"abc"));
        let refused = kind.disassemble(&file, &main, &cut).unwrap_err();
        assert!(refused.to_string().contains("beyond the end of"), "{refused}");
    }
}

/// Names may contain any characters; each item stays on one line.
#[test]
fn odd_names_stay_on_their_line() {
    let odd = "a\nb \"c\", {d: e}\u{1b}[2J";
    let text = net().replace("%x", &format!("%{odd:?}")).replace("/act", &format!("{odd:?}"));
    let (plain, named) = (of_text(&net()).to_string(), of_text(&text).to_string());
    assert_eq!(plain.lines().count(), named.lines().count(), "{named}");
    assert!(named.contains("input \"a\\nb \\\"c\\\", {d: e}\\u{1b}[2J\""), "{named}");
}
