//! Graphs as `.qir` files: the text form with its constants, which can be imported again.

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::ops::Op;
use qcc_ir::target::{Kernel, Target};
use qcc_ir::text::file;
use qcc_ir::{Checked, Elem, Layout, StorageType};

use crate::{Attachments, Backend, Files, Summary, unwritten};

/// Accepts every float graph as it is. Nothing is quantized, since there are no kernels.
static TARGET: Target = Target {
    name: "qir",
    kernel: |_, _| Some(Kernel::FLOAT),
    image_layout: Layout::row_major,
    index: Elem::I64,
    integers: Elem::I64,
    negative_indices: true,
    activation: StorageType::U8,
    half_graphs: true,
    half_values: false,
    // The extents in a file are numbers.
    open_batch: false,
    keeps_states: false,
    latency: None,
    device: None,
};

/// Writes `.qir` files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Qir;

impl Backend for Qir {
    fn target(&self) -> &Target {
        &TARGET
    }

    fn extension(&self) -> &str {
        "qir"
    }

    fn write(&self, graph: Checked<'_>, _: &Attachments, files: &mut dyn Files) -> Result<Summary, Vec<Diagnostic>> {
        let main = files.main().to_owned();
        let bytes = files.create(&main).and_then(|out| file::write(graph.graph(), out)).map_err(unwritten)?;
        let order = graph.graph().order();
        let constants = order.iter().filter(|n| matches!(graph.graph().op(**n), Op::Const(_))).count();
        let inputs = graph.graph().inputs().count();
        Ok(Summary { bytes, operators: order.len() - constants - inputs, constants, ..Summary::default() })
    }
}
