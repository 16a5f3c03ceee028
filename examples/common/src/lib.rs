//! Parts that the examples share. Each module has a feature, so that an example builds only what it uses.

#[cfg(feature = "arguments")]
pub mod arguments;
#[cfg(feature = "device")]
pub mod device;
#[cfg(feature = "files")]
pub mod files;
pub mod frames;
#[cfg(feature = "functions")]
pub mod functions;
#[cfg(feature = "numbers")]
pub mod numbers;
pub mod outcome;
#[cfg(feature = "picture")]
pub mod picture;
#[cfg(feature = "rates")]
pub mod rates;
#[cfg(feature = "read")]
pub mod read;
#[cfg(feature = "rules")]
pub mod rules;
#[cfg(feature = "picture")]
pub mod step_chart;
