//! OpenVINO IR, version 11: an XML file that describes a network, and a file with its constants.
//!
//! Source: OpenVINO documentation, "OpenVINO IR format" and "Operation sets".
//!
//! ```
//! use qcc_formats::openvino::Network;
//! assert!(Network::is_one(b"<?xml version=\"1.0\"?><net name=\"a\" version=\"11\">"));
//! assert!(!Network::is_one(b"no network"));
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;

mod read;

pub use read::{Link, MOST_DEPTH, Nested, Network, Node, ReadError, Slices, Stored};

/// Version of the format.
pub const VERSION: u32 = 11;

macro_rules! elements {
    ($($element:ident $name:literal $precision:literal $bits:literal,)*) => {
        /// The element type of a tensor.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "the names are the elements' own")]
        pub enum Element {
            $($element,)*
        }

        impl Element {
            /// The name in attributes.
            pub fn name(self) -> &'static str {
                match self {
                    $(Element::$element => $name,)*
                }
            }

            /// The name at ports.
            pub fn precision(self) -> &'static str {
                match self {
                    $(Element::$element => $precision,)*
                }
            }

            /// The element type of a name, as in attributes or at ports.
            pub fn named(name: &str) -> Option<Element> {
                match name {
                    $($name | $precision => Some(Element::$element),)*
                    _ => None,
                }
            }

            /// Bits of one element in the file of constants.
            pub fn bits(self) -> usize {
                match self {
                    $(Element::$element => $bits,)*
                }
            }
        }
    };
}

elements! {
    Boolean "boolean" "BOOL" 8,
    U1 "u1" "U1" 1,
    U2 "u2" "U2" 2,
    I4 "i4" "I4" 4,
    U4 "u4" "U4" 4,
    I8 "i8" "I8" 8,
    U8 "u8" "U8" 8,
    I16 "i16" "I16" 16,
    U16 "u16" "U16" 16,
    I32 "i32" "I32" 32,
    U32 "u32" "U32" 32,
    I64 "i64" "I64" 64,
    U64 "u64" "U64" 64,
    F16 "f16" "FP16" 16,
    Bf16 "bf16" "BF16" 16,
    F32 "f32" "FP32" 32,
    F64 "f64" "FP64" 64,
}

/// An operation: its type and the operation set that introduced this version of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation(pub &'static str, pub u32);

/// A result of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Port {
    /// Index of the layer in [`Net::layers`].
    pub layer: usize,
    /// Index of the result.
    pub result: usize,
}

/// A result of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its element type.
    pub element: Element,
    /// Its extents; `None` is open.
    pub dims: Vec<Option<usize>>,
    /// Names in the interface of the model.
    pub names: Vec<String>,
}

/// An attribute of a layer.
pub type Attribute = (&'static str, String);

/// One operation with its operands.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Unique among the layers.
    pub name: String,
    /// Its operation.
    pub operation: Operation,
    /// Its attributes.
    pub data: Vec<Attribute>,
    /// True for a Convert of a compressed constant: plugins then keep the constant in its narrow type.
    pub decompression: bool,
    /// Its operands.
    pub inputs: Vec<Port>,
    /// Its results.
    pub outputs: Vec<Tensor>,
}

/// Metadata of a model.
#[derive(Clone, Debug, PartialEq)]
pub enum Info {
    /// A value.
    Value(String, String),
    /// A group of entries.
    Group(String, Vec<Info>),
}

/// A network. Inputs and outputs are in the order of their Parameter and Result layers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Net {
    /// Its name.
    pub name: String,
    /// The layers, each after those that it reads.
    pub layers: Vec<Layer>,
    /// Metadata of the model.
    pub info: Vec<Info>,
    /// The bodies of Loop and If layers, by the indices of these.
    pub bodies: BTreeMap<usize, Vec<Body>>,
}

/// A network in a layer. Operands and results are Parameter and Result layers of that network.
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    /// The network.
    pub net: Net,
    /// For each operand of the layer after those that control it, its layer.
    pub operands: Vec<usize>,
    /// For each result of the layer, its layer.
    pub results: Vec<usize>,
    /// What it is for.
    pub role: Role,
}

