//! Errors that only the browser has.

use wasm_bindgen::prelude::wasm_bindgen;
use wgpu_optim::rule::StepScalars;
use wgpu_optim::wgpu::CommandEncoderDescriptor;
use wgpu_optim::{AdamW, Clip, CustomRule, Error, Layout, Optimizer};

use crate::Outcome;
use crate::device::{default_device, upload};

fn refused_rule() -> impl wgpu_optim::Rule + 'static {
    // naga rounds the literal on line 3, which is no f32.
    let wgsl = "fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
        var updated = old;
        const LIMIT: f32 = 3.40282347e+38;
        updated.param = old.param - min(step.lr * grad, vec4<f32>(LIMIT));
        return updated;
    }";
    let update = |param: f32, grad: f32, []: [f32; 0], []: [f32; 0], step: &StepScalars| (param - step.lr * grad, []);
    CustomRule::new("limited", [], [], wgsl, update)
}

/// A rule that the browser's compiler refuses is an error with the rule's line: from `compiled`, and from a later step.
///
/// # Errors
/// It is another error, or none.
#[wasm_bindgen]
pub async fn refused() -> Result<String, String> {
    refuse().await.map_err(|error| error.to_string())
}

async fn refuse() -> Outcome {
    let gpu = default_device().await?;
    let builder = Optimizer::builder(refused_rule());
    let mut optimizer = builder.build(&gpu.device, &gpu.queue, &Layout::flat(4)?)?;
    let [params, grads] = [(); 2].map(|()| upload(&gpu, &[0; 16]));
    optimizer.prepare(&params, &grads)?;
    let outcome = optimizer.compiled().await;
    let Err(Error::Shader { rule, message }) = &outcome else {
        return Err(format!("the compiler said {outcome:?}").into());
    };
    if rule != "limited" || !message.contains("rule.wgsl:3:") || !message.contains("const LIMIT") {
        return Err(format!("{rule}: {message}").into());
    }
    let mut encoder = gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
    let step = optimizer.step(&mut encoder, &params, &grads);
    if !matches!(step, Err(Error::Shader { .. })) {
        return Err(format!("the step after it returned {step:?}").into());
    }
    Ok(message.clone())
}

/// Readbacks of a device that is lost resolve with an error, those asked for before and those after.
///
/// # Errors
/// One resolves with a value.
#[wasm_bindgen]
pub async fn lost() -> Result<String, String> {
    lose().await.map_err(|error| error.to_string())
}

async fn lose() -> Outcome {
    let gpu = default_device().await?;
    let builder = Optimizer::builder(AdamW::default()).clip(Clip::global_norm(1.0));
    let mut optimizer = builder.build(&gpu.device, &gpu.queue, &Layout::flat(4)?)?;
    let [params, grads] = [(); 2].map(|()| upload(&gpu, &[0; 16]));
    let mut read = |is_lost: bool| -> Result<_, Box<dyn std::error::Error>> {
        let mut encoder = gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
        optimizer.step(&mut encoder, &params, &grads)?;
        let stats = optimizer.stats(&mut encoder);
        gpu.queue.submit([encoder.finish()]);
        if is_lost {
            gpu.device.destroy();
        }
        Ok(stats)
    };
    read(false)?.await?;
    let mut messages = Vec::new();
    for stats in [read(true)?, read(false)?] {
        match stats.await {
            Err(error @ Error::Unreadable(_)) => messages.push(error.to_string()),
            outcome => return Err(format!("a lost device returned {outcome:?}").into()),
        }
    }
    let saved = optimizer.save_to(Vec::new(), Some((&params).into())).await;
    let Err(error) = saved else { return Err("a lost device saved a checkpoint".into()) };
    messages.push(error.to_string());
    optimizer.compiled().await?;
    Ok(messages.join("; "))
}
