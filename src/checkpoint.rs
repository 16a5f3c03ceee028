//! Checkpoints: one safetensors file with everything that the next step depends on.
//!
//! `save` and `load` of [`Optimizer`](crate::Optimizer) and [`CpuOptimizer`](crate::CpuOptimizer) write and read them, and
//! [`Snapshot::save`](crate::Snapshot::save) writes one while training goes on. The next step after loading has the bits of
//! the one that would have followed saving. Tensors are matched by name: order, padding and engine may differ.
//!
//! ```
//! use wgpu_optim::checkpoint::LoadOptions;
//! use wgpu_optim::{AdamW, Layout, Optimizer};
//! let layout = Layout::builder().tensor("weight", &[2]).tensor("bias", &[1]).build()?;
//! let mut optimizer = Optimizer::builder(AdamW::default()).build_cpu(&layout)?;
//! let mut params = vec![1.0; layout.len()];
//! optimizer.step(&mut params, &vec![0.5; layout.len()])?;
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("run.safetensors");
//! optimizer.save(&path, Some((&params).into()))?;
//! let mut resumed = Optimizer::builder(AdamW::default()).build_cpu(&layout)?;
//! let mut resumed_params = vec![0.0; layout.len()];
//! let loaded = resumed.load(&path, Some((&mut resumed_params).into()), &LoadOptions::default())?;
//! assert!(loaded.differences.is_empty());
//! assert_eq!((resumed.stats().step, &resumed_params[..2]), (1, &params[..2]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [Averages](crate::OptimizerBuilder::average) and [`Lookahead`](crate::Lookahead) that the file lacks begin as its parameters.
//!
//! Parameters also fit into a file of their own that other programs read: [`save_params`] and [`load_params`], and the
//! methods of these names of [`Optimizer`](crate::Optimizer). The checkpoint beside it then needs none.
//!
//! # The file
//! Parameters and states have their storage formats. Other tensors are f32, or u32 where noted. Padding of the layout is left out.
//!
//! | tensor | contents |
//! |---|---|
//! | `params/NAME` | the parameters, if they were given to `save` |
//! | `training_params/NAME` | between `eval` and `train`: the parameters that `train` restores |
//! | `accumulated/NAME` | the weighted sum of gradients since the last step |
//! | `states/STATE/NAME` | a state; factors have the shape of their rows or columns |
//! | `row_means/NAME` | mean of the row factors of each matrix |
//! | `segment_states/NAME`, `segment_sums/NAME` | four numbers per tensor, unit or group; without a name for all elements |
//! | `scalar_states` | the numbers that the rule stores once |
//! | `bias_corrections` | 1 - βᵗ of the last step, then of the next, for up to four betas |
//! | `norms` | the last norms of clipping at a percentile, oldest first |
//! | `metric_sums`, `history` | u32: records of the last steps, oldest first |
//! | `checksums` | u32: CRC-32 of the header, then of every tensor in the order of the file |
//!
//! The metadata's key `wgpu-optim` holds the rest as JSON: settings, schedule, counts of steps, statistics. A
//! [`ReduceLROnPlateau`](crate::schedule::ReduceLROnPlateau) is the program's: it serializes itself.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod difference;
mod entries;
mod error;
mod header;
mod options;
mod params;
mod reader;
mod settings;
mod small;
mod tensor_file;
mod writer;

pub use difference::Difference;
pub(crate) use entries::{Entry, Place, bulk_entries};
pub use error::CheckpointError;
pub(crate) use header::Header;
pub use options::{LoadOptions, Loaded};
#[cfg(not(target_arch = "wasm32"))]
pub use params::{load_params, save_params};
pub use params::{load_params_from, save_params_to};
pub(crate) use params::{params_entries, params_header};
pub use reader::Checkpoint;
pub(crate) use reader::Contents;
pub(crate) use small::SmallState;
pub(crate) use tensor_file::{Part, TensorFile, WINDOW};
pub(crate) use writer::Writer;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use writer::replace_file;
