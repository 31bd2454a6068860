//! Models of `torch.export`: comparison with PyTorch's results, older archives, errors, damaged and hostile files. The
//! models are made by `tests/models/torch/make.py`.

#![allow(clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use qcc_frontends::{ImportOptions, Imported, Model};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::eval::Executor;
use qcc_ir::ops::{Op, OpKind};
use qcc_ir::{Elem, Graph, Shape, Tensor, TensorType};
use serde::Deserialize;
use serde_json::{Value, json};
use zip::read::{ArchiveOffset, Config};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// Shape and elements.
type Numbers = (Vec<usize>, Vec<Value>);

/// PyTorch's results.
#[derive(Deserialize)]
struct Case {
    inputs: Vec<Numbers>,
    outputs: Vec<Numbers>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models/torch")
}

fn file(name: &str) -> Vec<u8> {
    fs::read(folder().join(format!("{name}.pt2"))).expect("the model is part of the repository")
}

fn cases() -> BTreeMap<String, Case> {
    let text = fs::read_to_string(folder().join("cases.json")).expect("the cases are part of the repository");
    // Python writes non-finite numbers, which JSON does not have.
    let text = text.replace("NaN", "\"NaN\"").replace("-Infinity", "\"-inf\"").replace("Infinity", "\"inf\"");
    serde_json::from_str(&text).expect("cases")
}

fn read(bytes: Vec<u8>, shapes: &[(&str, &[usize])]) -> Result<Imported, Vec<Diagnostic>> {
    let shapes =
        shapes.iter().map(|(name, dims)| (name.to_string(), dims.iter().map(|&n| Some(n)).collect())).collect();
    let options = ImportOptions { shapes, ..ImportOptions::default() };
    Model::read(Bytes::from(bytes), Path::new("")).and_then(|model| model.import(&options))
}

fn graph(bytes: Vec<u8>, shapes: &[(&str, &[usize])]) -> Graph {
    let imported = read(bytes, shapes).unwrap_or_else(|e| panic!("{}", told(&e)));
    imported.graph.verify().expect("a valid graph");
    imported.graph
}

/// Messages with origins, lines and help, as one text.
fn told(all: &[Diagnostic]) -> String {
    let line = |d: &Diagnostic| {
        let origin: Vec<String> = d
            .origin
            .sources()
            .iter()
            .map(|s| format!(" [{} {} {}]", s.path, s.kind, s.line.as_deref().unwrap_or("")))
            .collect();
        format!(
            "{}: {}{}{}\n",
            d.code,
            d.message,
            origin.concat(),
            d.help.iter().map(|h| format!(" ({h})")).collect::<String>()
        )
    };
    all.iter().map(line).collect()
}

fn refused(bytes: Vec<u8>) -> String {
    read(bytes, &[]).map(|_| String::new()).unwrap_or_else(|e| told(&e))
}

fn number(v: &Value) -> f64 {
    match v {
        Value::Bool(b) => f64::from(u8::from(*b)),
        Value::String(s) => s.parse().expect("a number"),
        v => v.as_f64().expect("a number"),
    }
}

fn tensor(ty: &TensorType, values: &[Value]) -> Tensor {
    let values = values.iter().map(number);
    let shape = ty.shape.clone();
    match ty.elem {
        Elem::F32 => Tensor::from_vec(shape, values.map(|v| v as f32).collect()),
        Elem::I64 => Tensor::from_vec(shape, values.map(|v| v as i64).collect()),
        ref other => panic!("inputs of {other}"),
    }
}

fn run(graph: &Graph, case: &Case) -> Vec<Tensor> {
    let inputs: Vec<Tensor> =
        graph.inputs().zip(&case.inputs).map(|(v, (_, values))| tensor(graph.ty(v), values)).collect();
    Executor::new(graph).run(&inputs, &mut |_, _| {}).expect("a run")
}

