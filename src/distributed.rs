//! Training on several machines or devices.

mod communicator;
mod counted;
#[cfg(feature = "safetensors")]
mod diloco;
mod error;
mod exchange;
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
