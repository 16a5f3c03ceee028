//! Training on several machines or devices.

mod communicator;
mod error;
mod exchange;
mod sharded;
mod shares;

pub use communicator::{CommunicationError, Communicator};
pub use error::DistributedError;
pub use sharded::Sharded;
