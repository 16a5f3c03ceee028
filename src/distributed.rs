//! Training on several machines or devices.
//!
//! - [`Sharded`] divides the states of an optimizer among ranks (ZeRO-1): every step averages gradients and gathers parameters.
//! - [`DiLoCo`] exchanges parameters every few hundred steps.
//! - [`Communicator`] is what both ask of a transport: [`ThreadCommunicator`] for threads of a process, the package
//!   `wgpu-optim-mpi` for MPI, or your own. [`Counted`] counts the bytes that a rank sends.
//!
//! Bytes that each of N ranks sends, for P parameters of f32:
//!
//! | | per step | states on each rank |
//! |---|---|---|
//! | [`Sharded`] | 8·P·(N - 1)/N, and 1/4,096 of it where the norm is computed | 1/N |
//! | [`DiLoCo`] over H steps | 8·P·(N - 1)/N / H; half with bf16, about a quarter with 8 bits | all, and 8·P of the outer step |

mod communicator;
mod counted;
#[cfg(feature = "safetensors")]
mod diloco;
mod error;
mod exchange;
#[cfg(not(target_arch = "wasm32"))]
mod lengths;
#[cfg(not(target_arch = "wasm32"))]
mod quorum;
mod sharded;
mod shares;
#[cfg(not(target_arch = "wasm32"))]
mod threads;

pub use communicator::{CommunicationError, Communicator};
pub use counted::Counted;
#[cfg(feature = "safetensors")]
pub use diloco::{DiLoCo, DiLoCoBuilder, Fragments};
pub use error::DistributedError;
#[cfg(not(target_arch = "wasm32"))]
pub use quorum::{QuorumMember, ThreadQuorum};
pub use sharded::Sharded;
#[cfg(not(target_arch = "wasm32"))]
pub use threads::ThreadCommunicator;
