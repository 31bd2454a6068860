//! Graphs as models: built in memory, or parsed from `.qir` files.

use bytes::Bytes;
use qcc_ir::Graph;
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::text::file;

use crate::{DeclaredInput, ImportOptions, Imported, ModelFile, shapes};

/// A graph built by the caller.
#[derive(Debug)]
pub(crate) struct Built(pub(crate) Graph);

/// Reads a `.qir` file.
pub(crate) fn read(bytes: &Bytes) -> Result<Built, Vec<Diagnostic>> {
    let refused = |e: file::FileError| {
        let error = Diagnostic::error("bad-graph", e.to_string());
        vec![error.with_help("`qcc opt MODEL -o FILE.qir` writes one to compare with")]
    };
    file::read(bytes).map(Built).map_err(refused)
}

impl ModelFile for Built {
    fn inputs(&self) -> Result<Vec<DeclaredInput>, Vec<Diagnostic>> {
        let declared = |v| {
            let ty = self.0.ty(v);
            let name = self.0.name(v).map_or_else(String::new, |n| n.to_string());
            DeclaredInput { name, elem: ty.elem.clone(), shape: Some(ty.shape.clone()) }
        };
        Ok(self.0.inputs().map(declared).collect())
    }

    fn metadata(&self) -> Vec<(String, String)> {
        self.0.metadata.clone()
    }

    /// Shapes and values of a graph cannot be changed, but open extents may be fixed.
    fn import(&self, options: &ImportOptions) -> Result<Imported, Vec<Diagnostic>> {
        if !options.shapes.is_empty() || !options.values.is_empty() {
            let error = Diagnostic::error("settled-graph", "the shapes and values of a graph are settled");
            return Err(vec![error.with_help("leave --shape and --set out, or give them where the graph is made")]);
        }
        self.0.verify().map_err(|e| vec![Diagnostic::invalid_model(e.to_string())])?;
        let (mut graph, mut notes) = (self.0.clone(), Vec::new());
        if options.fixed && graph.is_open() {
            let inputs = self.inputs()?;
            let shapes = shapes::settle(&inputs, options, &mut notes)?;
            let symbols = shapes::extents(&inputs, &shapes).into_iter().filter_map(|(name, n)| Some((name, n?)));
            graph = graph.bound(&symbols.collect());
        }
        Ok(Imported { graph, notes, open: Vec::new() })
    }
}
