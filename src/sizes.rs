//! Sizes of inputs that are given without the inputs' names: the batch of all, height and width of pictures.

use qcc_frontends::{DeclaredInput, GivenShape};
use qcc_ir::Dim;
use qcc_ir::diagnostic::Diagnostic;

use crate::outcome::Failure;

/// Sizes of a model's inputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputSizes {
    /// The first extent of all inputs.
    pub batch: Option<usize>,
    /// Height and width of all image inputs: those with 4 axes.
    pub image: Option<[usize; 2]>,
}

impl InputSizes {
    /// The shapes of the inputs that have open extents to which a size applies. Other open extents stay without a value.
    ///
    /// # Errors
    /// If an input has another size that is fixed in the model, or there is no image input.
    pub(crate) fn shapes(
        self,
        inputs: &[DeclaredInput],
        channels_last: bool,
    ) -> Result<Vec<(String, GivenShape)>, Failure> {
        let mut shapes = Vec::new();
        let mut images = 0;
        for input in inputs {
            let Some(declared) = &input.shape else { continue };
            let mut given: GivenShape = declared.dims().iter().map(Dim::known).collect();
            if let (Some(n), Some(first)) = (self.batch, declared.dims().first()) {
                given[0] = Some(open_or_equal(input, first, n, "--batch")?);
            }
            if let (Some([height, width]), [_, a, b, c]) = (self.image, declared.dims()) {
                let (at, [h, w]) = if channels_last { (1, [a, b]) } else { (2, [b, c]) };
                given[at] = Some(open_or_equal(input, h, height, "--imgsz")?);
                given[at + 1] = Some(open_or_equal(input, w, width, "--imgsz")?);
                images += 1;
            }
            let sized = declared.dims().iter().zip(&given).any(|(declared, given)| declared.known() != *given);
            shapes.extend(sized.then(|| (input.name.clone(), given)));
        }
        if self.image.is_some() && images == 0 {
            let error = Diagnostic::error("usage", "--imgsz: the model has no image input");
            let help = "image inputs have 4 axes; --shape NAME=DIMS is for any input";
            return Err(Failure::usage(error.with_help(help)));
        }
        Ok(shapes)
    }
}

/// The size `n` of an extent that is open or has it.
fn open_or_equal(input: &DeclaredInput, extent: &Dim, n: usize, option: &str) -> Result<usize, Failure> {
    match extent.known().filter(|fixed| *fixed != n) {
        None => Ok(n),
        Some(fixed) => {
            let declared = input.shape.as_ref().map_or_else(String::new, ToString::to_string);
            let message =
                format!("{option} {n}: the model has {fixed} there, input {} is declared {declared}", input.name);
            let help = "export the model with that size, or with open dimensions";
            Err(Failure::usage(Diagnostic::error("usage", message).with_help(help)))
        }
    }
}

#[cfg(test)]
mod tests {
    use qcc_ir::Elem;

    use super::*;

    fn input(name: &str, dims: Vec<Dim>) -> DeclaredInput {
        DeclaredInput { name: name.into(), elem: Elem::F32, shape: Some(dims.into_iter().collect()) }
    }

    #[test]
    fn sizes_apply_to_open_extents() {
        let n = || Dim::symbol("n");
        let inputs = [
            input("images", vec![n(), 3.into(), Dim::symbol("h"), Dim::symbol("w")]),
            input("sizes", vec![n(), Dim::symbol("k")]),
            input("scale", Vec::new()),
        ];
        let both = InputSizes { batch: Some(4), image: Some([320, 640]) };
        let images = ("images".to_owned(), vec![Some(4), Some(3), Some(320), Some(640)]);
        let sizes = ("sizes".to_owned(), vec![Some(4), None]);
        assert_eq!(both.shapes(&inputs, false).unwrap(), [images, sizes]);
        assert_eq!(InputSizes::default().shapes(&inputs, false).unwrap(), []);
        let last = [input("images", vec![1.into(), Dim::symbol("h"), Dim::symbol("w"), 3.into()])];
        let one = InputSizes { batch: Some(1), image: Some([8, 9]) };
        assert_eq!(one.shapes(&last, true).unwrap(), [("images".to_owned(), vec![Some(1), Some(8), Some(9), Some(3)])]);
    }

    #[test]
    fn fixed_extents_do_not_change() {
        let fixed = [input("images", [1, 3, 640, 640].map(Dim::from).to_vec())];
        let of = |batch, image| match (InputSizes { batch, image }.shapes(&fixed, false)) {
            Ok(shapes) => format!("{shapes:?}"),
            Err(failure) => failure.to_string(),
        };
        assert_eq!(of(Some(1), Some([640, 640])), "[]");
        assert!(of(Some(2), None).contains("--batch 2") && of(Some(2), None).contains("images"));
        assert!(of(None, Some([640, 320])).contains("--imgsz 320"));
        let text = [input("ids", vec![1.into(), Dim::symbol("n")])];
        let image = InputSizes { batch: None, image: Some([8, 8]) };
        assert!(image.shapes(&text, false).is_err_and(|failure| failure.to_string().contains("no image input")));
    }
}
