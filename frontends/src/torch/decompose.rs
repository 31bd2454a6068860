//! Operators that decomposition removes: those outside PyTorch's core set, or overloads that the core set expresses
//! differently.

use super::schema::Node;

/// The remedy if only such operators are refused.
pub(super) const HELP: &str = "decompose it in Python, and give the result: ep = torch.export.load(\"model.pt2\").run_decompositions(); \
                    torch.export.save(ep, \"decomposed.pt2\")";

/// True for a node that decomposition removes.
pub(super) fn goes_away(node: &Node) -> bool {
    node.target.starts_with("torch.ops.aten.") && OPERATORS.binary_search(&node.operator()).is_ok()
}

/// Sorted. Each was exported from PyTorch's operator test samples in a program that is refused as it is and accepted
/// after decomposition.
#[rustfmt::skip]
const OPERATORS: &[&str] = &[
    "_chunk_cat", "_safe_softmax", "_unsafe_masked_index", "_unsafe_masked_index_put_accumulate", "addr",
    "alias_copy", "atleast_1d", "atleast_2d", "atleast_3d", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "block_diag", "broadcast_tensors", "cartesian_prod", "column_stack",
    "conj_physical", "count_nonzero", "cross", "cross_entropy_loss", "cumulative_trapezoid", "deg2rad", "diag",
    "diag_embed", "diagflat", "diagonal_copy", "diff", "dsplit", "dstack", "expand_copy", "fft_fftshift",
    "fft_ifftshift", "fliplr", "flipud", "float_power", "gradient", "heaviside", "hsplit", "huber_loss", "index_add",
    "index_copy", "index_fill", "inner", "isclose", "isin", "isneginf", "isposinf", "isreal", "kl_div", "kron",
    "l1_loss", "ldexp", "linalg_cross", "linalg_diagonal", "linalg_multi_dot", "linalg_vecdot", "linspace",
    "logaddexp", "logaddexp2", "logit", "logspace", "lstm", "mH", "margin_ranking_loss", "matrix_H", "max_unpool2d",
    "max_unpool3d", "mse_loss", "msort", "multi_margin_loss", "multilabel_margin_loss", "nanmean", "nansum",
    "nll_loss_nd", "pad", "pairwise_distance", "poisson_nll_loss", "positive", "rad2deg", "renorm", "resolve_conj",
    "resolve_neg", "rot90", "sinc", "smooth_l1_loss", "soft_margin_loss", "softplus", "special_entr", "special_ndtr",
    "special_xlog1py", "split_with_sizes_copy", "squeeze_copy", "sum_to_size", "t_copy", "take", "take_along_dim",
    "tensordot", "trace", "transpose_copy", "trapezoid", "trapz", "triplet_margin_loss", "unfold_copy",
    "unsqueeze_copy", "vdot", "vsplit",
];

#[cfg(test)]
mod tests {
    #[test]
    fn operators_are_sorted() {
        assert!(super::OPERATORS.windows(2).all(|w| w[0] < w[1]));
    }
}
