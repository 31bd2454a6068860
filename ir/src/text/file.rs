//! Graph files (`.qir`): the text form, followed by the constants that are digests in the text.
//!
//! The text comes first, so that editors and `diff` show it. If it has digests of constants, a zero byte follows, then
//! for each constant: its digest and its length in bytes (64-bit little-endian integers), and its bytes.
//!
//! ```
//! use qcc_ir::text::{Weights, file, parse};
//! let g = parse("graph g { %x: f32[2] = input output y = %x }", &Weights::new())?;
//! let mut bytes = Vec::new();
//! file::write(&g, &mut bytes)?;
//! assert!(file::read(&bytes.into())?.same(&g));
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeSet;
use std::io;

use bytes::Bytes;

use super::{ParseError, Weights, digest, parse, print_full};
use crate::graph::Graph;

/// Why a file is not a graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The text is not a graph.
    #[error("the text is not a graph: {0}")]
    Text(#[from] ParseError),
    /// The constants after the text are invalid.
    #[error("{0}")]
    Constants(String),
}

/// Writes a graph and its constants.
///
/// # Errors
/// Those of the writer.
pub fn write(g: &Graph, out: &mut (impl io::Write + ?Sized)) -> io::Result<u64> {
    let text = print_full(g);
    out.write_all(text.as_bytes())?;
    let mut length = text.len() as u64;
    let constants = g.order().into_iter().filter_map(|n| g.constant(n.value(0)));
    let constants = constants.map(|t| (digest(t.data()), t.data().clone()));
    let named = digests(&text);
    let spelled: Weights = constants.filter(|(digest, _)| named.contains(digest)).collect();
    if !spelled.is_empty() {
        out.write_all(&[0])?;
        length += 1;
    }
    for (digest, bytes) in &spelled {
        out.write_all(&digest.to_le_bytes())?;
        out.write_all(&(bytes.len() as u64).to_le_bytes())?;
        out.write_all(bytes)?;
        length += 16 + bytes.len() as u64;
    }
    Ok(length)
}

/// Reads what [`write()`] wrote. Constants stay slices of `bytes`.
///
/// # Errors
/// Where the text is not a graph, a constant is missing or damaged, or other bytes follow.
pub fn read(bytes: &Bytes) -> Result<Graph, FileError> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| behind_text("the text is not UTF-8"))?;
    let mut weights = Weights::new();
    let mut at = (end + 1).min(bytes.len());
    while at < bytes.len() {
        let number = |at: usize| {
            let eight = bytes.get(at..at + 8).and_then(|b| b.try_into().ok());
            eight.map(u64::from_le_bytes).ok_or_else(|| behind_text("the constants end too early"))
        };
        let (key, length) = (number(at)?, number(at + 8)?);
        let end = usize::try_from(length).ok().and_then(|n| (at + 16).checked_add(n)).filter(|end| *end <= bytes.len());
        let end = end.ok_or_else(|| behind_text("the constants end too early"))?;
        let constant = bytes.slice(at + 16..end);
        if digest(&constant) != key {
            return Err(behind_text(format!("the bytes of the constant {key:016x} do not match its digest")));
        }
        weights.insert(key, constant);
        at = end;
    }
    Ok(parse(text, &weights)?)
}

/// True where a file is a graph in the text form. Comments may precede it.
pub fn is_graph(bytes: &[u8]) -> bool {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]);
    let first = start.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("//"));
    first.and_then(|line| line.strip_prefix("graph")).is_some_and(|rest| rest.starts_with([' ', '{', '"']))
}

/// Everything in a text that may be a digest.
fn digests(text: &str) -> BTreeSet<u64> {
    let places = text.match_indices('#').map(|(at, _)| at + 1);
    places.filter_map(|at| u64::from_str_radix(text.get(at..at + 16)?, 16).ok()).collect()
}

fn behind_text(message: impl Into<String>) -> FileError {
    FileError::Constants(message.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::graphs;
    use crate::types::{Shape, Tensor};

    fn written(g: &Graph) -> Bytes {
        let mut out = Vec::new();
        let length = write(g, &mut out).unwrap();
        assert_eq!(length, out.len() as u64);
        out.into()
    }

    proptest! {
        #[test]
        fn files_hold_graphs(g in graphs()) {
            prop_assert!(read(&written(&g)).unwrap().same(&g));
        }
    }

    #[test]
    fn damaged_files_are_refused() {
        let mut g = Graph::new("large");
        let numbers = (0..4096).map(|i| i as f32 * 0.37).collect();
        let c = g.add_const(Tensor::from_vec(Shape::known(&[4096]), numbers), crate::graph::Origin::none());
        g.add_output("c", c);
        let file = written(&g);
        assert!(read(&file).unwrap().same(&g));
        let changed = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = file.to_vec();
            change(&mut bytes);
            read(&bytes.into()).unwrap_err().to_string()
        };
        assert!(changed(&|b| *b.last_mut().unwrap() ^= 1).contains("do not match its digest"));
        assert!(changed(&|b| b.truncate(b.len() - 1)).contains("too early"));
        assert!(changed(&|b| b.extend([0; 3])).contains("too early"));
        let end = file.iter().position(|b| *b == 0).unwrap();
        assert!(changed(&|b| b.truncate(end)).contains("there are no weights with the digest"));
        assert!(changed(&|b| b[end + 9..end + 17].fill(0xff)).contains("too early"));
    }
}
