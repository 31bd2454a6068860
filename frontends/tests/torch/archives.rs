//! Layouts of archives: of older versions, packed again, damaged, and those that mean harm.

use std::io::{Cursor, Read, Write};
use std::path::Path;

use bytes::Bytes;
use qcc_frontends::{ImportOptions, Model};
use qcc_ir::Tensor;
use qcc_ir::ops::Op;
use serde_json::Value;
use zip::read::{ArchiveOffset, Config};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::{agree, cases, file, graph, refused};

/// The entries of an archive, in order.
pub(crate) fn entries(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
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

pub(crate) fn zipped(entries: &[(String, Vec<u8>)], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, data) in entries {
        zip.start_file(name.as_str(), options).expect("an entry");
        zip.write_all(data).expect("data");
    }
    zip.finish().expect("an archive").into_inner()
}

pub(crate) fn stored(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    zipped(entries, CompressionMethod::Stored)
}

/// The entries with one of them changed.
pub(crate) fn changed(name: &str, ends: &str, change: impl Fn(&mut Vec<u8>)) -> Vec<(String, Vec<u8>)> {
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
pub(crate) fn older(name: &str, flat: bool) -> Vec<(String, Vec<u8>)> {
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
    for target in
        ["torch.ops.aten.multinomial.default", "torch.ops.aten.median.dim", "torch.ops.other.heaviside.default"]
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
