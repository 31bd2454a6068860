//! C++ sources for TensorFlow Lite for Microcontrollers: the model as an array, and a header that declares it with all
//! that a program needs to run it.

mod arena;

use std::fmt::Write as _;
use std::io::{self, Write};

use qcc_formats::tflite::{BuiltinOperator, DETECTION_POST_PROCESS, Model, Operator, OperatorCode, Options, Tensor};
use qcc_ir::diagnostic::Diagnostic;

use super::devices::OPERATORS;
use crate::{Files, unwritten};

/// The extensions of the source file and of its header.
pub(crate) const SOURCE: &str = "cc";
pub(crate) const HEADER: &str = "h";

/// Writes both files. Returns the sum of their lengths.
pub(super) fn write(model: &Model, labels: &[String], files: &mut dyn Files) -> Result<u64, Vec<Diagnostic>> {
    let (source, header) = (files.beside(SOURCE), files.beside(HEADER));
    let name = identifier(source.trim_end_matches(SOURCE).trim_end_matches('.'));
    let mut bytes = Vec::new();
    let length = model.write(&mut bytes).map_err(unwritten)?;
    let text = header_text(model, labels, &name, length)?;
    let put = |files: &mut dyn Files| -> io::Result<u64> {
        files.create(&header)?.write_all(text.as_bytes())?;
        let mut out = Counted { out: files.create(&source)?, written: 0 };
        write_source(&bytes, &header, &name, &mut out)?;
        Ok(out.written + text.len() as u64)
    };
    put(files).map_err(unwritten)
}

/// Counts the bytes that are written.
struct Counted<'o> {
    out: &'o mut dyn Write,
    written: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let n = self.out.write(data)?;
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A file name as a part of an identifier.
fn identifier(stem: &str) -> String {
    let plain: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    // Two underscores are reserved, and so is one at the beginning of some names.
    let words: Vec<&str> = plain.split('_').filter(|word| !word.is_empty()).collect();
    let name = words.join("_").to_lowercase();
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) { name } else { format!("m{name}") }
}

fn write_source(bytes: &[u8], header: &str, name: &str, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "#include \"{header}\"\n\nnamespace {name}_model {{\n")?;
    writeln!(out, "alignas(16) const unsigned char kModel[kModelSize] = {{")?;
    let mut line = String::new();
    for row in bytes.chunks(16) {
        line.clear();
        row.iter().for_each(|byte| _ = write!(line, "0x{byte:02x},"));
        writeln!(out, "    {line}")?;
    }
    writeln!(out, "}};\n\n}}  // namespace {name}_model")
}

