//! PyTorch files without an exported program: checkpoints and TorchScript models.

use super::archive::Archive;
use crate::refusal::Refusal;

/// Number of bytes of a pickle that are searched for class names: those of a whole model come first.
const SEARCHED: usize = 16 << 20;

/// True for pickles of Python objects, protocols 2 to 5.
pub(crate) fn is_pickle(bytes: &[u8]) -> bool {
    matches!(bytes, [0x80, 2..=5, ..])
}

/// The error for a checkpoint in PyTorch's old format, a bare pickle.
pub(crate) fn bare(pickle: &[u8]) -> Refusal {
    refusal("a checkpoint of PyTorch, which holds no program", pickle)
}

/// The error for an archive of PyTorch without an exported program.
pub(super) fn archived(archive: &Archive) -> Option<Refusal> {
    let pickle = archive.names().find(|n| n.ends_with("data.pkl"))?;
    if archive.names().any(|n| n.ends_with("constants.pkl") || n.contains("/code/")) {
        return Some(refusal("a TorchScript model", &[]));
    }
    // An unreadable pickle has no class names.
    let pickle = archive.read(&pickle).unwrap_or_default();
    Some(refusal("a checkpoint of PyTorch, which holds no program", &pickle))
}

fn refusal(what: &str, pickle: &[u8]) -> Refusal {
    let searched = &pickle[..pickle.len().min(SEARCHED)];
    let name = b"ultralytics";
    let help = if searched.windows(name.len()).any(|w| w == name) {
        "export it: yolo export model=FILE.pt format=onnx; qcc reads what that says of pictures and classes"
    } else {
        "export it in Python, from the model in evaluation mode and an example input: \
         torch.export.save(torch.export.export(model, (x,)), \"model.pt2\"), or torch.onnx.export(model, (x,), \"model.onnx\")"
    };
    Refusal::NoProgram { what: what.into(), help }
}
