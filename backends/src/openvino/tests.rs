use qcc_ir::text::{Weights, parse};
use qcc_ir::{Checked, Graph};

use super::{Diagnostic, Summary, TARGET};
use crate::{Attachments, Memory};

fn graph(text: &str) -> Graph {
    parse(text, &Weights::new()).unwrap()
}

fn write(g: &Graph, files: &mut Memory) -> Result<Summary, Vec<Diagnostic>> {
    super::write(Checked::new(g, &TARGET)?, &Attachments::default(), files)
}

/// The XML file and the constants.
fn written(text: &str) -> (String, Vec<u8>) {
    let mut files = Memory::new("net.xml");
    write(&graph(text), &mut files).unwrap();
    let take = |files: &mut Memory, name| files.files.remove(name).unwrap();
    (String::from_utf8(take(&mut files, "net.xml")).unwrap(), take(&mut files, "net.bin"))
}

fn lines<'x>(xml: &'x str, part: &str) -> Vec<&'x str> {
    xml.lines().map(str::trim).filter(|l| l.contains(part)).collect()
}

#[test]
fn each_output_has_one_name() {
    let (xml, _) = written(
        "graph g {
          %x: f32[2] = input
          %c: f32[2] = const [1.0,2.0]
          %y = unary(f:Exp) %x
          output same = %x
          output c = %c
          output y = %y
          output again = %y
        }",
    );
    let names: Vec<&str> = lines(&xml, "names=").iter().map(|l| l.split('"').nth(5).unwrap()).collect();
    assert_eq!(names, ["x", "y", "same", "c", "again"]);
    assert_eq!(lines(&xml, "type=\"Result\"").len(), 4);
    assert_eq!(lines(&xml, "type=\"Convert\"").len(), 3);
}

#[test]
fn equal_constants_are_stored_once_and_large_ones_aligned() {
    let (xml, constants) = written(
        "graph g {
          %x: f32[32] = input
          %a: f32[1] = const [3.0]
          %b: f32[1,1] = const [3.0]
          %w: f32[32] = const [1.5,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32]
          %0 = binary(f:Add) %x, %a
          %1 = binary(f:Mul) %0, %b
          %2 = binary(f:Mul) %1, %w
          %3 = binary(f:Add) %2, %a
          output y = %3
        }",
    );
    let offsets: Vec<&str> = lines(&xml, "offset=");
    assert_eq!(
        offsets,
        [
            "<data element_type=\"f32\" shape=\"1\" offset=\"0\" size=\"4\" />",
            "<data element_type=\"f32\" shape=\"1, 1\" offset=\"0\" size=\"4\" />",
            "<data element_type=\"f32\" shape=\"32\" offset=\"64\" size=\"128\" />",
        ]
    );
    assert_eq!(constants.len(), 64 + 128);
}

#[test]
fn scales_follow_the_groups_of_a_weight() {
    let (xml, _) = written(
        "graph g {
          %r: f32[1,4,3,3] = input
          %x: u8<0.5:0>[1,4,3,3] = quantize %r
          %w: i8<axis 0: 0.5,0.25,0.5,0.25>[4,2,1,1] = const [1,2,3,4,5,6,7,8]
          %y: f32[1,4,3,3] = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:2) %x, %w
          output y = %y
        }",
    );
    let constants = &lines(&xml, "offset=")[2..];
    assert!(constants[0].contains("element_type=\"i8\" shape=\"2, 2, 2, 1, 1\""), "{xml}");
    assert!(constants[1].contains("element_type=\"f32\" shape=\"2, 2, 1, 1, 1\""), "{xml}");
}

#[test]
fn narrow_floats_are_widened_at_the_constant() {
    let (xml, _) = written(
        "graph g {
          %x: f32[2] = input
          %w: f16[2] = const [1.0,2.0]
          %wide = cast\"f32\" %w
          %y = binary(f:Mul) %x, %wide
          output y = %y
        }",
    );
    assert_eq!(lines(&xml, "name=\"decompression\"").len(), 1);
    assert_eq!(lines(&xml, "type=\"Convert\"").len(), 1);
}

#[test]
fn a_quantized_type_is_a_fake_quantize_with_its_range() {
    let (xml, constants) = written(
        "graph g {
          %x: f32[2] = input
          %q: u8<0.5:10>[2] = quantize %x
          %y = dequantize %q
          output y = %y
        }",
    );
    assert_eq!(lines(&xml, "type=\"FakeQuantize\"").len(), 1);
    let ends: Vec<f32> = constants.chunks(4).map(bytemuck::pod_read_unaligned).collect();
    assert_eq!(ends, [-5.0, 122.5]);
}

#[test]
fn all_that_cannot_be_written_is_refused_and_nothing_is_written() {
    let g = graph(
        "graph g {
          %x: f32[2] = input
          %0 = binary(f:Atan2) %x, %x
          %1 = unary(f:Rsqrt) %0
          output y = %1
        }",
    );
    let mut files = Memory::new("net.xml");
    let refused = write(&g, &mut files).unwrap_err();
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(files.files.is_empty());
}