/// What a network in a layer is for.
#[derive(Clone, Debug, PartialEq)]
pub enum Role {
    /// The body of a Loop, which has two operands that control it.
    Loop {
        /// The layer of the number of the iteration.
        iteration: usize,
        /// The layer of the condition for another iteration.
        condition: usize,
        /// From the layer of a result to that of an operand, which has its value in the next iteration.
        carried: Vec<(usize, usize)>,
        /// The layers of results whose values in all iterations are joined along their first axis. Of others the result is
        /// the last value.
        joined: Vec<usize>,
    },
    /// The branch of an If that is computed where its first operand is true.
    Then,
    /// The other branch of an If.
    Else,
}

impl Net {
    /// The tensor at a port.
    pub fn tensor(&self, port: Port) -> &Tensor {
        &self.layers[port.layer].outputs[port.result]
    }

    /// Id of a port within its layer: results are numbered after operands.
    fn number(&self, port: Port) -> usize {
        self.layers[port.layer].inputs.len() + port.result
    }

    /// Writes the XML file and gives its length in bytes.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(&self, out: &mut (impl io::Write + ?Sized)) -> io::Result<u64> {
        let mut x = Xml { out, written: 0 };
        x.line(0, "<?xml version=\"1.0\"?>")?;
        x.open(0, "net", &[("name", &self.name), ("version", &VERSION.to_string())])?;
        self.content(&mut x, 1)?;
        if !self.info.is_empty() {
            x.open(1, "rt_info", &[])?;
            self.info.iter().try_for_each(|info| x.info(2, info))?;
            x.close(1, "rt_info")?;
        }
        x.close(0, "net")?;
        Ok(x.written)
    }

    /// The layers and the edges.
    fn content<W: io::Write + ?Sized>(&self, x: &mut Xml<'_, W>, depth: usize) -> io::Result<()> {
        x.open(depth, "layers", &[])?;
        for (id, layer) in self.layers.iter().enumerate() {
            self.layer(x, depth + 1, id, layer)?;
        }
        x.close(depth, "layers")?;
        x.open(depth, "edges", &[])?;
        for (to, layer) in self.layers.iter().enumerate() {
            for (operand, &from) in layer.inputs.iter().enumerate() {
                let [to, operand, from_port] = [to, operand, self.number(from)].map(|n| n.to_string());
                let ends = [
                    ("from-layer", from.layer.to_string()),
                    ("from-port", from_port),
                    ("to-layer", to),
                    ("to-port", operand),
                ];
                x.leaf(depth + 1, "edge", &ends.each_ref().map(|(key, value)| (*key, value.as_str())))?;
            }
        }
        x.close(depth, "edges")
    }

    fn layer<W: io::Write + ?Sized>(
        &self,
        x: &mut Xml<'_, W>,
        depth: usize,
        id: usize,
        layer: &Layer,
    ) -> io::Result<()> {
        let Operation(kind, opset) = layer.operation;
        let bodies = self.bodies.get(&id).map_or(&[][..], Vec::as_slice);
        let (id, opset) = (id.to_string(), format!("opset{opset}"));
        x.open(depth, "layer", &[("id", &id), ("name", &layer.name), ("type", kind), ("version", &opset)])?;
        if !layer.data.is_empty() {
            let data: Vec<(&str, &str)> = layer.data.iter().map(|(key, value)| (*key, value.as_str())).collect();
            x.leaf(depth + 1, "data", &data)?;
        }
        if layer.decompression {
            x.open(depth + 1, "rt_info", &[])?;
            x.leaf(depth + 2, "attribute", &[("name", "decompression"), ("version", "0")])?;
            x.close(depth + 1, "rt_info")?;
        }
        if !layer.inputs.is_empty() {
            x.open(depth + 1, "input", &[])?;
            for (i, &port) in layer.inputs.iter().enumerate() {
                x.port(depth + 2, i, self.tensor(port), false)?;
            }
            x.close(depth + 1, "input")?;
        }
        if !layer.outputs.is_empty() {
            x.open(depth + 1, "output", &[])?;
            for (i, tensor) in layer.outputs.iter().enumerate() {
                x.port(depth + 2, layer.inputs.len() + i, tensor, true)?;
            }
            x.close(depth + 1, "output")?;
        }
        bodies.iter().try_for_each(|body| body.write(x, depth + 1, layer.inputs.len()))?;
        x.close(depth, "layer")
    }
}

