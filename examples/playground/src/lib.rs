//! The Rust side of the playground's pages.
//!
//! Modules here know no browser, and have native tests. `web` passes them to JavaScript, and draws.

pub mod cloud;
pub mod descent;
pub mod entry;
pub mod field;
pub mod network;
pub mod race;
pub mod registry;
pub mod schedules;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "wasm32")]
mod web;

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
