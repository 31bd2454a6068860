//! Artefacts with open extents as sources: they are read back with open extents, and compute the same at every size.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use qcc_frontends::{ImportOptions, Imported, Model};
use qcc_ir::eval::Executor;
use qcc_ir::text::print_brief;
use qcc_ir::{Elem, Graph, Shape, Symbols, Tensor, TensorType};

use crate::litert::LITERT;
use crate::openvino::OPENVINO;
#[cfg(feature = "oracles")]
use crate::oracle;
use crate::runtime::{CLOSE, Runtime, all_close, evaluate, laid_out, outputs};

/// The runtimes whose files are sources.
const SOURCES: [&Runtime; 2] = [&LITERT, &OPENVINO];

fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/torch")
}

/// A program with open extents, as it is written for a runtime.
fn lowered(name: &str, runtime: &Runtime) -> Graph {
    let model = Model::open(&programs().join(name).with_extension("pt2")).unwrap();
    runtime.lowered(model.import(&ImportOptions::default()).unwrap().graph).unwrap()
}

/// The import of a model. Constants follow the file after a zero byte.
fn import(model: &Bytes, options: &ImportOptions) -> Result<Imported, String> {
    let end = if model.starts_with(b"<") { model.iter().position(|&b| b == 0) } else { None };
    let end = end.unwrap_or(model.len());
    let constants = model.slice((end + 1).min(model.len())..);
    let read = Model::read_with(model.slice(..end), "m.xml", move |_| Ok(constants.clone()));
    let imported = read.and_then(|model| model.import(options));
    imported.map_err(|all| all.into_iter().map(|d| format!("{} {:?}", d.message, d.notes)).collect())
}

/// The inputs of each case of a program.
fn cases(name: &str, g: &Graph) -> Vec<Vec<Tensor>> {
    let all: serde_json::Value = serde_json::from_slice(&fs::read(programs().join("open.json")).unwrap()).unwrap();
    let tensor = |(value, v): (&serde_json::Value, _)| {
        let numbers =
            |v: &serde_json::Value| -> Vec<f64> { v.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect() };
        let shape: Shape = numbers(&value[0]).into_iter().map(|n| n as usize).collect();
        let values = numbers(&value[1]);
        match g.ty(v).elem {
            Elem::F32 => Tensor::from_vec(shape, values.into_iter().map(|n| n as f32).collect()),
            Elem::I32 => Tensor::from_vec(shape, values.into_iter().map(|n| n as i32).collect()),
            _ => Tensor::from_vec(shape, values.into_iter().map(|n| n as i64).collect()),
        }
    };
    let inputs =
        |case: &serde_json::Value| case["inputs"].as_array().unwrap().iter().zip(g.inputs()).map(tensor).collect();
    all[name].as_array().unwrap().iter().map(inputs).collect()
}

/// The tensor with its axes in the order of the file.
fn as_stored(t: &Tensor) -> Tensor {
    let ty = t.ty();
    t.retype(TensorType::new(ty.elem.clone(), ty.layout.physical(&ty.shape))).unwrap()
}

/// The extents that the symbols of a graph have for these inputs.
fn extents(g: &Graph, inputs: &[Tensor]) -> Symbols {
    let dims = g.inputs().zip(inputs).flat_map(|(v, t)| g.ty(v).shape.dims().iter().zip(t.dims()));
    dims.filter_map(|(dim, n)| dim.solved(n)).map(|(symbol, n)| (symbol.clone(), n)).collect()
}

