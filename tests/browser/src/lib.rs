//! Tests of the library in a browser. `*.test.mjs` calls them by name.
#![cfg(target_arch = "wasm32")]

mod agreement;
mod device;
mod failing;
mod shaders;
mod waiting;

/// What a test returns: a line about what it saw, or what failed.
type Outcome = Result<String, Box<dyn std::error::Error>>;
