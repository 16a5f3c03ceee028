//! Small multiples: a panel for each rule.

use crate::race::Entry;

/// Rows and columns for so many panels.
pub(crate) fn grid(panels: usize) -> (usize, usize) {
    let columns = panels.clamp(1, 3);
    (panels.div_ceil(columns).max(1), columns)
}

pub(crate) fn title(entry: &Entry) -> String {
    format!("{}, lr {}", entry.name, entry.lr)
}