/// Results agree with PyTorch's: integers exactly, floats to the fifth digit of the largest.
fn agree(name: &str, graph: &Graph, case: &Case) {
    let found = run(graph, case);
    assert_eq!(found.len(), case.outputs.len(), "{name}");
    for (i, (found, (dims, wanted))) in found.iter().zip(&case.outputs).enumerate() {
        assert_eq!(found.ty().shape, Shape::known(dims), "{name}, output {i}");
        let wanted: Vec<f64> = wanted.iter().map(number).collect();
        let largest = wanted.iter().filter(|v| v.is_finite()).fold(0f64, |m, v| m.max(v.abs()));
        let most = if found.ty().elem.is_float() { 1e-5 * largest + 1e-6 } else { 0.0 };
        for (at, (&f, w)) in found.floats().iter().zip(wanted).enumerate() {
            let f = f64::from(f);
            let same = f == w || (f.is_nan() && w.is_nan()) || (f - w).abs() <= most;
            assert!(same, "{name}, output {i}, element {at}: {f}, PyTorch has {w}");
        }
    }
}

const REFUSED: [&str; 5] = ["inverted", "overwritten", "sampled", "stateful", "stateful_decomposed"];

fn example_shapes(name: &str) -> Vec<(&'static str, &'static [usize])> {
    match name {
        "dynamic" => vec![("input", &[2, 4, 9, 7])],
        "open_extents" => vec![("inputs_0", &[3, 2, 10])],
        _ => Vec::new(),
    }
}