impl Body {
    /// Writes the body of a layer with so many operands, and how its layers are connected to them and to the results.
    fn write<W: io::Write + ?Sized>(&self, x: &mut Xml<'_, W>, depth: usize, operands: usize) -> io::Result<()> {
        let (controls, prefix) = match self.role {
            Role::Loop { .. } => (2, ""),
            Role::Then => (1, "then_"),
            Role::Else => (1, "else_"),
        };
        let map = format!("{prefix}port_map");
        x.open(depth, &map, &[])?;
        for (i, layer) in self.operands.iter().enumerate() {
            let [port, layer] = [i + controls, *layer].map(|n| n.to_string());
            x.leaf(depth + 1, "input", &[("external_port_id", &port), ("internal_layer_id", &layer)])?;
        }
        for (i, layer) in self.results.iter().enumerate() {
            let port = (operands + i).to_string();
            let all = [("axis", "0"), ("start", "0"), ("end", "-1"), ("stride", "1"), ("part_size", "1")];
            let joined = matches!(&self.role, Role::Loop { joined, .. } if joined.contains(layer));
            let layer = layer.to_string();
            let ends = [("external_port_id", &*port), ("internal_layer_id", &*layer)];
            x.leaf(depth + 1, "output", &[if joined { &all[..] } else { &[] }, &ends].concat())?;
        }
        if let Role::Loop { iteration, condition, .. } = &self.role {
            for (tag, layer, purpose) in
                [("input", iteration, "current_iteration"), ("output", condition, "execution_condition")]
            {
                let layer = layer.to_string();
                let ends = [("external_port_id", "-1"), ("internal_layer_id", &*layer), ("purpose", purpose)];
                x.leaf(depth + 1, tag, &ends)?;
            }
        }
        x.close(depth, &map)?;
        if let Role::Loop { carried, .. } = &self.role {
            x.open(depth, "back_edges", &[])?;
            for ends in carried {
                let [from, to] = [ends.0, ends.1].map(|n| n.to_string());
                x.leaf(depth + 1, "edge", &[("from-layer", &from), ("to-layer", &to)])?;
            }
            x.close(depth, "back_edges")?;
        }
        let body = format!("{prefix}body");
        x.open(depth, &body, &[])?;
        self.net.content(x, depth + 1)?;
        x.close(depth, &body)
    }
}

/// Writes XML elements, one on each line (a port with its extents), indented by tabs.
struct Xml<'o, W: io::Write + ?Sized> {
    out: &'o mut W,
    written: u64,
}

