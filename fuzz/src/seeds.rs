//! Seed inputs. Models are generated from random graphs, and taken from the test models and, if the tests have run,
//! from the node tests of the ONNX standard.

use std::fs;
use std::ops::ControlFlow::Continue;
use std::path::Path;

use bytes::Bytes;
use image::{DynamicImage, ImageFormat};
use qcc_backends::{Format, Memory, WriteOptions};
use qcc_frontends::{ImportOptions, Model};
use qcc_ir::Graph;
use qcc_ir::testing::{Step, graph_of, inputs_for};
use qcc_passes::calibrate::{Method, calibrate};
use qcc_passes::quantize::Options;
use qcc_passes::{Context, Numbers, Pipeline, Settings, SharedGraph, Stage, ignore};

use crate::model::entries;

/// The maximum size of a seed in bytes. Small seeds are mutated more.
const MOST: usize = 24_000;

/// Writes the seeds of each target to a subfolder of `folder`.
pub fn write(folder: &Path) {
    let mut seeds = Seeds { folder, count: 0 };
    graphs(&mut seeds);
    node_tests(&mut seeds);
    programs(&mut seeds);
    texts(&mut seeds);
    data(&mut seeds);
}

struct Seeds<'a> {
    folder: &'a Path,
    count: usize,
}

impl Seeds<'_> {
    fn add(&mut self, target: &str, data: &[u8]) {
        if data.len() > MOST {
            return;
        }
        let folder = self.folder.join(target);
        fs::create_dir_all(&folder).expect("a folder");
        self.count += 1;
        fs::write(folder.join(format!("seed_{:05}", self.count)), data).expect("a seed");
    }
}

/// Runs the passes of a target and writes the result. `None` if the graph is refused.
fn written(g: &Graph, format: Format, int8: bool, form: WriteOptions) -> Option<Vec<u8>> {
    let mut g = g.clone();
    let numbers = if int8 { Numbers::Quantized(Options::default()) } else { Numbers::Source };
    let pipeline = Pipeline::new(&Settings { numbers, ..Settings::default() });
    let mut cx = Context::new(format.target());
    pipeline.run(..=Stage::Lower, &mut g, &mut cx, &mut ignore).ok()?;
    if int8 {
        let sample = inputs_for(&g, 1);
        let joint = SharedGraph::alone(&g);
        let ranges =
            calibrate(&joint, &[&g], Method::MinMax, 1, |_| Some(sample.clone()), &mut |_| Continue(())).ok()?;
        cx.ranges = ranges.first();
        pipeline.run(Stage::Quantize..=Stage::Quantize, &mut g, &mut cx, &mut ignore).ok()?;
    }
    pipeline.run(Stage::Layout..=Stage::Layout, &mut g, &mut Context::new(format.target()), &mut ignore).ok()?;
    let mut files = Memory::new("model");
    let checked = qcc_ir::Checked::new(&g, format.target_for(form)).ok()?;
    format.with(form).write(checked, &qcc_backends::Attachments::default(), &mut files).ok()?;
    files.files.remove("model")
}

/// Random graphs, as construction steps and as models.
fn graphs(seeds: &mut Seeds<'_>) {
    let mut state = 7u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    for i in 0..120 {
        let steps: Vec<Step> = (0..1 + i % 12).map(|_| std::array::from_fn(|_| byte())).collect();
        let first = byte();
        seeds.add("graph", &[&[first, byte()], steps.concat().as_slice()].concat());
        let g = graph_of(1 + usize::from(first % 2), &steps);
        for int8 in [false, true] {
            let form = WriteOptions { qoperator: int8 && i % 2 == 1, ..WriteOptions::default() };
            for (format, target) in [(Format::Onnx, "onnx"), (Format::Tflite, "tflite"), (Format::Openvino, "openvino")]
            {
                written(&g, format, int8, form).into_iter().for_each(|file| seeds.add(target, &file));
            }
        }
    }
}

