//! Training on several machines or devices.

mod communicator;
mod counted;
mod error;
mod exchange;
mod lengths;
mod sharded;
mod shares;
#[cfg(not(target_arch = "wasm32"))]
mod threads;

pub use communicator::{CommunicationError, Communicator};
pub use counted::Counted;
pub use error::DistributedError;
pub use sharded::Sharded;
#[cfg(not(target_arch = "wasm32"))]
pub use threads::ThreadCommunicator;
