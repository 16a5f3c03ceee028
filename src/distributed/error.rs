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
    /// Another rank could not take part in saving a checkpoint.
    #[error("another rank could not save the checkpoint: its error says why; an older file is as it was")]
    NotSaved,
    /// Another rank could not load a checkpoint, which this rank has loaded.
    #[error("another rank could not load the checkpoint: its error says why; load again on all ranks")]
    NotLoaded,
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
