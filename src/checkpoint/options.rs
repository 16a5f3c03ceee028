use std::collections::HashMap;

use super::difference::Difference;
use super::error::CheckpointError;
use crate::Layout;

/// Options of loading a checkpoint. The default matches all tensors by their names, and continues the file's schedule.
#[must_use]
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Names in the file by names in the program.
    pub(super) renamed: HashMap<String, String>,
    pub(super) keeps_schedule: bool,
    pub(super) is_exact: bool,
}

impl LoadOptions {
    /// Reads the tensor `program` of the layout from the tensor `file` of the checkpoint. Default: the same name.
    pub fn with_renamed(mut self, file: impl Into<String>, program: impl Into<String>) -> Self {
        self.renamed.insert(program.into(), file.into());
        self
    }

    /// Refuses new names for tensors that the program does not have.
    pub(super) fn check_names(&self, layout: &Layout) -> Result<(), CheckpointError> {
        match self.renamed.keys().find(|tensor| layout.tensor(tensor).is_none()) {
            Some(tensor) => Err(CheckpointError::UnknownTensor { tensor: tensor.clone() }),
            None => Ok(()),
        }
    }

    /// Keeps the program's schedule, and continues it at the file's position. Default: the file's schedule, or the
    /// learning rate that `set_lr` has put in its place.
    pub fn keep_schedule(mut self) -> Self {
        self.keeps_schedule = true;
        self
    }

    /// Refuses a file with other settings than the program's. Default: the program's settings stay, and
    /// [`Loaded::differences`] lists the others.
    pub fn exact(mut self) -> Self {
        self.is_exact = true;
        self
    }
}

/// The result of loading a checkpoint.
#[must_use = "`differences` says which of the file's settings the program does not share"]
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Loaded {
    /// Settings of the file that differ from the program's: rule, clipping, groups, history, …. The program's stay.
    pub differences: Vec<Difference>,
}
