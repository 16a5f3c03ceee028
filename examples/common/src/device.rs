//! Which device takes the steps, and why.

use std::error::Error;

use clap::ValueEnum;
use wgpu_optim::Gpu;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DeviceName {
    /// A hardware GPU if there is one, else the CPU engine.
    Auto,
    /// Any adapter, a software driver too.
    Gpu,
    /// The CPU engine.
    Cpu,
}

pub enum Device {
    Gpu(Gpu),
    Cpu,
}

/// The device of that name, and one line that says which and why.
pub fn choose(name: DeviceName) -> Result<(Device, String), Box<dyn Error>> {
    match name {
        DeviceName::Cpu => Ok((Device::Cpu, "the CPU engine, as --device cpu asks".to_owned())),
        DeviceName::Gpu => {
            let gpu = pollster::block_on(Gpu::new())?;
            let kind =
                if gpu.is_software() { "a software driver, as there is no hardware GPU" } else { "the hardware GPU" };
            let line = format!("{}: {kind}", gpu.describe());
            Ok((Device::Gpu(gpu), line))
        }
        DeviceName::Auto => match pollster::block_on(Gpu::hardware()) {
            Ok(gpu) => {
                let line = format!("{}: the hardware GPU that was found", gpu.describe());
                Ok((Device::Gpu(gpu), line))
            }
            Err(wgpu_optim::Error::NoAdapter { .. }) => {
                let line = "the CPU engine, as no hardware GPU was found (--device gpu takes a software driver too)";
                Ok((Device::Cpu, line.to_owned()))
            }
            Err(error) => Err(error.into()),
        },
    }
}
