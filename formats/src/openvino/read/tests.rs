use super::*;
use crate::openvino::tests::{layer, tensor};
use crate::openvino::{Layer, Net, Operation};

/// `y = x + x`, after an unused Const.
fn net() -> Net {
    let data = |all: &[(&'static str, &str)]| all.iter().map(|(k, v)| (*k, (*v).to_owned())).collect();
    let x = Port { layer: 0, result: 0 };
    Net {
        name: "a \"net\" & more".into(),
        layers: vec![
            layer("x", Operation("Parameter", 1), vec![], vec![tensor(&["x"])]),
            Layer {
                data: data(&[("element_type", "i4"), ("shape", "3"), ("offset", "2"), ("size", "2")]),
                ..layer("c", Operation("Const", 1), vec![], vec![tensor(&[])])
            },
            Layer {
                decompression: true,
                data: data(&[("auto_broadcast", "numpy")]),
                ..layer("sum", Operation("Add", 1), vec![x, x], vec![tensor(&["y,1", "z"])])
            },
            layer("y", Operation("Result", 1), vec![Port { layer: 2, result: 0 }], vec![]),
        ],
        info: vec![Info::Group("model_info".into(), vec![Info::Value("labels".into(), "a b".into())])],
        bodies: std::collections::BTreeMap::new(),
    }
}

fn text() -> String {
    let mut out = Vec::new();
    net().write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn written_files_are_read_back() {
    let (written, read) = (net(), Network::read(text().as_bytes()).unwrap());
    assert_eq!((&read.name, &read.info), (&written.name, &written.info));
    for (written, read) in written.layers.iter().zip(&read.layers) {
        assert_eq!((&read.name, read.kind.as_str()), (&written.name, written.operation.0));
        assert_eq!(read.opset, format!("opset{}", written.operation.1));
        assert_eq!((&read.inputs, &read.outputs), (&written.inputs, &written.outputs));
        assert_eq!(read.info.iter().any(|(k, _)| k == "decompression"), written.decompression);
        assert!(written.data.iter().all(|(k, v)| read.attribute(k) == Some(v)));
    }
    let stored = read.layers[1].constant().unwrap().unwrap();
    assert_eq!(stored, Stored { element: Element::I4, dims: vec![3], offset: 2, size: 2 });
    assert_eq!(stored.bytes(&Bytes::from_static(&[0, 1, 2, 3])), Some(Bytes::from_static(&[2, 3])));
    assert_eq!(stored.bytes(&Bytes::from_static(&[0, 1, 2])), None);
}

#[test]
fn layers_may_be_in_any_order() {
    let text = text();
    let (start, end) = (text.find("<layer id=\"0\"").unwrap(), text.find("<layer id=\"2\"").unwrap());
    let close = text.find("</layers>").unwrap();
    let moved = [&text[..start], &text[end..close], &text[start..end], &text[close..]].concat();
    let read = Network::read(moved.as_bytes()).unwrap();
    let names: Vec<&str> = read.layers.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["x", "sum", "y", "c"]);
    assert_eq!(read.layers[1].inputs, [Port { layer: 0, result: 0 }; 2]);
}

#[test]
fn invalid_networks_are_refused() {
    let text = text();
    let refused = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        Network::read(text.replacen(from, to, 1).as_bytes()).unwrap_err().to_string()
    };
    for (from, to, message) in [
        ("version=\"11\"", "version=\"10\"", "OpenVINO IR of version 10 is not supported; 11 is"),
        ("version=\"11\"", "", "net has no version"),
        ("layer id=\"2\"", "layer id=\"0\"", "the network has layer id 0 twice"),
        ("type=\"Add\"", "", "layer sum has no type"),
        (
            "precision=\"FP32\" names=\"x\"",
            "precision=\"FP8\"",
            "layer x has elements of type FP8, which are not supported",
        ),
        ("<dim>-1</dim>", "<dim>-2</dim>", "an extent of layer x is \"-2\"; expected a number of elements"),
        ("to-layer=\"2\" to-port=\"1\"", "to-layer=\"2\" to-port=\"0\"", "layer sum has an edge to input 0 twice"),
        (
            "to-layer=\"2\" to-port=\"1\"",
            "to-layer=\"9\" to-port=\"1\"",
            "an edge refers to 9:1, which is not an input of a layer",
        ),
        (
            "from-layer=\"0\" from-port=\"0\" to-layer=\"2\"",
            "from-layer=\"2\" from-port=\"2\" to-layer=\"2\"",
            "layer sum depends on its own result",
        ),
        (
            "<edge from-layer=\"0\" from-port=\"0\" to-layer=\"2\" to-port=\"0\" />",
            "",
            "layer sum has no edge to input 0",
        ),
        ("<data auto_broadcast=\"numpy\" />", "<body/>", "layer sum has no port_map"),
        (
            "<data auto_broadcast=\"numpy\" />",
            "<body/><port_map><input external_port_id=\"0\" internal_layer_id=\"7\"/></port_map>",
            "layer sum connects layer 7, which does not exist",
        ),
        (
            "<data auto_broadcast=\"numpy\" />",
            "<body/><port_map><output external_port_id=\"1\" internal_layer_id=\"7\"/></port_map>",
            "layer sum connects port 1, which does not exist",
        ),
    ] {
        assert_eq!(refused(from, to), message);
    }
    let constant = |from: &str, to: &str| {
        let read = Network::read(text.replacen(from, to, 1).as_bytes()).unwrap();
        read.layers[1].constant().unwrap_err().to_string()
    };
    assert_eq!(constant("size=\"2\"", "size=\"3\""), "size of layer c is \"3\"; expected the size of its elements");
    assert_eq!(constant("offset=\"2\"", "offset=\"-2\""), "offset of layer c is \"-2\"; expected a number of bytes");
    assert_eq!(constant("i4", "f4"), "layer c has elements of type f4, which are not supported");
    let huge = constant("shape=\"3\"", "shape=\"9223372036854775807, 9\"");
    assert_eq!(huge, "size of layer c is \"2\"; expected the size of its elements");
}

/// Entities that refer to others would expand without limit, and nested elements would overflow the stack.
#[test]
fn hostile_xml_is_refused() {
    let bomb = "<?xml version=\"1.0\"?><!DOCTYPE net [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><net name=\"&b;\" version=\"11\"/>";
    assert!(matches!(Network::read(bomb.as_bytes()), Err(ReadError::Xml(_))));
    let deep = format!("<net version=\"11\"><rt_info>{}", "<a>".repeat(200_000) + &"</a>".repeat(200_000));
    assert!(Network::read((deep + "</rt_info></net>").as_bytes()).is_err());
    for odd in [&b"\xff\xfe<net/>"[..], b"", b"<?xml", b"<other/>", b"<net"] {
        assert!(Network::read(odd).is_err());
    }
}