fn header_text(model: &Model, labels: &[String], name: &str, length: u64) -> Result<String, Vec<Diagnostic>> {
    let guard = format!("{}_MODEL_H_", name.to_uppercase());
    let methods: Vec<String> = model.operator_codes.iter().map(method).collect::<Result<_, _>>()?;
    let arena = arena::length(model);
    let count = methods.len();
    let mut text = format!(
        "// {description} for TensorFlow Lite for Microcontrollers.\n\
         #ifndef {guard}\n#define {guard}\n\n#include <cstddef>\n#include <cstdint>\n\nnamespace {name}_model {{\n\n\
         // The model: tflite::GetModel(kModel).\n\
         inline constexpr std::size_t kModelSize = {length};\n\
         alignas(16) extern const unsigned char kModel[kModelSize];\n\n\
         // Bytes of the tensor arena, which must be 16-byte aligned: alignas(16) uint8_t arena[kArenaSize].\n\
         // Planned for the reference kernels and 64-bit pointers; MicroInterpreter::arena_used_bytes() tells what a\n\
         // device uses.\n\
         inline constexpr std::size_t kArenaSize = {arena};\n\n\
         // The operators: tflite::MicroMutableOpResolver<{count}> resolver; RegisterOperators(resolver).\n\
         inline constexpr unsigned int kOperatorCount = {count};\n\n\
         // Registers the operators. Returns false if one of the methods does not return kTfLiteOk, which is 0.\n\
         template <typename Resolver>\nbool RegisterOperators(Resolver& resolver) {{\n  return {calls};\n}}\n",
        description = comment(&model.description),
        calls = methods.iter().map(|m| format!("resolver.{m}() == 0")).collect::<Vec<_>>().join(" &&\n         "),
    );
    if let Some(graph) = model.subgraphs.first() {
        for (kind, indices) in [("Input", &graph.inputs), ("Output", &graph.outputs)] {
            _ = writeln!(text, "\ninline constexpr int k{kind}Count = {};", indices.len());
            let tensors = indices.iter().filter_map(|&i| graph.tensors.get(usize::try_from(i).ok()?));
            tensors.enumerate().for_each(|(i, t)| port(&mut text, kind, i, t));
        }
    }
    let handle = |op: &&Operator| matches!(op.options, Options::VarHandle(_));
    let states = model.subgraphs.first().map_or(0, |graph| graph.operators.iter().filter(handle).count());
    if states > 0 {
        _ = write!(
            text,
            "\n// Values that are kept from run to run, for which the interpreter takes\n\
             // tflite::MicroResourceVariables::Create(allocator, kStateCount).\n\
             inline constexpr int kStateCount = {states};\n"
        );
    }
    if !labels.is_empty() {
        let all: String = labels.iter().map(|label| format!("    {},\n", literal(label))).collect();
        let count = labels.len();
        _ = write!(
            text,
            "\n// The names of the classes.\ninline constexpr int kLabelCount = {count};\n\
             inline constexpr const char* kLabels[kLabelCount] = {{\n{all}}};\n"
        );
    }
    _ = write!(text, "\n}}  // namespace {name}_model\n\n#endif  // {guard}\n");
    Ok(text)
}

/// The resolver's method that registers an operator.
fn method(code: &OperatorCode) -> Result<String, Vec<Diagnostic>> {
    let operator = code.operator();
    let spelled = operator.to_string();
    let known = OPERATORS.iter().find(|(name, _)| *name == spelled).map(|(_, method)| *method);
    match known {
        Some(method) => Ok(format!("Add{method}")),
        None if operator == BuiltinOperator::CUSTOM && code.custom_code == DETECTION_POST_PROCESS => {
            Ok("AddDetectionPostprocess".into())
        }
        None => {
            let message = format!("the resolver of TensorFlow Lite for Microcontrollers has no method for {spelled}");
            Err(vec![Diagnostic::error("unsupported-op", message).with_help("write a .tflite file")])
        }
    }
}

/// Constants about an input or output.
fn port(text: &mut String, kind: &str, i: usize, t: &Tensor) {
    let name = format!("k{kind}{i}");
    let elem = t.elem.to_string().to_lowercase();
    _ = writeln!(text, "\n// {kind} {i}: {}, {elem}.", comment(&t.name));
    // A scalar has no extents; arrays need an element.
    let extents: Vec<String> = t.shape.iter().map(i32::to_string).collect();
    _ = writeln!(text, "inline constexpr int {name}Rank = {};", extents.len());
    let shown = if extents.is_empty() { "1".into() } else { extents.join(", ") };
    _ = writeln!(text, "inline constexpr std::int32_t {name}Shape[] = {{{shown}}};");
    if let Some(q) = t.quantization.as_ref().filter(|q| !q.scale.is_empty()) {
        _ = writeln!(text, "// real = scale * (integer - zero point)");
        _ = writeln!(text, "inline constexpr float {name}Scale = {:?}f;", q.scale[0]);
        _ = writeln!(text, "inline constexpr std::int32_t {name}ZeroPoint = {};", q.zero_point.first().unwrap_or(&0));
    }
}

/// Text in a comment of one line: a backslash at its end would continue it.
fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || c == '\\' { ' ' } else { c }).collect()
}

/// A string literal. Bytes outside ASCII are escaped as three octal digits, which end by themselves.
fn literal(text: &str) -> String {
    let byte = |b: u8| match b {
        b'"' | b'\\' | b'?' => format!("\\{}", char::from(b)),
        b' '..=b'~' => char::from(b).to_string(),
        _ => format!("\\{b:03o}"),
    };
    format!("\"{}\"", text.bytes().map(byte).collect::<String>())
}
