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
    /// A step was counted where an exchange is due.
    #[error("an exchange is due after {steps} steps; call `synchronize` before the next step")]
    Due {
        /// Steps counted.
        steps: u64,
    },
    /// Ranks exchange after different steps.
    #[error(
        "rank {rank} exchanges after {steps} steps, others after {others}; all ranks must count equal steps and have equal settings"
    )]
    Disagreement {
        /// The rank.
        rank: usize,
        /// Its steps.
        steps: u64,
        /// Steps of the first rank.
        others: u64,
    },
    /// All ranks of a group wait for the state of another.
    #[error(
        "no rank of the group has a state to continue from; call `rejoin` on new ranks only, or load a checkpoint on one"
    )]
    NoState,
}
