//! Programs of `torch.export` with open extents: as the graph has them, and in the runtimes.

use std::fs;
use std::path::Path;

use qcc_frontends::{ImportOptions, Model};
use qcc_ir::text::print_brief;

#[cfg(feature = "oracles")]
use crate::oracle;

/// The graph of a model of `tests/models/torch`, as text.
fn imported(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/torch").join(name).with_extension("pt2");
    let model = Model::read(fs::read(path).unwrap().into(), Path::new("")).unwrap();
    print_brief(&model.import(&ImportOptions::default()).unwrap().graph)
}

#[test]
fn open_extents_of_programs_are_expressions() {
    for name in ["open_cache", "open_image", "open_signal"] {
        insta::assert_snapshot!(name, imported(name));
    }
}

/// An artefact of a program with open extents gives what PyTorch gives at every size, in every runtime.
#[cfg(feature = "oracles")]
#[test]
fn open_programs_serve_every_size() {
    oracle::table("open_programs.py", 66);
}
