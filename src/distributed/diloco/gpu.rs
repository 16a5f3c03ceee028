//! Parameters on a device.

use super::DiLoCo;
use crate::distributed::exchange::Stream;
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
        let (elements, mut bytes) = (0..self.len, Vec::new());
        Stream::begin_read(&mut stream, vec![elements.clone()])?;
        Stream::end_read(&mut stream, &mut bytes)?;
        let mut params: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
        self.synchronize(&mut params, communicator)?;
        Stream::write(&mut stream, elements, bytemuck::cast_slice(&params))
    }
}
