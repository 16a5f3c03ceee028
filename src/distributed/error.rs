use thiserror::Error;

use super::CommunicationError;
#[cfg(feature = "safetensors")]
use crate::checkpoint::CheckpointError;

/// The errors of training on several ranks.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DistributedError {
    /// The optimizer refuses a setting or a call.
    #[error(transparent)]
    Optimizer(#[from] crate::Error),
    /// The exchange between ranks failed.
    #[error(transparent)]
    Communication(#[from] CommunicationError),
    /// The rank that writes the checkpoint could not do so.
    #[error("rank 0 could not write the checkpoint: its error says why; an older file is as it was")]
    NotSaved,
    /// The checkpoint could not be saved or loaded.
    #[cfg(feature = "safetensors")]
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}