/// The node tests that the test oracles wrote: `"model": [offset, length]` in the list.
fn node_tests(seeds: &mut Seeds<'_>) {
    let oracle = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/oracle");
    let (Ok(list), Ok(file)) =
        (fs::read_to_string(oracle.join("onnx_nodes.json")), fs::read(oracle.join("onnx_nodes.bin")))
    else {
        return;
    };
    for at in list.split("\"model\": [").skip(1) {
        let mut numbers = at.split([',', ']']).map(|n| n.trim().parse::<usize>());
        let (Some(Ok(start)), Some(Ok(length))) = (numbers.next(), numbers.next()) else { continue };
        let model = &file[start..start + length];
        seeds.add("onnx", model);
        let read = Model::read(Bytes::copy_from_slice(model), Path::new("/nowhere"));
        if let Ok(imported) = read.and_then(|m| m.import(&ImportOptions::default())) {
            let file = written(&imported.graph, Format::Tflite, false, WriteOptions::default());
            file.into_iter().for_each(|file| seeds.add("tflite", &file));
            if imported.graph.order().len() < 12 {
                seeds.add("text", qcc_ir::text::print_full(&imported.graph).as_bytes());
            }
        }
    }
}

/// The PyTorch programs of the tests: archives, program JSON with the descriptions of weights and constants, and
/// pickles.
fn programs(seeds: &mut Seeds<'_>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models/torch");
    let mut paths: Vec<_> = fs::read_dir(folder).expect("models").map(|e| e.expect("a model").path()).collect();
    paths.sort();
    for path in paths.iter().filter(|p| p.extension().is_some_and(|e| e == "pt2")) {
        let bytes = fs::read(path).expect("a model");
        seeds.add("pt2", &bytes);
        let all = entries(&bytes);
        let part = |end: &str| all.iter().find(|(name, _)| name.ends_with(end)).map_or(&[][..], |(_, bytes)| bytes);
        let parts = ["models/model.json", "model_weights_config.json", "model_constants_config.json"].map(part);
        seeds.add("program", &parts.join(&0));
        let inner = part("sample_inputs/model.pt");
        for (name, pickle) in if inner.is_empty() { Vec::new() } else { entries(inner) } {
            if name.ends_with("data.pkl") {
                seeds.add("pickle", &pickle);
            }
        }
    }
    // The output of torch.save for two matrices that share a storage.
    let tensor = |name: &str, place: u8| {
        let head = format!("X{}{name}", text_length(name));
        let tensor = format!(
            "ctorch._utils\n_rebuild_tensor_v2\n((X{}storagectorch\nFloatStorage\nX{}0X{}cpuK\x09tQK",
            text_length("storage"),
            text_length("0"),
            text_length("cpu")
        );
        [
            head.as_bytes(),
            tensor.as_bytes(),
            &[place],
            b"K\x03K\x03\x86K\x03K\x01\x86\x89ccollections\nOrderedDict\n)RtR",
        ]
        .concat()
    };
    let dictionary =
        [&b"\x80\x02ccollections\nOrderedDict\n)R("[..], &tensor("a.weight", 0), &tensor("b.weight", 1), b"u."];
    seeds.add("pickle", &dictionary.concat());
}

/// The length of a string in pickle encoding.
fn text_length(text: &str) -> String {
    (text.len() as u32).to_le_bytes().map(char::from).iter().collect()
}

fn texts(seeds: &mut Seeds<'_>) {
    let heads = "graph g { %x: f32[1,2,4,5] = input";
    for body in [
        "%y = unary(f:Silu) %x",
        "%c: f32[2] = const [1,2] %r = reshape(shape:[2,1,1]) %c %y = binary(f:Mul) %x, %r",
        "%w: f32[2,2,1,1] = const [1,2,3,4] %y = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %x, %w",
        "%w: f32[2,2,1,1] = const [1,2,3,4] %y = conv_transpose(stride:[2,2],before:[0,0],after:[0,0],extra:[1,1],dilation:[1,1],groups:1) %x, %w",
        "%y = pool(f:Max,window:[2,2],stride:[1,1],before:[0,0],after:[1,1],dilation:[1,2]) %x",
        "%y = concat(axis:1) %x, %x",
        "%y = slice(ranges:[(axis:2,start:3,len:2,step:-2)]) %x",
        "%y = pad(before:[0,0,1,1],after:[0,0,1,1],mode:Reflect) %x",
        "%y = transpose(perm:[0,2,3,1]) %x",
        "%y = reduce(f:Mean,axes:[2,3],keep:false) %x",
        "%y, %i = top_k(k:2,axis:3,largest:true) %x",
        "%y = arg_reduce(axis:1,largest:false,keep:true) %x",
        "%y = resize(size:[8,5],scale:[2,1],mode:Linear,coordinates:HalfPixel) %x",
        "%y = tile(repeats:[1,2,1,3]) %x",
        "%y = expand(shape:[3,2,4,5]) %x",
        "%y = depth_to_space(block:1,channel_first:true) %x",
        "%i: i64[2] = const [0,-1] %y = gather(axis:3) %x, %i",
        "%q: i8<0.5:-3>[1,2,4,5] = quantize %x %y: f32[1,2,4,5] = dequantize %q",
        "%l: f32[1,2,4,5] @0231 = relayout %x %y: f32[1,2,4,5] = relayout %l",
        "%y = softmax(axis:1,log:true) %x",
        "%y = cum_sum(axis:2,exclusive:true,reverse:true) %x",
    ] {
        seeds.add("text", format!("{heads} {body} output y = %y }}").as_bytes());
    }
    for text in [
        "names\0{0: 'person', 1: \"driver's\"}",
        "imgsz\0[640, 640]",
        "a\nargs: !!python/object/apply:os.system ['id']\nb\0x",
        "k\0(1, 2.5, -1e-05, None, True, 'caf\\xe9\\n\\u202e')",
        "\0{'a': {'b': [1, (2, 3)]}}",
    ] {
        seeds.add("literal", text.as_bytes());
    }
}