#[test]
fn open_extents_are_read_back() {
    let mut compared = 0;
    for name in ["open_cache", "open_image", "open_signal", "open_states", "open_text"] {
        for runtime in SOURCES {
            let mut g = lowered(name, runtime);
            let model = runtime.written(&mut g).unwrap();
            let back = import(&model, &ImportOptions::default()).unwrap().graph;
            back.verify().unwrap();
            assert!(back.has_open_inputs(), "{name} {}", runtime.name);
            for inputs in cases(name, &g) {
                let g = g.bound(&extents(&g, &inputs));
                let fed: Vec<Tensor> = laid_out(&g, &inputs).iter().map(as_stored).collect();
                let found = Executor::new(&back).run(&fed, &mut |_, _| {});
                let found = outputs(&g, &found.map_err(|e| e.to_string()));
                let expected = evaluate(&g, &inputs).unwrap();
                let same = found.and_then(|found| all_close(&found, &expected, CLOSE));
                same.unwrap_or_else(|why| panic!("{name} {}: {why}", runtime.name));
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 30);
}

/// Shape arithmetic of the formats becomes expressions, and each open extent without a name has its own symbol.
#[test]
fn open_extents_of_artefacts_are_expressions() {
    for runtime in SOURCES {
        for name in ["open_cache", "open_signal"] {
            let model = runtime.written(&mut lowered(name, runtime)).unwrap();
            let back = import(&model, &ImportOptions::default()).unwrap().graph;
            insta::assert_snapshot!(format!("{name}_from_{}", runtime.format.target().name), print_brief(&back));
        }
    }
}

#[test]
fn extents_of_artefacts_can_be_given() {
    for runtime in SOURCES {
        let model = runtime.written(&mut lowered("open_text", runtime)).unwrap();
        let shapes = |given: &[Option<usize>]| ImportOptions {
            shapes: vec![("inputs_0".into(), given.to_vec())],
            ..ImportOptions::default()
        };
        let input = |options: &ImportOptions| {
            let graph = import(&model, options).unwrap().graph;
            let input = graph.inputs().next().unwrap();
            graph.ty(input).shape.to_string()
        };
        assert_eq!(input(&ImportOptions::default()), "[batch,inputs_0_1]");
        assert_eq!(input(&shapes(&[None, Some(6)])), "[batch,6]");
        assert_eq!(input(&shapes(&[Some(2), None])), "[2,inputs_0_1]");
        assert_eq!(input(&shapes(&[Some(2), Some(6)])), "[2,6]");
    }
}

/// A mean over a window without its padding, which depends on an open extent, in OpenVINO IR.
fn strided(shape: &str) -> Result<Imported, String> {
    let dims: Vec<String> = shape.split(',').map(|d| format!("<dim>{d}</dim>")).collect();
    let port = |id: usize, dims: &str| format!("<port id=\"{id}\" precision=\"FP32\">{dims}</port>");
    let unknown = "<dim>-1</dim><dim>3</dim><dim>-1</dim><dim>-1</dim>";
    let text = format!(
        "<net name=\"m\" version=\"11\"><layers>\
         <layer id=\"0\" name=\"x\" type=\"Parameter\" version=\"opset1\">\
         <data shape=\"{shape}\" element_type=\"f32\"/><output>{}</output></layer>\
         <layer id=\"1\" name=\"p\" type=\"AvgPool\" version=\"opset1\"><data exclude-pad=\"true\" strides=\"2,2\" pads_begin=\"0,0\" \
         pads_end=\"0,0\" kernel=\"3,3\" rounding_type=\"floor\" auto_pad=\"same_upper\"/>\
         <input>{}</input><output>{}</output></layer>\
         <layer id=\"2\" name=\"y\" type=\"Result\" version=\"opset1\"><input>{}</input></layer></layers>\
         <edges><edge from-layer=\"0\" from-port=\"0\" to-layer=\"1\" to-port=\"0\"/>\
         <edge from-layer=\"1\" from-port=\"1\" to-layer=\"2\" to-port=\"0\"/></edges></net>",
        port(0, &dims.concat()),
        port(0, &dims.concat()),
        port(1, unknown),
        port(0, unknown)
    );
    import(&Bytes::from(text), &ImportOptions::default())
}

#[test]
fn extents_that_an_operation_needs_are_closed_or_asked_for() {
    let open = strided("-1,3,8,8").unwrap();
    assert_eq!(open.graph.ty(open.graph.outputs()[0].value).shape.to_string(), "[batch,3,4,4]");
    let why = strided("-1,3,-1,8").unwrap_err();
    assert!(why.contains("extent 2 (?) is open"), "{why}");
    assert!(why.contains("with open extents it cannot be compiled: it needs known extents"), "{why}");
}

/// ONNX to TFLite and OpenVINO IR and those again to every target, in the runtimes.
#[cfg(feature = "oracles")]
#[test]
fn open_artefacts_serve_every_size_as_sources() {
    oracle::table("round_trips.py", 450);
}

/// OpenVINO IR of OpenVINO's own API, for every target in the runtimes.
#[cfg(feature = "oracles")]
#[test]
fn operations_that_are_only_read_compute_the_same() {
    oracle::table("openvino_sources.py", 54);
}