#[test]
fn results_are_those_of_pytorch() {
    let only = std::env::var("CASE").ok();
    let mut wrong = String::new();
    for (name, case) in cases().iter().filter(|(name, _)| !REFUSED.contains(&name.as_str())) {
        if only.as_ref().is_some_and(|o| o != name) {
            continue;
        }
        let outcome = std::panic::catch_unwind(|| agree(name, &graph(file(name), &example_shapes(name)), case));
        if let Err(e) = outcome {
            let said = e.downcast_ref::<String>().cloned().unwrap_or_default();
            wrong += &format!("## {name}\n{said}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn refusals_name_operator_node_and_line() {
    assert_eq!(
        refused(file("sampled")),
        "unsupported-op: operator aten.rand_like.default is not supported [rand_like rand_like make.py:34] (the result \
         is random; export the model for inference)\n"
    );
    assert_eq!(
        refused(file("inverted")),
        "unsupported: fft_rfft is complex; only magnitude, angle and parts of complex numbers are supported [mul mul \
         make.py:34] (write this part of the model in another way, or export the model without it)\nunsupported-op: operator aten.fft_irfft.default is not supported [fft_irfft fft_irfft make.py:34] \
         (only transforms of real signals along one axis are supported)\n"
    );
    assert!(refused(file("overwritten")).contains("writing in place to complex numbers, through real"));
    for name in ["stateful", "stateful_decomposed"] {
        assert_eq!(
            refused(file(name)),
            "unsupported: buffer total changes from run to run, and results depend on it [total buffer ] (make it an \
             input and an output of the model)\n"
        );
    }
}

#[test]
fn open_extents_take_what_is_given_a_batch_of_one_or_the_example() {
    let extents = |g: &Graph| g.outputs().iter().map(|o| g.ty(o.value).shape.to_string()).collect::<String>();
    assert_eq!(extents(&graph(file("dynamic"), &[])), "[1,2]");
    assert_eq!(extents(&graph(file("dynamic"), &[("input", &[5, 4, 9, 7])])), "[5,2]");
    let imported = read(file("open_extents"), &[]).expect("a graph");
    assert_eq!(extents(&imported.graph), "[10][1,2,9][10]");
    assert!(told(&imported.notes).contains("compiled for 10, as in the example"), "{}", told(&imported.notes));
    assert_eq!(extents(&graph(file("open_extents"), &[("inputs_0", &[4, 2, 20])])), "[20][4,2,19][20]");
    let too_many = read(file("open_extents"), &[("inputs_0", &[9, 2, 20])]).map(|_| ()).expect_err("a refusal");
    assert!(told(&too_many).contains("exported for 0 to 8"), "{}", told(&too_many));
    let wrong = read(file("open_extents"), &[("inputs_0", &[3, 3, 20])]).map(|_| ()).expect_err("a refusal");
    assert!(told(&wrong).starts_with("bad-shape"), "{}", told(&wrong));
}

#[test]
fn quantized_values_have_quantized_types() {
    let graph = graph(file("quantized"), &[]);
    let count = |kind: OpKind| graph.order().into_iter().filter(|&n| graph.op(n).kind() == kind).count();
    assert_eq!((count(OpKind::Quantize), count(OpKind::Dequantize)), (2, 3));
    let is_quantized =
        |n| matches!(graph.op(n), Op::Const(c) if c.value.ty().elem.qparams().is_some_and(|g| g.scales().len() == 4));
    assert!(graph.order().into_iter().any(is_quantized));
}

// Archives.

/// The entries of an archive, in order.
fn entries(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let mut zip = ZipArchive::with_config(config, Cursor::new(bytes)).expect("an archive");
    let count = zip.len();
    let entry = |i| {
        let mut entry = zip.by_index(i).expect("an entry");
        let mut data = Vec::new();
        entry.read_to_end(&mut data).expect("data");
        (entry.name().expect("a name").to_string(), data)
    };
    (0..count).map(entry).collect()
}

fn zipped(entries: &[(String, Vec<u8>)], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, data) in entries {
        zip.start_file(name.as_str(), options).expect("an entry");
        zip.write_all(data).expect("data");
    }
    zip.finish().expect("an archive").into_inner()
}

fn stored(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    zipped(entries, CompressionMethod::Stored)
}

/// The entries with one of them changed.
fn changed(name: &str, ends: &str, change: impl Fn(&mut Vec<u8>)) -> Vec<(String, Vec<u8>)> {
    let mut all = entries(&file(name));
    let entry = all.iter_mut().find(|e| e.0.ends_with(ends)).expect("the entry");
    change(&mut entry.1);
    all
}

/// Tensors as pickled by `torch.save`: a configuration of the newer layout, and its storages.
fn pickled(config: &Value, storages: &dyn Fn(&str) -> Vec<u8>) -> Vec<u8> {
    let text = |s: &str| [&b"X"[..], &(s.len() as u32).to_le_bytes(), s.as_bytes()].concat();
    let int = |n: i64| [&b"J"[..], &(n as i32).to_le_bytes()].concat();
    let ints = |sizes: &Value| {
        let sizes = sizes.as_array().expect("sizes").iter();
        let all: Vec<u8> = sizes.flat_map(|s| int(s["as_int"].as_i64().expect("a size"))).collect();
        [b"(", &all[..], b"t"].concat()
    };
    let mut pickle = b"\x80\x02}q\x00(".to_vec();
    let mut files = Vec::new();
    for (i, (name, entry)) in config["config"].as_object().expect("entries").iter().enumerate() {
        let meta = &entry["tensor_meta"];
        let (kind, width) = match meta["dtype"].as_i64() {
            Some(5) => ("LongStorage", 8),
            Some(7) => ("FloatStorage", 4),
            Some(12) => ("BoolStorage", 1),
            other => panic!("elements of type {other:?}"),
        };
        let data = storages(entry["path_name"].as_str().expect("a path"));
        pickle.extend(text(name));
        let rebuild: &[u8] = if i == 0 { b"ctorch._utils\n_rebuild_tensor_v2\nq\x01(" } else { b"h\x01(" };
        pickle.extend_from_slice(rebuild);
        pickle.extend([&b"("[..], &text("storage"), format!("ctorch\n{kind}\n").as_bytes()].concat());
        pickle.extend([text(&i.to_string()), text("cpu"), int((data.len() / width) as i64), b"tQ".to_vec()].concat());
        let offset = meta["storage_offset"]["as_int"].as_i64().unwrap_or(0);
        pickle.extend([int(offset), ints(&meta["sizes"]), ints(&meta["strides"])].concat());
        pickle.extend_from_slice(b"\x89ccollections\nOrderedDict\n)RtR");
        files.push((format!("archive/data/{i}"), data));
    }
    pickle.extend_from_slice(b"u.");
    files.push(("archive/data.pkl".into(), pickle));
    files.push(("archive/byteorder".into(), b"little".to_vec()));
    stored(&files)
}

/// The same model in the layouts of PyTorch 2.8 (`flat` false) and of 2.7 and before.
fn older(name: &str, flat: bool) -> Vec<(String, Vec<u8>)> {
    let all = entries(&file(name));
    let of = |ends: &str| all.iter().find(|e| e.0.ends_with(ends)).expect("the entry").1.clone();
    let pickle = |kind: &str| {
        let config = serde_json::from_slice(&of(&format!("{kind}/model_{kind}_config.json"))).expect("a configuration");
        pickled(&config, &|path| of(&format!("{kind}/{path}")))
    };
    let (weights, constants, program) = (pickle("weights"), pickle("constants"), of("models/model.json"));
    let named = |names: [&str; 5]| {
        let data = [program, weights, constants, b"8.2".to_vec(), b"{\"task\": \"detect\"}".to_vec()];
        names.into_iter().map(String::from).zip(data).collect()
    };
    if flat {
        named([
            "serialized_exported_program.json",
            "serialized_state_dict.pt",
            "serialized_constants.pt",
            "version",
            "extra_files/metadata.json",
        ])
    } else {
        named([
            "m/models/model.json",
            "m/data/weights/model.pt",
            "m/data/constants/model.pt",
            "m/archive_version",
            "m/extra/metadata.json",
        ])
    }
}

#[test]
fn older_archives_are_read() {
    let cases = cases();
    for name in ["vision", "in_place", "attention"] {
        for flat in [true, false] {
            let graph = graph(stored(&older(name, flat)), &[]);
            agree(name, &graph, &cases[name]);
            let said: Vec<&str> = graph.metadata.iter().flat_map(|(key, value)| [key.as_str(), value]).collect();
            assert_eq!(said[..3], ["task", "detect", qcc_frontends::MODULE]);
            assert!(name != "vision" || said[3..] == ["torch.nn.modules.container.Sequential"], "{said:?}");
        }
    }
}

#[test]
fn archives_that_were_packed_again_are_read() {
    let packed = zipped(&entries(&file("vision")), CompressionMethod::Deflated);
    agree("vision", &graph(packed, &[]), &cases()["vision"]);
}

#[test]
fn infinities_may_stand_bare() {
    let bare = changed("pairs", "models/model.json", |json| {
        let text = String::from_utf8(json.clone()).expect("text");
        *json = text.replace("\"Infinity\"", "Infinity").replace("\"-Infinity\"", "-Infinity").into_bytes();
    });
    agree("pairs", &graph(stored(&bare), &[]), &cases()["pairs"]);
}

#[test]
fn weights_stay_where_they_are_in_the_file() {
    let bytes = Bytes::from(file("dynamic"));
    let inside = |t: &Tensor| bytes.as_ptr_range().contains(&t.data().as_ptr());
    let model = Model::read(bytes.clone(), Path::new("")).and_then(|m| m.import(&ImportOptions::default()));
    let graph = model.expect("a graph").graph;
    let weights: Vec<bool> = graph
        .order()
        .into_iter()
        .filter_map(|n| if let Op::Const(c) = graph.op(n) { Some(inside(&c.value)) } else { None })
        .collect();
    assert_eq!(weights, [true; 4]);
}

// Hostile input.

/// The flat layout with this pickle as weights.
fn with_pickle(pickle: &[u8]) -> Vec<u8> {
    let mut all = older("dynamic", true);
    all[1].1 = stored(&[("archive/data.pkl".into(), pickle.to_vec())]);
    stored(&all)
}

#[test]
fn pickles_rebuild_tensors_and_nothing_else() {
    let of = |pickle: &[u8]| refused(with_pickle(pickle));
    let call = of(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00exit\x85R.");
    assert_eq!(
        call,
        "unsupported: the pickled weights call os.system; qcc rebuilds tensors and calls nothing else (save the \
         program with torch.export.save alone)\n"
    );
    assert!(of(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.").contains("builtins.eval"));
    assert!(of(b"\x80\x02ctorch\nload\n.").contains("torch.load"));
    // An object, a cycle, deep nesting, a distant memo, an endless string, an invalid storage.
    for (pickle, said) in [
        (&b"\x80\x02(i__main__\nC\n."[..], "opcode"),
        (b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.", "not complete"),
        (&[&b"\x80\x02)"[..], &[0x85; 100_000], b"."].concat(), "nested too deeply"),
        (b"\x80\x02Nr\xff\xff\xff\xff.", "memo"),
        (b"\x80\x02X\xff\xff\xff\xffabc", "too early"),
        (&[&b"\x80\x02"[..], &[b'N'; 5_000_000]].concat(), "too many values"),
        (b"\x80\x02X\x01\x00\x00\x00aQ.", "persistent id"),
        (b"\x80\x02R", "stack is empty"),
        (b"\x80\x02.", "stack is empty"),
        (b"\x80\x02N.", "not a dictionary"),
    ] {
        let found = of(pickle);
        assert!(found.contains(said), "{said}: {found}");
    }
}

/// The remedy is offered only where it helps: for operators that decomposition removes.
#[test]
fn decomposition_is_offered_for_operators_outside_the_core_set() {
    let with = |target: &str| {
        let change = |json: &mut Vec<u8>| {
            let text = String::from_utf8(std::mem::take(json)).expect("text");
            *json = text.replace("torch.ops.aten.rand_like.default", target).into_bytes();
        };
        refused(stored(&changed("sampled", "models/model.json", change)))
    };
    let lines = "ep = torch.export.load(\"model.pt2\").run_decompositions(); torch.export.save(ep, \"decomposed.pt2\")";
    for target in
        ["torch.ops.aten.heaviside.default", "torch.ops.aten.rot90.default", "torch.ops.aten.nll_loss_nd.default"]
    {
        let said = with(target);
        assert!(said.contains(lines), "{said}");
    }
    for target in ["torch.ops.aten.rand_like.default", "torch.ops.aten.median.dim", "torch.ops.other.heaviside.default"]
    {
        let said = with(target);
        assert!(said.contains("is not supported") && !said.contains("run_decompositions"), "{said}");
    }
}

#[test]
fn files_of_pytorch_without_a_program_say_how_to_export() {
    let archive = |entries: &[(&str, &[u8])]| {
        let all: Vec<_> = entries.iter().map(|(name, data)| (format!("best/{name}"), data.to_vec())).collect();
        refused(stored(&all))
    };
    let yolo = b"\x80\x02}q\0X\x05\0\0\0modelcultralytics.nn.tasks\nDetectionModel\n".as_slice();
    let other = b"\x80\x02ccollections\nOrderedDict\n)R.".as_slice();
    let (export, python) =
        ("yolo export model=FILE.pt format=onnx", "torch.export.save(torch.export.export(model, (x,))");
    for (said, what, help) in [
        (archive(&[("data.pkl", yolo), ("version", b"3\n")]), "this is a checkpoint", export),
        (archive(&[("data.pkl", other), ("version", b"3\n")]), "this is a checkpoint", python),
        (archive(&[("data.pkl", other), ("constants.pkl", other)]), "this is a TorchScript model", python),
        (
            refused([b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", yolo].concat()),
            "this is a checkpoint",
            export,
        ),
        (refused(other.to_vec()), "this is a checkpoint", python),
        (archive(&[("x.txt", b"x")]), "this archive holds no model", ""),
    ] {
        assert!(said.starts_with(&format!("unsupported: {what}")) && said.contains(help), "{said}");
    }
}

#[test]
fn archives_that_mean_harm_are_refused() {
    let good = entries(&file("dynamic"));
    let with = |name: &str| stored(&[good.clone(), vec![(name.to_string(), vec![1])]].concat());
    assert!(refused(with("../../x")).contains("leaves the archive"));
    assert!(refused(with("/etc/x")).contains("leaves the archive"));
    // A changed byte of a weight with the old checksum.
    let mut bytes = file("dynamic");
    let weight = &good.iter().find(|e| e.0.ends_with("weight_2")).expect("a weight").1;
    let at = bytes.windows(weight.len()).position(|w| w == weight).expect("the weight");
    bytes[at + 5] ^= 1;
    let said = refused(bytes);
    assert!(said.contains("checksum") && said.contains("weight_2"), "{said}");
    // Two entries over the same bytes.
    let mut zip = ZipWriter::new_append(Cursor::new(file("dynamic"))).expect("an archive");
    zip.shallow_copy_file(&good[0].0, "twin").expect("a twin");
    let said = refused(zip.finish().expect("an archive").into_inner());
    assert!(said.contains("share bytes"), "{said}");
    // Zeros with a high compression ratio.
    let zeros = [good.clone(), vec![("dynamic/extra/zeros".into(), vec![0; 32 << 20])]].concat();
    let said = refused(zipped(&zeros, CompressionMethod::Deflated));
    assert!(said.contains("too many for"), "{said}");
    // Sizes of 4 GB, in the directory and before the data.
    let mut bytes = file("dynamic");
    let directory = bytes.windows(4).rposition(|w| w == b"PK\x01\x02").expect("a directory");
    bytes[directory + 20..directory + 28].copy_from_slice(&[0xf0, 0xff, 0xff, 0xff, 0xf0, 0xff, 0xff, 0xff]);
    assert!(!refused(bytes).is_empty());
}

#[test]
fn damaged_archives_are_refused() {
    let whole = file("dynamic");
    for cut in (0..whole.len()).step_by(97) {
        assert!(!refused(whole[..cut].to_vec()).is_empty(), "{cut}");
    }
    // Whatever a byte becomes: a graph or an error, no panic.
    for at in (0..whole.len()).step_by(41) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x15;
        refused(bytes);
    }
}

/// The program of a model, changed.
fn program(name: &str, change: impl Fn(&mut Value)) -> Vec<u8> {
    stored(&changed(name, "models/model.json", |json| {
        let mut value = serde_json::from_slice(json).expect("a program");
        change(&mut value);
        *json = serde_json::to_vec(&value).expect("a program");
    }))
}

/// A node of a program.
fn node(target: &str, inputs: &[Value], outputs: &[&str]) -> Value {
    // The names of arguments in the operator's schema; those of control flow have none.
    let names: &[&str] = match target {
        "aten.full.default" => &["size", "fill_value"],
        "aten.select.int" => &["self", "dim", "index"],
        _ if target.starts_with("aten.") => &["self", "other"],
        _ => &[""; 4],
    };
    let inputs = inputs.iter().zip(names);
    let inputs: Vec<Value> = inputs.map(|(arg, name)| json!({ "name": name, "arg": arg, "kind": 1 })).collect();
    let outputs: Vec<Value> = outputs.iter().map(|&name| named(name)).collect();
    json!({ "target": format!("torch.ops.{target}"), "inputs": inputs, "outputs": outputs, "metadata": {} })
}

fn named(name: &str) -> Value {
    json!({ "as_tensor": { "name": name } })
}

fn list(names: &[&str]) -> Value {
    let names: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
    json!({ "as_tensors": names })
}

/// A graph as an argument.
fn nested(inputs: &[&str], nodes: &[Value], outputs: &[&str]) -> Value {
    let all = |names: &[&str]| names.iter().map(|&name| named(name)).collect::<Vec<Value>>();
    json!({ "as_graph": { "name": "nested", "graph": {
        "inputs": all(inputs), "outputs": all(outputs), "nodes": nodes, "tensor_values": {}, "sym_int_values": {},
        "sym_bool_values": {}, "is_single_tensor_return": false,
    } } })
}

/// The graph of a program of these nodes on `inputs_0` `[2, 3]`, whose result is `mul`.
fn of_nodes(nodes: &[Value]) -> Result<Imported, Vec<Diagnostic>> {
    let changed = program("counted", |program| {
        let graph = &mut program["graph_module"]["graph"];
        graph["nodes"] = json!(nodes);
        let mut input = graph["tensor_values"]["inputs_0"].take();
        input["sizes"] = json!([{ "as_int": 2 }, { "as_int": 3 }]);
        let calls = graph["tensor_values"]["b_calls"].take();
        graph["tensor_values"] = json!({ "inputs_0": input, "b_calls": calls });
    });
    read(changed, &[])
}

fn evaluated(nodes: &[Value], x: [f32; 6]) -> Vec<f32> {
    let graph = of_nodes(nodes).unwrap_or_else(|e| panic!("{}", told(&e))).graph;
    let x = Tensor::from_vec(Shape::known(&[2, 3]), x.to_vec());
    let results = Executor::new(&graph).run(&[x], &mut |_, _| {}).expect("a run");
    results[0].floats().to_vec()
}

#[test]
fn branches_are_selected_and_loops_unrolled() {
    let (x, zero) = (|| named("inputs_0"), || json!({ "as_int": 0 }));
    let scaled = |from: &str| node("aten.mul.Tensor", &[named(from), json!({ "as_int": 2 })], &["y"]);
    let raised = node("aten.add.Tensor", &[named("x"), json!({ "as_int": 1 })], &["y"]);
    let branches = [
        node("aten.sum.default", &[x()], &["total"]),
        node("aten.gt.Scalar", &[named("total"), zero()], &["p"]),
        node(
            "higher_order.cond",
            &[
                named("p"),
                nested(&["x"], &[scaled("x")], &["y"]),
                nested(&["x"], &[raised], &["y"]),
                list(&["inputs_0"]),
            ],
            &["mul"],
        ),
    ];
    assert_eq!(evaluated(&branches, [1., 2., 3., 4., 5., 6.]), [2., 4., 6., 8., 10., 12.]);
    assert_eq!(evaluated(&branches, [-1., 0., 0., 0., 0., 0.]), [0., 1., 1., 1., 1., 1.]);
    let steps = [
        node("aten.select.int", &[x(), zero(), zero()], &["first"]),
        node(
            "higher_order.scan",
            &[
                nested(
                    &["s", "x"],
                    &[node("aten.add.Tensor", &[named("s"), named("x")], &["t"]), scaled("t")],
                    &["t", "y"],
                ),
                list(&["first"]),
                list(&["inputs_0"]),
                list(&[]),
            ],
            &["last", "mul"],
        ),
    ];
    assert_eq!(evaluated(&steps, [1., 2., 3., 4., 5., 6.]), [4., 8., 12., 12., 18., 24.]);
    let count = |start: Value, end: Value| {
        let size = json!({ "as_ints": [] });
        [
            node("aten.full.default", &[size, start], &["start"]),
            node(
                "higher_order.while_loop",
                &[
                    nested(&["i", "x"], &[node("aten.lt.Scalar", &[named("i"), end], &["p"])], &["p"]),
                    nested(
                        &["i", "x"],
                        &[node("aten.add.Tensor", &[named("i"), json!({ "as_int": 1 })], &["j"]), scaled("x")],
                        &["j", "y"],
                    ),
                    list(&["start", "inputs_0"]),
                    list(&[]),
                ],
                &["i", "mul"],
            ),
        ]
    };
    let three = count(zero(), json!({ "as_int": 3 }));
    assert_eq!(evaluated(&three, [1., 2., 3., 4., 5., 6.]), [8., 16., 24., 32., 40., 48.]);
    assert_eq!(evaluated(&count(zero(), zero()), [1.; 6]), [1.; 6]);
    let endless = of_nodes(&count(zero(), json!({ "as_int": i64::MAX }))).expect_err("too many iterations");
    assert!(told(&endless).contains("iterations"), "{}", told(&endless));
}

#[test]
fn programs_that_mean_harm_are_refused() {
    let deep = changed("dynamic", "models/model.json", |json| {
        *json = [&b"{\"graph_module\": {\"graph\": {\"inputs\": [{\"as_x\": "[..], &b"[".repeat(1 << 20)].concat();
    });
    let said = refused(stored(&deep));
    assert!(said.contains("recursion limit"), "{said}");
    let version = program("dynamic", |p| p["schema_version"]["major"] = 9.into());
    assert!(refused(version).contains("schema version 9."));
    // A value that depends on itself, two with one name, one that is not produced.
    let own = program("dynamic", |p| {
        p["graph_module"]["graph"]["nodes"][1]["inputs"][0]["arg"]["as_tensor"]["name"] = "flatten".into()
    });
    assert!(refused(own).contains("flatten is read but nothing produces it"));
    let twice = program("dynamic", |p| {
        p["graph_module"]["graph"]["nodes"][1]["outputs"][0]["as_tensor"]["name"] = "conv2d".into()
    });
    assert!(!refused(twice).is_empty());
    let nothing = program("dynamic", |p| p["graph_module"]["graph"]["nodes"] = Value::Array(Vec::new()));
    assert!(refused(nothing).contains("nothing produces it"));
    // Another type than the operators produce, an unknown argument.
    let other = program("dynamic", |p| p["graph_module"]["graph"]["tensor_values"]["linear"]["dtype"] = 5.into());
    assert!(refused(other).contains("the file declares i64"));
    let argument =
        program("dynamic", |p| p["graph_module"]["graph"]["nodes"][0]["inputs"][0]["name"] = "inputs".into());
    assert!(refused(argument).contains("without argument input is not supported"));
    // A long chain of views.
    let chain = program("in_place", |p| {
        let graph = &mut p["graph_module"]["graph"];
        let node = graph["nodes"][1].clone();
        let mut nodes = graph["nodes"].as_array().cloned().unwrap_or_default();
        for i in 0..5000 {
            let mut node = node.clone();
            let of = if i == 0 { "mul".to_string() } else { format!("v{}", i - 1) };
            node["target"] = "torch.ops.aten.alias.default".into();
            node["inputs"] = serde_json::json!([{"name": "self", "arg": {"as_tensor": {"name": of}}, "kind": 1}]);
            node["outputs"] = serde_json::json!([{"as_tensor": {"name": format!("v{i}")}}]);
            nodes.push(node);
        }
        graph["nodes"] = nodes.into();
        p["graph_module"]["signature"]["output_specs"][0]["user_output"]["arg"]["as_tensor"]["name"] = "v4999".into();
    });
    let said = refused(chain);
    assert!(said.contains("views of each other"), "{said}");
}

/// Every number inside a value, in order.
fn integers<'v>(value: &'v mut Value, found: &mut Vec<&'v mut Value>) {
    match value {
        Value::Number(_) => found.push(value),
        Value::Array(all) => all.iter_mut().for_each(|v| integers(v, found)),
        Value::Object(all) => all.values_mut().for_each(|v| integers(v, found)),
        _ => {}
    }
}

#[test]
fn no_number_of_a_program_makes_the_import_panic() {
    for name in ["pools", "resizes", "pixels", "lines", "products", "norms", "parts", "made", "in_place", "lstm"] {
        let all = entries(&file(name));
        let at = all.iter().position(|e| e.0.ends_with("models/model.json")).expect("a program");
        let program: Value = serde_json::from_slice(&all[at].1).expect("a program");
        let graph = |p: &mut Value, i: usize, n: i64| -> bool {
            let mut found = Vec::new();
            let graph = &mut p["graph_module"]["graph"];
            integers(&mut graph["nodes"], &mut found);
            let Some(number) = found.into_iter().nth(i) else { return false };
            *number = n.into();
            // The operators' results differ from the declared types.
            graph["tensor_values"]
                .as_object_mut()
                .expect("types")
                .retain(|name, _| name.starts_with("inputs_") || name == "input");
            true
        };
        for n in [-1, 0, 7, i64::MAX, i64::MIN, 1 << 31, 1 << 20] {
            for i in (0..).step_by(3) {
                let mut changed = program.clone();
                if !graph(&mut changed, i, n) {
                    break;
                }
                let mut all = all.clone();
                all[at].1 = serde_json::to_vec(&changed).expect("a program");
                refused(stored(&all));
            }
        }
    }
}
