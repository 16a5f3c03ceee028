//! Parameters on a device.

use super::DiLoCo;
use crate::distributed::exchange::{read_all, write_all};
use crate::distributed::{Communicator, DistributedError};
use crate::storage::Dtype;
use crate::{BufferSlices, Error, Optimizer};

impl DiLoCo {
    /// As [`DiLoCo::synchronize`], with parameters on the device of `optimizer`, which trains them. They are f32, need
    /// `STORAGE`, `COPY_SRC` and `COPY_DST`, and are read and written only if [`DiLoCo::is_due`]. Submits, and waits for the
    /// device: call it after the submission of the step.
    ///
    /// # Errors
    /// Those of [`DiLoCo::synchronize`], and those of [`Optimizer::step`] about `params`; [`Error::DtypeMismatch`] for other
    /// formats than f32; [`Error::Unreadable`] if the device is lost.
    pub fn synchronize_device<'a>(
        &mut self,
        optimizer: &Optimizer,
        params: impl Into<BufferSlices<'a>>,
        communicator: &mut (impl Communicator + ?Sized),
    ) -> Result<(), DistributedError> {
        if !self.is_due() {
            return Ok(());
        }
        let mut stream = optimizer.param_stream(params.into())?;
        let (expected, actual) = (Dtype::F32, stream.dtype());
        if actual != expected {
            return Err(Error::DtypeMismatch { what: "params", expected, actual }.into());
        }
        let bytes = read_all(&mut stream, self.len)?;
        let mut params: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
        let synchronized = self.synchronize(&mut params, communicator);
        // A merge before the exchange that failed counts.
        write_all(&mut stream, bytemuck::cast_slice(&params))?;
        synchronized
    }
}
