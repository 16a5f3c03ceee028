//! burn's tensors and the memory behind them, with and without fusion.

use burn::backend::wgpu::{CubeTensor, Wgpu};
use burn::tensor::Tensor;
use burn_cubecl::kernel::into_contiguous;

use crate::Error;

/// A tensor of any rank on burn's backend for wgpu.
#[cfg(not(feature = "fusion"))]
pub(crate) type Primitive = CubeTensor;
#[cfg(feature = "fusion")]
pub(crate) type Primitive = burn::backend::fusion::FusionTensor<fused::Runtime>;

/// Parameters, for the device and for the module.
pub(crate) struct Resolved {
    /// Tensors in `memory`, for the module.
    pub(crate) updated: Vec<Primitive>,
    /// Contiguous, each in memory of its own: writing to them shows through no clone. An error if burn could not provide it.
    pub(crate) memory: Result<Vec<CubeTensor>, Error>,
}

/// The tensor on the backend for wgpu; `None` on another.
pub(crate) fn primitive<const D: usize>(tensor: Tensor<D>) -> Option<Primitive> {
    tensor.try_into_primitive::<Wgpu>().ok()
}

/// The tensor of burn's public API.
pub(crate) fn tensor<const D: usize>(primitive: Primitive) -> Tensor<D> {
    Tensor::from_primitive::<Wgpu>(primitive)
}

/// Finds parameters in memory. Those that something else holds too are copied, as by burn's own operations.
pub(crate) fn resolve(params: Vec<Primitive>) -> Resolved {
    #[cfg(not(feature = "fusion"))]
    {
        let memory: Vec<_> = params.into_iter().map(owned).collect();
        Resolved { updated: memory.clone(), memory: Ok(memory) }
    }
    #[cfg(feature = "fusion")]
    fused::resolve(params)
}

/// Finds tensors in memory, to be read.
#[cfg_attr(not(feature = "fusion"), allow(clippy::unnecessary_wraps, reason = "burn's queue may fail"))]
pub(crate) fn read(tensors: Vec<Primitive>) -> Result<Vec<CubeTensor>, Error> {
    #[cfg(not(feature = "fusion"))]
    {
        Ok(tensors.into_iter().map(contiguous).collect())
    }
    #[cfg(feature = "fusion")]
    fused::read(tensors)
}

fn contiguous(tensor: CubeTensor) -> CubeTensor {
    if tensor.is_contiguous() { tensor } else { into_contiguous(tensor) }
}

/// The tensor itself if nothing else holds its memory, or a copy.
fn owned(tensor: CubeTensor) -> CubeTensor {
    match (tensor.is_contiguous(), tensor.can_mut()) {
        (true, true) => tensor,
        (true, false) => tensor.copy(),
        (false, _) => into_contiguous(tensor),
    }
}

/// With fusion, operations wait in a queue on a thread of burn's. One operation of ours joins the queue and finds all its
/// tensors there. Asking for each tensor alone would take a round trip between the threads.
#[cfg(feature = "fusion")]
mod fused {
    use std::sync::{Arc, Mutex, PoisonError};

    use burn::backend::fusion::custom::{
        CustomOpIr, HandleContainer, OperationFn, OperationIr, StreamId, TensorId, TensorIr,
    };
    use burn::backend::fusion::{FusionBackend, FusionRuntime};
    use burn::backend::wgpu::{CubeBackend, CubeTensor};

    use super::{Primitive, Resolved, contiguous, owned};
    use crate::Error;

    pub(crate) type Runtime = <CubeBackend as FusionBackend>::FusionRuntime;
    type Handles = HandleContainer<<Runtime as FusionRuntime>::FusionHandle>;

    pub(super) fn resolve(params: Vec<Primitive>) -> Resolved {
        let Some(client) = params.first().map(|param| param.client.clone()) else {
            return Resolved { updated: Vec::new(), memory: Err(Error::NoParameters) };
        };
        let outputs: Vec<_> = params
            .iter()
            .map(|param| TensorIr::uninit(client.create_empty_handle(), param.shape.clone(), param.dtype))
            .collect();
        let ids: Vec<TensorId> = outputs.iter().map(|output| output.id).collect();
        let inputs: Vec<TensorIr> = params.into_iter().map(Primitive::into_ir).collect();
        let params = inputs.clone();
        let (updated, memory) = run(&client, inputs, outputs, move |handles| {
            let memory: Vec<_> = params.iter().map(|param| owned(find(handles, param))).collect();
            for (id, param) in ids.iter().zip(&memory) {
                handles.register_float_tensor::<CubeBackend>(id, param.clone());
            }
            memory
        });
        Resolved { updated, memory }
    }

    pub(super) fn read(tensors: Vec<Primitive>) -> Result<Vec<CubeTensor>, Error> {
        let Some(client) = tensors.first().map(|tensor| tensor.client.clone()) else { return Ok(Vec::new()) };
        let inputs: Vec<TensorIr> = tensors.into_iter().map(Primitive::into_ir).collect();
        let found = inputs.clone();
        let find_all =
            move |handles: &mut Handles| found.iter().map(|tensor| contiguous(find(handles, tensor))).collect();
        run(&client, inputs, Vec::new(), find_all).1
    }

    fn find(handles: &mut Handles, tensor: &TensorIr) -> CubeTensor {
        handles.get_float_tensor::<CubeBackend>(tensor)
    }

    /// Queues an operation, and executes the queue up to it: kernels are launched, and none is waited for.
    fn run<T: Send + 'static>(
        client: &burn::backend::fusion::Client<Runtime>,
        inputs: Vec<TensorIr>,
        outputs: Vec<TensorIr>,
        operation: impl Fn(&mut Handles) -> T + Send + Sync + 'static,
    ) -> (Vec<Primitive>, Result<T, Error>) {
        let result = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&result);
        let operation = OperationFn(move |handles: &mut Handles| {
            let value = operation(handles);
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
            Ok(())
        });
        let mut description = CustomOpIr::new("wgpu_optim", &[], &[]);
        (description.inputs, description.outputs) = (inputs, outputs);
        let outputs = client.register(StreamId::current(), OperationIr::Custom(description), operation);
        let executed = client.try_sync(|| ()).map_err(|error| Error::Burn(format!("{error:?}")));
        let value = result.lock().unwrap_or_else(PoisonError::into_inner).take();
        let lost = || Error::Burn("an operation that the step follows has failed; burn's log names it".to_owned());
        (outputs, executed.and_then(|()| value.ok_or_else(lost)))
    }
}
