//! The wgpu buffers behind tensors, and the work on them that burn has not submitted yet.

use std::any::Any;

use burn::backend::wgpu::{CubeTensor, WgpuResource};
use burn::cubecl::server::ServerError;
use burn::cubecl::wgpu::{AutoCompiler, WgpuServer};
use wgpu_optim::wgpu::BufferSlice;

use crate::Error;

/// Tensors in wgpu buffers. As long as this lives, burn neither moves their memory nor gives it to others.
pub(crate) struct BufferLeases {
    resources: Vec<WgpuResource>,
    /// Bytes of each tensor.
    bytes: Vec<u64>,
    /// burn's leases of the buffers: burn moves no memory that is leased.
    _leases: Box<dyn Any + Send>,
}

impl BufferLeases {
    /// Finds the tensors in one visit to burn's device thread, and submits burn's work of this thread and of those that
    /// made the tensors.
    pub(crate) fn of(tensors: &[CubeTensor]) -> Result<Self, Error> {
        let Some(client) = tensors.first().map(|tensor| tensor.client.clone()) else {
            return Ok(Self { resources: Vec::new(), bytes: Vec::new(), _leases: Box::new(()) });
        };
        let find = || -> Result<(Vec<WgpuResource>, Box<dyn Any + Send>), ServerError> {
            let mut streams = Vec::new();
            let (mut resources, mut leases) = (Vec::with_capacity(tensors.len()), Vec::with_capacity(tensors.len()));
            for CubeTensor { handle, .. } in tensors {
                let found = client.get_resource::<WgpuServer<AutoCompiler>>(handle.clone())?;
                resources.push(found.resource().clone());
                leases.push(found);
                if !streams.contains(&handle.stream) {
                    streams.push(handle.stream);
                }
            }
            client.flush()?;
            for stream in streams {
                stream.executes(|| client.flush())?;
            }
            Ok((resources, Box::new(leases)))
        };
        let burn = |error: ServerError| Error::Burn(format!("{error:?}"));
        let (resources, leases) = client.exclusive(find).map_err(burn)?.map_err(burn)?;
        let bytes = |tensor: &CubeTensor| (tensor.meta.num_elements() * tensor.dtype.size()) as u64;
        let bytes = tensors.iter().map(bytes).collect();
        Ok(Self { resources, bytes, _leases: leases })
    }

    pub(crate) fn slices(&self) -> Vec<BufferSlice<'_>> {
        let places = self.resources.iter().zip(&self.bytes);
        places.map(|(found, bytes)| found.buffer.slice(found.offset..found.offset + bytes)).collect()
    }
}
