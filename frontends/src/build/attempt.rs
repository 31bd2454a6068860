//! Imports that may fail without an error of the model.

use qcc_ir::diagnostic::Diagnostic;
use smallvec::SmallVec;

use crate::refusal::Refusal;

/// The context of a node whose importer reports as it goes.
pub(crate) trait Attempt: Sized {
    /// The lists of what was reported so far.
    fn reported(&mut self) -> SmallVec<[&mut Vec<Diagnostic>; 2]>;

    /// Does what `attempt` does; where it fails, nothing is reported of it, and the result is `None`.
    fn attempt<T>(&mut self, attempt: impl FnOnce(&mut Self) -> Result<T, Refusal>) -> Option<T> {
        let before: SmallVec<[usize; 2]> = self.reported().iter().map(|list| list.len()).collect();
        let done = attempt(self).ok();
        if done.is_none() {
            self.reported().into_iter().zip(before).for_each(|(list, len)| list.truncate(len));
        }
        done
    }
}
