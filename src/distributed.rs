//! Training on several machines or devices.

mod communicator;
mod error;

pub use communicator::{CommunicationError, Communicator};
pub use error::DistributedError;