fn data(seeds: &mut Seeds<'_>) {
    for yaml in [
        "path: .\ntrain: p\nval: p\nnames:\n  0: a\n  1: b\n",
        "path: p\nval: [a.png, b.png]\n",
        "val: list.txt\ndownload: https://example.com/a.zip\n",
        "# a comment\n\"val\": 'p' # [ {\nkpt_shape: [17, 3]\nflip_idx: [0, 2, 1]\n",
        "val: &v p\ntrain: *v\n",
        "val:\n- p\n- ./p\n",
    ] {
        seeds.add("yaml", yaml.as_bytes());
    }
    for list in ["\0./p/a.png\np/b.png\r\n\n# no\n", "\0\u{feff}p/a.png\n"] {
        seeds.add("yaml", list.as_bytes());
    }
    let npy = |descr: &str, shape: &str, data: &[u8]| {
        let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        [b"\x93NUMPY\x01\0", &(text.len() as u16).to_le_bytes()[..], text.as_bytes(), data].concat()
    };
    for (descr, size) in [("<f4", 4), ("<f8", 8), ("<f2", 2), ("|u1", 1), ("<i8", 8), ("|b1", 1)] {
        let array = npy(descr, "(2, 3, 2)", &vec![0; 12 * size]);
        for kind in [0, 2, 6, 10, 18, 26] {
            seeds.add("array", &[&[kind], array.as_slice()].concat());
        }
    }
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, method) in [("x.npy", zip::CompressionMethod::Deflated), ("y.npy", zip::CompressionMethod::Stored)] {
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        zip.start_file(name, options).expect("an entry");
        std::io::Write::write_all(&mut zip, &npy("<f4", "(2, 3, 2)", &[0; 48])).expect("its bytes");
    }
    seeds.add("array", &[&[1], zip.finish().expect("an archive").into_inner().as_slice()].concat());
    pictures(seeds);
}

/// Images of every pixel format in every file format that supports it.
fn pictures(seeds: &mut Seeds<'_>) {
    let (w, h) = (7, 5);
    let grey = DynamicImage::ImageLuma8(image::GrayImage::from_fn(w, h, |x, y| image::Luma([(x * 37 + y * 11) as u8])));
    let kinds: [fn(&DynamicImage) -> DynamicImage; 8] = [
        DynamicImage::clone,
        |p| p.to_rgb8().into(),
        |p| p.to_rgba8().into(),
        |p| p.to_luma_alpha8().into(),
        |p| p.to_luma16().into(),
        |p| p.to_rgb16().into(),
        |p| p.to_rgba16().into(),
        |p| p.to_luma_alpha16().into(),
    ];
    for kind in kinds {
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Bmp, ImageFormat::WebP] {
            let mut file = std::io::Cursor::new(Vec::new());
            if kind(&grey).write_to(&mut file, format).is_ok() {
                for channels in [0, 1] {
                    seeds.add("picture", &[&[channels], file.get_ref().as_slice()].concat());
                }
            }
        }
    }
    // An image with a palette, which the encoder does not write.
    let palette = b"\0\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x02\0\0\0\x02\x08\x03\0\0\0\x45\x68\xfd\x16\0\0\0\x06PLTE\x01\x02\x03\x04\x05\x06\
        \xa5\xd3\xf1\x95\0\0\0\x0eIDAT\x78\x9cc\x60\x64\x60\x60\x04\0\0\x0b\0\x03\0\0\0\0\0\0\0\0IEND\xaeB`\x82";
    seeds.add("picture", palette);
}
