//! All integration tests in one binary, with a module per topic.

#[path = "../../examples/custom_rule/src/add_sign.rs"]
mod add_sign;
#[macro_use]
#[path = "../common/mod.rs"]
mod common;
#[expect(dead_code, reason = "parts that these tests reach through optimizers")]
#[path = "../../src/storage/companded.rs"]
mod companded;
#[expect(dead_code, reason = "parts that these tests reach through optimizers")]
#[path = "../../src/storage/dynamic.rs"]
mod dynamic;
#[path = "../oracle/mod.rs"]
mod oracle;
#[expect(dead_code, reason = "parts that these tests reach through optimizers")]
#[path = "../../src/storage/scaled.rs"]
mod scaled;

mod accumulate;
mod adafactor;
mod auxiliary;
mod averages;
mod bf16;
mod bitsandbytes;
mod buffers;
mod burn;
mod checkpoint;
mod checkpoint_failures;
mod checkpoint_fuzz;
mod clip;
mod config;
mod custom_rule;
mod diloco;
mod dropped;
mod eight_bit;
mod errors;
mod extremes;
mod f16;
mod given_states;
mod golden;
mod grad_scaler;
mod group_schedules;
mod history;
mod house;
mod metrics;
mod metrics_layouts;
mod missing_gradients;
mod momentum_cycles;
mod norm;
mod objects;
mod overlapping_gradients;
mod params_file;
mod pool;
mod precision;
mod prodigy;
mod programs;
mod projections;
mod properties;
mod quantized;
mod quantized_device;
mod quantized_golden;
mod range_test;
mod recording;
mod remap;
mod resume;
mod rows;
mod rules;
mod sam;
mod schedules;
mod segments;
mod shaders;
mod sharded;
mod shared_factors;
mod skip;
mod snapshot;
mod state_buffers;
mod step;
mod tensor_norms;
mod textbook;
mod together;
mod torch_checkpoints;
mod verify;