impl<W: io::Write + ?Sized> Xml<'_, W> {
    fn line(&mut self, depth: usize, text: &str) -> io::Result<()> {
        self.written += (depth + text.len() + 1) as u64;
        writeln!(self.out, "{:\t<depth$}{text}", "")
    }

    fn open(&mut self, depth: usize, tag: &str, attributes: &[(&str, &str)]) -> io::Result<()> {
        self.line(depth, &element(tag, attributes, ">"))
    }

    fn leaf(&mut self, depth: usize, tag: &str, attributes: &[(&str, &str)]) -> io::Result<()> {
        self.line(depth, &element(tag, attributes, " />"))
    }

    fn close(&mut self, depth: usize, tag: &str) -> io::Result<()> {
        self.line(depth, &format!("</{tag}>"))
    }

    fn port(&mut self, depth: usize, id: usize, tensor: &Tensor, named: bool) -> io::Result<()> {
        let id = id.to_string();
        // Commas separate names; commas within a name are escaped.
        let names: Vec<String> = tensor.names.iter().map(|n| n.replace(',', "\\,")).collect();
        let names = names.join(",");
        let mut attributes = vec![("id", id.as_str()), ("precision", tensor.element.precision())];
        if named && !names.is_empty() {
            attributes.push(("names", &names));
        }
        if tensor.dims.is_empty() {
            return self.leaf(depth, "port", &attributes);
        }
        let mut port = element("port", &attributes, ">");
        for dim in &tensor.dims {
            _ = match dim {
                Some(extent) => write!(port, "<dim>{extent}</dim>"),
                None => write!(port, "<dim>-1</dim>"),
            };
        }
        self.line(depth, &(port + "</port>"))
    }

    fn info(&mut self, depth: usize, info: &Info) -> io::Result<()> {
        match info {
            Info::Value(key, value) => self.leaf(depth, key, &[("value", value)]),
            Info::Group(key, all) => {
                self.open(depth, key, &[])?;
                all.iter().try_for_each(|info| self.info(depth + 1, info))?;
                self.close(depth, key)
            }
        }
    }
}

fn element(tag: &str, attributes: &[(&str, &str)], end: &str) -> String {
    let mut text = format!("<{tag}");
    for (key, value) in attributes {
        text.push(' ');
        text.push_str(key);
        text.push_str("=\"");
        escape(&mut text, value);
        text.push('"');
    }
    text + end
}

/// Appends the value of an attribute. Characters that XML 1.0 cannot represent become U+FFFD.
fn escape(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '"' => text.push_str("&quot;"),
            '\t' | '\n' | '\r' => _ = write!(text, "&#{};", u32::from(c)),
            '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => text.push('\u{fffd}'),
            _ => text.push(c),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A result of two axes, the first open.
    pub(crate) fn tensor(names: &[&str]) -> Tensor {
        Tensor {
            element: Element::F32,
            dims: vec![None, Some(3)],
            names: names.iter().map(|n| (*n).to_owned()).collect(),
        }
    }

    pub(crate) fn layer(name: &str, operation: Operation, inputs: Vec<Port>, outputs: Vec<Tensor>) -> Layer {
        Layer { name: name.to_owned(), operation, data: Vec::new(), decompression: false, inputs, outputs }
    }

    fn text(net: &Net) -> String {
        let mut out = Vec::new();
        let written = net.write(&mut out).unwrap();
        assert_eq!(written, out.len() as u64);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn ports_are_numbered_and_named() {
        let net = Net {
            name: "a \"net\"".into(),
            layers: vec![
                layer("x", Operation("Parameter", 1), vec![], vec![tensor(&["x"])]),
                layer(
                    "sum",
                    Operation("Add", 1),
                    vec![Port { layer: 0, result: 0 }; 2],
                    vec![tensor(&["y,1", "<z>\n\u{1}"])],
                ),
                layer("y", Operation("Result", 1), vec![Port { layer: 1, result: 0 }], vec![]),
            ],
            info: vec![Info::Group("model_info".into(), vec![Info::Value("labels".into(), "a b".into())])],
            bodies: BTreeMap::new(),
        };
        let xml = text(&net);
        for line in [
            "<net name=\"a &quot;net&quot;\" version=\"11\">",
            "<layer id=\"1\" name=\"sum\" type=\"Add\" version=\"opset1\">",
            "<port id=\"2\" precision=\"FP32\" names=\"y\\,1,&lt;z&gt;&#10;\u{fffd}\"><dim>-1</dim><dim>3</dim></port>",
            "<edge from-layer=\"0\" from-port=\"0\" to-layer=\"1\" to-port=\"1\" />",
            "<edge from-layer=\"1\" from-port=\"2\" to-layer=\"2\" to-port=\"0\" />",
            "<labels value=\"a b\" />",
        ] {
            assert!(xml.lines().any(|l| l.trim_start() == line), "{line}\n{xml}");
        }
    }
}
